"""Stand-ins for FitDiT and PASD, as those of `attentions`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case
from attentions import SIZES, TEXT, denoise, start
from diffusers import DiffusionPipeline, Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from parts import ddim, each, ready, sharpen, unet
from torch import Tensor, nn

WIDTH, HEADS, PATCH = 32, 2, 2


class ReferenceKeys:
    """A processor whose keys are the layer's own and behind them the garment's."""

    def __call__(self, attn: Any, hidden_states: Tensor, ref_key: Tensor, **rest: Any) -> Tensor:
        own = (
            attn.to_q(hidden_states),
            torch.cat([attn.to_k(hidden_states), ref_key], 1),
            torch.cat([attn.to_v(hidden_states), ref_key], 1),
        )
        states = (one.unflatten(2, (attn.heads, -1)).transpose(1, 2) for one in own)
        return attn.to_out[0](nn.functional.scaled_dot_product_attention(*states).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attn = Attention(query_dim=WIDTH, heads=HEADS, dim_head=WIDTH // HEADS, processor=ReferenceKeys())

    def forward(self, states: Tensor, ref_key: Tensor) -> Tensor:
        return states + self.attn(self.norm(states), ref_key=ref_key)


class SD3Transformer2DModel(nn.Module):
    """FitDiT's, which bears this name and has neither the text nor the joint attention of its namesake."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(4, WIDTH, PATCH, PATCH)
        self.transformer_blocks = nn.ModuleList([Block() for _ in range(blocks)])
        self.proj_out = nn.ConvTranspose2d(WIDTH, 4, PATCH, PATCH)

    def forward(self, hidden_states: Tensor, timestep: Any, ref_key: list[Tensor]) -> Tensor:
        small = self.patches(hidden_states)
        states = small.flatten(2).mT * (1 + timestep / 1000)
        for block, key in zip(self.transformer_blocks, ref_key):
            states = block(states, key)
        return self.proj_out(states.mT.unflatten(2, small.shape[2:]))


class StableDiffusion3TryOnPipeline:
    """Two transformers, neither under the usual name; the garment's rows are zero where guidance has none."""

    def __init__(self, transformer_garm: nn.Module, transformer_vton: nn.Module, scheduler: Any) -> None:
        self.transformer_garm, self.transformer_vton, self.scheduler = transformer_garm, transformer_vton, scheduler

    @torch.no_grad()
    def __call__(self, cloth_image: Tensor, guidance_scale: float, generator: Any, num_inference_steps: int, **rest: Any) -> Any:
        garment = torch.cat([torch.zeros_like(cloth_image), cloth_image]) if guidance_scale > 1 else cloth_image
        tokens = self.transformer_garm.patches(garment).flatten(2).mT
        keys = [block.attn.to_k(tokens) for block in self.transformer_garm.transformer_blocks]
        latents = start(self.scheduler, tuple(cloth_image.shape), generator, num_inference_steps)
        latents = denoise(self.scheduler, latents, lambda rows, timestep: self.transformer_vton(rows, timestep, keys), guidance_scale)
        return SimpleNamespace(images=latents)


def fitdit() -> Case:
    """`attn` with generated queries and keys [generated, garment]; rows [uncond, cond]."""
    torch.manual_seed(0)
    pipe = StableDiffusion3TryOnPipeline(SD3Transformer2DModel().eval(), sharpen(SD3Transformer2DModel()), ddim())

    def own(ask: Ask) -> dict[str, Any]:
        doubled = (PATCH * ask.size[0], PATCH * ask.size[1])
        return {"cloth_image": each(ask.batch, 4, *doubled, seed=ask.seed + 3), "guidance_scale": 2.0 if ask.guided else 1.0}

    return Case(pipe, own, sizes=SIZES, facts={"layers": 2})


class PixelUNet(UNet2DConditionModel):
    """A UNet whose up blocks first look at a low-resolution picture's features of their own level (PASD)."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        widths = self.config.block_out_channels[::-1]
        self.features = nn.ModuleList([nn.Conv2d(3, 24, 3, padding=1) for _ in widths])
        self.picture: Tensor | None = None
        for level, block in enumerate(self.up_blocks):
            looking = Transformer2DModel(2, 16, in_channels=widths[0], norm_num_groups=8, cross_attention_dim=24)
            block.pixel_attentions = nn.ModuleList([looking])
            block.register_forward_pre_hook(lambda _, args, kwargs, level=level: self.look(level, args, kwargs), with_kwargs=True)

    def look(self, level: int, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        states = kwargs["hidden_states"]  # [B, C, h, w]
        small = nn.functional.adaptive_avg_pool2d(self.picture, states.shape[-2:])
        keys = self.features[level](small).flatten(2).transpose(1, 2)  # [B, h * w, 24]
        looking = self.up_blocks[level].pixel_attentions[0]
        return args, {**kwargs, "hidden_states": looking(states, encoder_hidden_states=keys, return_dict=False)[0]}

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, picture: Tensor, **rest: Any) -> Any:
        self.picture = picture
        try:
            return super().forward(sample, timestep, encoder_hidden_states, **rest)
        finally:
            self.picture = None


class StableDiffusionControlNetPipeline(DiffusionPipeline):
    """PASD's, which bears this name: text as usual, the low-resolution picture through `pixel_attentions`, large ones in tiles."""

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
        tile: int = 256,
        **rest: Any,
    ) -> Any:
        text, picture = prompt_embeds, image
        if guidance_scale > 1:
            text, picture = torch.cat([negative_prompt_embeds, text]), torch.cat([picture] * 2)

        def predict(rows: Tensor, timestep: Tensor) -> Tensor:
            made = torch.zeros_like(rows)
            for top in range(0, rows.shape[2], tile):
                for left in range(0, rows.shape[3], tile):
                    part = (slice(None), slice(None), slice(top, top + tile), slice(left, left + tile))
                    made[part] = self.unet(rows[part], timestep, text, picture=picture[part], return_dict=False)[0]
            return made

        latents = start(self.scheduler, (len(image), 4, *image.shape[-2:]), generator, num_inference_steps)
        return SimpleNamespace(images=denoise(self.scheduler, latents, predict, guidance_scale))


def pasd() -> Case:
    """Layers `up_blocks.0/1.pixel_attentions.0.transformer_blocks.0.attn2` with h * w keys each, on the half grid and on the latent's"""
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

    return Case(ready(StableDiffusionControlNetPipeline(denoiser, ddim())), own, sizes=SIZES, facts={"text_tokens": TEXT, "layers": 2})
