"""Packages that are absent: said before the work, by their own names, with the extra that brings them."""

import subprocess
import sys

import pytest

from i2am.common.extras import EXTRAS, need

HIDDEN = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
from i2am.cli import main as cli
sys.exit(cli.main({words!r}))
"""
NOTHING = "--maps none --boxes none"
COMMANDS = [  # what is hidden, the command, what is said
    (["scipy"], "evaluate --data none --out new", "an evaluation needs scipy. pip install 'i2am[metrics]'"),
    (["accelerate", "tqdm"], "evaluate --data none --out new", "needs accelerate and tqdm. pip install 'i2am[diffusers,pictures]'"),
    (["scipy"], "imacs --data none --maps none", "an evaluation needs scipy. pip install 'i2am[metrics]'"),
    (
        ["accelerate", "diffusers"],
        "words --prompts none --out new",
        "a study needs accelerate and diffusers. pip install 'i2am[diffusers]'",
    ),
    (["scipy"], f"detect {NOTHING}", "detect needs scipy. pip install 'i2am[metrics]'"),
    (["PIL", "matplotlib"], f"detect {NOTHING} --pictures new", "detect needs Pillow and matplotlib. pip install 'i2am[pictures]'"),
    (["diffusers"], "demo --out new", "the demo needs diffusers. pip install 'i2am[diffusers]'"),
    (["transformers"], "convert stableviton none new", "converting needs transformers. pip install 'i2am[diffusers]'"),
    (["diffusers", "PIL", "matplotlib"], "train-small --out new", "training needs diffusers, Pillow and matplotlib. pip install "),
    (["PIL"], "view none --images none.png", "a picture needs Pillow. pip install 'i2am[pictures]'"),
]


@pytest.mark.parametrize(("hidden", "command", "said"), COMMANDS, ids=[f"{command.split()[0]} {hidden}" for hidden, command, _ in COMMANDS])
def test_what_is_absent_is_said_first(hidden, command, said, tmp_path):
    code = HIDDEN.format(hidden=hidden, words=command.split())
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert said in ended.stderr


def test_boxes_and_intervals_need_no_torchmetrics():
    code = "import sys; sys.modules['torchmetrics'] = None; import i2am.score.detection, i2am.evaluation.rescore"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_needs_diffusers_and_only_others_transformers(monkeypatch, tmp_path):
    from i2am.evaluation import resolve

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"the model paint-by-example needs transformers\. pip install 'i2am\[diffusers\]'"):
        resolve("paint-by-example:none")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"the model small needs diffusers\."):
        resolve("small")


def test_packages_are_in_their_extras():
    """As pyproject.toml has them."""
    import re
    from pathlib import Path

    text = Path("pyproject.toml").read_text()
    for package, extra in EXTRAS.values():
        line = re.search(rf"^{extra} = \[(.*)\]$", text, re.M)
        assert line
        assert package.lower() in line[1]
    need("this", *EXTRAS)
