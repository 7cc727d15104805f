"""Stand-ins for try-on projects that live outside diffusers: its attention modules, put together the way those projects do.

Names of classes and parts are the projects' own, as is the order of tokens and rows; `tests/families/test_projects.py` says what was read
and run. Tiny and random. Their pipelines work on latents, so `size` is the latent's.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case, Size
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.utils.torch_utils import randn_tensor
from parts import ddim, each, masks, ready, unet
from torch import Tensor, nn

SIZES: tuple[Size, Size] = ((16, 16), (16, 12))
TEXT = 7  # tokens of the given text
IMAGE = 3  # tokens of IDM-VTON's adapter
Predict = Callable[[Tensor, Tensor], Tensor]  # (rows, timestep) -> noise


class Skip:
    """A processor in the place of attention that a model has no use for."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **rest: Any) -> Tensor:
        return hidden_states


def skipping(denoiser: nn.Module) -> nn.Module:
    """Without cross-attention."""
    for name, module in denoiser.named_modules():
        if name.endswith("attn2"):
            module.set_processor(Skip())
    return denoiser


def start(scheduler: Any, shape: tuple[int, ...], generator: Any, steps: int) -> Tensor:
    scheduler.set_timesteps(steps)
    return randn_tensor(shape, generator=generator, device=torch.get_default_device()) * scheduler.init_noise_sigma


def denoise(scheduler: Any, latents: Tensor, predict: Predict, scale: float, conditional_first: bool = False) -> Tensor:
    """`predict` is asked for both guidance rows at once when `scale` is above 1."""
    for timestep in scheduler.timesteps:
        rows = scheduler.scale_model_input(torch.cat([latents] * (2 if scale > 1 else 1)), timestep)
        noise = predict(rows, timestep)
        if scale > 1:
            uncond, cond = noise.chunk(2)[:: -1 if conditional_first else 1]
            noise = uncond + scale * (cond - uncond)
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    return latents


