"""Pictures inside the prompt (OmniGen) and in front of every layer's keys (GLM-Image), against the attention of the same run stored whole.

Where the pictures are is asked of the pipelines themselves: of OmniGen's processor, and of what GLM-Image reads before the first step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import Any

import edited
import oracle
import pytest
import torch
from edited import GRIDS
from families import GROUPS, STEPS, Family, close, observed, single
from prompted import TEXT

import i2am

COUNTS = [rows * columns for rows, columns in GRIDS]


def compare(maps: i2am.AttributionMaps, runs: dict[str, list[oracle.Call]], rows: slice, generated: tuple[int, int],
            parts: dict[str, tuple[int, int]]) -> None:  # fmt: skip
    """Every reference of every layer."""
    assert {sums.source for sums in maps.sums if sums.r2g is not None} == set(parts)
    assert maps.layers == list(runs)
    for sums in maps.sums:
        run = runs[sums.layer]
        where = {"rows": rows, "generated": generated, "reference": parts[sums.source]}
        r2g, g2r = oracle.truth(run, **where, groups=GROUPS, steps=STEPS)
        r2g32, g2r32 = oracle.truth([single(call) for call in run], **where, groups=GROUPS, steps=STEPS)
        close(sums.r2g, r2g, r2g32, run, f"r2g of {sums.layer}, {sums.source}")
        close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], run, f"g2r of {sums.layer}, {sums.source}")


def compare_words(maps: i2am.AttributionMaps, runs: dict[str, list[oracle.Call]], rows: slice, generated: tuple[int, int],
                  places: list[int]) -> None:  # fmt: skip
    """Every text token of every layer."""
    recorded = [sums for sums in maps.sums if sums.words is not None]
    assert [sums.layer for sums in recorded] == list(runs)
    for sums in recorded:
        run = runs[sums.layer]
        where: dict[str, Any] = {"rows": rows, "generated": generated, "words": None, "tokens": places}
        words, words32 = (oracle.word_maps(these, **where, groups=GROUPS, steps=STEPS) for these in (run, [single(c) for c in run]))
        close(sums.words, words, words32, run, f"words of {sums.layer}")


def named(count: int) -> list[str]:
    return ["reference"] if count == 1 else [f"image {number + 1}" for number in range(count)]


@pytest.mark.parametrize(("count", "batch", "size"), [(1, 1, 1), (1, 3, 0), (2, 1, 1), (2, 3, 0)])
def test_omnigen(count: int, batch: int, size: int) -> None:
    heard: list[dict[str, Any]] = []

    def build() -> Any:
        case = edited.omnigen(count)
        case.denoiser.register_forward_pre_hook(lambda module, args, kwargs: heard.append(kwargs), with_kwargs=True)
        return case

    maps, calls, case = observed(Family(build, layers=".*self_attn"), batch, size, True, words=True)
    assert [tuple(place) for place in heard[0]["input_image_sizes"][0]] == [tuple(p) for p in heard[0]["input_image_sizes"][batch - 1]]
    places = [tuple(place) for place in heard[0]["input_image_sizes"][0]]
    runs = {layer: oracle.of(calls, layer) for layer in oracle.layers(calls)}
    queries = case.sizes[size][0] * case.sizes[size][1] // 256
    total = runs[maps.layers[0]][0].query.shape[2]
    rows, generated = slice(0, batch), (total - queries, total)
    kept = [tokens for tokens in maps.sums if tokens.r2g is not None]
    assert {tokens.reference_grid for tokens in kept} == set(GRIDS[:count])
    compare(maps, runs, rows, generated, dict(zip(named(count), places)))
    inside = {place for start, stop in places for place in range(start, stop)}
    compare_words(maps, runs, rows, generated, [place for place in range(total - queries - 1) if place not in inside])


def test_omnigen_without_a_picture_has_words_alone() -> None:
    """Rows [prompt, nothing]."""
    maps, calls, _ = observed(Family(lambda: edited.omnigen(0), layers=".*self_attn"), 2, 1, True, words=True)
    runs = {layer: oracle.of(calls, layer) for layer in oracle.layers(calls)}
    total = runs[maps.layers[0]][0].query.shape[2]
    compare_words(maps, runs, slice(0, 2), (total - 12, total), list(range(total - 13)))
    assert all(sums.r2g is None for sums in maps.sums)


def test_pictures_at_different_places_are_refused() -> None:
    """Rows are padded in front, so what follows a picture says where it is."""
    case = edited.omnigen(1, endings=("dog", "dog and cat"))
    with pytest.raises(ValueError, match=r"same places in every row.*one by one"), i2am.trace(case.pipe):
        case(batch=2)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("count", "batch", "size"), [(1, 1, 1), (2, 3, 0)])
def test_glm_image(count: int, batch: int, size: int, guided: bool) -> None:
    maps, calls, case = observed(Family(lambda: edited.glm_image(count), layers=".*attn1"), batch, size, guided, words=True)
    before = sum(COUNTS[:count])
    queries = TEXT + case.sizes[size][0] * case.sizes[size][1] // 256
    keys = before + queries
    runs = {layer: conditional(calls, layer, keys) for layer in oracle.layers(calls)}
    ends = [sum(COUNTS[: number + 1]) for number in range(count)]
    parts = {name: (end - size, end) for name, end, size in zip(named(count), ends, COUNTS)}
    compare(maps, runs, slice(None), (TEXT, queries), parts)
    compare_words(maps, runs, slice(None), (TEXT, queries), list(range(before, before + TEXT)))
    assert {sums.reference_grid for sums in maps.sums} == set(GRIDS[:count])


def conditional(calls: list[oracle.Call], layer: str, keys: int) -> list[oracle.Call]:
    """The calls that see pictures, one a step: neither those that read them before the first step nor the unconditional ones."""
    found = [replace(call, pass_=0) for call in calls if call.layer == layer and call.key.shape[2] == keys]
    assert [call.step for call in found] == list(range(STEPS))
    return found


def test_glm_image_without_a_picture_has_words_alone() -> None:
    maps, calls, _ = observed(Family(lambda: edited.glm_image(0), layers=".*attn1"), 2, 1, True, words=True)
    runs = {layer: oracle.of(calls, layer) for layer in oracle.layers(calls)}
    compare_words(maps, runs, slice(None), (TEXT, TEXT + 12), list(range(TEXT)))


def test_pictures_are_read_anew_in_every_run_of_a_trace() -> None:
    case, other = edited.glm_image(1), edited.glm_image(1)
    with i2am.trace(case.pipe, groups=1) as run:
        case(steps=1)
        first = run.maps
        case(steps=1, seed=5)
        second = run.maps
    with i2am.trace(other.pipe, groups=1) as run:
        other(steps=1, seed=5)
    assert torch.equal(second.unified("g2r"), run.maps.unified("g2r"))
    assert not torch.equal(first.unified("g2r"), second.unified("g2r"))


def test_pictures_that_were_not_seen_being_read_are_refused() -> None:
    """A denoiser called in a loop of one's own, with keys that were kept before the trace was open."""
    case = edited.glm_image(1)
    inside: list[Any] = []

    class Late(Exception):
        pass

    original = case.pipe.scheduler.set_timesteps

    @wraps(original)
    def late(*args: Any, **kwargs: Any) -> Any:
        inside.append(i2am.trace(case.pipe))
        inside[0].__enter__()
        return original(*args, **kwargs)

    case.pipe.scheduler.set_timesteps = late
    try:
        with pytest.raises(ValueError, match="Open the trace before the pipeline is called"):
            case(steps=1)
    finally:
        inside[0].__exit__(Late, None, None)


def test_omnigens_conditional_rows_come_first() -> None:
    """Stated rows are the same as those that are known, and the other block with pictures has other maps."""
    case = edited.omnigen(1)
    found = []
    for guidance in ("auto", "cond-uncond-image", "image-uncond-cond"):
        torch.manual_seed(0)  # the pipeline draws the pictures' latents
        with i2am.trace(case.pipe, groups=1, guidance=guidance) as run:
            case(steps=1, batch=2)
        found.append(run.maps.unified("r2g"))
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-3 * found[0].max()
