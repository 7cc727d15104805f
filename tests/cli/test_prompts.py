"""Lists of prompts that the command line makes."""

import pytest

from i2am.cli.main import main
from i2am.data.coco80 import GROUPS
from i2am.data.prompts import read_prompts


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pairs(there, capsys):
    assert main(["prompts", "pairs", "--count", "6", "--seed", "3", "--out", "pairs.csv"]) == 0
    found = read_prompts("pairs.csv")
    assert [(one.group, one.seed) for one in found[:2]] == [("siblings", 3), ("different", 4)]
    assert any(sum(f" {name}" in found[0].prompt for name in names) > 1 for names in GROUPS.values())
    assert capsys.readouterr().out == f"pairs.csv (6 prompts, the first: {found[0].prompt})\n"


def test_adjectives(there):
    assert main(["prompts", "adjectives", "a {blue,orange} car on a street", "--noun", "street", "--out", "a.tsv"]) == 0
    found = read_prompts("a.tsv")
    assert [(one.id, one.prompt, one.seed, one.group) for one in found] == [
        ("blue", "a blue car on a street", 0, "street"),
        ("orange", "an orange car on a street", 0, "street"),
    ]


def test_unreal_prompts_keep_the_captions_names(there):
    pytest.importorskip("spacy")
    there.joinpath("c.json").write_text('{"annotations": [{"id": 7, "caption": "A red dog."}, {"id": 9, "caption": "Green trees"}]}')
    assert main(["prompts", "unreal", "--captions", "c.json", "--out", "u.csv"]) == 0
    found = read_prompts("u.csv")
    assert [one.id for one in found] == ["7", "9"]
    assert {word.lower() for one in found for word in one.prompt.removesuffix(".").split()} <= {"a", "red", "green", "dog", "trees"}
    assert main(["prompts", "unreal", "--captions", "c.json", "--count", "1", "--out", "one.csv"]) == 0
    assert read_prompts("one.csv")[0] in found


def test_what_is_refused_before_any_work(there, capsys, monkeypatch):
    there.joinpath("c.txt").write_text("a dog\n")
    monkeypatch.setattr("i2am.language.parsed.parsed", None)
    for options, said in (
        (["pairs", "--count", "0", "--out", "a.csv"], "count must be a whole number of at least 1"),
        (["pairs", "--count", "2", "--out", "a.txt"], "out must be a .csv or .tsv file"),
        (["adjectives", "a car", "--out", "a.csv"], "the template must be one list of two adjectives"),
        (["unreal", "--captions", "c.txt", "--parser", "none_of_them", "--out", "a.csv"], "a model of spaCy must be installed"),
        (["unreal", "--captions", "c.txt", "--count", "2", "--out", "a.csv"], "--count must be at most 1"),
    ):
        assert main(["prompts", *options]) == 2
        assert said in capsys.readouterr().err
    assert not there.joinpath("a.csv").exists()
