"""Words beside a reference: cells that make up the whole, regions equal to the stored attention, and what the table says."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import joint as transformers
import oracle
import pipelines
import pytest
import torch
from edits import CALL, GENERATED, REFERENCE, TEXT, edits, kontext
from PIL import Image
from tolerance import alike

import i2am
from i2am.data.prompts import Asked
from i2am.maps.words import iou, show
from i2am.studies.condensed import cells_in, cells_of, condensed, of_region, per_cell, taken
from i2am.studies.joint import joint, places
from i2am.studies.options import Options
from i2am.studies.painted import Painted
from i2am.studies.run import paint

pytestmark = pytest.mark.usefixtures("on_the_cpu")
TERMS = 1000


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    return edits(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def edited(asked: list[Asked], tmp_path_factory: pytest.TempPathFactory) -> list[Painted]:
    """On a grid of 8 by 6, with as many cells."""
    options = Options(steps=2, size=(64, 48), arguments=CALL, parts=GENERATED)
    return paint(asked, kontext(), out=tmp_path_factory.mktemp("edited") / "out", options=options, cpu=True)


def test_a_words_region_is_what_the_stored_attention_says(edited: list[Painted], asked: list[Asked]) -> None:
    """Every patch a cell: the region's map is sum_i M_i P_ij / G of the reference's columns, over steps, the mean of heads and layers."""
    pipe, one = kontext(), edited[0]
    with oracle.recorded(pipe.transformer, pipe.scheduler, lambda name: name.endswith("attn")) as calls:
        pipe(prompt=asked[0].prompt, image=Image.open(asked[0].image), height=64, width=48, num_inference_steps=2, **CALL,
             generator=torch.Generator("cpu").manual_seed(one.seed), output_type="latent")  # fmt: skip
    maps, mask = one.beside(), show(one.words()["shirt"][0], threshold=0.4)
    assert maps is not None
    assert cells_in(maps) == (8, 6)
    assert 0 < mask.sum() < 48
    text, generated, reference = TEXT, math.prod(GENERATED), math.prod(REFERENCE)
    total = torch.zeros(reference, dtype=torch.float64)
    for call in calls:
        weights = call.scores.softmax(-1)[0, :, text : text + generated, text + generated :]  # [heads, G, R]
        total += torch.einsum("hgr,g->r", weights, mask.flatten().double()) / generated / weights.shape[0]
    layers = len({call.layer for call in calls})
    assert len(calls) == 2 * layers
    expected = (total / layers)[None]
    alike(of_region(maps, per_cell(mask, 8, 6)).double().flatten()[None], expected, TERMS)
    row = joint([one], words=["shirt"])[0]
    everything = sum(
        call.scores.softmax(-1)[0, :, text : text + generated, text + generated :].mean(0).sum().item() for call in calls
    )  # of all patches
    assert row["used"] == pytest.approx(total.sum().item() * generated / everything, rel=1e-5)
    peak = int(expected.argmax())
    assert (row["peak_y"], row["peak_x"]) == pytest.approx(((peak // 7 + 0.5) / 5, (peak % 7 + 0.5) / 7))


def test_inside_and_iou_are_of_the_words_mask(edited: list[Painted]) -> None:
    for row in joint(edited):
        one = next(one for one in edited if one.asked.id == row["id"])
        acting, mask = one.beside().unified("r2g")[0], show(one.words()[row["word"]][0], threshold=0.4)
        assert row["inside"] == pytest.approx(float(acting[mask > 0].double().sum() / acting.double().sum()), rel=1e-5)
        assert row["area"] == pytest.approx(float(mask.mean()))
        assert row["iou"] == pytest.approx(float(iou(mask, show(acting, threshold=0.4))))
        assert 0 < row["used"] < 1
        assert row["top"] <= row["peak_y"] <= row["bottom"]
        assert row["left"] <= row["peak_x"] <= row["right"]
    assert [(row["id"], row["word"]) for row in joint(edited)] == [("one", w) for w in ("red", "shirt", "blue", "cat")] + [
        ("two", w) for w in ("plain", "dog")
    ]


@pytest.fixture(scope="module")
def traced(on_the_cpu: None) -> dict[str, i2am.AttributionMaps]:
    """Runs with cells: one grid, and three of them with a class token and several heads."""
    found = {}
    for name, case in {"kontext": transformers.flux_kontext(), "adapter": pipelines.ip_adapter("full")}.items():
        size = (64, 48)
        with i2am.trace(case.pipe, groups=2, specific=i2am.cells(4, 3), words=True) as run:
            case(batch=2, size=size)
        found[name] = run.maps
    return found


@pytest.mark.parametrize("name", ["kontext", "adapter"])
def test_cells_add_up_to_the_whole_map(name: str, traced: dict[str, i2am.AttributionMaps]) -> None:
    """Weights of 1 everywhere are the unified G2R, whatever the layers' grids; and regions that make up the picture add up to it."""
    for i in range(2):
        maps = traced[name][i]
        small = condensed(maps, (4, 3))
        assert len(small.sums) < len(maps.sums)
        for direction in ("r2g", "g2r"):
            assert small.unified(direction).shape == maps.unified(direction).shape
            alike(small.unified(direction).double().flatten(1), maps.unified(direction).double().flatten(1), TERMS)
        whole = maps.unified("g2r").double().flatten(1)
        ones = torch.ones(12)
        alike(of_region(small, ones).double().flatten()[None], whole, TERMS)
        half = (torch.arange(12) % 3 == 1).float()
        both = of_region(small, half).double() + of_region(small, 1 - half).double()
        alike(both.flatten()[None], whole, TERMS)
        (source,) = small.references
        assert taken(small, half, source) + taken(small, 1 - half, source) == pytest.approx(taken(small, ones, source))
        assert (of_region(small, half) - of_region(small, 1 - half)).abs().max() > 1e-3 * whole.max()


