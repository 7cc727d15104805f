"""What the builders of pipelines return: a pipeline, and the keywords of a call that a test can vary.

Image i of a batch has its own noise, prompt and reference, which do not depend on the size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from parts import NEGATIVE, PROMPTS, generators
from torch import Tensor, nn

Size = tuple[int, int]


@dataclass
class Ask:
    """What a test may ask of a run."""

    batch: int = 1
    size: Size = (64, 64)
    guided: bool = True
    steps: int = 2
    seed: int = 0
    images_per_prompt: int = 1

    @property
    def prompts(self) -> list[str]:
        return [PROMPTS[image % len(PROMPTS)] for image in range(self.batch)]

    @property
    def negative(self) -> list[str] | None:
        return [NEGATIVE] * self.batch if self.guided else None

    def text(self) -> dict[str, Any]:
        """The keywords of a text-guided pipeline."""
        return {"prompt": self.prompts, "negative_prompt": self.negative, **self.canvas(), **self.guidance()}

    def canvas(self) -> dict[str, int]:
        return {"height": self.size[0], "width": self.size[1]}

    def guidance(self) -> dict[str, float]:
        return {"guidance_scale": 5.0 if self.guided else 1.0}


@dataclass
class Case:
    """A pipeline and what to call it with; `facts` holds token counts, grids and orders a test may want to know."""

    pipe: Any
    own: Callable[[Ask], dict[str, Any]]  # the keywords that are this pipeline's
    sizes: tuple[Size, Size] = ((64, 64), (64, 48))
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def denoiser(self) -> nn.Module:
        found = (getattr(self.pipe, name, None) for name in ("unet", "transformer", "unet_vton", "transformer_vton"))
        return next(module for module in found if module is not None)

    @property
    def scheduler(self) -> Any:
        """What steps."""
        return self.pipe.scheduler if hasattr(self.pipe, "scheduler") else self.pipe.noise_scheduler

    def kwargs(
        self, batch: int = 1, size: Size | None = None, guided: bool = True, steps: int = 2, seed: int = 0, images_per_prompt: int = 1
    ) -> dict[str, Any]:
        """The keywords of a call."""
        ask = Ask(batch, size or self.sizes[0], guided, steps, seed, images_per_prompt)
        common = {
            "num_inference_steps": steps,
            "generator": generators(batch * images_per_prompt, seed),
            "num_images_per_prompt": images_per_prompt,
            "output_type": "latent",
        }
        return {**common, **self.own(ask)}

    def __call__(self, **options: Any) -> Tensor:
        """Run the pipeline and return its latents (images where a pipeline cannot return latents)."""
        return torch.as_tensor(self.pipe(**self.kwargs(**options)).images)
