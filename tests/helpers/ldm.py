"""Stand-ins for the LDM code base (StableVITON, DCI-VTON, the original Paint-by-Example): attention without processors.

Written from descriptions, with that family's names of modules and arguments. `size` is the latent's: at (64, 48) the grids are the
real ones of a 512 by 384 image (64x48, 32x24, 16x12, and 8x6 in the middle), at the tests' (16, 12) they are a quarter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from ask import Size
from ldm_blocks import Blocks, CrossAttention, Residual, SpatialTransformer
from parts import each, noise
from torch import Tensor, nn

WIDTHS = (8, 16, 16, 16)  # channels of the four levels; the last has no attention outside the middle block
CONTEXT = 12


class Encoder(nn.Module):
    """`input_blocks` 0 to 11 and `middle_block`: cross-attention in blocks 1, 2, 4, 5, 7, 8 and in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 16))
        blocks, self.widths, into = [Blocks(nn.Conv2d(4, WIDTHS[0], 3, padding=1))], [WIDTHS[0]], WIDTHS[0]
        for level, width in enumerate(WIDTHS):
            for _ in range(2):
                attention = [SpatialTransformer(width, CONTEXT)] if level < 3 else []
                blocks.append(Blocks(Residual(into, width), *attention))
                into = width
                self.widths.append(width)
            if level < 3:
                blocks.append(Blocks(nn.Conv2d(width, width, 3, stride=2, padding=1)))
                self.widths.append(width)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = Blocks(Residual(into, into), SpatialTransformer(into, CONTEXT), Residual(into, into))

    def embed(self, timesteps: Tensor) -> Tensor:
        angles = timesteps[:, None] * 0.5 ** torch.arange(0, 8, 2)
        return self.time_embed(torch.cat([angles.sin(), angles.cos()], 1))

    def encode(self, x: Tensor, emb: Tensor, context: Tensor, mask: Tensor | None) -> list[Tensor]:
        outs = []
        for block in self.input_blocks:
            x = block(x, emb, context, mask)
            outs.append(x)
        return [*outs, self.middle_block(x, emb, context, mask)]


class ControlNet(Encoder):
    """Reads the garment; its own attentions are cross-attentions to the same one token."""

    def forward(self, x: Tensor, hint: Tensor, timesteps: Tensor, context: Tensor) -> list[Tensor]:
        return self.encode(x + hint, self.embed(timesteps), context, None)


