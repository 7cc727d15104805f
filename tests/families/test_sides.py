"""References that lie beside what is generated, in one latent: tokens that interleave, row by row.

The truth stores the whole attention and takes the columns apart itself, by torch's own reshaping.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import attentions
import oracle
import pytest
import sides
import tolerance
import torch
from families import GROUPS, STEPS, TERMS, Family, close, observed, single
from torch import Tensor

import i2am
from i2am.maps.orders import Order, columns_apart

GRIDS = {128: (8, 16), 32: (4, 8), 96: (8, 12), 24: (4, 6), 384: (16, 24)}  # of both pictures, by the number of their tokens
STATED = Family(sides.side_by_side, {"reference": "self-beside"}, ".*attn1")
EDITED = Family(sides.dreamlite, layers=".*attn1")
PIX2PIX = Family(lambda: attentions.catvton(attentions.CatVTONPix2PixPipeline), {"reference": "self"}, ".*attn1")
MOBILE = Family(lambda: sides.dreamlite(mobile=True), layers=".*attn1")


def apart(tokens: Tensor) -> Tensor:
    """[B, H, N, D] of two pictures side by side: the left one's tokens, then the right one's."""
    height, width = GRIDS[tokens.shape[2]]
    return tokens.unflatten(2, (height, 2, width // 2)).transpose(2, 3).flatten(2, 4)


def ordered(call: oracle.Call) -> oracle.Call:
    keys = {"key": apart(call.key)} if call.key.shape[2] == call.query.shape[2] else {}
    return replace(call, query=apart(call.query), **keys)


RUNS = [(STATED, 1, 1, False), (STATED, 3, 0, True), (STATED, 3, 1, True), (EDITED, 1, 1, True), (EDITED, 1, 0, True),
        (MOBILE, 1, 1, False), (PIX2PIX, 1, 1, True)]  # fmt: skip


@pytest.mark.parametrize(("family", "batch", "size", "guided"), RUNS)
def test_both_pictures_are_told_apart(family: Family, batch: int, size: int, guided: bool) -> None:
    maps, calls, _ = observed(family, batch, size, guided)
    assert len(maps) == batch
    assert maps.layers == oracle.layers(calls)
    for sums in maps.sums:
        run = [ordered(call) for call in oracle.of(calls, sums.layer)]
        half, total = run[0].query.shape[2] // 2, run[0].query.shape[0]
        where = {"rows": slice(total - batch, total), "generated": (0, half), "reference": (half, 2 * half)}
        r2g, g2r = oracle.truth(run, **where, groups=GROUPS, steps=STEPS)
        r2g32, g2r32 = oracle.truth([single(call) for call in run], **where, groups=GROUPS, steps=STEPS)
        close(sums.r2g, r2g, r2g32, run, f"r2g of {sums.layer}")
        close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], run, f"g2r of {sums.layer}")
        height, width = GRIDS[2 * half]
        assert sums.generated_grid == sums.reference_grid == (height, width // 2)


@pytest.mark.parametrize("image", [True, False])
def test_the_left_picture_asks_for_the_prompt(image: bool) -> None:
    family = Family(lambda: sides.dreamlite(image=image), layers=".*attn2")
    maps, calls, _ = observed(family, 1, 1, True, words=True)
    recorded = [sums for sums in maps.sums if sums.words is not None]
    assert [sums.layer for sums in recorded] == oracle.layers(calls)
    assert any(sums.r2g is not None for sums in maps.sums) == image
    for sums in recorded:
        run = [ordered(call) for call in oracle.of(calls, sums.layer)]
        where: dict[str, Any] = {"rows": slice(-1, None), "generated": (0, run[0].query.shape[2] // 2), "words": None}
        words, words32 = (oracle.word_maps(these, **where, groups=GROUPS, steps=STEPS) for these in (run, [single(c) for c in run]))
        close(sums.words, words, words32, run, f"words of {sums.layer}")


def test_the_picture_is_what_it_was() -> None:
    """Tokens go into order and back: the same picture within float32's rounding."""
    for case, options in ((sides.dreamlite(), {}), (sides.side_by_side(), {"reference": "self-beside", "guidance": "none"})):
        plain = case(steps=1, guided=False)
        with i2am.trace(case.pipe, **options):
            traced = case(steps=1, guided=False)
        assert (traced - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_without_an_image_there_is_no_reference() -> None:
    """The right half is blank then."""
    case = sides.dreamlite(image=False)
    with pytest.raises(ValueError, match="without reference tokens"), i2am.trace(case.pipe):
        case()


def test_sides_of_uneven_width_are_refused() -> None:
    """10 columns become 5 on the second level, the middle one of which sees both pictures."""
    case = sides.side_by_side()
    with pytest.raises(ValueError, match="even width"), i2am.trace(case.pipe, reference="self-beside", guidance="none"):
        case(size=(8, 5), guided=False)


def test_a_latents_own_self_attention_names_all_ways() -> None:
    case = sides.side_by_side()
    with pytest.raises(ValueError, match=r'"self-below".*"self-beside".*write a rule'), i2am.trace(case.pipe, reference="self"):
        case(guided=False)


def swapped(seen: i2am.Seen) -> i2am.Tokens | None:
    """CatVTON's stacked latent, counted from the reference on."""
    half = seen.queries // 2
    if not seen.layer.endswith("attn1"):
        return None
    order = (*range(half, 2 * half), *range(half))
    grid = {48: (8, 6), 12: (4, 3)}[half]
    return i2am.Tokens(reference=(0, half), generated=(half, 2 * half), generated_grid=grid, reference_grid=grid, query_order=order,
                       key_order=order)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weigh": "values"},
        {"weigh": "gradient", "scalar": lambda prediction: prediction[:, :, :16].square().flatten(1).sum(1)},
        {"field": True},
        {"specific": [(0.3, 0.6), (0.0, 0.0, 0.5, 0.5)]},
        {"differentiable": True},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_any_order_has_the_same_maps(options: dict[str, Any]) -> None:
    """The order that tokens are counted in changes nothing, whatever is recorded."""
    case = attentions.catvton()
    both = []
    for reference in ("self-below", swapped):
        with i2am.trace(case.pipe, reference=reference, guidance="uncond-cond", layers="*attn1", **options) as run:
            case(steps=1, size=(8, 6))
        both.append(run.maps)
    for ours, expected in zip(both[1].sums, both[0].sums):
        for name in ("r2g", "g2r", "specific", "field_r2g", "field_g2r"):
            left, right = getattr(ours, name, None), getattr(expected, name, None)
            assert (left is None) == (right is None)
            if left is not None and right is not None:
                tolerance.alike(left.detach(), right.detach().double(), TERMS)


@pytest.mark.parametrize("shape", [None, (1, 1, 1, 6), (2, 1, 4, 6), (4, 6), (2, 3, 1, 6), (4, 1)])
def test_masks_are_ordered_with_their_tokens(shape: tuple[int, ...] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, count, 8, generator=generator) for count in (4, 6, 6))
    mask = None if shape is None else torch.randn(shape, generator=generator)
    tokens = i2am.Tokens(reference=(0, 2), query_order=columns_apart((2, 2)), key_order=columns_apart((1, 6))[::-1])
    order = Order.of("layer", tokens, 4, 6, query.device)
    assert order is not None
    attend = torch.nn.functional.scaled_dot_product_attention
    ours = order.out_of(attend(*order.into(query, key, value, mask)))
    assert (ours - attend(query, key, value, mask)).abs().max() < 1e-6


