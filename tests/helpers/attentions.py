"""Stand-ins for reference models that live outside diffusers: its attention modules, put together the way those models do.

Written from descriptions of the models, tiny and random. Their pipelines work on latents, so `size` is the latent's.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case, Size
from diffusers import DiffusionPipeline, Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.utils.torch_utils import randn_tensor
from parts import ddim, each, masks, ready, sharpen, unet
from torch import Tensor, nn

SIZES: tuple[Size, Size] = ((16, 16), (16, 12))
TEXT = 7  # tokens of the given text
Predict = Callable[[Tensor, Tensor], Tensor]  # (rows, timestep) -> noise


class Skip:
    """A processor in the place of attention that a model has no use for."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **rest: Any) -> Tensor:
        return hidden_states


class LatentPipeline(DiffusionPipeline):
    """The loop that the stand-ins share."""

    def start(self, shape: tuple[int, ...], generator: Any, steps: int) -> Tensor:
        self.scheduler.set_timesteps(steps)
        return randn_tensor(shape, generator=generator, device=self._execution_device) * self.scheduler.init_noise_sigma

    def denoise(
        self, latents: Tensor, predict: Callable[[Tensor, Tensor], Tensor], scale: float, conditional_first: bool = False
    ) -> Tensor:
        """`predict` is asked for both guidance rows at once when `scale` is above 1."""
        for timestep in self.scheduler.timesteps:
            rows = self.scheduler.scale_model_input(torch.cat([latents] * (2 if scale > 1 else 1)), timestep)
            noise = predict(rows, timestep)
            if scale > 1:
                uncond, cond = noise.chunk(2)[:: -1 if conditional_first else 1]
                noise = uncond + scale * (cond - uncond)
            latents = self.scheduler.step(noise, timestep, latents, return_dict=False)[0]
        return latents


class CatVTONPipeline(LatentPipeline):
    """Person above garment in one latent of twice the height; self-attention is where they meet, and there is no text."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor,
        condition_image: Tensor,
        mask: Tensor,
        num_inference_steps: int = 50,
        guidance_scale: float = 2.5,
        generator: Any = None,
        num_images_per_prompt: int = 1,
        output_type: str = "latent",
    ) -> Any:
        person, garment, mask = (value.repeat_interleave(num_images_per_prompt, 0) for value in (image, condition_image, mask))
        masked = person * (1 - mask)
        conditions = torch.cat([masked, garment], 2)
        mask = torch.cat([mask, torch.zeros_like(mask)], 2)
        if guidance_scale > 1:
            conditions = torch.cat([torch.cat([masked, torch.zeros_like(garment)], 2), conditions])
            mask = torch.cat([mask] * 2)

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            return self.unet(torch.cat([rows, mask, conditions], 1), timestep, encoder_hidden_states=None, return_dict=False)[0]

        latents = self.start((*person.shape[:2], 2 * person.shape[2], person.shape[3]), generator, num_inference_steps)
        latents = self.denoise(latents, predict, guidance_scale)
        return SimpleNamespace(images=latents[:, :, : person.shape[2]])


def catvton() -> Case:
    """7 `attn1` layers over [person, garment] (2 * h * w tokens, halves of equal grids); `attn2` never attends."""
    torch.manual_seed(0)
    denoiser = unet(in_channels=9)
    for name, module in denoiser.named_modules():
        if name.endswith("attn2"):
            module.set_processor(Skip())

    def own(ask: Ask) -> dict[str, Any]:
        return {
            "image": each(ask.batch, 4, *ask.size, seed=ask.seed + 1),
            "condition_image": each(ask.batch, 4, *ask.size, seed=ask.seed + 2),
            "mask": masks(ask.batch, ask.size),
            "guidance_scale": 2.5 if ask.guided else 1.0,
        }

    return Case(ready(CatVTONPipeline(denoiser, ddim())), own, sizes=SIZES, facts={"order": "generated, reference", "layers": 7})


class Joined(Attention):
    """Self-attention that also sees another network's features of the same level: as queries and keys, or as keys alone."""

    others: Tensor | None = None  # [B, n, C]
    keys_only = False

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *rest: Any, **more: Any) -> Tensor:
        if self.others is None:
            return super().forward(hidden_states, encoder_hidden_states, *rest, **more)
        both = torch.cat([hidden_states, self.others], 1)
        if self.keys_only:
            return super().forward(hidden_states, both, *rest, **more)
        return super().forward(both, None, *rest, **more)[:, : hidden_states.shape[1]]


class TryOn(LatentPipeline):
    """A second UNet reads the garment once; every `attn1` of the first one sees the second one's input to the same layer."""

    conditional_first = False

    def __init__(self, unet: UNet2DConditionModel, garment_unet: UNet2DConditionModel, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, garment_unet=garment_unet, scheduler=scheduler)

    def read(self, garment: Tensor, text: Tensor) -> dict[str, Tensor]:
        """What the garment's own attentions are given, by layer."""
        features: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_pre_hook(lambda _, args, name=name: features.update({name: args[0]}))
            for name, module in self.garment_unet.named_modules()
            if name.endswith("attn1")
        ]
        self.garment_unet(garment, 0, encoder_hidden_states=text)
        for hook in hooks:
            hook.remove()
        return features

    @torch.no_grad()
    def __call__(
        self,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor,
        garment: Tensor,
        num_inference_steps: int = 50,
        guidance_scale: float = 2.0,
        generator: Any = None,
        num_images_per_prompt: int = 1,
        output_type: str = "latent",
    ) -> Any:
        text, negative, garment = (
            value.repeat_interleave(num_images_per_prompt, 0) for value in (prompt_embeds, negative_prompt_embeds, garment)
        )
        order = -1 if self.conditional_first else 1
        features = self.read(garment, text)
        joined = {name: module for name, module in self.unet.named_modules() if isinstance(module, Joined)}
        if guidance_scale > 1:
            text = torch.cat([negative, text][::order])
            features = {name: torch.cat([torch.zeros_like(value), value][::order]) for name, value in features.items()}
        try:
            for name, module in joined.items():
                module.others = features[name]
            latents = self.start(tuple(garment.shape), generator, num_inference_steps)
            latents = self.denoise(
                latents,
                lambda rows, timestep: self.unet(rows, timestep, encoder_hidden_states=text, return_dict=False)[0],
                guidance_scale,
                self.conditional_first,
            )
        finally:
            for module in joined.values():
                module.others = None
        return SimpleNamespace(images=latents)


