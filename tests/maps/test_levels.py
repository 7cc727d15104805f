"""From sums to maps: every level against loops with a bicubic kernel written out, and what a user may get wrong on the way."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from summed import LAYERS, run_of, sums_of
from tolerance import alike, close
from torch import Tensor

from i2am import AttributionMaps
from i2am.maps import canvas
from i2am.maps.prompt import Prompt

TERMS = 256  # sixteen pixels of three groups, weighed by the fractions of places up to 31, which are off by as many roundings
SIDE = {"r2g": 0, "words": 0, "g2r": 1, "specific": 1}


@cache
def cubic(size: int, out: int, dtype: torch.dtype) -> Tensor:
    """[out, size]: the bicubic kernel with a = -0.75, half-pixel centres, borders repeated."""
    a, matrix = -0.75, torch.zeros(out, size, dtype=dtype, device="cpu")
    for i in range(out):
        place = (torch.tensor(i + 0.5, dtype=dtype, device="cpu") * size / out - 0.5).item()
        start = int(np.floor(place))
        for tap in range(start - 1, start + 3):
            x = abs(place - tap)
            near = (a + 2) * x**3 - (a + 3) * x**2 + 1
            far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            matrix[i, min(max(tap, 0), size - 1)] += near if x <= 1 else far if x < 2 else 0.0
    return matrix


def written_out(run: AttributionMaps, direction: str, level: str, size: Any, dtype: torch.dtype, *, layers=None, heads=None, groups=None,
                balance=False, item=None) -> Tensor:  # fmt: skip
    """method.md, section 2: sum over the steps, resize every (layer, head), clamp, mean over what the level reduces."""
    chosen = [s for s in run.sums if layers is None or s.layer in layers]
    if size is None:
        size = max(((s.generated_grid, s.reference_grid)[SIDE[direction]] for s in chosen), key=lambda grid: grid[0] * grid[1])
    found = []  # (layer, head, [B, groups or 1, ..., H, W])
    for s in chosen:
        grid, special = ((s.generated_grid, 0), (s.reference_grid, s.special))[SIDE[direction]]
        tensor = getattr(s, direction).to(dtype)[..., special:].unflatten(-1, grid)
        tensor = tensor if item is None else tensor[:, :, :, item]
        tensor = tensor * (grid[0] * grid[1]) if balance else tensor
        tensor = tensor if groups is None else tensor[:, groups]
        tensor = tensor if level == "time" else tensor.sum(1, keepdim=True)
        down, right = (cubic(grid[i], size[i], dtype) for i in (0, 1))
        for head in range(tensor.shape[2]) if heads is None else heads:
            found.append((s.layer, head, (down @ tensor[:, :, head] @ right.T).clamp(min=0)))
    if level in ("unified", "time"):
        mean = torch.stack([one for _, _, one in found]).mean(0)
        return mean if level == "time" else mean[:, 0]
    at = 0 if level == "layer" else 1
    names = list(dict.fromkeys(one[at] for one in found))
    return torch.stack([torch.stack([one[2][:, 0] for one in found if one[at] == name]).mean(0) for name in names], 1)


def near(got: Tensor, right: Tensor, eager: Tensor, what: str) -> None:
    """Held per map: a row of it may be the small rest of large neighbours."""
    close(got.flatten(-2), right.flatten(-2), eager.flatten(-2), TERMS, what)


SAME_HEADS = ("down.0.attn2", "mid.attn2")
CHOICES: dict[str, dict[str, Any]] = {
    "all": {},
    "layers": {"layers": ["mid.attn2", "down.1.attn2"]},
    "heads": {"heads": [1]},
    "groups": {"groups": [2, 0]},
    "balance": {"balance": True},
    "together": {"layers": SAME_HEADS, "heads": [0], "groups": [1], "balance": True},
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("size", [None, (12, 8), (31, 17), (2, 3)], ids=str)
@pytest.mark.parametrize("direction", ["r2g", "g2r", "specific"])
def test_levels_are_those_of_the_method(direction, size, choice):
    run, choice = run_of(), CHOICES[choice]
    for level in ("unified", "time", "head", "layer"):
        how = {**choice, "layers": SAME_HEADS} if level == "head" else choice
        if direction == "specific":
            got, item = run.specific(-1, size, level=level, **how), 1
        else:
            got, item = getattr(run, level)(direction, size, **how), None
        right = written_out(run, direction, level, size, torch.float64, **how, item=item)
        eager = written_out(run, direction, level, size, torch.float32, **how, item=item)
        assert (got.dtype, got.device.type) == (torch.float32, "cpu")
        near(got, right, eager, f"{direction} {level}")
        assert (got >= 0).all()


def test_words_are_means_over_heads_and_layers():
    run = run_of(prompts=(Prompt("a b", ("a</w>", "b</w>", "."), (False,) * 3),))
    right, eager = (written_out(run, "words", "unified", (9, 5), dtype) for dtype in (torch.float64, torch.float32))
    near(run.words(size=(9, 5)).maps, right, eager, "words")
    assert run.words("A B!").maps.shape == (2, 3, 12, 8)


def same(one: Tensor, other: Tensor) -> None:
    alike(one.flatten(-2), other.flatten(-2), TERMS)


def test_levels_are_means_of_each_other():
    """At a layer's own grid nothing is clamped, and all is linear."""
    run = run_of(layers=["mid.attn2"])
    for direction in ("r2g", "g2r"):
        unified = run.unified(direction)
        same(run.time(direction).sum(1), unified)
        same(run.head(direction).mean(1), unified)
        same(run.layer(direction)[:, 0], unified)
        same(sum(run.unified(direction, groups=g) for g in range(3)), unified)
        same(sum(run.unified(direction, heads=h) for h in range(2)) / 2, unified)
        same(run.buffer(direction, "mid.attn2").sum(1).mean(1), unified)
    whole = run_of()
    counts = torch.tensor([2.0, 4.0, 2.0], device="cpu")[None, :, None, None]  # heads weigh equally, layers do not
    for size in (None, (9, 5)):
        same((whole.layer("r2g", size) * counts).sum(1) / 8, whole.unified("r2g", size))


