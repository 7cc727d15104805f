"""A try-on pipeline as diffusers writes them: person, mask, body and garment in, the person wearing the garment out."""

# no `from __future__ import annotations`: from_pretrained of diffusers up to 0.35 reads the classes in the annotations of __init__

import inspect
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin
from safetensors import SafetensorError
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.tokens import Grid
from i2am.models.inputs import align, check_steps, noise, repeated, tensor_of
from i2am.models.small.encoder import PATCH, GarmentEncoder, known, pictures
from i2am.models.small.unet import SmallUNet

WEIGHTS = Path(__file__).parent / "weights"
PREDICTIONS = ("sample", "epsilon", "v_prediction")


def load(folder: str | Path = WEIGHTS, **options: Any) -> "SmallTryOnPipeline":
    """The shipped model, or one in a folder; float32 unless the options, which are `from_pretrained`'s, say otherwise."""
    if not (Path(folder) / "model_index.json").is_file():
        remedy = "Install i2am again, or train them: i2am train-small." if folder == WEIGHTS else "i2am train-small writes one."
        refuse("the weights of the small model", f"in {folder}, with their model_index.json", "a folder without it", remedy)
    if not options.keys() & {"dtype", "torch_dtype"}:
        options["torch_dtype"] = torch.float32  # the name that every version of diffusers reads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return SmallTryOnPipeline.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"i2am: the model in {folder} cannot be read ({error}). Install i2am again, or train one: i2am train-small."
        ) from error


class SmallTryOnPipeline(DiffusionPipeline):
    """Paints a garment onto a person: 128 x 96 pixels, any batch, guidance against no garment, any of diffusers' schedulers of noise.

    The UNet works on pixels folded 4 x 4 into channels (a "latent" without loss) and predicts the clean picture. Latents are float32
    whatever the weights are, and what the mask keeps is the person's own, to the bit.
    """

    model_cpu_offload_seq = "garment_encoder->unet"
    _exclude_from_cpu_offload = ("garment_encoder",)  # torch's own transformer layer reads the weights of its parts, not through them
    _callback_tensor_inputs = ("latents",)
    guidance_layout = "uncond-cond"  # read by i2am.trace

    def __init__(self, unet: SmallUNet, garment_encoder: GarmentEncoder, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self._guidance_scale = 1.0
        self.register_modules(unet=unet, garment_encoder=garment_encoder, scheduler=scheduler)

    @property
    def size(self) -> Grid:
        """(height, width) of the pictures."""
        height, width = self.unet.config.sample_size
        return height * PATCH, width * PATCH

    @property
    def reference_tokens(self) -> tuple[Grid, int]:
        """The grid of the garment's tokens and the special ones before it; read by i2am.trace."""
        height, width = self.unet.config.sample_size
        return (height, width), 1

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
        extra = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        with self.progress_bar(total=num_inference_steps) as bar:
            for i, timestep in enumerate(self.scheduler.timesteps):
                noisy = self.scheduler.scale_model_input(latents, timestep)
                both = torch.cat([noisy, noisy]) if guided else noisy
                clean = self.unet(torch.cat([both.to(dtype), beside], 1), timestep, encoder_hidden_states=tokens).sample.float()
                if guided:
                    without, worn = clean.chunk(2)
                    clean = without + guidance_scale * (worn - without)
                latents = self.scheduler.step(self.asked(clean, noisy, timestep), timestep, latents, **extra).prev_sample
                if callback_on_step_end is not None:
                    held = {name: {"latents": latents}[name] for name in callback_on_step_end_tensor_inputs}
                    latents = callback_on_step_end(self, i, timestep, held).pop("latents", latents)
                if i + 1 == len(self.scheduler.timesteps) or (i + 1) % self.scheduler.order == 0:
                    bar.update()

        painted = (pictures(latents) / 2 + 0.5).clamp(0, 1)
        images: Any = torch.where(mask.bool(), painted, person).cpu()
        if output_type != "pt":
            images = images.permute(0, 2, 3, 1).numpy()
        if output_type == "pil":
            images = self.numpy_to_pil(images)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

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

    def asked(self, clean: Tensor, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The clean picture as what the scheduler takes: itself, the noise or the velocity."""
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return clean
        kept = self.scheduler.alphas_cumprod.to(clean.device)[timestep.long()]
        if kind == "epsilon":
            return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
        return (kept.sqrt() * noisy - clean) / (1 - kept).sqrt()

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
