"""A try-on pipeline as diffusers writes them: person, mask, body and garment in, the person wearing the garment out."""

# no `from __future__ import annotations`: from_pretrained of diffusers up to 0.35 reads the classes in the annotations of __init__

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.tokens import Grid
from i2am.models.inputs import align, noise, repeated, tensor_of
from i2am.models.pixels import PATCH, PixelPipeline, load_small, pictures
from i2am.models.small.encoder import GarmentEncoder, known
from i2am.models.small.unet import SmallUNet

WEIGHTS = Path(__file__).parent / "weights"


def load(folder: str | Path = WEIGHTS, **options: Any) -> "SmallTryOnPipeline":
    """The shipped model, or one in a folder; float32 unless the options, which are `from_pretrained`'s, say otherwise."""
    return load_small(SmallTryOnPipeline, folder, folder == WEIGHTS, "i2am train-small", **options)


class SmallTryOnPipeline(PixelPipeline):
    """Paints a garment onto a person: 128 x 96 pixels, any batch, guidance against no garment, any of diffusers' schedulers of noise.

    The UNet works on pixels folded 4 x 4 into channels (a "latent" without loss) and predicts the clean picture. Latents are float32
    whatever the weights are, and what the mask keeps is the person's own, to the bit.
    """

    model_cpu_offload_seq = "garment_encoder->unet"
    _exclude_from_cpu_offload = ("garment_encoder",)  # torch's own transformer layer reads the weights of its parts, not through them

    def __init__(self, unet: SmallUNet, garment_encoder: GarmentEncoder, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(unet=unet, garment_encoder=garment_encoder, scheduler=scheduler)

    @property
    def reference_tokens(self) -> tuple[Grid, int]:
        """The grid of the garment's tokens and the special ones before it; read by i2am.trace."""
        height, width = self.unet.config.sample_size
        return (height, width), 1

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        mask_image: Any,
        garment: Any,
        densepose: Any,
        num_inference_steps: int = 10,
        guidance_scale: float = 1.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
    ) -> Any:
        """Pictures are PIL images, arrays or tensors in [0, 1], of the pipeline's shape at any size, one or one per image; masks are white
        where the garment goes. Returns what diffusers' pipelines do: `.images`, or a tuple with return_dict=False."""
        self.check(num_inference_steps, guidance_scale, output_type, callback_on_step_end_tensor_inputs)
        align(self.components.values())
        device, dtype = self._execution_device, self.unet.dtype
        inputs = {"image": image, "mask_image": mask_image, "densepose": densepose, "garment": garment}
        ready = {name: self.prepared(one, name, 1 if name == "mask_image" else 3) for name, one in inputs.items()}
        count = max(map(len, ready.values()))
        person, mask, body, cloth = (repeated(tensor, count, name).to(device) for name, tensor in ready.items())
        mask = (mask > 0.5).float()
        if not mask.flatten(1).any(1).all():
            refuse("mask_image", "white somewhere", "an empty mask", "White is what is painted anew, black is kept.")
        inside = torch.nn.functional.avg_pool2d(mask, PATCH)
        beside = known((person * 2 - 1) * (1 - mask), inside, body * 2 - 1).to(dtype)
        self._guidance_scale = guidance_scale
        guided = self.do_classifier_free_guidance
        tokens = self.garment_encoder((cloth * 2 - 1).to(dtype), guided)
        beside = torch.cat([beside, beside]) if guided else beside

        latents = noise((count, 3 * PATCH**2, *self.unet.config.sample_size), generator, latents, device)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = latents * self.scheduler.init_noise_sigma
        latents = self.denoised(latents, self.scheduler.timesteps, tokens, generator, guidance_scale, beside, callback_on_step_end,
                                callback_on_step_end_tensor_inputs)  # fmt: skip
        painted = (pictures(latents) / 2 + 0.5).clamp(0, 1)
        return self.given_out(torch.where(mask.bool(), painted, person), output_type, return_dict)

    def prepared(self, given: Any, name: str, channels: int = 3) -> Tensor:
        """[B, channels, height, width] in [0, 1], float32."""
        several = given if isinstance(given, (list, tuple)) else [given]
        if not several:
            refuse(name, "at least one picture", "an empty list", "Give one, or one per image.")
        parts = [tensor_of(one, name, channels) for one in several]
        height, width = self.size
        resized = []
        for part in parts:
            if part.shape[-2:] != (height, width):
                if part.shape[-2] * width != part.shape[-1] * height:
                    refuse(name, f"{height} x {width} pixels (height x width) or of the same shape, such as 1024 x 768",
                           f"{part.shape[-2]} x {part.shape[-1]}", "Crop or pad it first.")  # fmt: skip
                part = torch.nn.functional.interpolate(part, (height, width), mode="bilinear", antialias=True)
            resized.append(part)
        return torch.cat(resized)
