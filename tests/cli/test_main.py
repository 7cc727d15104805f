"""The command line: what it writes, what it prints, and errors as one line."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from viewed import flat, known, parsed, several

from i2am.cli.main import COMMANDS, main, parser


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("webbrowser.open", lambda url: tmp_path.joinpath("opened").write_text(url))
    for i in range(3):
        flat(i).save(tmp_path / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return known(2, pictures=False).save(tmp_path / "run.safetensors")


def test_view_writes_and_opens(run, capsys):
    assert main(["view", str(run), "--open"]) == 0
    page = run.with_name("run.html")
    assert capsys.readouterr().out == f"{page} ({page.stat().st_size / 1e6:.1f} MB)\n"
    assert run.with_name("opened").read_text() == page.as_uri()
    assert parsed(page.read_text("utf-8")).run["pictures"] == {"generated": [], "references": {}}


@pytest.mark.parametrize("command", ["view run.safetensors", "demo"])
def test_a_page_opens_where_somebody_looks(run, monkeypatch, command):
    """At a terminal with a screen, or as asked; in a pipe, over the network and without a screen it does not."""
    asked = []
    monkeypatch.setattr("i2am.viewer.html.view", lambda *_, open_browser, **__: asked.append(open_browser) or run)
    monkeypatch.setattr("i2am.cli.demo_pictures.demo", lambda *_, open_browser, **__: asked.append(open_browser))
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("SSH_CONNECTION", "WAYLAND_DISPLAY", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)

    def opened(*options: str) -> bool:
        assert main([*command.split(), *options]) == 0
        return asked.pop()

    assert opened("--open")
    assert not opened()  # not a terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert not opened()  # no screen
    monkeypatch.setenv("DISPLAY", ":0")
    assert opened()
    assert not opened("--no-open")
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    assert not opened()


def test_view_takes_pictures_and_names(run, capsys):
    options = ["--out", "a.html", "--no-open", "--title", "A title", "--images", "0.png", "1.png", "--references", "2.png"]
    assert main(["view", "run.safetensors", *options]) == 0
    assert capsys.readouterr().out.startswith("a.html (")
    assert not run.with_name("opened").exists()
    found = parsed(Path("a.html").read_text("utf-8")).run
    assert found["title"] == "A title"
    assert (len(found["pictures"]["generated"]), len(found["pictures"]["references"]["reference"])) == (2, 1)
    several().save("two.safetensors")
    assert main(["view", "two.safetensors", "--no-open", "--references", "garment=1.png", "adapter <b>&2=2.png"]) == 0
    assert set(parsed(Path("two.html").read_text("utf-8")).run["pictures"]["references"]) == {"garment", "adapter <b>&2"}


def test_names_need_not_be_unicode(run):
    """Neither a title's nor an output's, nor need the terminal know them: what it cannot show is escaped."""
    (run.parent / "ein Ü").mkdir()
    run.rename("ein Ü/run.safetensors")
    assert main(["view", "ein Ü/run.safetensors", "--no-open", "--title", "caf\udce9", "--out", "caf\udce9.html"]) == 0
    assert "<title>caf\\udce9" in Path("caf\udce9.html").read_text("utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "i2am", "view", "ein Ü/run.safetensors", "--no-open"]
    ended = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(r"ein \xdc/run.html (")


WRONG: dict[str, tuple[list[str], str]] = {
    "no file": (["view", "none.safetensors"], "i2am: path must be a file of maps, got none.safetensors, which is not there."),
    "no picture": (["view", "run.safetensors", "--images", "none.png"], "i2am: --images must be pictures, got none.png ("),
    "maps for a picture": (["view", "run.safetensors", "--references", "run.safetensors"], "i2am: --references must be pictures, got run."),
    "a mixture": (["view", "run.safetensors", "--references", "a=0.png", "1.png"], "i2am: --references must be all with NAME="),
    "no size": (["view", "run.safetensors", "--max-megabytes", "nan"], "i2am: max_megabytes must be a size above 0, got nan."),
    "too small": (["view", "run.safetensors", "--max-megabytes", "0.01"], "i2am: max_megabytes must be at least 0."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_one_line(run, capsys: Any, name):
    arguments, message = WRONG[name]
    assert main([*arguments, "--no-open"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert printed.err.count("\n") == 1


def test_what_is_no_command(capsys):
    for arguments in (["vieww"], ["view"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        assert "usage: i2am" in capsys.readouterr().err


def test_without_a_command_there_is_the_help(capsys):
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all(
        f"\n    {name}" in printed.err
        for name in (
            "view",
            "demo",
            "evaluate",
            "imacs",
            "detect",
            "explain",
            "families",
            "convert",
            "train-small",
            "words",
            "syntax",
            "entangle",
            "prompts",
        )
    )


def test_every_help_ends_with_examples_that_parse(capsys):
    for add in COMMANDS:
        name = add.__name__.removeprefix("add_").replace("_", "-")
        with pytest.raises(SystemExit):
            main([name, "--help"])
        examples = re.findall(r"^  (i2am .*)$", capsys.readouterr().out.partition("\nexample")[2], re.M)
        assert examples
        for example in examples:
            program, *words = shlex.split(example)
            assert program == "i2am"
            run = parser().parse_args(words).run
            assert run.__module__ == f"i2am.cli.{words[0].replace('-', '_')}"
            assert run.__name__ in [word.replace("-", "_") for word in words]


def test_our_own_bugs_are_not_hidden(run, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("something else")

    monkeypatch.setattr("i2am.viewer.html.view", broken)
    with pytest.raises(ValueError, match="something else"):
        main(["view", str(run)])