class CatVTONPipeline:
    """Person above garment in one latent of twice the height; self-attention is where they meet, and there is no text. A plain class."""

    axis = 2
    channels = 9

    def __init__(self, unet: UNet2DConditionModel, scheduler: Any) -> None:
        self.unet, self.noise_scheduler = unet, scheduler

    @torch.no_grad()
    def __call__(
        self,
        image: Tensor,
        condition_image: Tensor,
        mask: Tensor,
        num_inference_steps: int = 50,
        guidance_scale: float = 2.5,
        generator: Any = None,
        **rest: Any,
    ) -> Any:
        person = image * (1 - mask)
        conditions = torch.cat([person, condition_image], self.axis)
        if guidance_scale > 1:
            conditions = torch.cat([torch.cat([person, torch.zeros_like(condition_image)], self.axis), conditions])
        if self.channels == 9:
            mask = torch.cat([mask, torch.zeros_like(mask)], self.axis)
            conditions = torch.cat([mask.repeat(len(conditions) // len(mask), 1, 1, 1), conditions], 1)

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            return self.unet(torch.cat([rows, conditions], 1), timestep, encoder_hidden_states=None, return_dict=False)[0]

        shape = (len(person), 4, *conditions.shape[2:])
        latents = denoise(self.noise_scheduler, start(self.noise_scheduler, shape, generator, num_inference_steps), predict, guidance_scale)
        return SimpleNamespace(images=latents.chunk(2, self.axis)[0])


class CatVTONPix2PixPipeline(CatVTONPipeline):
    """Without a mask: person and garment lie side by side."""

    axis = 3
    channels = 8


def catvton(kind: type[CatVTONPipeline] = CatVTONPipeline) -> Case:
    """7 `attn1` layers over [person, garment] (2 * h * w tokens, halves of equal grids); `attn2` never attends."""
    torch.manual_seed(0)
    pipe = kind(skipping(unet(in_channels=kind.channels)), ddim())

    def own(ask: Ask) -> dict[str, Any]:
        return {
            "image": each(ask.batch, 4, *ask.size, seed=ask.seed + 1),
            "condition_image": each(ask.batch, 4, *ask.size, seed=ask.seed + 2),
            "mask": masks(ask.batch, ask.size),
            "guidance_scale": 2.5 if ask.guided else 1.0,
        }

    return Case(pipe, own, sizes=SIZES, facts={"order": "generated, reference", "layers": 7})


class Joined(Attention):
    """Self-attention that also sees another network's features of the same level, as queries and keys."""

    others: Tensor | None = None  # [B, n, C]

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *rest: Any, **more: Any) -> Tensor:
        if self.others is None:
            return super().forward(hidden_states, encoder_hidden_states, *rest, **more)
        both = torch.cat([hidden_states, self.others], 1)
        return super().forward(both, None, *rest, **more)[:, : hidden_states.shape[1]]


def joined(denoiser: nn.Module) -> nn.Module:
    for name, module in denoiser.named_modules():
        if name.endswith("attn1"):
            module.__class__ = Joined
    return denoiser


class OriginalAdapter(nn.Module):
    """As the processor of the original IP-Adapter: the image's tokens stand behind the text's, and their number is a number."""

    def __init__(self, width: int, context: int, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens, self.scale = num_tokens, 1.0
        self.to_k_ip, self.to_v_ip = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **rest: Any) -> Tensor:
        text, image = encoder_hidden_states.split([encoder_hidden_states.shape[1] - self.num_tokens, self.num_tokens], 1)
        query = attn.to_q(hidden_states)
        pairs = ((attn.to_k(text), attn.to_v(text)), (self.to_k_ip(image), self.to_v_ip(image)))

        def attended(key: Tensor, value: Tensor) -> Tensor:
            split = (states.unflatten(2, (attn.heads, -1)).transpose(1, 2) for states in (query, key, value))
            return nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)

        return attn.to_out[1](attn.to_out[0](attended(*pairs[0]) + self.scale * attended(*pairs[1])))


class AdaptedUNet(UNet2DConditionModel):
    """IDM-VTON's: the text is given as usual, and the adapter's tokens join it inside."""

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, image_embeds: Tensor, **rest: Any) -> Any:
        return super().forward(sample, timestep, torch.cat([encoder_hidden_states, image_embeds], 1), **rest)


def adapted(denoiser: Any) -> Any:
    for name, module in denoiser.named_modules():
        if name.endswith("attn2"):
            module.set_processor(OriginalAdapter(module.to_q.out_features, denoiser.config.cross_attention_dim, IMAGE))
    denoiser.__class__ = AdaptedUNet
    return denoiser


def garment_features(reader: nn.Module, garment: Tensor, text: Tensor | None) -> dict[str, Tensor]:
    """What the garment's own self-attentions are given, by layer."""
    features: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: features.update({name: args[0]}))
        for name, module in reader.named_modules()
        if name.endswith("attn1")
    ]
    reader(garment, 0, encoder_hidden_states=text)
    for hook in hooks:
        hook.remove()
    return features


@torch.no_grad()
def dress(denoiser: Any, reader: Any, scheduler: Any, garment: Tensor, text: Tensor | None, scale: float, generator: Any,
          steps: int, conditional_first: bool = False, **more: Tensor) -> Any:  # fmt: skip
    """A second UNet reads the garment once; every `attn1` of the first one sees the second one's input to the same layer."""
    features = garment_features(reader, garment, text)
    if scale > 1:
        order = -1 if conditional_first else 1
        text = None if text is None else torch.cat([text, text])
        more = {name: torch.cat([torch.zeros_like(value), value]) for name, value in more.items()}
        features = {name: torch.cat([torch.zeros_like(value), value][::order]) for name, value in features.items()}
    modules = {name: module for name, module in denoiser.named_modules() if isinstance(module, Joined)}
    try:
        for name, module in modules.items():
            module.others = features[name]
        latents = start(scheduler, tuple(garment.shape), generator, steps)

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            return denoiser(rows, timestep, encoder_hidden_states=text, return_dict=False, **more)[0]

        return SimpleNamespace(images=denoise(scheduler, latents, predict, scale, conditional_first))
    finally:
        for module in modules.values():
            module.others = None