def try_on(keys_only: bool, conditional_first: bool) -> Case:
    torch.manual_seed(0)
    denoiser, reader = unet(), unet()
    for name, module in denoiser.named_modules():
        if name.endswith("attn1"):
            module.__class__ = Joined
            module.keys_only = keys_only
    pipe = TryOn(denoiser, reader, ddim())
    pipe.conditional_first = conditional_first

    def own(ask: Ask) -> dict[str, Any]:
        return {
            "prompt_embeds": each(ask.batch, TEXT, 32, seed=ask.seed + 1),
            "negative_prompt_embeds": each(ask.batch, TEXT, 32, seed=ask.seed + 2),
            "garment": each(ask.batch, 4, *ask.size, seed=ask.seed + 3),
            "guidance_scale": 2.0 if ask.guided else 1.0,
        }

    facts = {"order": "generated, reference", "queries": "generated" if keys_only else "generated, reference", "text_tokens": TEXT}
    return Case(ready(pipe), own, sizes=SIZES, facts=facts)


def idm_vton() -> Case:
    """`attn1` on [generated, garment] on both sides, of which the first half is kept; rows [uncond, cond]."""
    return try_on(keys_only=False, conditional_first=False)


def ootdiffusion() -> Case:
    """As `idm_vton`, with rows [cond, uncond]."""
    return try_on(keys_only=False, conditional_first=True)


def fitdit() -> Case:
    """`attn1` with generated queries and keys [generated, garment]; rows [uncond, cond]."""
    return try_on(keys_only=True, conditional_first=False)


class PixelUNet(UNet2DConditionModel):
    """A UNet whose up blocks first look at a low-resolution picture's features of their own level (PASD)."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        widths = self.config.block_out_channels[::-1]
        self.features = nn.ModuleList([nn.Conv2d(3, 24, 3, padding=1) for _ in widths])
        self.pixel_attentions = nn.ModuleList(
            [Transformer2DModel(2, 16, in_channels=widths[0], norm_num_groups=8, cross_attention_dim=24) for _ in widths]
        )
        self.picture: Tensor | None = None
        for level, block in enumerate(self.up_blocks):
            block.register_forward_pre_hook(lambda _, args, kwargs, level=level: self.look(level, args, kwargs), with_kwargs=True)

    def look(self, level: int, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        states = kwargs["hidden_states"]  # [B, C, h, w]
        small = nn.functional.adaptive_avg_pool2d(self.picture, states.shape[-2:])
        keys = self.features[level](small).flatten(2).transpose(1, 2)  # [B, h * w, 24]
        return args, {**kwargs, "hidden_states": self.pixel_attentions[level](states, encoder_hidden_states=keys, return_dict=False)[0]}

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, picture: Tensor, **rest: Any) -> Any:
        self.picture = picture
        try:
            return super().forward(sample, timestep, encoder_hidden_states, **rest)
        finally:
            self.picture = None


class Pasd(LatentPipeline):
    """Super-resolution: text as usual, the low-resolution picture through `pixel_attentions`."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor,
        prompt_embeds: Tensor,
        negative_prompt_embeds: Tensor,
        num_inference_steps: int = 20,
        guidance_scale: float = 7.0,
        generator: Any = None,
        num_images_per_prompt: int = 1,
        output_type: str = "latent",
    ) -> Any:
        picture, text, negative = (
            value.repeat_interleave(num_images_per_prompt, 0) for value in (image, prompt_embeds, negative_prompt_embeds)
        )
        latents = self.start((picture.shape[0], 4, *picture.shape[-2:]), generator, num_inference_steps)
        if guidance_scale > 1:
            text, picture = torch.cat([negative, text]), torch.cat([picture] * 2)

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            return self.unet(rows, timestep, text, picture=picture, return_dict=False)[0]

        return SimpleNamespace(images=self.denoise(latents, predict, guidance_scale))


def pasd() -> Case:
    """Layers `pixel_attentions.0/1.transformer_blocks.0.attn2` with h * w keys each, on the half grid and on the latent's."""
    torch.manual_seed(0)
    config = {key: value for key, value in unet().config.items() if not key.startswith("_")}
    denoiser = sharpen(PixelUNet(**config))

    def own(ask: Ask) -> dict[str, Any]:
        return {
            "image": each(ask.batch, 3, *ask.size, seed=ask.seed + 1),
            "prompt_embeds": each(ask.batch, TEXT, 32, seed=ask.seed + 2),
            "negative_prompt_embeds": each(ask.batch, TEXT, 32, seed=ask.seed + 3),
            "guidance_scale": 7.0 if ask.guided else 1.0,
        }

    return Case(ready(Pasd(denoiser, ddim())), own, sizes=SIZES, facts={"text_tokens": TEXT, "layers": 2})
