"""What a newcomer gets wrong in Python: every refusal says what was expected, what came, and what to do, in a few words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import i2am
from i2am import AttributionMaps, Recorder, Tokens, cells, imacs
from i2am.data.coco import read_coco
from i2am.data.synthetic import draw
from i2am.data.truth import Truth, oracle_maps
from i2am.data.vitonhd import VitonHD
from i2am.maps.layer_sums import LayerSums
from i2am.maps.prompt import Prompt
from i2am.maps.words import iou, mean_iou, overlap, show
from i2am.score.correlation import spearman
from i2am.score.faithfulness import hiding, swapping
from i2am.score.imacs import scores
from i2am.score.pointing import pointing, table
from i2am.score.similarity import ssim
from i2am.show.pictures import animate, heat, levels, overlay, sheet

pytestmark = pytest.mark.usefixtures("on_the_cpu")
NAN = float("nan")
CPU: dict[str, Any] = {"device": "cpu"}


def run(regions: bool = True) -> AttributionMaps:
    sums = LayerSums("a", "reference", (4, 3), (5, 4), 0, torch.rand(2, 1, 2, 12, **CPU), torch.rand(2, 1, 2, 20, **CPU),
                     torch.rand(2, 1, 2, 4, 20, **CPU), torch.rand(2, 1, 2, 3, 12, **CPU))  # fmt: skip
    prompts = (Prompt("a b", ("a</w>", "b</w>", "."), (False,) * 3),)
    named = ("box 0 0 0.5 0.5", "box 0 0.5 0.5 1", "box 0.5 0 1 0.5", "box 0.5 0.5 1 1")
    return AttributionMaps((sums,), 3, regions=named, prompts=prompts)


def attend(**options: Any) -> AttributionMaps:
    at_call = {name: options.pop(name) for name in ("rows", "reference", "words", "source", "scale", "layer") if name in options}
    recorder = Recorder(groups=1, **options)
    query, key = torch.rand(2, 2, 12, 8, **CPU), torch.rand(2, 2, 20, 8, **CPU)
    recorder.attend(at_call.pop("layer", "a"), query, key, key, **{"generated_grid": (4, 3), "reference_grid": (5, 4), **at_call})
    recorder.step()
    return recorder.maps


def maps() -> Tensor:
    return torch.rand(2, 4, 3, **CPU)


def mask() -> Tensor:
    inside = torch.zeros(2, 8, 6, **CPU)
    inside[:, :4] = 1
    return inside


def hide(generate: Any = lambda references: references, references: Any = None, mask_: Any = None, **options: Any) -> Any:
    references = torch.rand(2, 3, 8, 6, **CPU) if references is None else references
    return hiding(generate, references, torch.rand(2, 4, 3, **CPU), mask() if mask_ is None else mask_, **options)


def truth() -> Truth:
    return draw(2, size=(32, 24)).truth


PICTURE = Image.new("RGB", (12, 16))
ASKED: dict[str, tuple[Callable[[], Any], str]] = {
    # masks and weights
    "empty generated mask": (lambda: attend(generated_mask=0 * mask()[:1]), r"generated_mask must be above 0 .*got nothing but 0\. Leave"),
    "one empty generated mask": (lambda: attend(generated_mask=torch.stack([mask()[0], 0 * mask()[0]])), r"nothing but 0 in image 1 of 2"),
    "empty reference mask": (lambda: attend(reference_mask=np.zeros((8, 6))), r"reference_mask must be above 0.*nothing but 0"),
    "one empty reference mask": (lambda: attend(reference_mask=[0 * mask()[0], mask()[0]]), r"nothing but 0 in image 0 of 2"),
    "empty region": (lambda: attend(specific=[(0.1, 0.2), Image.new("L", (8, 6))]), r"specific\[1\] must be above 0 .*nothing but 0"),
    "NaN in a mask": (lambda: attend(generated_mask=mask() * torch.tensor([1, NAN])[:, None, None]), r"from nan to nan in image 1 of 2"),
    "mask of bytes": (lambda: attend(reference_mask=mask() * 255), r"values from 0 to 255 in image 0, 1 of 2\. Divide a mask of bytes"),
    "complex mask": (lambda: attend(generated_mask=mask().to(torch.complex64)), r"generated_mask must be a mask.*complex64 \[2, 8, 6\]"),
    "array of boxes": (lambda: attend(specific=np.array([[0.1, 0.1, 0.2, 0.2]])), r"specific must be a list .*float64 \[1, 4\].*tolist"),
    "no region": (lambda: attend(specific=[None]), r"specific\[0\] must be a point \(y, x\), a box .* or a mask, got None"),
    "a region's number": (lambda: attend(specific=5), r"specific\[0\] must be a point .* got 5"),
    # cells
    "half a cell": (lambda: cells(1.5, 2), r"rows must be a whole number of at least 1, got 1\.5\. i2am\.cells\(16, 12\)"),
    "no cells": (lambda: cells(4, 0), r"columns must be a whole number of at least 1, got 0"),
    "cells of text": (lambda: cells("2", 2), r"rows must be a whole number .*got '2'"),
    # the recorder and tokens
    "rows of text": (lambda: attend(rows="01"), r"rows must be a range of the batch, \(start, stop\), got '01'"),
    "one row": (lambda: attend(rows=1), r"rows must be a range .*got 1\. "),
    "reference as a count": (lambda: attend(reference=5), r"reference must be a range of tokens, \(start, stop\), got 5"),
    "words by fractions": (lambda: attend(words=(0.0, 3.0)), r"words must be a range of tokens.*got \(0\.0, 3\.0\)"),
    "words, true": (lambda: attend(words=True), r"words must be a range of tokens.*got True"),
    "three ends": (lambda: Tokens(reference=(0, 1, 2)), r"reference must be a range of tokens.*got \(0, 1, 2\)"),
    "nameless layer": (lambda: attend(layer=None), r"layer must be its name, got None"),
    "a tensor for a layer": (lambda: attend(layer=mask()), r"layer must be its name, got float32 \[2, 8, 6\] on cpu from 0 to 1"),
    "nameless source": (lambda: attend(source=3), r"source must be a name, got 3"),
    "scale of NaN": (lambda: attend(scale=NAN), r"layer a: scale must be finite, got nan"),
    "scale of text": (lambda: attend(scale="x"), r"scale must be a number, got 'x'"),
    # maps
    "beyond the images": (lambda: run()[9], r"images asked for must be below 2, the number of images, got 9\. maps\[0\]"),
    "half an image": (lambda: run()[1.0], r"images asked for must be a whole number, got 1\.0"),
    "a true image": (lambda: run()[True], r"images asked for must be a whole number, got True"),
    "huge": (lambda: run().unified("r2g", (10**6, 10**6)), r"r2g maps of 1000000 x 1000000 must be small .*about .* TB\. Ask for"),
    "directions": (lambda: run().unified(["r2g"]), r"direction must be one of .*got \['r2g'\]"),
    "a size in an array": (lambda: run().unified("r2g", np.array([5, 6])), r"size must be \(height, width\), got int64 \[2\].*from 5 to 6"),
    "heads in a tensor": (lambda: run().unified("r2g", heads=torch.arange(2)), r"heads must be indices below 2, got int64 \[2\]"),
    "true reference": (lambda: run().unified("r2g", reference=True), r"reference must be below 1 .*got True"),
    "true region": (lambda: run().specific(True), r"region must be one of the 4 declared regions, got True"),
    "beyond the regions": (lambda: run().level("specific", item=9), r"item of specific must be indices below 4, got 9"),
    # words
    "prompt of numbers": (lambda: run().words([3]), r"the prompt must be a text, or one for each image, got \[3\]"),
    "a prompt's number": (lambda: run().words(3), r"the prompt must be a text, .* got 3"),
    "no word": (lambda: run().words()[None], r"a word must be in the prompt, got None\. Its words are: a, b"),
    "beyond the words' images": (lambda: run().words().image(9), r"the image must be below 2, the number of images, got 9"),
    "show nothing": (lambda: show(None), r"show: map must be .*got None"),
    "show an array": (lambda: show(np.ones((2, 2))), r"show: map must be .*got float64 \[2, 2\]"),
    "show a size": (lambda: show(maps(), size=3), r"show: size must be \(height, width\), got 3"),
    "show above NaN": (lambda: show(maps(), threshold=NAN), r"show: threshold must be a number, got nan"),
    "arrays that overlap": (lambda: iou(np.ones((2, 2)), np.ones((2, 2))), r"overlap: masks must be .*got float64 \[2, 2\]"),
    "words of nothing": (lambda: overlap(None, "a", "b"), r"overlap: words must be maps by word, got None"),
    "masks of arrays": (lambda: mean_iou(maps(), mask().numpy()), r"mean_iou: maps must be .*tensors \[H, W\], got"),
    # files
    "load nothing": (lambda: i2am.load(None), r"path must be a text or a pathlib\.Path, got None\. Maps are written by maps\.save"),
    "save nowhere": (lambda: run().save(None), r"path must be a text or a pathlib\.Path, got None\. Say where it is written to\."),
    "annotations of nothing": (lambda: read_coco(None), r"path must be a text or a pathlib\.Path, got None"),
    "data of nothing": (lambda: VitonHD(None), r"root must be a text or a pathlib\.Path, got None\. Pass the folder"),
    "parts' number": (lambda: VitonHD(".", parts=3), r"parts must be some of person, .*got 3"),
    "parts in lists": (lambda: VitonHD(".", parts=[["a"]]), r"parts must be some of person, .*got \[\['a'\]\]"),
    "view nothing": (lambda: i2am.view(None), r"maps must be AttributionMaps or the path of a file of them, got None"),
    "view a folder": (lambda: i2am.view("."), r"path must be a file of maps, got \., which is a folder without"),
    "view into a number": (lambda: i2am.view(run(), 3), r"out must be a text or a pathlib\.Path, got 3"),
    "view of many bytes": (lambda: i2am.view(run(), "a.html", max_megabytes="5"), r"max_megabytes must be a size above 0, got '5'"),
    # pictures
    "complex images": (lambda: run().with_pictures(np.ones((3, 4, 4), complex)), r"images must be .*got complex128 \[3, 4, 4\] on cpu\. "),
    "alpha of text": (lambda: overlay(PICTURE, maps(), alpha="a"), r"alpha must be from 0 .*got 'a'"),
    "threshold of text": (lambda: overlay(PICTURE, maps(), threshold="x"), r"threshold must be a level, .*got 'x'"),
    "scale of texts": (lambda: overlay(PICTURE, maps(), scale=("a", "b")), r"scale must be .*got \('a', 'b'\)"),
    "maps by word": (lambda: overlay(PICTURE, run().words()), r"maps must be a tensor .*got WordMaps of 2 images, 4 x 3: 'a', 'b'\. "),
    "maps themselves": (lambda: overlay(PICTURE, run()), r"maps must be a tensor .*got AttributionMaps\. "),
    "heat of a size": (lambda: heat(maps()[0], 3), r"size must be \(height, width\), got 3"),
    "huge heat": (lambda: heat(maps()[0], (10**7, 10**7)), r"maps of 10000000 x 10000000 must be small enough .* got about"),
    "animate nowhere": (lambda: animate(PICTURE, maps(), None), r"path must be a text or a pathlib\.Path, got None"),
    "duration of text": (lambda: animate(PICTURE, maps(), "a.gif", duration="a"), r"duration must be between .*got 'a'"),
    "labels' number": (lambda: animate(PICTURE, maps(), "a.gif", labels=3), r"labels must be 2 texts, .*got 3"),
    "levels of nothing": (lambda: levels(None), r"maps must be an AttributionMaps, got None"),
    "levels of a tensor": (lambda: levels(maps()), r"maps must be an AttributionMaps, got float32 \[2, 4, 3\]"),
    "level of an image's name": (lambda: levels(run(), index="a"), r"index must be below .*got 'a'"),
    "sheet of nothing": (lambda: sheet(None, row_labels=["a"], column_labels=["b"]), r"rows must be rows of maps, got None"),
    "sheet of a number": (lambda: sheet([3], row_labels=["a"], column_labels=["b"]), r"rows must be rows of maps, got \[3\]"),
    "labels of nothing": (lambda: sheet(maps()[None], row_labels=None, column_labels="ab"), r"row_labels must be 1 texts, .*got None"),
    # truth and faithfulness
    "scores of a tensor": (lambda: scores(maps(), mask()), r"maps must be an AttributionMaps, got float32 \[2, 4, 3\]"),
    "truth of arrays": (lambda: Truth(np.ones((1, 2, 4, 4)), np.ones((1, 4, 4))), r"source must be floating .*got float64 \[1, 2, 4, 4\]"),
    "truth without inside": (lambda: Truth(torch.rand(1, 2, 4, 4), None), r"inside must be bool .*got None"),
    "pointing at nothing": (lambda: pointing(None, truth()), r"maps must be an AttributionMaps, got None"),
    "pointing without truth": (lambda: pointing(run(), None), r"truth must be a Truth, got None"),
    "within text": (lambda: pointing(run(), truth(), within="a"), r"within must be a whole number of at least 0, got 'a'"),
    "within less": (lambda: pointing(run(), truth(), mass_within=-1), r"mass_within must be a whole number of at least 0, got -1"),
    "cover of NaN": (lambda: pointing(run(), truth(), cover=NAN), r"cover must be a share above 0, up to 1, got nan"),
    "table of nothing": (lambda: table(None, truth()), r"maps must be an AttributionMaps, got None"),
    "oracle of nothing": (lambda: oracle_maps(None, (2, 2), (2, 2)), r"truth must be a Truth, got None"),
    "ssim of nothing": (lambda: ssim(None, None), r"the pictures must be floating .*got \(None, None\)"),
    "ranks of texts": (lambda: spearman("a", "b"), r"x and y must be lists of numbers, got \('a', 'b'\)"),
    "hiding by nothing": (lambda: hide(None), r"generate must be a function of the references, got None"),
    "hiding nothing": (lambda: hide(references=[PICTURE]), r"references and maps must be floating .*got \(\[Image\], float32 \[2, 4, 3\]"),
    "hiding bytes": (lambda: hide(references=torch.ones(2, 3, 8, 6, dtype=torch.uint8)), r"references and maps must be floating"),
    "pictures of another kind": (lambda: hide(lambda references: [PICTURE] * 2), r"what generate returns must be .*got \[Image, Image\]"),
    "pictures of NaN": (lambda: hide(lambda references: references * NAN), r"what generate returns must be finite .*from nan to nan"),
    "nothing inside": (lambda: hide(mask_=0 * mask()), r"mask must be above 0 .*got nothing but 0 in image 0, 1 of 2"),
    "a mask of another size": (lambda: hide(mask_=mask()[:, :5]), r"mask must be of the pictures' size \[8, 6\], got \[5, 6\]"),
    "one share": (lambda: hide(shares=0.2), r"shares must be between 0 and 1, in a list, got 0\.2"),
    "shares of text": (lambda: hide(shares=["a"]), r"shares must be between 0 and 1, got 'a'"),
    "filled with NaN": (lambda: hide(fill=NAN), r"fill must be a grey from 0 to 1, got nan"),
    "seed of text": (lambda: hide(seed="a"), r"seed must be a whole number .*got 'a'"),
    "swapping by nothing": (lambda: swapping(lambda r: None, torch.rand(2, 3, 8, 6), torch.rand(2, 4, 3)), r"generate returns .*got None"),
    # the small world
    "rich text": (lambda: draw(1, rich="a"), r"rich must be a share from 0 to 1, got 'a'"),
    "huge pairs": (lambda: draw(1, size=(10**6, 10**6)), r"pairs of 1000000 x 1000000 must be small enough .*got about 60 TB"),
    "a single pair": (lambda: draw(2, size=(32, 24))[0], r"the pairs asked for must be a slice, got 0\. pairs\[0:1\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_came_and_what_to_do_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask, message = ASKED[name]
    with pytest.raises((ValueError, IndexError), match=message) as refused:
        ask()
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_iteration_ends_at_the_last_image() -> None:
    assert len(list(run())) == 2
    with pytest.raises(IndexError):
        run()[2]


def test_reprs_are_short() -> None:
    maps = run()
    assert repr(maps).splitlines() == [
        "AttributionMaps of 2 images: 3 steps in 1 time group, 1 layer of 2 heads",
        "  sums: r2g of 1, g2r of 1, specific of 1 (4 regions), words of 1 (1 prompt)",
        "  references: reference",
    ]
    shown = maps.with_pictures([PICTURE] * 2, PICTURE)
    assert repr(shown).endswith("; pictures of the images, reference")
    assert repr(maps.words()) == "WordMaps of 2 images, 4 x 3: 'a', 'b'"
    recorder = Recorder(groups=2, steps=4)
    assert repr(recorder) == "Recorder: 0 of 4 steps in 2 time groups, 0 layers"
    for held in (maps.sums[0], shown.pictures, truth(), pointing(maps, truth()), draw(1, size=(32, 24)), hide()[0], recorder.wanted):
        assert type(held).__name__ in repr(held)
        assert len(repr(held)) < 700
        assert "\n" not in repr(held)


def test_imacs_of_a_turned_map_warns() -> None:
    with pytest.warns(UserWarning, match=r"maps of 4 x 3 are stretched to masks of 6 x 8\."):
        imacs(maps(), mask().mT)