def test_an_order_holds_every_token_once() -> None:
    for order in ((0, 1, 1, 2), (0, 1, 2), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="places 0 to 3, each once"):
            Order.of("layer", i2am.Tokens(reference=(0, 2), query_order=order), 4, 6, torch.device("cpu"))


def test_a_call_has_one_order() -> None:
    """Two answers about one call that disagree on its order are refused."""
    case = attentions.catvton()

    def rule(seen: i2am.Seen) -> list[i2am.Tokens] | None:
        found = swapped(seen)
        return None if found is None else [found, replace(found, query_order=None, source="another")]

    with pytest.raises(ValueError, match="one query_order"), i2am.trace(case.pipe, reference=rule, guidance="uncond-cond"):
        case(size=(8, 6))


def test_compiled_models_keep_the_order() -> None:
    """In one graph, to the same maps."""
    case = sides.side_by_side()
    both = []
    torch._dynamo.reset()
    for compiled in (False, True):
        if compiled:
            case.pipe.unet.compile(fullgraph=True, backend="eager")
        with i2am.trace(case.pipe, reference="self-beside", guidance="none", groups=2) as run:
            case(size=(8, 6), guided=False, steps=3)
        both.append(run.maps)
    torch._dynamo.reset()
    for ours, expected in zip(both[1].sums, both[0].sums):
        assert torch.equal(ours.r2g, expected.r2g)
        assert torch.equal(ours.g2r, expected.g2r)
