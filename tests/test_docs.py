"""README and docs: every block of code runs or says why it cannot, tables are what rows say, links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from documents import BLOCKS, PAGES, Block, commands
from given import GIVEN

from benchmarks.report.tables import ROOT, filled, linked, recorded
from i2am.cli.main import main, parser

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = pytest.importorskip("tomli")

pytestmark = pytest.mark.usefixtures("on_the_cpu")
README = PAGES["README.md"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
PYTHON = [name for name in PAGES if any(str(block.page) == str(PAGES[name]) and block.language == "python" for block in BLOCKS)]
BASH = [block for block in BLOCKS if block.language == "bash"]


def test_the_readme_is_one_screen():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 200


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_what_the_rows_say_and_links_into_code_name_their_lines(name):
    text = PAGES[name].read_text()
    assert linked(filled(text, recorded()), PAGES[name]) == text, "run `python -m benchmarks.report.tables`"


def test_rows_are_recorded_and_come_from_a_clean_tree():
    assert recorded()
    assert not [row for row in recorded() if row["environment"]["dirty"]]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = PAGES[name]
    for target in re.findall(r"\]\((?!http)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_parts_of_pages_that_are_linked_are_there(name):
    page = PAGES[name]
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#([\w-]+)\)", page.read_text()):
        aim = page.parent / target if target else page
        if aim.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", aim.read_text(), re.M)
            assert anchor in [re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads], (target, anchor)


def test_promises_name_tests_that_exist():
    named = [found for page in PAGES.values() for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text())]
    assert len(named) >= 4
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_how_it_runs(block: Block):
    assert block.language in ("python", "bash", "diff", "text"), "a language, so that it can be run"
    if block.language not in ("diff", "text"):
        assert (block.given is None) != (block.not_run is None), "<!-- given: NAME --> or <!-- not run: REASON --> before the block"
    if block.given is not None:
        assert block.given in GIVEN
    if block.language == "python":
        assert block.not_run is None or "weights" in block.not_run or "GPU" in block.not_run


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Its blocks in order, in one namespace and an empty folder; a block of text is the end of what the one before it prints."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        if block.page == PAGES[name] and block.language == "text":
            assert capsys.readouterr().out.endswith(block.text), block.place
        if block.page == PAGES[name] and block.language == "python":
            code = compile("\n" * block.line + block.text, str(block.page), "exec")
            if block.given is not None:
                names |= GIVEN[block.given]()
                capsys.readouterr()
                exec(code, names)


@pytest.mark.parametrize("block", BASH, ids=lambda block: block.place)
def test_commands_are_there_and_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    if block.given is not None:
        GIVEN[block.given]()
    for line in commands(block):
        words = shlex.split(line)
        if words[:2] == ["pip", "install"]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            wanted = [name for word in words for part in re.findall(r"\[([\w,]+)\]", word) for name in part.split(",")]
            assert set(wanted) <= set(extras), line
        elif words[0] == "make":
            targets = re.findall(r"^([\w. -]+):", (ROOT / "Makefile").read_text(), re.M)
            assert words[1] in {target for group in targets for target in group.split()}, line
        elif words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) is not None, line
        elif words[0] == "python":  # a script of ours
            assert subprocess.run([sys.executable, ROOT / words[1], *words[2:]], cwd=tmp_path, env=ENVIRONMENT).returncode == 0, line
        elif words[0] == "pytest":
            assert (ROOT / words[1]).exists(), line
        else:
            words = words[words.index("i2am") :]
            assert parser().parse_args(words[1:]).run is not None, line
            if block.given is not None:
                assert main(words[1:]) == 0, capsys.readouterr().err


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its cells in order; it is kept without outputs."""
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads((ROOT / "examples" / "tour.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 5
    names: dict[str, object] = {}
    for cell in cells:
        assert cell["outputs"] == []
        exec("".join(cell["source"]), names)


def test_what_a_package_index_shows_leads_somewhere():
    """The README's links and pictures are whole addresses there, of files that are here."""
    pytest.importorskip("hatchling")
    done = subprocess.run([sys.executable, "-m", "hatchling", "metadata", "readme"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"\]\(([^)#\s]+)", done.stdout)
    assert len(found) > 15
    for address in found:
        assert address.startswith("https://"), address
        inside = re.match(r"https://(?:raw\.githubusercontent\.com/i2am/i2am/main|github\.com/i2am/i2am/blob/main)/(.*)", address)
        assert inside is None or (ROOT / inside[1]).exists(), address
    assert sum("raw.githubusercontent" in address for address in found) == len(re.findall(r"!\[", README.read_text()))


def test_all_is_every_extra_that_a_user_may_want():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def whole(name: str) -> set[str]:
        inner = [re.match(r"i2am\[(.*)\]$", line) for line in extras[name]]
        return {name}.union(*(whole(part) for found in inner if found for part in found[1].split(",")))

    apart = {"quality", "syntax"}  # torchvision must be the build that belongs to torch; few need a parser
    assert whole("all") == set(extras) - {"dev", "docs"} - apart


def test_changes_of_moving_over_can_be_made():
    """What a diff adds is Python whose imports work."""
    diffs = [block for block in BLOCKS if block.language == "diff"]
    assert len(diffs) >= 3
    for block in diffs:
        added = "\n".join(line[1:] for line in block.text.splitlines() if line.startswith("+"))
        compile(added, block.place, "exec")
        exec("\n".join(line for line in added.splitlines() if line.startswith(("import", "from"))), {})
