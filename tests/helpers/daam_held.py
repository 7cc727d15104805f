"""castorini/daam's pictures with attention heads saved in one run and loaded in another: its own code, run here once.

    PYTHONPATH=DAAM:tests/helpers:. python tests/helpers/daam_held.py      # DAAM: a checkout of castorini/daam

`daam_held.npz` holds the latents of the second run, by guidance.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import torch

NUMBERS = Path(__file__).with_name("daam_held.npz")
PROMPTS = ("a blue cat on the shirt", "a red cat on the shirt")
STEPS, SEED = 3, 7


def asked(prompts: list[str], guided: bool) -> dict[str, Any]:
    """The same noise for each prompt."""
    return {"prompt": prompts, "generator": [torch.Generator("cpu").manual_seed(SEED) for _ in prompts], "num_inference_steps": STEPS,
            "guidance_scale": 5.0 if guided else 1.0, "output_type": "latent"}  # fmt: skip


def main() -> None:
    import daam

    found = {}
    for guided in (True, False):
        pipe = pipelines.sd15().pipe
        with tempfile.TemporaryDirectory() as heads:
            with daam.trace(pipe, save_heads=True, data_dir=heads):
                pipe(**asked([PROMPTS[0]], guided))
            with daam.trace(pipe, load_heads=True, data_dir=heads):
                found["guided" if guided else "plain"] = pipe(**asked([PROMPTS[1]], guided)).images.numpy()
    np.savez_compressed(NUMBERS, **found)


if __name__ == "__main__":
    main()
