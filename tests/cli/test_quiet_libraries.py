"""What other libraries say while a command runs: nothing that says nothing, and whatever matters."""

import logging
import os
import re
import subprocess
import sys
import warnings

import pipelines
import pytest
from evaluated import tree
from pipelines import image_processor

from i2am.cli.quiet_libraries import quiet

__all__ = ["tree"]
pytestmark = pytest.mark.usefixtures("on_the_cpu")
OURS = re.compile(r"(checking|evaluating):.*\|.*")


def test_an_evaluation_shows_its_own_lines_alone(tree, tmp_path):
    """In a process of its own, as libraries say some things once."""
    pipe = pipelines.paint_by_example().pipe
    pipe.register_modules(feature_extractor=image_processor())
    pipe.save_pretrained(tmp_path / "model")
    words = ["evaluate", "--data", str(tree), "--model", f"paint-by-example:{tmp_path / 'model'}", "--model-option", "size=64x48",
             "--steps", "1", "--limit", "1", "--cpu", "--out", str(tmp_path / "out")]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    ended = subprocess.run([sys.executable, "-m", "i2am", *words], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    said = [line for line in re.split(r"[\r\n]+", ended.stderr) if line]
    assert said
    assert not [line for line in said if not OURS.fullmatch(line)]


@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_what_matters_is_said_and_everything_is_as_it_was(name, monkeypatch):
    library = pytest.importorskip(f"{name}.utils.logging")
    from huggingface_hub.utils import are_progress_bars_disabled

    monkeypatch.delenv(f"{name.upper()}_VERBOSITY", raising=False)
    kept = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    handler, log = Keep(), logging.getLogger(f"{name}.anything")
    logging.getLogger(name).addHandler(handler)
    bars = library._tqdm_active, are_progress_bars_disabled()
    remark = "The FooPipeline has been deprecated and will not receive bug fixes"
    try:
        with quiet(), warnings.catch_warnings(record=True) as warned:
            assert not library._tqdm_active
            assert are_progress_bars_disabled() == bars[1]
            log.warning(remark)
            log.warning("Some weights were newly initialized")
            log.error("an error that has been deprecated and will not receive")
            warnings.warn("The `local_dir_use_symlinks` argument is deprecated and ignored", stacklevel=1)
            warnings.warn("a picture is broken", stacklevel=1)
        assert kept == ["Some weights were newly initialized", "an error that has been deprecated and will not receive"]
        assert [str(one.message) for one in warned] == ["a picture is broken"]
        assert (library._tqdm_active, are_progress_bars_disabled()) == bars
        log.warning(remark)
        assert kept[2:] == [remark]
        monkeypatch.setenv(f"{name.upper()}_VERBOSITY", "warning")
        with quiet():
            log.warning(remark)
        assert kept[3:] == [remark]
    finally:
        logging.getLogger(name).removeHandler(handler)


def test_importing_the_package_changes_nothing():
    """Of a user's logging, even where the command line is imported."""
    code = (
        "import diffusers.utils.logging as d, transformers.utils.logging as t, logging\n"
        "import i2am, i2am.cli.main, i2am.evaluation, i2am.models.small\n"
        "assert d._tqdm_active and t._tqdm_active\n"
        "assert not any(h.filters for name in ('diffusers', 'transformers') for h in logging.getLogger(name).handlers)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
