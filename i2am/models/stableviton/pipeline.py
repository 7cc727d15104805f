"""StableVITON as a pipeline of diffusers: person, mask, body and garment in, the person wearing the garment out.

Three things of the release that one would not guess: it starts from the noised latent of the person's own picture, which in paired
evaluation shows the model a trace of the answer; it masks with 1 where the picture is kept; and it shrinks without antialiasing.
One thing differs: latents are the means of what the autoencoder says, where the release draws from it, the garment's anew in every
step.
"""

# no `from __future__ import annotations`: from_pretrained of diffusers up to 0.35 reads the classes in the annotations of __init__

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput, SchedulerMixin
from torch import Tensor
from torch.nn.functional import interpolate

from i2am.common.checks import is_whole, refuse
from i2am.maps.tokens import Grid
from i2am.models.inputs import align, check_steps, noise, repeated, tensor_of
from i2am.models.stableviton.encoders import ImageEncoder, SpatialEncoder
from i2am.models.stableviton.unet import StableVITONUNet

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = 128 / 255  # of a byte: from here on masks are white, and the grey of VITON-HD's agnostic pictures


class StableVITONPipeline(DiffusionPipeline):
    """Any batch, guidance against no garment, any of diffusers' schedulers of noise; latents are float32 whatever the weights are."""

    model_cpu_offload_seq = "image_encoder->unet->vae"
    _exclude_from_cpu_offload = ("spatial_encoder",)  # it speaks before the UNet in every step and would travel each time
    _callback_tensor_inputs = ("latents",)
    guidance_layout = "uncond-cond"  # read by i2am.trace

    def __init__(
        self,
        unet: StableVITONUNet,
        spatial_encoder: SpatialEncoder,
        image_encoder: ImageEncoder,
        vae: AutoencoderKL,
        scheduler: SchedulerMixin,
    ) -> None:
        super().__init__()
        self._guidance_scale = 1.0
        self.register_modules(unet=unet, spatial_encoder=spatial_encoder, image_encoder=image_encoder, vae=vae, scheduler=scheduler)

    @property
    def factor(self) -> int:
        """Pixels of a latent's, one way."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size(self) -> Grid:
        """(height, width) of the pictures, where a call does not say."""
        height, width = self.unet.config.sample_size
        return height * self.factor, width * self.factor

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the last call was guided; read by i2am.trace."""
        return self._guidance_scale > 1

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        mask_image: Any,
        garment: Any,
        densepose: Any,
        agnostic: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.0,
        start_from_image: bool = True,
        repaint: bool = False,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
    ) -> Any:
        """Pictures are PIL images, arrays or tensors in [0, 1], one or one per image, of one shape (height : width) at any size; masks are
        white where the garment goes. Returns what diffusers' pipelines do: `.images`, or a tuple with return_dict=False.

        agnostic: the person without the garment (VITON-HD's agnostic-v3.2); left out, the picture with grey under the mask.
        start_from_image: False starts from noise alone. repaint: put the pixels outside the mask back in the end.
        latents: the noise to start from.
        """
        size = self.size[0] if height is None else height, self.size[1] if width is None else width
        self.check(size, num_inference_steps, guidance_scale, output_type, callback_on_step_end_tensor_inputs)
        align(self.components.values())
        device, dtype = self._execution_device, self.unet.dtype
        inputs = {"image": image, "mask_image": mask_image, "garment": garment, "densepose": densepose, "agnostic": agnostic}
        ready = {name: self.prepared(one, name, size) for name, one in inputs.items() if one is not None}
        count = max(map(len, ready.values()))
        ready = {name: repeated(one, count, name).to(device) for name, one in ready.items()}
        person, mask, cloth, body = (ready[name] for name in ("image", "mask_image", "garment", "densepose"))
        bare = ready.get("agnostic", person * (1 - mask) + HALF * mask)
        shape = (count, self.vae.config.latent_channels, size[0] // self.factor, size[1] // self.factor)
        start = noise(shape, generator, latents, device)

        self._guidance_scale = guidance_scale
        guided = self.do_classifier_free_guidance
        twice = (lambda x: torch.cat([x, x])) if guided else (lambda x: x)
        kept = interpolate(1 - mask, shape[-2:], mode="bilinear")
        beside = twice(torch.cat([self.encoded(bare), kept, self.encoded(body)], 1)).to(dtype)
        features = twice(self.encoded(cloth)).to(dtype)
        token = self.image_encoder(self.for_clip(cloth), guided).to(dtype)

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        if start_from_image:
            last = self.scheduler.alphas_cumprod[-1].to(device)
            start = last.sqrt() * self.encoded(person) + (1 - last).sqrt() * start
        latents = start * self.scheduler.init_noise_sigma
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        with self.progress_bar(total=len(self.scheduler.timesteps)) as bar:
            for i, timestep in enumerate(self.scheduler.timesteps):
                noisy = twice(self.scheduler.scale_model_input(latents, timestep)).to(dtype)
                noisy = torch.cat([noisy, beside], 1)
                said = self.unet(
                    noisy, timestep, encoder_hidden_states=token, garment=self.spatial_encoder(noisy, features, timestep, token)
                ).sample.float()
                if guided:
                    without, worn = said.chunk(2)
                    said = without + guidance_scale * (worn - without)
                latents = self.scheduler.step(said, timestep, latents, **extra).prev_sample
                if callback_on_step_end is not None:
                    held = {name: {"latents": latents}[name] for name in callback_on_step_end_tensor_inputs}
                    latents = callback_on_step_end(self, i, timestep, held).pop("latents", latents)
                bar.update()

        images: Any = latents
        if output_type != "latent":
            painted = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample.float()
            images = (painted / 2 + 0.5).clamp(0, 1)
            images = (images * mask + person * (1 - mask) if repaint else images).cpu()
        if output_type in ("np", "pil"):
            images = images.permute(0, 2, 3, 1).numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def check(self, size: Grid, steps: int, guidance_scale: float, output_type: str, inputs: Any) -> None:
        least = self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if not all(is_whole(side, 1) and side % least == 0 for side in size):
            refuse("height and width", f"multiples of {least}", size, "The release's are 512 and 384.")
        if output_type not in ("pil", "np", "pt", "latent"):
            refuse("output_type", '"pil", "np", "pt" or "latent"', repr(output_type), "Tensors are [B, 3, height, width] in [0, 1].")
        check_steps(steps, self.scheduler, "The release takes 50.")
        if not 0 <= guidance_scale < math.inf:
            refuse("guidance_scale", "a number of at least 0", repr(guidance_scale), "Up to 1 there is no guidance.")
        if not set(inputs) <= set(self._callback_tensor_inputs):
            refuse("callback_on_step_end_tensor_inputs", f"among {list(self._callback_tensor_inputs)}", inputs, "Leave the others out.")
        if not hasattr(self.scheduler, "alphas_cumprod") or self.scheduler.config.prediction_type != "epsilon":
            refuse("the scheduler", 'one of noise with prediction_type="epsilon"', type(self.scheduler).__name__,
                   "Make it with from_config(pipe.scheduler.config).")  # fmt: skip

    def prepared(self, given: Any, name: str, size: Grid) -> Tensor:
        """[B, channels, height, width] in [0, 1], float32; masks are cut to 0 and 1 before they are scaled."""
        several = given if isinstance(given, (list, tuple)) else [given]
        if not several:
            refuse(name, "at least one picture", "an empty list", "Give one, or one per image.")
        pictures = []
        for one in several:
            picture = tensor_of(one, name, 1 if name == "mask_image" else 3)
            if picture.shape[-2] * size[1] != picture.shape[-1] * size[0]:
                refuse(name, f"{size[0]} x {size[1]} pixels (height x width) or of the same shape", f"{picture.shape[-2]} x "
                       f"{picture.shape[-1]}", "Crop or pad it first, or say height= and width=.")  # fmt: skip
            picture = (picture >= HALF).float() if name == "mask_image" else picture
            pictures.append(interpolate(picture, size, mode="bilinear") if picture.shape[-2:] != size else picture)
        if name == "mask_image" and not all(mask.any() for picture in pictures for mask in picture):
            refuse("mask_image", "white somewhere", "an empty mask", "White is what is painted anew, black is kept.")
        return torch.cat(pictures)

    def encoded(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] -> their scaled latents, float32."""
        found = self.vae.encode((pictures * 2 - 1).to(self.vae.dtype)).latent_dist.mode().float()
        return found * self.vae.config.scaling_factor

    def for_clip(self, pictures: Tensor) -> Tensor:
        """Pictures in [0, 1] as CLIP was trained on them: squeezed into a square."""
        side = self.image_encoder.config.image_size
        mean, std = (torch.tensor(values, device=pictures.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
        return ((interpolate(pictures, (side, side), mode="bilinear") - mean) / std).to(self.image_encoder.dtype)
