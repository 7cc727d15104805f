"""What weighing the values costs beside plain maps: `python -m benchmarks.pipeline.weigh_cost`.

Whole runs: untraced, traced with maps, traced with maps that weigh what is carried (`weigh="values"`), in turn. `on top` is the median
over neighbours of with values / with maps - 1. The factors of the output projections are found anew in each run, as in a user's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from benchmarks.measuring.command import command, positive, record
from benchmarks.pipeline.field_cost import line, pipelines


def main(words: Sequence[str] | None = None) -> int:
    parser = command("pipeline.weigh_cost", __doc__, "-weigh")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of a small run (default: 15)")
    parser.add_argument("--full", action="store_true", help="Stable Diffusion 1.5's width too: minutes")
    given = parser.parse_args(words)
    positive(given, "repeats")
    torch.set_num_threads(given.threads)
    return record(pipelines(given, torch.device(given.device), "values", weigh="values"), line, given, "-weigh", "diffusers")


if __name__ == "__main__":
    sys.exit(main())