def test_resizing_in_pieces_changes_nothing(monkeypatch):
    run = run_of()
    whole = run.specific(0, (9, 7), level="time")
    monkeypatch.setattr(canvas, "CHUNK", 130)
    assert torch.equal(run.specific(0, (9, 7), level="time"), whole)


def test_images_are_apart():
    prompts = tuple(Prompt(text, (text + "</w>",), (False,)) for text in ("one", "two"))
    run = run_of(images=4, prompts=prompts)
    for index, images in ((0, [0]), (-1, [3]), (slice(1, 3), [1, 2]), (slice(None, None, -2), [3, 1])):
        part = run[index]
        assert len(part) == len(images)
        assert part.prompts == tuple(prompts[image // 2] for image in images)
        for level in ("unified", "time", "layer"):
            assert torch.equal(getattr(part, level)("g2r", (8, 6)), getattr(run, level)("g2r", (8, 6))[images])
        assert torch.equal(part.specific(1), run.specific(1)[images])
        assert torch.equal(part.buffer("words", "mid.attn2"), run.buffer("words", "mid.attn2")[images])
    assert [len(one) for one in run] == [1] * 4
    with pytest.raises(IndexError):
        run[4]
    with pytest.raises(ValueError, match=r"images asked for must be among 4, got slice\(4, 5, None\)\. A batch of no images"):
        run[4:5]


def test_raw_sums_are_views_of_the_canvas():
    run = run_of()
    (first, *_) = run.sums
    assert torch.equal(run.buffer("r2g", first.layer), first.r2g.view(2, 3, 2, 3, 2))
    assert torch.equal(run.buffer("specific", first.layer), first.specific[..., 1:].unflatten(-1, (5, 7)))
    assert torch.equal(run.tokens("g2r", first.layer), first.g2r)  # the special token included
    assert (run.layers, run.names("r2g"), run.groups, run.references) == (list(LAYERS), list(LAYERS), 3, ["reference"])
    assert (
        run.names("r2g", "down*") == run.names("r2g", ["down.?.attn2"]) == run.names("r2g", lambda name: name[0] == "d") == list(LAYERS)[:2]
    )


def with_sources() -> AttributionMaps:
    run = run_of(layers=["mid.attn2"])
    return replace(run, sums=(*run.sums, sums_of("mid.attn2", 2, 3, "scarf"), sums_of("down.0.attn2", 2, 3, "scarf")))


def test_several_references_are_apart():
    run = with_sources()
    assert run.references == ["reference", "scarf"]
    assert torch.equal(run.unified("r2g", reference=1), run.unified("r2g", reference="scarf"))
    assert run.names("g2r", reference=0) == ["mid.attn2"]
    assert torch.equal(run.buffer("r2g", "mid.attn2", reference="scarf").flatten(-2), run.sums[1].r2g)
    with pytest.raises(
        ValueError, match=r"reference must be stated, as this run has 2, got None\. Pass reference=0 \.\.\. or a name: reference, scarf"
    ):
        run.unified("r2g")
    for wrong in (2, -1, "hat"):
        with pytest.raises(
            ValueError, match=rf"reference must be below 2 or one of \['reference', 'scarf'\], got {wrong!r}\. See maps\.references"
        ):
            run.unified("r2g", reference=wrong)


def test_one_reference_token_has_r2g_alone():
    one = replace(run_of().sums[0], g2r=None, specific=None, reference_grid=None, special=0)
    run = replace(run_of(), sums=(one, run_of().sums[1]))
    assert run.names("g2r") == ["down.1.attn2"]
    assert run.layer("r2g").shape[1] == 2
    alone = replace(run, sums=(one,))
    assert alone.unified("r2g").shape == (2, 3, 2)
    with pytest.raises(ValueError, match=r"no g2r maps\. The reference is one token in every layer, .* use r2g"):
        alone.unified("g2r")
    with pytest.raises(ValueError, match=r"no specific maps\. The reference is one token in every layer"):
        alone.specific(0)
    with pytest.raises(ValueError, match=r"no r2g maps\. Only words were traced"):
        replace(run, sums=(replace(one, r2g=None),)).unified("r2g")
    with pytest.raises(ValueError, match=r"no words maps\. Trace with words=True"):
        replace(run, sums=(replace(one, words=None),)).words()
