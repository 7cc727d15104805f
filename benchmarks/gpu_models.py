"""The GPU pack's other sections: a step's layers, growth, whole pipelines, evaluation; `--section` of `benchmarks.gpu_pack`.

Each runs the benchmarks of the CPU on the GPU, one after the other, within the pack's time, and leaves their rows in DIR, a file each,
to be added to benchmarks/results/. They need diffusers and, for the evaluation, accelerate, which the pack itself does not.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

Words = list[str]

SECTIONS: dict[str, list[Words]] = {
    "layers": [["layer_set", "--dtype", "bfloat16"]],
    "growth": [["growth"]],
    "pipelines": [["pipelines", "--dtype", "float16", "--steps", "10", "--pairs", "7"], ["try_on", "--steps", "10", "--pairs", "7"]],
    "evaluation": [["evaluation", "--steps", "10", "--count", "64"]],
}
QUICK: dict[str, list[Words]] = {
    "layers": [["layer_set", "--quick", "--repeats", "1", "--families", "stableviton"]],
    "growth": [["growth", "--quick", "--repeats", "1"]],
    "pipelines": [["pipelines", "--only", "small", "--cases", "clip_257", "--steps", "1", "--pairs", "1"],
                  ["try_on", "--only", "small-world", "--steps", "1", "--pairs", "1"]],
    "evaluation": [["evaluation", "--batches", "2", "--count", "2", "--few", "1", "--steps", "1", "--rounds", "1", "--no-processes"]],
}  # fmt: skip


def run(section: str, out: Path, device: str, seconds: float, quick: bool, process: Callable[[Words, float], str]) -> int:
    """Each benchmark of the section by `process`, which says how it ended; what did not end well is named."""
    if importlib.util.find_spec("diffusers") is None:
        raise ValueError(f"--section {section} needs diffusers, got none. Install it, or carry its wheel: pip install --no-deps diffusers.")
    out.mkdir(parents=True, exist_ok=True)
    end, failed = time.monotonic() + seconds, False
    for name, *options in (QUICK if quick else SECTIONS)[section]:
        path = out / f"{name}.jsonl"
        if path.exists():
            raise ValueError(f"--out must be a folder without {path.name}, got {out}. Name a new one.")
        where = [] if name == "evaluation" else ["--device", device]  # which paints where `i2am evaluate` does
        ending = process([f"benchmarks.{name}", *options, *where, "--out", str(path)], end)
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        red = sum(bool(row.get("red")) for row in rows)
        print(f"{section} {name}: {len(rows)} rows in {path}, {red} red {ending}", flush=True)
        failed |= bool(ending) or red > 0
    return int(failed)