class UNet(Encoder):
    """15 cross-attentions outside the middle block and 1 in it; with `warps` 9 more, to the control network's features.

    `warp_flow_blks` 0 to 2 work on a quarter of the latent's grid, 3 to 5 on half of it, 6 to 8 on all of it.
    """

    def __init__(self, warps: bool) -> None:
        super().__init__()
        stack, into, blocks = list(self.widths), self.widths[-1], []
        flows: list[nn.Module] = []
        for level, width in reversed(list(enumerate(WIDTHS))):
            for i in range(3):
                if level < 3 and warps:
                    flows.append(SpatialTransformer(into, stack[-1]))
                attention = [SpatialTransformer(width, CONTEXT)] if level < 3 else []
                upsample = [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)] if i == 2 and level else []
                blocks.append(Blocks(Residual(into + stack.pop(), width), *attention, *upsample))
                into = width
        self.output_blocks, self.out = nn.ModuleList(blocks), nn.Conv2d(into, 4, 3, padding=1)
        self.warp_flow_blks = nn.ModuleList(flows)

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor, control: list[Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        emb = self.embed(timesteps)
        *stack, h = self.encode(x, emb, context, mask)
        features = list(control[:-1]) if control else []
        for number, block in enumerate(self.output_blocks):
            feature = features.pop() if features else None
            skip = stack.pop()
            h = h[..., : skip.shape[-2], : skip.shape[-1]]  # upsampling overshoots odd grids
            if feature is not None and number >= 3:
                h = self.warp_flow_blks[number - 3](h, feature.flatten(2).transpose(1, 2))
            h = block(torch.cat([h, skip], 1), emb, context, mask)
        return self.out(h)


class LatentDiffusion(nn.Module):
    """`model.diffusion_model`, and `control_model` for StableVITON, whose conditions are a dict and whose result is a pair."""

    def __init__(self, warps: bool) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = UNet(warps)
        self.control_model = ControlNet() if warps else None
        self.num_timesteps, self.parameterization = 1000, "eps"
        self.betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.alphas_cumprod = (1 - self.betas).cumprod(0)

    def apply_model(self, x: Tensor, t: Tensor, cond: Any) -> Any:
        if self.control_model is None:
            return self.model.diffusion_model(x, timesteps=t, context=cond)
        context, hint = torch.cat(cond["c_crossattn"], 1), torch.cat(cond["c_concat"], 1)
        control = self.control_model(x=x, hint=hint, timesteps=t, context=context)
        return self.model.diffusion_model(x=x, timesteps=t, context=context, control=control), None


class DDIMSampler:
    """Guided: one call on [uncond, cond], or with `two_calls` the conditional call and then the other."""

    def __init__(self, model: LatentDiffusion, two_calls: bool) -> None:
        self.model, self.two_calls = model, two_calls
        self.ddpm_num_timesteps = model.num_timesteps

    def make_schedule(self, ddim_num_steps: int, ddim_discretize: str = "uniform", ddim_eta: float = 0.0, verbose: bool = True) -> None:
        self.ddim_timesteps = torch.arange(0, self.ddpm_num_timesteps, self.ddpm_num_timesteps // ddim_num_steps)[:ddim_num_steps] + 1
        alphas = self.model.alphas_cumprod
        self.ddim_alphas = alphas[self.ddim_timesteps]
        self.ddim_alphas_prev = torch.cat([alphas[:1], self.ddim_alphas[:-1]])

    @torch.no_grad()
    def sample(
        self,
        S: int,
        batch_size: int,
        shape: tuple[int, int, int],
        conditioning: Any = None,
        x_T: Tensor | None = None,
        eta: float = 0.0,
        verbose: bool = True,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Any = None,
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        self.make_schedule(ddim_num_steps=S, ddim_eta=eta, verbose=verbose)
        image = torch.randn(batch_size, *shape) if x_T is None else x_T
        total = len(self.ddim_timesteps)
        for i in range(total):
            index = total - i - 1
            timesteps = torch.full((batch_size,), int(self.ddim_timesteps[index]))
            image, _ = self.p_sample_ddim(
                image,
                conditioning,
                timesteps,
                index=index,
                unconditional_guidance_scale=unconditional_guidance_scale,
                unconditional_conditioning=unconditional_conditioning,
            )
        return image, {}

    @torch.no_grad()
    def p_sample_ddim(
        self,
        x: Tensor,
        c: Any,
        t: Tensor,
        index: int,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Any = None,
    ) -> tuple[Tensor, Tensor]:
        def model(x: Tensor, t: Tensor, c: Any) -> Tensor:
            out = self.model.apply_model(x, t, c)
            return out[0] if isinstance(out, tuple) else out

        if unconditional_conditioning is None or unconditional_guidance_scale == 1.0:
            e_t = model(x, t, c)
        else:
            if self.two_calls:
                cond, uncond = model(x, t, c), model(x, t, unconditional_conditioning)
            else:
                uncond, cond = model(torch.cat([x] * 2), torch.cat([t] * 2), torch.cat([unconditional_conditioning, c])).chunk(2)
            e_t = uncond + unconditional_guidance_scale * (cond - uncond)
        now, before = self.ddim_alphas[index], self.ddim_alphas_prev[index]
        start = (x - (1 - now).sqrt() * e_t) / now.sqrt()
        return before.sqrt() * start + (1 - before).sqrt() * e_t, start


@dataclass
class LdmCase:
    """A model, its sampler and `sampler.sample`'s keywords; the tracer's denoiser is `case.denoiser`."""

    model: LatentDiffusion
    sampler: DDIMSampler
    sizes: tuple[Size, Size] = ((16, 16), (16, 12))
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def denoiser(self) -> nn.Module:
        return self.model.model.diffusion_model

    def kwargs(self, batch: int = 1, size: Size | None = None, guided: bool = True, steps: int = 2, seed: int = 0) -> dict[str, Any]:
        size = size or self.sizes[0]
        cond: Any = each(batch, 1, CONTEXT, seed=seed + 1)
        uncond: Any = noise(1, 1, CONTEXT, seed=999).expand(batch, -1, -1)
        if self.model.control_model is not None:
            hint = each(batch, 4, *size, seed=seed + 2)
            cond, uncond = ({"c_crossattn": [context], "c_concat": [hint]} for context in (cond, uncond))
        return {
            "S": steps,
            "batch_size": batch,
            "shape": (4, *size),
            "conditioning": cond,
            "x_T": each(batch, 4, *size, seed=seed + 3),
            "verbose": False,
            "unconditional_guidance_scale": 5.0 if guided else 1.0,
            "unconditional_conditioning": uncond if guided else None,
        }

    def __call__(self, **options: Any) -> Tensor:
        return self.sampler.sample(**self.kwargs(**options))[0]


def ldm(warps: bool, two_calls: bool) -> LdmCase:
    torch.manual_seed(0)
    model = LatentDiffusion(warps).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, CrossAttention):
            module.to_q.weight.mul_(4)
    return LdmCase(model, DDIMSampler(model, two_calls))


def stable_viton() -> LdmCase:
    """16 one-token cross-attentions, 9 spatial ones (`warp_flow_blks`), 7 more in `control_model`; two calls, conditional first."""
    case = ldm(warps=True, two_calls=True)
    case.facts = {"layers": 16, "warps": 9, "reference_tokens": 1}
    return case


def ldm_paint_by_example() -> LdmCase:
    """16 one-token cross-attentions; one call on [uncond, cond]."""
    case = ldm(warps=False, two_calls=False)
    case.facts = {"layers": 16, "warps": 0, "reference_tokens": 1}
    return case
