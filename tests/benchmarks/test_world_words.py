"""The benchmark of words: rows hold what was asked of which model, painted pixels are found by their colours, tables say what rows hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import scene_model
import torch

from benchmarks.measuring.rows import read
from benchmarks.world import tables, words, words_tables
from benchmarks.world.word_truth import painted_masks
from i2am.data.scenes import COLOURS, SHAPES, draw_scenes
from i2am.maps.words import iou

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_pixels_of_named_colours_are_found_in_the_picture() -> None:
    """In rendered pictures, where the truth is known."""
    scenes, found = draw_scenes(60, seed=11), []
    for i, layout in enumerate(scenes.layouts):
        masks = painted_masks(scenes.pictures[i] / 2 + 0.5, layout)
        named = {word for word, things in layout.sentence.things().items() if all(layout.things[thing].named for thing in things)}
        assert set(masks) <= named
        found += [iou(scenes.masks(i)[word].float(), mask.float()).item() for word, mask in masks.items()]
    assert len(found) > 150
    assert sum(found) / len(found) > 0.85


def test_things_that_are_not_there_have_no_pixels() -> None:
    layout = next(one for one in draw_scenes(20).layouts if len(one.things) == 2 and all(thing.named for thing in one.things))
    assert painted_masks(torch.full((3, 64, 96), 0.5), layout) == {}


def test_rows_and_tables_of_every_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "model_of", lambda name: scene_model.tiny(int(name.split()[-1]) if "random" in name else 9))
    out = tmp_path / "rows.jsonl"
    assert (
        words.main(["--models", "shipped", "random 0", "random 1", "--count", "4", "--steps", "2", "--batch", "3", "--out", str(out)]) == 0
    )
    rows = read(out)
    assert {(row["benchmark"], row["model"]) for row in rows} == {
        (f"words {question}", model) for question in words.QUESTIONS for model in ("shipped", "random 0", "random 1")}  # fmt: skip
    rendered = [row for row in rows if row["benchmark"] == "words segment" and row["on"] == "rendered" and row["model"] == "shipped"]
    scenes = draw_scenes(4, seed=words.HELD_OUT, size=scene_model.SIZE)
    for row in rendered:
        known = {"nouns": SHAPES, "colours": COLOURS}[row["kind"]]
        assert row["table"][0]["count"] == sum(word in known for i in range(4) for word in scenes.masks(i))
        assert row["rivals"]["whole"][0]["mean"] == row["rivals"]["whole"][4]["mean"] > 0
    syntax = [row for row in rows if row["benchmark"] == "words syntax" and row["on"] == "rendered"]
    assert all(line["iou"]["mean"] > 0.9 for row in syntax for line in row["truth"] if line["relation"] == "amod")
    text = tables.words(rows, "segment")
    assert "random weights | rendered | " in text
    assert "4 held-out scenes, 2 steps, guidance 2" in text
    assert tables.words([], "leak") == words_tables.NOT_YET
    for question in words.QUESTIONS:
        lines = [line for line in tables.words(rows, question).splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1