class LeffaPipeline:
    """Without text; a plain class."""

    def __init__(self, unet: Any, unet_encoder: Any, scheduler: Any) -> None:
        self.unet, self.unet_encoder, self.noise_scheduler = unet, unet_encoder, scheduler

    def __call__(self, ref_image: Tensor, guidance_scale: float, generator: Any, num_inference_steps: int, **rest: Any) -> Any:
        return dress(self.unet, self.unet_encoder, self.noise_scheduler, ref_image, None, guidance_scale, generator,
                     num_inference_steps)  # fmt: skip


class StableDiffusionXLInpaintPipeline(DiffusionPipeline):
    """IDM-VTON's, which bears this name: text, an original IP-Adapter, and the garment in the self-attention."""

    def __init__(self, unet: Any, unet_encoder: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, unet_encoder=unet_encoder, scheduler=scheduler)

    def __call__(self, cloth: Tensor, prompt_embeds: Tensor, ip_adapter_image: Tensor, guidance_scale: float, generator: Any,
                 num_inference_steps: int, **rest: Any) -> Any:  # fmt: skip
        return dress(self.unet, self.unet_encoder, self.scheduler, cloth, prompt_embeds, guidance_scale, generator,
                     num_inference_steps, image_embeds=ip_adapter_image)  # fmt: skip


class OotdPipeline(DiffusionPipeline):
    """Its UNets have names of their own, and its conditional rows come first."""

    def __init__(self, unet_garm: Any, unet_vton: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet_garm=unet_garm, unet_vton=unet_vton, scheduler=scheduler)

    def __call__(self, image_garm: Tensor, prompt_embeds: Tensor, image_guidance_scale: float, generator: Any, num_inference_steps: int,
                 **rest: Any) -> Any:  # fmt: skip
        return dress(self.unet_vton, self.unet_garm, self.scheduler, image_garm, prompt_embeds, image_guidance_scale, generator,
                     num_inference_steps, conditional_first=True)  # fmt: skip


def given(ask: Ask, garment: str, scale: str, **more: Tensor) -> dict[str, Any]:
    return {garment: each(ask.batch, 4, *ask.size, seed=ask.seed + 3), scale: 2.0 if ask.guided else 1.0, **more}


def text_of(ask: Ask) -> Tensor:
    return each(ask.batch, TEXT, 32, seed=ask.seed + 1)


def leffa() -> Case:
    """`attn1` on [generated, garment] on both sides, of which the first half is kept; rows [uncond, cond]."""
    torch.manual_seed(0)
    pipe = LeffaPipeline(skipping(joined(unet())), skipping(unet()), ddim())
    return Case(pipe, lambda ask: given(ask, "ref_image", "guidance_scale"), sizes=SIZES)


def idm_vton() -> Case:
    """As `leffa`, with text, and the tokens of an original IP-Adapter in every `attn2`."""
    torch.manual_seed(0)
    pipe = StableDiffusionXLInpaintPipeline(adapted(joined(unet())), unet(), ddim())

    def own(ask: Ask) -> dict[str, Any]:
        adapter = each(ask.batch, IMAGE, 32, seed=ask.seed + 4)
        return given(ask, "cloth", "guidance_scale", prompt_embeds=text_of(ask), ip_adapter_image=adapter)

    return Case(ready(pipe), own, sizes=SIZES, facts={"text_tokens": TEXT, "reference_tokens": IMAGE})


def ootdiffusion() -> Case:
    """As `leffa`, with text, and rows [cond, uncond]."""
    torch.manual_seed(0)
    pipe = OotdPipeline(unet(), joined(unet()), ddim())
    return Case(ready(pipe), lambda ask: given(ask, "image_garm", "image_guidance_scale", prompt_embeds=text_of(ask)), sizes=SIZES)
