"""A text-to-image pipeline as diffusers writes them: a prompt in, a scene of one or two things out."""

# no `from __future__ import annotations`: from_pretrained of diffusers up to 0.35 reads the classes in the annotations of __init__

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import Tensor

from i2am.common.checks import is_whole, refuse, said
from i2am.models.inputs import align, noise, repeated, tensor_of
from i2am.models.pixels import PATCH, PixelPipeline, load_small, patches, pictures
from i2am.models.scenes.text import MARK, SceneTextEncoder, SceneTokenizer
from i2am.models.scenes.unet import SceneUNet

WEIGHTS = Path(__file__).parent / "weights"
WEIGHTS_BOUND = Path(__file__).parent / "weights_bound"  # of a world where each colour comes with one shape and tints the ground


def load(folder: str | Path = WEIGHTS, **options: Any) -> "SmallTextPipeline":
    """The shipped model, or one in a folder; float32 unless the options, which are `from_pretrained`'s, say otherwise."""
    return load_small(SmallTextPipeline, folder, folder in (WEIGHTS, WEIGHTS_BOUND), "i2am train-scenes", **options)


class SmallTextPipeline(PixelPipeline):
    """Paints what a prompt of its few words says: 64 x 96 pixels, any batch, guidance, any of diffusers' schedulers of noise.

    With `image`, it begins at that picture under noise instead of at noise: as much of it as `strength` says, all of it at 1.
    """

    model_cpu_offload_seq = "text_encoder->unet"
    _exclude_from_cpu_offload = ("text_encoder",)  # torch's own transformer layer reads the weights of its parts, not through them

    def __init__(self, unet: SceneUNet, text_encoder: SceneTextEncoder, tokenizer: SceneTokenizer, scheduler: SchedulerMixin) -> None:
        super().__init__()
        self.register_modules(unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)

    @property
    def words(self) -> list[str]:
        """What a prompt may be made of."""
        known = sorted(self.tokenizer.get_vocab().items(), key=lambda one: one[1])
        return [token.removeprefix(MARK) for token, _ in known if token.startswith(MARK)]

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
        num_images_per_prompt: int = 1,
        image: Any = None,
        strength: float = 0.2,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: tuple[str, ...] | list[str] = ("latents",),
    ) -> Any:
        """Pictures are PIL images, arrays or tensors in [0, 1], one or one per prompt, of the pipeline's size. Returns what diffusers'
        pipelines do: `.images`, or a tuple with return_dict=False."""
        self.check(num_inference_steps, guidance_scale, output_type, callback_on_step_end_tensor_inputs)
        self.check_inputs(prompt, negative_prompt, height, width, strength, num_images_per_prompt)
        align(self.components.values())
        device = self._execution_device
        self._guidance_scale = guidance_scale
        tokens = self.encode_prompt(prompt, negative_prompt, num_images_per_prompt)
        count = len(tokens) // (1 + self.do_classifier_free_guidance)

        latents = noise((count, 3 * PATCH**2, *self.unet.config.sample_size), generator, latents, device)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        if image is None:
            latents = latents * self.scheduler.init_noise_sigma
        else:
            first = (num_inference_steps - max(1, round(strength * num_inference_steps))) * self.scheduler.order
            timesteps = timesteps[first:]
            if hasattr(self.scheduler, "set_begin_index"):
                self.scheduler.set_begin_index(first)
            clean = patches(repeated(self.prepared(image), count, "image").to(device) * 2 - 1)
            latents = self.scheduler.add_noise(clean, latents, timesteps[:1].expand(count))
        latents = self.denoised(latents, timesteps, tokens, generator, guidance_scale, callback=callback_on_step_end,
                                inputs=callback_on_step_end_tensor_inputs)  # fmt: skip
        return self.given_out((pictures(latents) / 2 + 0.5).clamp(0, 1), output_type, return_dict)

    def check_inputs(
        self,
        prompt: Any,
        negative_prompt: Any = None,
        height: int | None = None,
        width: int | None = None,
        strength: float = 1.0,
        num_images_per_prompt: int = 1,
    ) -> None:
        prompts = self.listed("prompt", prompt)
        if negative_prompt is not None and not isinstance(negative_prompt, str):
            if len(self.listed("negative_prompt", negative_prompt)) != len(prompts):
                refuse("negative_prompt", f"one, or {len(prompts)}, as many as the prompts", len(negative_prompt), "Give one for each.")
        elif negative_prompt:
            self.listed("negative_prompt", negative_prompt)
        if (height or self.size[0], width or self.size[1]) != self.size:
            remedy = "This model has learned no other; leave height and width out, and resize what it paints."
            refuse("height and width", " x ".join(map(str, self.size)), f"{height} x {width}", remedy)
        if not 0 < strength <= 1:
            refuse("strength", "above 0 and at most 1", repr(strength), "1 leaves nothing of the picture.")
        if not is_whole(num_images_per_prompt, 1):
            refuse("num_images_per_prompt", "a whole number of at least 1", repr(num_images_per_prompt), "1 is the default.")

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt of strange words, or too many; read by the studies, before anything is painted."""
        self.listed("prompt", prompt)

    def listed(self, name: str, given: Any) -> list[str]:
        """The prompts of an argument, all of whose words are known."""
        prompts = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
        if not prompts or not all(isinstance(one, str) for one in prompts):
            refuse(name, "a prompt, or a list of them", said(given), 'Such as "a red circle".')
        most = self.tokenizer.model_max_length - 2
        for one in prompts:
            strange = [word for word in dict.fromkeys(one.lower().split()) if word not in self.words]
            if strange:
                refuse(name, f"of words that this small model knows ({', '.join(self.words)})", f"{', '.join(strange)} in {one!r}",
                       "Say it with those.")  # fmt: skip
            if len(one.split()) > most:
                refuse(name, f"of at most {most} words", f"{len(one.split())} in {one!r}", "Shorten it.")
        return prompts

    def encode_prompt(self, prompt: Any, negative_prompt: Any = None, num_images_per_prompt: int = 1) -> Tensor:
        """[B, tokens, channels] of the prompts; guided, of the negative ones ("" by default) before them."""
        prompts = self.listed("prompt", prompt)
        tokens = self.text_encoder(self.ids(prompts))
        if self.do_classifier_free_guidance:
            negative = negative_prompt or ""
            negative = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
            without = self.text_encoder(self.ids(negative))
            return torch.cat([one.repeat_interleave(num_images_per_prompt, 0) for one in (without, tokens)])
        return tokens.repeat_interleave(num_images_per_prompt, 0)

    def ids(self, prompts: list[str]) -> Tensor:
        return self.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids.to(self._execution_device)

    def prepared(self, image: Any) -> Tensor:
        """[B, 3, height, width] in [0, 1], float32."""
        several = list(image) if isinstance(image, (list, tuple)) else [image]
        if not several:
            refuse("image", "at least one picture", "an empty list", "Leave it out to begin at noise.")
        parts = [tensor_of(one, "image", 3) for one in several]
        wrong = next((part for part in parts if part.shape[-2:] != self.size), None)
        if wrong is not None:
            refuse("image", "{} x {} pixels (height x width)".format(*self.size), "{} x {}".format(*wrong.shape[-2:]), "Resize it first.")
        return torch.cat(parts)
