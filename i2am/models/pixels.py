"""What our pipelines on pixels have in common: a UNet that sees pixels folded 4 x 4 into channels and predicts the clean picture."""

# no `from __future__ import annotations`: from_pretrained of diffusers up to 0.35 reads the classes in the annotations of __init__

import inspect
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from safetensors import SafetensorError
from torch import Tensor, nn

from i2am.common.checks import refuse
from i2am.maps.tokens import Grid
from i2am.models.inputs import check_steps

PATCH = 4
PREDICTIONS = ("sample", "epsilon", "v_prediction")
Callback = Callable[..., dict[str, Any]]


def patches(pictures: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, 48, H / 4, W / 4], without loss."""
    return nn.functional.pixel_unshuffle(pictures, PATCH)


def pictures(patched: Tensor) -> Tensor:
    return nn.functional.pixel_shuffle(patched, PATCH)


class PixelPipeline(DiffusionPipeline):
    """Pictures of one size, any batch, guidance, any of diffusers' schedulers of noise; latents are float32 whatever the weights are."""

    _callback_tensor_inputs = ("latents",)
    guidance_layout = "uncond-cond"  # read by i2am.trace
    _guidance_scale = 1.0

    @property
    def size(self) -> Grid:
        """(height, width) of the pictures."""
        height, width = self.unet.config.sample_size
        return height * PATCH, width * PATCH

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the last call was guided; read by i2am.trace."""
        return self._guidance_scale > 1

    def check(self, steps: int, guidance_scale: float, output_type: str, inputs: Any) -> None:
        if output_type not in ("pil", "np", "pt"):
            refuse("output_type", '"pil", "np" or "pt"', repr(output_type), '"latent" is not one: these latents are pixels.')
        check_steps(steps, self.scheduler, "20 are plenty.")
        if not 0 <= guidance_scale < math.inf:
            refuse("guidance_scale", "a number of at least 0", repr(guidance_scale), "Up to 1 there is no guidance.")
        if not set(inputs) <= set(self._callback_tensor_inputs):
            refuse("callback_on_step_end_tensor_inputs", f"among {list(self._callback_tensor_inputs)}", inputs, "Leave the others out.")
        kind = getattr(self.scheduler.config, "prediction_type", None)
        if kind not in PREDICTIONS or not hasattr(self.scheduler, "alphas_cumprod"):
            remedy = "Make it with from_config(pipe.scheduler.config, prediction_type=...)."
            got = f"{type(self.scheduler).__name__}, {kind!r}"
            refuse("the scheduler", f"one of noise, with prediction_type in {PREDICTIONS}", got, remedy)

    def denoised(
        self,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        generator: Any,
        guidance_scale: float,
        beside: Tensor | None = None,
        callback: Callback | None = None,
        inputs: Iterable[str] = (),
    ) -> Tensor:
        """The latents after these timesteps. Guided, `tokens` and `beside`, channels that the UNet sees as well, come twice."""
        dtype, guided = self.unet.dtype, self.do_classifier_free_guidance
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        with self.progress_bar(total=math.ceil(len(timesteps) / self.scheduler.order)) as bar:
            for i, timestep in enumerate(timesteps):
                noisy = self.scheduler.scale_model_input(latents, timestep)
                both = torch.cat([noisy, noisy]) if guided else noisy
                seen = both.to(dtype) if beside is None else torch.cat([both.to(dtype), beside], 1)
                clean = self.unet(seen, timestep, encoder_hidden_states=tokens).sample.float()
                if guided:
                    without, given = clean.chunk(2)
                    clean = without + guidance_scale * (given - without)
                latents = self.scheduler.step(self.asked(clean, noisy, timestep), timestep, latents, **extra).prev_sample
                if callback is not None:
                    held = {name: {"latents": latents}[name] for name in inputs}
                    latents = callback(self, i, timestep, held).pop("latents", latents)
                if i + 1 == len(timesteps) or (i + 1) % self.scheduler.order == 0:
                    bar.update()
        return latents

    def asked(self, clean: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The clean picture as what the scheduler takes: itself, the noise or the velocity."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return clean
        kept = self.scheduler.alphas_cumprod.to(clean.device)[timestep.long()]
        if kind == "epsilon":
            return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
        return (kept.sqrt() * noisy - clean) / (1 - kept).sqrt()

    def given_out(self, images: Any, output_type: str, return_dict: bool) -> Any:
        """[B, 3, height, width] in [0, 1] as asked for."""
        images = images.cpu()
        if output_type != "pt":
            images = images.permute(0, 2, 3, 1).numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


P = TypeVar("P", bound=PixelPipeline)


def load_small(kind: type[P], folder: str | Path, shipped: bool, command: str, **options: Any) -> P:
    """A pipeline's folder; float32 unless the options, which are `from_pretrained`'s, say otherwise. `command` writes such folders."""
    if not (Path(folder) / "model_index.json").is_file():
        remedy = f"Install i2am again, or train them: {command}." if shipped else f"{command} writes one."
        refuse("the weights of the small model", f"in {folder}, with their model_index.json", "a folder without it", remedy)
    if not options.keys() & {"dtype", "torch_dtype"}:
        options["torch_dtype"] = torch.float32  # the name that every version of diffusers reads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"i2am: the model in {folder} cannot be read ({error}). Install i2am again, or train one: {command}.") from error
