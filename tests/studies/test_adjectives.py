"""One noun with several adjectives: a study on a small pipeline, free and held, and templates that are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import joint
import numpy as np
import pipelines
import pytest
import torch
from reported import Page

import i2am
from i2am.cli.main import main
from i2am.score.entanglement import leaking
from i2am.studies import adjectives, results
from i2am.studies.described import Described
from i2am.studies.options import Options
from i2am.studies.painted import Painted

pytestmark = pytest.mark.usefixtures("on_the_cpu")
TEMPLATE = "a {red,blue,plain} cat on the shirt"
OPTIONS = {"options": Options(steps=2, size=(64, 48), seed=5), "cpu": True}


@pytest.fixture(scope="module")
def pipe(on_the_cpu: None) -> Any:
    return pipelines.sd15().pipe


@pytest.fixture(scope="module")
def out(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adjectives.study(TEMPLATE, pipe, out=tmp_path_factory.mktemp("adjectives") / "out", seeds=2, held=True, **OPTIONS).parent


def table(out: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))


def picture(out: Path, name: str) -> torch.Tensor:
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(out / "images" / f"{name}.png"), dtype=np.float32)) / 255


def test_adjectives_of_a_seed_have_its_noise_and_held_ones_its_attention(out: Path, pipe: Any) -> None:
    ids = [f"{word}-{place:04d}" for place in (0, 1) for word in ("red", "blue", "plain")]
    assert [row["id"] for row in table(out, "adjectives")] == ids * 2
    assert [row["seed"] for row in table(out, "adjectives")] == ["5", "5", "5", "6", "6", "6"] * 2
    prompts = ["a red cat on the shirt", "a blue cat on the shirt", "a plain cat on the shirt"]
    asked = {"num_inference_steps": 2, "height": 64, "width": 48, "output_type": "np"}
    noise = [torch.Generator("cpu").manual_seed(6) for _ in prompts]
    with i2am.hold(pipe):
        held = pipe(prompts, generator=noise, **asked).images
    free = pipe(prompts[1], generator=torch.Generator("cpu").manual_seed(6), **asked).images[0]
    levels = 1 / 255  # of a PNG, and float32 of another batch
    for image, name in zip(held, ids[3:]):
        assert (picture(out / "held", name) - torch.from_numpy(image)).abs().max() < levels
    assert (picture(out, "blue-0001") - torch.from_numpy(free)).abs().max() < levels
    assert (picture(out, "red-0001") - picture(out / "held", "red-0001")).abs().max() <= levels
    assert (picture(out, "blue-0001") - picture(out / "held", "blue-0001")).abs().max() > 2 * levels


def test_the_numbers_are_those_of_the_maps_and_pictures(out: Path) -> None:
    described = Described(TEMPLATE, seed=5, seeds=2)
    painted = [Painted(one, out / "images" / f"{one.id}.png", out / "words" / f"{one.id}.safetensors") for one in described.prompts]
    for one, row in zip(painted, table(out, "adjectives")):
        words = one.words()
        found = leaking(words[row["adjective"]], words["cat"], size=(64, 48))
        assert [float(row[name]) for name in ("outside", "leak", "iod")] == [float(found[name]) for name in ("outside", "leak", "iod")]
    changes = table(out, "changes")
    assert [(row["first"], row["second"]) for row in changes] == [("red", "blue"), ("red", "plain"), ("blue", "plain")] * 4
    report = json.loads((out / "report.json").read_text())
    for run in ("free", "held"):
        mine = [float(row["absolute_outside"]) for row in changes if row["run"] == run]
        assert report["runs"][run]["changes"]["absolute_outside"]["mean"] == pytest.approx(sum(mine) / 6)
    assert (report["noun"], report["seeds"], report["moved"]) == ("cat", 2, [])
    assert report["runs"]["free"]["looks"]["leak"]["clusters"] == 2
    looks = {row["id"]: row for row in table(out, "adjectives") if row["run"] == "held"}
    assert float(looks["red-0000"]["area"]) == pytest.approx(float(looks["blue-0000"]["area"]), abs=0.01)  # one attention, one mask


def test_a_table_has_nothing_where_there_is_no_number() -> None:
    assert results.table([{"a": 1.5, "b": True, "c": "x,y"}, {"a": float("nan"), "b": None, "c": ""}]) == 'a,b,c\n1.5,1,"x,y"\n,,\n'


def test_the_page_shows_every_row(out: Path) -> None:
    page = Page(out / "report.html")
    assert len([1 for tag, _ in page.elements if tag == "img"]) == 2 * (3 + 3 + 3 + 2 + 3 + 2)
    for said in ("Where adjectives look", "Painted freely", "With the first one's attention held", "red - blue, held", "seed 6"):
        assert said in page.text


def test_adjectives_of_more_tokens_are_told(tmp_path: Path, pipe: Any) -> None:
    adjectives.study("a {red,striped} cat", pipe, out=tmp_path / "out", held=True, **OPTIONS)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["moved"] == ["striped"]
    text = Page(tmp_path / "out" / "report.html").text
    assert "In 1 prompt the cat is not the same tokens" in text
    assert "One seed has no interval" in text


def test_what_cannot_be_studied_is_refused_before_anything_is_painted(tmp_path: Path, pipe: Any) -> None:
    out = tmp_path / "out"
    for template, more, what in (
        (TEMPLATE, {"noun": "coat"}, "the noun must be in the template"),
        ("a {red} cat", {}, "two adjectives or more"),
        ("a red cat", {}, "two adjectives or more"),
        (TEMPLATE, {"seeds": 0}, "seeds must be a whole number"),
        (TEMPLATE, {"threshold": 1}, "threshold must be between"),
        (TEMPLATE, {"options": Options(limit=2)}, "limit must be left out"),
    ):
        with pytest.raises(ValueError, match=what):
            adjectives.study(template, pipe, out=out, **more)
    with pytest.raises(ValueError, match="reads the prompt by cross-attention, got FluxPipeline"):
        adjectives.study(TEMPLATE, joint.flux().pipe, out=out, held=True)
    assert not out.exists()


def test_the_command_passes_on_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(adjectives, "study", lambda template, **more: given.update(more, template=template) or tmp_path / "report.html")
    assert main(["entangle", "adjectives", TEMPLATE, "--noun", "cat", "--seeds", "3", "--held", "--out", str(tmp_path), "--seed", "2"]) == 0
    assert (given["template"], given["noun"], given["seeds"], given["held"], given["options"].seed) == (TEMPLATE, "cat", 3, True, 2)
