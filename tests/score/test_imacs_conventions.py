"""The releases' conventions of IMACS: which layers, which way round, forced or not; and scores of both directions at once."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from scored import boxes, noise

from i2am import AttributionMaps, imacs
from i2am.maps.layer_sums import LayerSums
from i2am.score.imacs import CONVENTIONS, Convention, Side, convention, scores


def layer(name: str, grid: tuple[int, int], reference: tuple[int, int] | None, seed: int) -> LayerSums:
    draw = noise(2, 2, 3, grid[0] * grid[1], seed=seed).cpu()
    if reference is None:
        return LayerSums(name, "reference", grid, None, 0, r2g=draw)
    return LayerSums(name, "reference", grid, reference, 1, draw, noise(2, 2, 3, reference[0] * reference[1] + 1, seed=seed + 50).cpu())


def stableviton() -> AttributionMaps:
    names = [f"{block}.1.transformer_blocks.0.attn2" for block in ("input_blocks.1", "middle_block", "output_blocks.3")]
    sums = [layer(name, grid, None, i) for i, (name, grid) in enumerate(zip(names, [(16, 12), (2, 2), (8, 6)]))]
    warps = [layer(f"warp_flow_blks.{i}.transformer_blocks.0.attn2", (8, 6), (8, 6), 10 + i) for i in (3, 4, 5)]
    return AttributionMaps((*sums, *warps), 4)


def custom() -> AttributionMaps:
    names = ["encoders.1.1.attention_2", "bottleneck.1.attention_2", "decoders.3.1.attention_2"]
    return AttributionMaps(tuple(layer(name, (8, 6), (5, 4), i) for i, name in enumerate(names)), 4)


MASKS = (boxes(2, 32, 24).cpu(), boxes(2, 40, 30).cpu())


def test_the_method_scores_every_layer():
    run = custom()
    got = scores(run, *MASKS)
    assert torch.equal(got["imacs_g"], imacs(run.unified("r2g"), MASKS[0]))
    assert torch.equal(got["imacs_r"], imacs(run.unified("g2r"), MASKS[1]))
    assert scores(run, MASKS[0]).keys() == {"imacs_g"}
    assert scores(run, garment_mask=MASKS[1]).keys() == {"imacs_r"}
    chosen = scores(run, *MASKS, layers="*coders*", size=(64, 48), heads=[1], groups=0, balance=True)
    how: dict[str, Any] = {"layers": "*coders*", "heads": [1], "groups": 0, "balance": True}
    assert torch.equal(chosen["imacs_r"], imacs(run.unified("g2r", (64, 48), **how), MASKS[1]))


def test_conventions_differ_as_the_releases_do():
    run = stableviton()
    got = scores(run, *MASKS, convention="stableviton")
    r2g, warp = run.unified("r2g", layers=["input*", "output*"]), run.unified("g2r", layers="warp_flow_blks.4.*")
    assert torch.equal(got["imacs_g"], imacs(r2g, MASKS[0], invert=True))
    assert torch.equal(got["imacs_r"], imacs(warp, MASKS[1], force_mask=True))
    example = scores(run, MASKS[0], convention="paint-by-example", layers=["input*", "output*"])
    assert torch.equal(example["imacs_g"], got["imacs_g"])

    run = custom()
    got = scores(run, *MASKS, convention="custom")
    assert torch.equal(got["imacs_g"], imacs(run.unified("r2g", layers="*coders*"), MASKS[0]))
    assert torch.equal(got["imacs_r"], imacs(run.unified("g2r", layers="*coders*"), MASKS[1]))
    assert not torch.equal(got["imacs_g"], scores(run, MASKS[0], convention="paint-by-example")["imacs_g"])
    assert not torch.equal(got["imacs_g"], scores(run, MASKS[0])["imacs_g"])  # with the bottleneck


def test_a_convention_is_a_record_of_itself():
    for name, how in CONVENTIONS.items():
        assert convention(name) is convention(how) is how
        assert (how.name, how.threshold, how.penalty) == (name, 0.4, 3.0)
        assert asdict(how)["r2g"]["invert"] == (name in ("stableviton", "paint-by-example"))
    mild = replace(convention("custom"), penalty=1.0)
    run = custom()
    got = scores(run, MASKS[0], convention=mild)["imacs_g"]
    assert torch.equal(got, imacs(run.unified("r2g", layers=mild.layers("r2g", run.layers)), MASKS[0], penalty=1.0))


ASKED: dict[str, tuple[Any, str]] = {
    "name": (lambda: convention("StableVITON"), r"convention must be one of method, stableviton, .*got 'StableVITON'"),
    "masks": (lambda: scores(custom()), r"masks must be mask \(inpainting\), garment_mask or both, got neither"),
    "layers": (lambda: scores(custom(), None, MASKS[1], convention="stableviton"),
               r"layers of the convention 'stableviton' must be among .*warp_flow_blks\.4.*Pass layers=.*encoders\.1"),
    "none left": (lambda: Convention("x", "", Side(without=("*",))).layers("r2g", ["a"]), r"but not \*, got none that fits"),
    "one token": (lambda: scores(custom(), *MASKS, convention="paint-by-example"), r"g2r score must be part of .*one token"),
    "direction": (lambda: convention("method").options("G2R"), r"direction must be .*got 'G2R'"),
    "no maps": (lambda: scores(MASKS[0], MASKS[0]), r"maps must be an AttributionMaps, got float32 \[2, 32, 24\].* run\.maps is one"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_quoted(name):
    ask, message = ASKED[name]
    with pytest.raises(ValueError, match=message):
        ask()
