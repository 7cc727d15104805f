"""The study of syntax: its numbers are those of its files, and what is wrong is said before anything is painted."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pipelines
import pytest

from i2am.cli.main import main
from i2am.data.prompts import write_prompts
from i2am.language.conllu import read_conllu, write_conllu
from i2am.language.sentences import Sentence, Token
from i2am.maps.words import overlap
from i2am.score.relations import MEASURES
from i2am.studies import syntax
from i2am.studies.options import Options
from i2am.studies.painted import Painted
from i2am.studies.run import as_asked, paint

pytestmark = pytest.mark.usefixtures("on_the_cpu")
TREES = {
    "a red shirt and a blue cat": "det 3/amod 3/root 0/cc 7/det 7/amod 7/conj 3",
    "the dog on a striped shirt": "det 2/root 0/case 6/det 6/amod 6/nmod 2",
    "a red cat and a red dog": "det 3/amod 3/root 0/cc 6/det 7/amod 7/conj 3",
}
POS = {"det": "DET", "amod": "ADJ", "case": "ADP", "cc": "CCONJ"}


def parse(text: str, names: str, id: str = "") -> Sentence:
    pairs = [one.split() for one in names.split("/")]
    return Sentence(text, tuple(Token(i, word, word, POS.get(name, "NOUN"), int(head), name)
                                for i, (word, (name, head)) in enumerate(zip(text.split(), pairs), 1)), id)  # fmt: skip


@pytest.fixture(scope="module")
def there(on_the_cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list, its parses, and a study of it."""
    place = tmp_path_factory.mktemp("syntax")
    write_prompts(place / "list.csv", as_asked(list(TREES)))
    write_conllu(place / "list.conllu", [parse(*one) for one in TREES.items()])
    pipe = pipelines.sd15().pipe
    syntax.study(
        place / "list.csv", pipe, out=place / "out", conllu=place / "list.conllu", options=Options(steps=2, size=(64, 48)), cpu=True
    )
    return place


