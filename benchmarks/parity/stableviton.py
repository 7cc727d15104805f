"""The same random weights, the same inputs, and what our StableVITON makes of them: what the original is held against."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from i2am.maps.tokens import Grid
from i2am.models.stableviton import StableVITONPipeline
from i2am.models.stableviton.names import left_out
from i2am.models.stableviton.release import parts, scheduler

GUIDANCE = (1.0, 5.0)
TOLERANCE = 1e-4  # relative to the largest value
SAMPLED = 2048  # numbers kept of each result, evenly spaced, beside its norm
Results = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """How wide the models are; the defaults are the release's."""

    width: int = 320
    tokens: int = 768
    grid: Grid = (64, 48)
    vae_width: int = 128
    hidden: int = 1024
    layers: int = 24
    mapper: int = 5
    steps: int = 2

    @property
    def clip(self) -> dict[str, int]:
        heads = self.hidden // 64
        return {"hidden_size": self.hidden, "intermediate_size": 4 * self.hidden, "num_hidden_layers": self.layers,
                "num_attention_heads": heads, "image_size": 224, "patch_size": 14}  # fmt: skip

    def parts(self) -> dict[str, Any]:
        return parts(self.width, self.tokens, self.grid, self.vae_width, {**self.clip, "mapper_layers": self.mapper})


FULL = Sizes()
SMALL = Sizes(width=32, tokens=32, grid=(16, 8), vae_width=32, hidden=64, layers=2, mapper=2)


def drawn(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal values that depend on the name and the shape alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).standard_normal(tuple(shape), dtype=np.float32))


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict in which every layer says something, those that a training starts from zero included."""
    state = {}
    for name, shape in shapes.items():
        if left_out(name):  # nothing is computed from them
            state[name] = scheduler().alphas_cumprod if name == "alphas_cumprod" else torch.zeros(*shape)
        elif len(shape) > 1:
            state[name] = drawn(name, shape) * (2.0 if "to_q" in name else 0.8) / float(np.prod(shape[1:])) ** 0.5
        else:
            state[name] = 0.1 * drawn(name, shape) + (1.0 if name.endswith("weight") else 0.0)
    return state


def inputs(sizes: Sizes, count: int = 1) -> dict[str, Tensor]:
    """Pictures in [0, 1], a mask and noise."""
    height, width = 8 * sizes.grid[0], 8 * sizes.grid[1]
    names = ("image", "agnostic", "densepose", "garment")
    given = {name: drawn(f"{name} {height}", (count, 3, height, width)).sigmoid() for name in names}
    mask = torch.zeros(count, 1, height, width)
    mask[:, :, height // 4 + 3 : height // 2 + 2, width // 3 : -9] = 1
    return {**given, "mask_image": mask, "latents": drawn(f"noise {height}", (count, 4, *sizes.grid))}


@torch.no_grad()
def ours(pipe: StableVITONPipeline, sizes: Sizes) -> Results:
    """The same with our parts and our pipeline."""
    given = inputs(sizes)
    mask = given["mask_image"]
    kept = F.interpolate(1 - mask, sizes.grid, mode="bilinear")
    person, bare, body, garment = (pipe.encoded(given[name]) for name in ("image", "agnostic", "densepose", "garment"))
    beside, token = torch.cat([bare, kept, body], 1), pipe.image_encoder(pipe.for_clip(given["garment"]))
    noisy, time = torch.cat([given["latents"], beside], 1), torch.tensor([500])
    features = pipe.spatial_encoder(noisy, garment, time, token)
    results = {"person": person, "beside": beside, "garment": garment, "token": token}
    results |= {f"features {i}": one for i, one in enumerate(features)}
    results["noise"] = pipe.unet(noisy, time, token, features).sample
    for guidance in GUIDANCE:
        way: list[Tensor] = []

        def watch(pipe: Any, step: int, timestep: Tensor, held: dict[str, Tensor], way: list[Tensor] = way) -> dict[str, Tensor]:
            way.append(held["latents"])
            return {}

        settings: dict[str, Any] = {**given, "num_inference_steps": sizes.steps, "guidance_scale": guidance, "callback_on_step_end": watch}
        last = pipe(**settings, output_type="latent").images
        results |= {f"first step, guidance {guidance:g}": way[1], f"latents, guidance {guidance:g}": last}  # its first step is two calls
    results["picture"] = pipe.vae.decode(last / pipe.vae.config.scaling_factor).sample
    return results


def counted(model: nn.Module) -> None:
    """Positions of CLIP that were counted on the meta device."""
    for module in model.modules():
        positions = module._buffers.get("position_ids")
        if positions is not None:
            module.position_ids = torch.arange(positions.shape[-1])[None]


def numbers(results: Results) -> dict[str, np.ndarray]:
    """What is kept of results: the largest value, the norm and a sample, as one row each."""
    rows = {}
    for name, tensor in results.items():
        flat = tensor.detach().double().flatten()
        sample = flat[torch.linspace(0, len(flat) - 1, min(SAMPLED, len(flat)), dtype=torch.float64).long()]
        rows[name] = torch.cat([flat.abs().max()[None], flat.norm()[None], sample]).float().numpy()
    return rows


def errors(found: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each result, relative to its largest value; the norm's, relative to itself, if that is larger."""
    assert found.keys() == right.keys()
    return {
        name: max(float(np.abs(found[name][2:] - row[2:]).max() / row[0]), float(abs(found[name][1] / row[1] - 1)))
        for name, row in right.items()
    }
