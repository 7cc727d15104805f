"""Small pipelines of the kinds that the census tells apart: the parts of one, put together as another class."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import pipelines
import torch
from adapters import vision
from ask import Ask, Case
from parts import absent, as_pil, autoencoder, clip_text, clip_tokenizer, ddim, masks, pictures, ready, unet


def named(name: str) -> Any:
    """A pipeline of diffusers, which an older one may lack."""
    cls = getattr(diffusers, name, None)
    return cls if cls is not None else absent(name, "not there")


def asked(pipe: Any, base: Any, offered: dict[str, Any]) -> Any:
    """A call of `pipe`: what `base` was asked, and pictures, as far as its call takes them."""
    takes = inspect.signature(pipe.__call__).parameters

    def own(ask: Ask) -> dict[str, Any]:
        picture = (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2
        everything = {"image": picture, "control_image": picture, "mask_image": masks(ask.batch, ask.size), "strength": 1.0, **offered}
        return {name: value for name, value in {**base(ask), **everything}.items() if name in takes}

    return own


def like_sd15(name: str, adapted: bool = True, parts: dict[str, Any] | None = None, encoder: bool = False, **offered: Any) -> Case:
    """A pipeline of SD1.5's parts, with an IP-Adapter of 257 tokens or without; `encoder`: it encodes its image itself."""
    cls = named(name)
    case = pipelines.ip_adapter("full", encoder=encoder) if adapted else pipelines.sd15()
    taken = set(inspect.signature(cls.__init__).parameters)
    made = {**case.pipe.components, "requires_safety_checker": False, **(parts or {})}
    pipe = ready(cls(**{part: value for part, value in made.items() if part in taken}))
    return Case(pipe, asked(pipe, case.own, offered), facts=case.facts)


def controlled(name: str, adapted: bool = True) -> Case:
    """With a ControlNet made of the UNet."""
    from diffusers import ControlNetModel

    torch.manual_seed(2)
    net = ControlNetModel.from_unet(unet(), conditioning_embedding_out_channels=(16, 32, 64))  # as small as the autoencoder makes it
    return like_sd15(name, adapted, {"controlnet": net})


def sketched(adapted: bool = False) -> Case:
    """With a T2I-Adapter."""
    from diffusers import T2IAdapter

    torch.manual_seed(2)
    net = T2IAdapter(in_channels=3, channels=[16, 32], num_res_blocks=1, downscale_factor=4, adapter_type="full_adapter")
    return like_sd15("StableDiffusionAdapterPipeline", adapted, {"adapter": net})


def image_variation() -> Case:
    """Cross-attention to one token of CLIP's."""
    torch.manual_seed(0)
    pipe = named("StableDiffusionImageVariationPipeline")(
        vae=autoencoder(), image_encoder=vision(), unet=unet(), scheduler=ddim(), safety_checker=None,
        feature_extractor=pipelines.image_processor(), requires_safety_checker=False,
    )  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {"image": pictures(ask.batch, (32, 32), seed=ask.seed + 1), **ask.canvas(), **ask.guidance()}

    return Case(ready(pipe), own)


def kandinsky22(name: str) -> Case:
    """Another pipeline of Kandinsky 2.2's decoder."""
    case = pipelines.kandinsky22()
    pipe = ready(named(name)(**case.pipe.components))
    call = asked(pipe, case.own, {})
    return Case(pipe, lambda ask: {**call(ask), "image": as_pil(pictures(ask.batch, ask.size, seed=ask.seed + 1))})


def marigold() -> Case:
    """The picture's latent beside the depth's, and an empty prompt."""
    torch.manual_seed(0)
    pipe = named("MarigoldDepthPipeline")(
        unet=unet(in_channels=8), vae=autoencoder(), scheduler=ddim(), text_encoder=clip_text(32), tokenizer=clip_tokenizer(),
        default_denoising_steps=1, default_processing_resolution=0,
    )  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {"image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2}

    return Case(ready(pipe), own)
