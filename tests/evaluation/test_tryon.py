"""Models and options of an evaluation: one's own, and what is refused before it is called or loaded."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluated import model, tree

from i2am.evaluation import Options, TryOn, evaluate, resolve
from i2am.score.imacs import convention

__all__ = ["model", "tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")


def test_a_model_of_ones_own(tree: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """package.module:function from the folder one works in, with options as text."""
    built = model.partition(":")[2]
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom i2am.evaluation import resolve\n"
        "def build(weights, invert='no'):\n"
        "    return replace(resolve(f'small:{weights}'), convention='custom', about={'invert': invert})\n"
        "def nothing():\n    return None\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    found = resolve("mine:build", weights=built, invert="yes")
    assert found.about == {"invert": "yes"}
    evaluate(tree, "mine:build", out=tmp_path / "out", model_options={"weights": built}, limit=2, steps=2, batch_size=4)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["convention"]["name"] == "custom"
    assert report["convention"]["weighed"] is True
    for name, told in (
        ("mine:nothing", "NoneType"), ("mine:number", "which is not one"), ("mine:absent", "which is not one"),
        ("yours:build", "No module named 'yours'"), ("medium", "one of small"), ("small:" + str(tmp_path), "model_index.json"),
        (":build", "as Python imports it"), ("mine.py:build", "No module named 'mine.py'"), ("./mine.py:build", "without folder and .py"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            resolve(name)
    with pytest.raises(ValueError, match=r"was not built with .*'colour'.* this one takes weights, invert"):
        resolve("mine:build", colour="red")


WRONG = """
from typing import Any
from i2am.evaluation import TryOn
called = []
def promises(path="x") -> dict: called.append(1)
def nothing() -> None: called.append(1)
def wants(path): called.append(1)
class Other:
    def __init__(self): called.append(1)
def vague(path="x") -> Any: return path
def strange() -> "Unknown": return 3
"""


def test_what_cannot_build_a_model_is_not_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """os:system and json:loads are functions too."""
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    for name, told in (
        ("os:system", "a function that is not Python's"), ("json:loads", "this one takes s, "), ("wrong:promises", "which returns dict"),
        ("wrong:nothing", "which returns NoneType"), ("wrong:wants", "missing a required argument: 'path'"), ("wrong:Other", "a class of"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told) as error:
            resolve(name)
        assert "a function of options, all of them text, that returns an i2am.evaluation.TryOn" in str(error.value)
    import wrong  # type: ignore[import-not-found]

    assert wrong.called == []
    for name, got in (("vague", "str"), ("strange", "int")):
        with pytest.raises(ValueError, match=f"what wrong:{name} returns must be an i2am.evaluation.TryOn, got {got}"):
            resolve(f"wrong:{name}")


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"steps": 0}, {"seed": -1}, {"groups": 0}, {"guidance_scale": math.nan}, {"guidance_scale": math.inf},
     {"guidance_scale": -1.0}, {"size": (0, 3)}, {"convention": "none"},
     {"threshold": math.nan}, {"threshold": 5.0}, {"threshold": -0.1}, {"penalty": -1.0}, {"penalty": math.nan}, {"penalty": math.inf}],
)  # fmt: skip
def test_options_are_checked(options: dict[str, Any]) -> None:
    """Those of a convention as well, wherever it comes from."""
    (name,) = options
    with pytest.raises(ValueError, match=f"^i2am: {name} must be") as error:
        replace(convention("method"), **options) if name in ("threshold", "penalty") else Options(**options)
    assert not str(error.value).endswith(" ")  # which says what to do


def test_models_are_checked() -> None:
    def paint(batch: Any, **_: Any) -> Any: ...

    for options, told in (
        ({"paint": None}, "a function of a batch"), ({"guidance_scale": math.nan}, "guidance_scale must be"), ({"steps": 0}, "steps must"),
        ({"parts": ("dense-pose",)}, r"parts must be some of person, .* got \['dense-pose'\]"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            TryOn(None, **{"paint": paint, "size": (64, 48), **options})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="groups must be at most the 3 steps, got 5"):
        Options(groups=5).settled(TryOn(None, paint, (64, 48), steps=3))
    with pytest.raises(ValueError, match="steps must be at most 1000, those of the model's training, got 5000"):
        Options(steps=5000).settled(resolve("small"))