def rows(place: Path) -> list[dict[str, str]]:
    with (place / "relations.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_the_overlaps_of_the_words_maps(there: Path) -> None:
    asked = as_asked(there / "list.csv")
    found = {(row["id"], row["relation"], row["head"], row["dependent"]): row for row in rows(there / "out")}
    assert ("0001", "nmod:on", "dog", "shirt") in found
    assert ("0000", "conj:and", "shirt", "cat") in found
    out = there / "out"
    one = Painted(asked[1], out / "images" / "0001.png", out / "words" / "0001.safetensors")
    row = found["0001", "nmod:on", "dog", "shirt"]
    for convention, how in (("paper", {"size": (64, 48)}), ("notebook", {"absolute": True, "threshold": 0.15})):
        expected: dict[str, Any] = overlap(one.words(), "dog", "shirt", **how)  # type: ignore[arg-type]
        for measure in MEASURES:
            value, told = float(expected[measure]), row[f"{convention}_{measure}"]
            assert float(told or "nan") == value or (convention == "notebook" and value != value and float(told) == 0)


def test_the_report_counts_and_its_means_are_the_rows(there: Path) -> None:
    report = json.loads((there / "out" / "report.json").read_text("utf-8"))
    table = report["conventions"]["paper"]["relations"]
    assert [(one["relation"], one["count"]) for one in table][:2] == [("det", 6), ("amod", 5)]
    values = [float(row["paper_iod"]) for row in rows(there / "out") if row["relation"] == "amod"]
    amod = next(one for one in table if one["relation"] == "amod")
    assert amod["iod"]["mean"] == math.fsum(values) / len(values)
    assert amod["delta"] == abs(amod["iod"]["mean"] - amod["ioh"]["mean"])
    kinds = [row["kind"] for row in rows(there / "out")]
    assert report["pairs"] == {"all heads and dependents": kinds.count("relation"), "unrelated words": kinds.count("unrelated"),
                               "coreferent words": kinds.count("coreferent")}  # fmt: skip
    assert kinds.count("unrelated") == 3 + 1 + 2  # words of two things; in the last prompt "red" and "red" are no such pair
    assert kinds.count("coreferent") == 0
    assert report["steps"] == 2
    assert report["parser"]["conllu"] == str(there / "list.conllu")
    assert [one.text for one in read_conllu(there / "out" / "parsed.conllu")] == list(TREES)


def test_the_page_holds_tables_and_examples(there: Path) -> None:
    page = (there / "out" / "report.html").read_text("utf-8")
    assert page.count("<table") > 2
    assert "nmod:on" in page
    assert "33.4 / 59.1 / 50.0" not in page  # no compound here, and nothing to set beside it
    assert "14.7 / 45.1 / 19.1" in page
    assert page.count("data:image/jpeg") >= 4 * 3


def test_what_was_painted_is_read_instead(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "paint", None)
    how = {"out": there / "again", "painted": there / "out", "conllu": there / "list.conllu"}
    syntax.study(there / "list.csv", **how)
    assert rows(there / "again") == rows(there / "out")
    syntax.study(there / "list.csv", **how, conventions=["notebook"], options=Options(limit=1), unrelated_pairs=0)
    assert {row["id"] for row in rows(there / "again")} == {"0000"}
    assert "paper_iou" not in rows(there / "again")[0]
    with pytest.raises(ValueError, match=r"must be the --out of an earlier study"):
        syntax.study(there / "list.csv", **{**how, "painted": there})
    with pytest.raises(ValueError, match=r"pictures of all prompts, got none of 1 prompt \(0003\)"):
        syntax.earlier(there / "out", as_asked([*TREES, "a dog"]))
    (there / "out" / "left-out.json").write_text('{"0003": "its prompt is too long"}')
    assert [one.asked.id for one in syntax.earlier(there / "out", as_asked([*TREES, "a dog"]))] == ["0000", "0001", "0002"]
    with pytest.raises(ValueError, match=r"of this list, whose prompt 0 has the prompt 'a dog', got "):
        syntax.earlier(there / "out", as_asked(["a dog", *list(TREES)[1:]]))


@pytest.mark.parametrize("prompt", ["一只红色的猫", "a café 😀"])
def test_prompts_are_known_again_whatever_a_tokenizer_made_of_them(prompt: str, tmp_path: Path) -> None:
    """Of these the small tokenizer keeps no letter, or not all."""
    painted = paint([prompt], pipelines.sd15().pipe, out=tmp_path, options=Options(steps=1, size=(64, 48)), cpu=True)
    assert [one.asked for one in syntax.earlier(tmp_path, as_asked([prompt]))] == [one.asked for one in painted]
    with pytest.raises(ValueError, match="of this list"):
        syntax.earlier(tmp_path, as_asked(["一只蓝色的狗"]))


def test_everything_that_is_wrong_is_said_before_painting(there: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(syntax, "paint", lambda *_, **__: pytest.fail("painted"))
    out = tmp_path / "out"
    listed = [*TREES, "a hat"]
    for how, said in (
        ({"conllu": there / "list.conllu"}, r"a parse of every prompt, got none for 1 prompt \(0003: 'a hat'\)"),
        ({"parser": "none_of_them"}, r"a model of spaCy must be installed, .* CoNLL-U files need none"),
        ({"conventions": ["book"]}, "the convention must be"),
        ({"conventions": []}, "one or both of paper, notebook"),
        ({"relations": 0}, "relations must be a whole number of at least 1"),
        ({"painted": there}, "model or painted must be one of both"),
    ):
        with pytest.raises(ValueError, match=said):
            syntax.study(listed, "scenes", out=out, **how)
    (tmp_path / "c.csv").write_text("id,first,second\n0009,1,2\n")
    with pytest.raises(ValueError, match="about the list's prompts"):
        syntax.study(there / "list.csv", "scenes", out=out, conllu=there / "list.conllu", coreference=tmp_path / "c.csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"a parser needs spaCy\. pip install 'i2am\[syntax\]'"):
        syntax.study(list(TREES), "scenes", out=out)
    assert not out.exists()


def test_the_command(there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(there)
    command = "syntax --prompts list.csv --painted out --out third --conllu list.conllu --convention paper --relations 2 --unrelated 1"
    assert main(command.split()) == 0
    assert capsys.readouterr().out == f"Look at {Path('third') / 'report.html'}\n"
    report = json.loads(Path("third/report.json").read_text("utf-8"))
    assert list(report["conventions"]) == ["paper"]
    assert len(report["conventions"]["paper"]["relations"]) == 2
    assert report["pairs"]["unrelated words"] == 1


def test_lists_that_grow_go_on(there: Path) -> None:
    """The limit is no other study."""
    pipe = pipelines.sd15().pipe
    options = Options(steps=2, size=(64, 48), limit=1)
    assert len(paint(there / "list.csv", pipe, out=there / "out", options=options, cpu=True)) == 1