def test_condensed_layers_on_other_grids_are_resized_one_by_one(traced: dict[str, i2am.AttributionMaps], tmp_path: Path) -> None:
    maps = traced["adapter"]
    small = condensed(maps[0], (4, 3))
    assert sum(s.layer == "all layers of the largest grid" for s in small.sums) == 1
    assert {s.generated_grid for s in small.sums} == {s.generated_grid for s in maps.sums} == {(16, 12), (8, 6)}
    assert [s.layer for s in small.sums if s.g2r is not None] == ["all layers of the largest grid"]  # the references are of one grid
    assert all(s.r2g.shape[2] == 2 for s in small.sums[1:])  # head by head
    assert small.unified("g2r").shape == (1, 16, 16)  # without the class token
    back = i2am.load(small.save(tmp_path / "small.safetensors"))
    assert cells_in(back) == (4, 3)
    assert torch.equal(back.unified("g2r"), small.unified("g2r"))
    assert cells_in(maps) is None


def test_cells_are_as_attention_sees_them() -> None:
    """A cell's weight is the mean over the patches whose centres it holds, on sides that do not divide."""
    weights = torch.rand(10, 7)
    found = per_cell(weights, 4, 3)
    for n, box in enumerate(i2am.cells(4, 3)):
        y, x = (torch.arange(10) + 0.5) / 10, (torch.arange(7) + 0.5) / 7
        inside = ((y >= box[0]) & (y < box[2]))[:, None] & ((x >= box[1]) & (x < box[3]))
        assert found[n].item() == pytest.approx(float(weights[inside].double().mean()))
    assert torch.equal(per_cell(torch.ones(10, 7), 4, 3), torch.ones(12, dtype=torch.float64))
    assert cells_of([(64, 48), (32, 24), (8, 6)]) == (8, 6)
    assert cells_of([(64, 48), (4, 3)]) == (4, 3)  # none is smaller than a patch
    assert cells_of([(64, 64)], (100, 10)) == (64, 10)
    assert cells_of([(30, 90)]) == (3, 8)


def test_places_are_fractions() -> None:
    where = torch.zeros(4, 10)
    where[1, 3:5], where[2, 3] = 1.0, 0.5
    where[1, 4] = 2.0
    assert places(where, 0.4) == pytest.approx({"peak_y": 0.375, "peak_x": 0.45, "top": 0.25, "left": 0.3, "bottom": 0.5, "right": 0.5})
    flat = places(torch.ones(4, 10), 0.4)
    assert flat["top"] is None


def test_the_table_and_the_sheets(edited: list[Painted], tmp_path: Path) -> None:
    rows = joint(edited, words={"one": ["shirt", "blue cat"]}, weigh="map", out=tmp_path)
    with (tmp_path / "joint.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [(row["id"], row["word"], row["reference"]) for row in read] == [("one", "shirt", "reference"), ("one", "blue cat", "reference")]
    assert [float(row["used"]) for row in read] == pytest.approx([row["used"] for row in rows], rel=1e-5)
    assert [path.name for path in (tmp_path / "joint").iterdir()] == ["one.jpg"]
    assert rows[0]["used"] != joint(edited, words={"one": ["shirt"]})[0]["used"]
    for wrong, said in (({"weigh": "field"}, "weigh must be one of mask, map"), ({"threshold": 1.5}, "threshold must be a level"),
                        ({"words": ["zebra"]}, "zebra")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            joint(edited, **wrong)


def test_tokens_without_a_place_have_a_share_alone(tmp_path: Path) -> None:
    """An adapter's resampler, from the picture that the list names."""
    case = pipelines.ip_adapter("plus", encoder=True)
    Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "reference.png")
    asked = [Asked("x", "a red shirt", image=tmp_path / "reference.png"), Asked("y", "a cat", image=tmp_path / "reference.png")]
    painted = paint(asked, case.pipe, out=tmp_path / "out", options=Options(steps=2, size=(64, 48)), batch_size=2, cpu=True)
    rows = joint(painted)
    assert [row["word"] for row in rows] == ["red", "shirt", "cat"]
    assert all(0 < row["used"] < 1 and row["peak_y"] is None for row in rows)
    without = paint(asked, case.pipe, out=tmp_path / "no", options=Options(steps=2, size=(64, 48), beside=False), batch_size=2, cpu=True)
    assert joint(without) == []
    assert torch.equal(without[0].words().maps, painted[0].words().maps)


def test_a_lost_file_of_a_reference_is_made_again(asked: list[Asked], edited: list[Painted]) -> None:
    one = edited[1]
    assert one.reference is not None
    before = one.reference.read_bytes()
    one.reference.unlink()
    options = Options(steps=2, size=(64, 48), arguments=CALL, parts=GENERATED)
    assert paint(asked, kontext(), out=one.image.parent.parent, options=options, cpu=True) == edited
    assert one.reference.read_bytes() == before
