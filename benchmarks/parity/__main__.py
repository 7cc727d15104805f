"""Does our StableVITON say what the original says? The same random weights in both: `python -m benchmarks.parity`.

    git clone https://github.com/rlawjdghek/StableVITON && pip install einops
    python -m benchmarks.parity --original StableVITON                  # at full width; one model at a time, about 8 GB
    python -m benchmarks.parity --original StableVITON --small --write tests/helpers/stableviton_numbers.npz

The original is imported from where you have it (`original.py` does). Weights are drawn from each tensor's name, so the tests
need its numbers and the names and shapes of its tensors, not its code.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.parity.original import original, published, surroundings, theirs
from benchmarks.parity.stableviton import FULL, SMALL, TOLERANCE, counted, errors, numbers, ours, weights
from i2am.models.stableviton import StableVITONPipeline
from i2am.models.stableviton.convert import fill
from i2am.models.stableviton.release import scheduler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--original", type=Path, required=True, metavar="FOLDER", help="a clone of the original's repository")
    parser.add_argument("--small", action="store_true", help="a tenth of the width, as in the tests")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the numbers for the tests")
    parsed = parser.parse_args()
    sizes = SMALL if parsed.small else FULL
    surroundings(parsed.original)
    with torch.device("meta"):
        full = published(original(FULL))
        model = original(sizes)
    shapes = published(model)
    state = weights(shapes)
    model.load_state_dict({name: state[told] for name, told in zip(model.state_dict(), shapes)}, assign=True)
    model.register_schedule(linear_start=0.00085, linear_end=0.012)
    counted(model)
    right = numbers(theirs(model, sizes))
    del model
    gc.collect()
    with torch.device("meta"):
        models = sizes.parts()
    fill(models, state)
    del state
    counted(models["image_encoder"])
    pipe = StableVITONPipeline(**models, scheduler=scheduler())
    found = errors(numbers(ours(pipe, sizes)), right)
    for name, error in found.items():
        print(f"{error:.1e}  {name}")
    print(f"the largest: {max(found.values()):.1e}, {'within' if max(found.values()) <= TOLERANCE else 'ABOVE'} {TOLERANCE:g}")
    if parsed.write:
        right["names"] = np.frombuffer(json.dumps({"small": shapes, "full": full}).encode(), np.uint8)
        np.savez_compressed(parsed.write, allow_pickle=False, **right)
    raise SystemExit(max(found.values()) > TOLERANCE)


if __name__ == "__main__":
    main()
