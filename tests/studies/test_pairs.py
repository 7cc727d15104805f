"""Two nouns in one prompt: a study on a small pipeline whose numbers are had again from its files, and lists that are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pipelines
import pytest
from reported import Page

from i2am.cli.main import main
from i2am.data.prompts import Asked
from i2am.maps.words import overlap
from i2am.score.entanglement import OVERLAPS, Pair
from i2am.studies import labels, pairs, pairs_page
from i2am.studies.options import Options
from i2am.studies.painter import Painter
from i2am.studies.run import paint

pytestmark = pytest.mark.usefixtures("on_the_cpu")
ASKED = [
    Asked("a", "a cat and a dog", seed=1, group="siblings"),
    Asked("b", "A shirt and the plain coat.", seed=2, group="siblings"),
    Asked("c", "a dog and a shirt", seed=3, group="different"),
    Asked("d", "a cat and a red shirt", seed=4, group="different"),
]
LABELS = "id,first,second\na,1,0\nb,1,1\nd,0,0\n"
OPTIONS = {"options": Options(steps=1, size=(64, 48)), "cpu": True}


@pytest.fixture(scope="module")
def pipe(on_the_cpu: None) -> Any:
    return pipelines.sd15().pipe


@pytest.fixture(scope="module")
def out(pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = pairs.study(ASKED, pipe, out=tmp_path_factory.mktemp("pairs") / "out", **OPTIONS)
    assert page.name == "report.html"
    return page.parent


def test_every_pair_s_numbers_are_those_of_its_maps(out: Path, pipe: Any) -> None:
    rows = list(csv.DictReader((out / "pairs.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert [(row["first"], row["second"]) for row in rows[1:2]] == [("shirt", "plain coat")]
    for one, row in zip(paint(ASKED, pipe, out=out, words=pairs.nouns_of(ASKED), **OPTIONS), rows):
        found = overlap(one.words(), row["first"], row["second"], size=(64, 48))
        assert [float(row[name]) for name in OVERLAPS] == [float(found[name]) for name in OVERLAPS]
        assert row["right"] == ""
    report = json.loads((out / "report.json").read_text())
    mean = sum(float(row["iou"]) for row in rows[:2]) / 2
    assert report["groups"]["siblings"]["iou"]["mean"] == pytest.approx(mean)
    assert report["paper"]["cohyponyms"]["right"] == 0.52
    assert "by_right" not in report
    shown = Page(out / "report.html")
    assert "DAAM's paper, cohyponyms" in shown.text
    assert len([1 for tag, _ in shown.elements if tag == "img"]) == 4 * 4
    assert len([1 for tag, _ in shown.elements if tag == "circle"]) == 4


def test_labels_say_what_was_painted_and_paint_nothing(out: Path, pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Painter, "part", lambda *_: pytest.fail("painted again"))
    (tmp_path / "seen.csv").write_text(LABELS)
    pairs.study(ASKED, pipe, out=out, labels=tmp_path / "seen.csv", **OPTIONS)
    report = json.loads((out / "report.json").read_text())
    assert report["groups"]["siblings"]["right"]["mean"] == 0.5
    assert report["groups"]["different"]["right"] == {**report["groups"]["different"]["right"], "mean": 0, "count": 1, "nan": 1}
    assert report["differences"]["siblings - different"]["right"]["mean"] == 0.5
    assert report["without a label"] == ["c"]
    assert [row["right"] for row in csv.DictReader((out / "pairs.csv").read_text().splitlines())] == ["0", "1", "", "0"]
    shown = Page(out / "report.html").text
    assert "1 picture without a label: c" in shown
    assert "both painted" in shown


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("id,both\na,1\nz,0\ny,1\n", "2 others: z, y"),
        ("id,both\na,yes\n", "line 2: a,yes"),
        ("id,both\na,1\na,0\n", r"line 3: a,0 \(again\)"),
        ("name,both\na,1\n", "first line is id,both or id,first,second, got 'name,both'"),
        ("id,both\n", "at least one label"),
    ],
)
def test_labels_that_are_none_are_refused(table: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text(table)
    with pytest.raises(ValueError, match=what):
        labels.read_labels(tmp_path / "seen.csv", {"a", "b"})


def test_lists_without_two_things_or_two_groups_are_refused_before_anything_is_painted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    wrong = [*ASKED, Asked("e", "a cat on a mat", group="x"), Asked("f", "a cat and a cat"), Asked("g", "a cat and a dog and a coat")]
    with pytest.raises(ValueError, match=r"3 others: e \('a cat on a mat'\), f .*, g "):
        pairs.study(wrong, None, out=out)
    with pytest.raises(ValueError, match=r"groups must be at least two.*got 'siblings'"):
        pairs.study(ASKED[:2], None, out=out)
    (tmp_path / "seen.csv").write_text("id,both\nz,1\n")
    with pytest.raises(ValueError, match="labels of prompts that are in the list"):
        pairs.study(ASKED, None, out=out, labels=tmp_path / "seen.csv")
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        pairs.study(ASKED, None, out=out, threshold=4)
    assert not out.exists()


def test_groups_of_any_name_and_number_have_a_page(pipe: Any, tmp_path: Path) -> None:
    asked = [Asked(f"{n}", f"a cat and a {word}", seed=n, group=f"pets - {n}")
             for n, word in enumerate(("dog", "shirt", "coat", "hat", "mat", "bat", "rat"))]  # fmt: skip
    page = pairs.study([*asked, *(Asked(f"{one.id}-again", one.prompt, seed=9, group=one.group) for one in asked)], pipe,
                       out=tmp_path, **OPTIONS).read_text("utf-8")  # fmt: skip
    assert "There is room for the first" not in page  # with two pictures a group, one tab each
    assert page.count("overlap more in") + page.count("overlap less in") == 3
    assert "pets - 5 - pets - 6" in page


def test_more_tabs_than_there_is_room_for_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_page, "example", lambda *_: "")
    scored = [Pair(f"{n}", f"{n % 7}", 0.5, 0.0, 0.0) for n in range(7 * (pairs_page.SHOWN + 1))]
    nouns = {one.id: ("cat", "dog") for one in scored}
    assert "There is room for the first 12 of 14 tabs." in pairs_page.examples([None] * len(scored), scored, nouns, 0.4)  # type: ignore[list-item]


def test_words_to_make_prompts_of(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("group,word\nround,circle\nround,ring\nstraight,square\n")
    asked = pairs.pair_prompts(4, 0, pairs.read_groups(tmp_path / "classes.csv"))
    assert [one.group for one in asked] == ["siblings", "different"] * 2
    assert {"circle", "ring"} == set(pairs.nouns_of(asked)[asked[0].id])
    assert len(pairs.nouns_of(pairs.pair_prompts(200))) == 200
    for table, what in (("group,word\nround,circle\nround,ring\n", "at least two groups, got one: round"),
                        ("group,word\nround,circle\nflat,circle\n", "line 3"), ("word\ncircle\n", "first line is group,word")):  # fmt: skip
        (tmp_path / "classes.csv").write_text(table)
        with pytest.raises(ValueError, match=what):
            pairs.read_groups(tmp_path / "classes.csv")


def test_the_command_passes_on_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(pairs, "study", lambda prompts, **more: given.update(more, prompts=prompts) or tmp_path / "report.html")
    out = ["--out", str(tmp_path)]
    assert main(["entangle", "pairs", "--count", "6", "--model", "somewhere", *out, "--threshold", "0.3", "--cpu"]) == 0
    assert (len(given["prompts"]), given["threshold"], given["model"], given["labels"]) == (6, 0.3, "somewhere", None)
    assert "report.html" in capsys.readouterr().out
    assert main(["entangle", "pairs", *out]) == 2
    assert "either a list, --prompts, or as many as --count says" in capsys.readouterr().err
