"""Word maps of attention-map-diffusers 1.0.0 on small pipelines: its own code, run here once, whose numbers are kept.

    PYTHONPATH=.peer-attention-map-diffusers python tests/helpers/peer.py      # after make .peer-attention-map-diffusers

Each number is a layer's attention from the picture to the text in one step, the mean over heads, of an unguided run: what its capture
returns for the relations "image->text" and "video->text" at every step. `peer_numbers.npz` holds them by pipeline, layer and step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joint
import klein
import numpy as np
import pipelines
import prompted
import videos
import videos_joined
import zimages

NUMBERS = Path(__file__).with_name("peer_numbers.npz")
STEPS, TOKENS = 2, 26  # at most so many text tokens are kept
CASES: dict[str, Callable[[], Any]] = {
    "Stable Diffusion 1.5": pipelines.sd15,
    "Stable Diffusion 3.5": lambda: joint.sd3(words=True, dual=True),
    "Flux": joint.flux,
    "Flux 2 Klein": lambda: klein.flux2("Flux2KleinPipeline", references=()),
    "Z-Image": zimages.plain,
    "PRX": prompted.prx,
    "Sana": prompted.sana,
    "CogVideoX": videos_joined.cogvideox,
    "Wan 2.1": videos.wan,
    "HunyuanVideo 1.5": videos_joined.hunyuan_video15,
}
# where our first text token is among its: it counts the picture's 16 tokens and the second encoder's 3 as text
FIRST = {"HunyuanVideo 1.5": 19}
# it counts the positions that fill the picture's block up as the picture: so many behind those of the picture
FILLED = {"Z-Image": 16}
VIDEOS = ("CogVideoX", "Wan 2.1", "HunyuanVideo 1.5")


def captured(name: str, library: Any) -> dict[str, Any]:
    """What attention-map-diffusers finds: [positions, tokens] by layer and step."""
    case = CASES[name]()
    relation = "video->text" if name in VIDEOS else "image->text"
    with library.AttentionCapture(case.pipe, relations=[relation], timesteps="all", heads="mean") as capture:
        case(steps=STEPS, guided=False)
    found = {}
    for record in capture.compute():
        denoiser, layer = record.layer_id.split(".", 1)
        assert denoiser in ("unet", "transformer")
        assert record.data.shape[:2] == (1, 1), "one row, the mean over heads"
        found[f"{name}|{layer}|{record.step_index}"] = record.data[0, 0, :, :TOKENS].float().numpy()
    return found


def kept(name: str) -> dict[tuple[str, int], Any]:
    """The numbers of one pipeline, by layer and step."""
    numbers = np.load(NUMBERS)
    parts = {tuple(key.split("|")): key for key in numbers.files}
    return {(layer, int(step)): numbers[key] for (pipeline, layer, step), key in parts.items() if pipeline == name}


def main() -> None:
    import attention_map_diffusers

    found: dict[str, Any] = {}
    for name in CASES:
        found |= captured(name, attention_map_diffusers)
        print(name, sum(key.startswith(name + "|") for key in found), "maps", flush=True)
    np.savez_compressed(NUMBERS, **found)


if __name__ == "__main__":
    main()
