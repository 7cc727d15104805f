"""JoyImageEdit: every reference's maps and every word's equal the stored attention."""

from __future__ import annotations

from functools import partial
from typing import Any

import joyimages
import oracle
import pytest
import torch
from families import Family, hold, hold_words, observed, runs
from torch import nn

import i2am

TALL, WIDE = 9 * 7, 6 * 10  # tokens of the references


def made(call: oracle.Call) -> tuple[int, int]:
    """What is generated: batch 1 is 4:3, and has one row a call or two."""
    return 0, 9 * 7 if call.query.shape[0] < 3 else 8 * 8


def behind(before: int, count: int | None, call: oracle.Call) -> tuple[int, int]:
    """So many tokens, or those that are left, behind the generated and so many others."""
    start = made(call)[1] + before
    return start, call.key.shape[2] if count is None else start + count


def twin(call: oracle.Call) -> tuple[int, int]:
    """A reference that is as large as what is generated."""
    return made(call)[1], 2 * made(call)[1]


def text(call: oracle.Call) -> tuple[int, int]:
    return 2 * made(call)[1], call.key.shape[2]


PICTURED = {
    "edit": Family(joyimages.edit, layers=".*attn", two_calls=True, generated=made, reference=twin, words=text),
    "edit-plus": Family(
        joyimages.edit_plus,
        layers=".*attn",
        generated=made,
        words=partial(behind, TALL + WIDE, None),
        parts={"image 1": partial(behind, 0, TALL), "image 2": partial(behind, TALL, WIDE)},
    ),
}


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(PICTURED))
def test_references_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold(PICTURED[name], batch, size, guided)


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(PICTURED, guided_batch=1))
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    maps = hold_words(PICTURED[name], batch, size, guided)
    prompt = maps.prompts[0]
    assert [prompt.tokens[at] for found in prompt.find("shirt") for at in found] == ["Ġshirt"]


@pytest.mark.parametrize("name", sorted(PICTURED))
def test_the_conditional_rows_are_the_ones(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of the other rows or call."""
    family, maps = PICTURED[name], {}
    case = family.build()
    other = "uncond|cond" if family.two_calls else "cond-uncond"
    for guidance, guided in (("auto", True), ("auto", False), (other, True)):
        with i2am.trace(case.pipe, groups=1, guidance=guidance) as run:
            case(steps=1, guided=guided)
        maps[guidance, guided] = torch.cat([sums.r2g.flatten() for sums in run.maps.sums])
    plain = maps["auto", False]
    torch.testing.assert_close(maps["auto", True], plain, rtol=1e-4, atol=1e-6)
    assert (maps[other, True] - plain).abs().max() > 1e-3 * plain.max()


def test_rows_with_other_pictures_are_refused() -> None:
    case = joyimages.edit_plus()
    given = case.kwargs(batch=2, guided=False)
    given["images"][1] = given["images"][1][::-1]
    with i2am.trace(case.pipe), pytest.raises(ValueError, match="as many and as large in every row"):
        case.pipe(**given)


def test_values_are_weighed_by_the_pictures_own_projection() -> None:
    """`img_attn_proj`: R2G with values is that of the weights, times the norm of what each reference token brings to the output."""
    family = PICTURED["edit"]
    maps, calls, case = observed(family, 1, 1, False, weigh="values")
    for sums in maps.sums:
        run = oracle.of(calls, sums.layer)
        module: Any = case.denoiser.get_submodule(sums.layer)
        assert isinstance(module.img_attn_proj, nn.Linear)
        weight = module.img_attn_proj.weight.detach().double().unflatten(1, (2, 16))  # [C, H, D]
        expected = torch.zeros_like(sums.g2r, dtype=torch.float64)
        for call in run:
            p, _ = oracle.probabilities(call, family.generated(call), twin(call))
            brought = torch.einsum("chd,bhrd->bhrc", weight, call.value[:, :, slice(*twin(call))]).norm(dim=-1)
            expected[:, oracle.group(call.step, 2, 3)] += p.mean(2) * brought
        torch.testing.assert_close(sums.g2r.double(), expected, rtol=1e-4, atol=1e-7)
