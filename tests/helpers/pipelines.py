"""Real diffusers pipelines, tiny and random, behind one face: `case.pipe(**case.kwargs(batch=3, size=(64, 48), guided=True))`.

`size` is the image's (height, width) in pixels; `case.sizes` are a square and a 4:3 one that the pipeline takes as they are.
A pipeline that the installed diffusers lacks skips the test and says so. Here the UNets; the transformers are next door and
can be imported from here as well.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from adapters import GRID, TOKENS, adapter, vision
from ask import Ask, Case
from joint import flux, flux_kontext, qwen_image_edit, sd3
from parts import absent, as_pil, autoencoder, clip_text, clip_tokenizer, ddim, each, masks, noise, pictures, ready, sharpen, unet
from torch import nn

__all__ = [
    "Case",
    "flux",
    "flux_kontext",
    "instruct_pix2pix",
    "ip_adapter",
    "kandinsky22",
    "paint_by_example",
    "qwen_image_edit",
    "sd2",
    "sd3",
    "sd15",
    "sdxl",
    "upscaler",
]


def stable_diffusion(denoiser: nn.Module, scheduler: Any = None, **config: Any) -> Case:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=clip_text(32),
        tokenizer=clip_tokenizer(),
        unet=denoiser,
        scheduler=scheduler or ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **config,
    )

    return Case(ready(pipe), Ask.text, facts={"text_tokens": 77, "layers": 7})


def sd15(scheduler: Any = None) -> Case:
    """Text to image: 77 text keys in each of 7 `attn2` layers, 2 heads each."""
    torch.manual_seed(0)
    return stable_diffusion(unet(), scheduler)


def sd2() -> Case:
    """As SD2: linear projections, and head counts that differ between the grids (2 and 4)."""
    torch.manual_seed(0)
    return stable_diffusion(unet(attention_head_dim=(2, 4), use_linear_projection=True))


def sdxl() -> Case:
    """Two text encoders whose features lie side by side (77 keys), pooled text and sizes as added conditions."""
    from diffusers import StableDiffusionXLPipeline

    torch.manual_seed(0)
    denoiser = unet(
        cross_attention_dim=32 + 24,
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    )
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=clip_text(32),
        text_encoder_2=clip_text(24, projection=24),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=denoiser,
        scheduler=ddim(),
        add_watermarker=False,
    )

    return Case(ready(pipe), Ask.text, facts={"text_tokens": 77})


def paint_by_example() -> Case:
    """One reference token in every `attn2` layer; guided rows are [uncond, cond]."""
    try:
        from diffusers import PaintByExamplePipeline
        from diffusers.pipelines.paint_by_example import PaintByExampleImageEncoder
    except ImportError:
        try:
            from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder, PaintByExamplePipeline
        except ImportError as error:
            absent("Paint-by-Example", error)
    from transformers import CLIPVisionConfig

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        projection_dim=32,
        image_size=32,
        patch_size=8,
        num_hidden_layers=5,
        num_attention_heads=2,
    )
    pipe = PaintByExamplePipeline(
        vae=autoencoder(),
        image_encoder=PaintByExampleImageEncoder(vision, proj_size=32).eval(),
        unet=unet(in_channels=9),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    def own(ask: Ask) -> dict[str, Any]:
        return {
            "example_image": pictures(ask.batch, (32, 32), seed=ask.seed + 1),
            "image": pictures(ask.batch, ask.size, seed=ask.seed + 2),
            "mask_image": masks(ask.batch, ask.size),
            **ask.guidance(),
        }

    return Case(ready(pipe), own, facts={"reference_tokens": 1, "layers": 7})


def ip_adapter(*variants: str, images: int = 1, masked: bool = False, encoder: bool = False) -> Case:
    """SD1.5 with IP-Adapters ("plain", "plus", "full"): in each of 7 `attn2` layers SDPA call 0 is the text.

    Calls >= 1 are one per adapter (its `images` side by side in the keys), or when masked one per adapter and image. diffusers
    gives all images of a batch the same references. With `encoder` the pipeline gets images and encodes them itself.
    """
    variants = variants or ("full",)
    case = sd15()
    if "image_encoder_folder" not in inspect.signature(case.pipe.load_ip_adapter).parameters:
        absent("loading several IP-Adapters, from memory", "load_ip_adapter takes one, from a file")
    torch.manual_seed(1)
    pipe, count = case.pipe, len(variants)
    if encoder:
        pipe.register_modules(image_encoder=vision().to(torch.get_default_device()), feature_extractor=image_processor())
    # low_cpu_mem_usage would build on the meta device; the weights here are smaller than its bookkeeping
    pipe.load_ip_adapter(
        [adapter(variant, pipe.unet) for variant in variants],
        [""] * count,
        [""] * count,
        image_encoder_folder=None,
        low_cpu_mem_usage=False,
    )

    def own(ask: Ask) -> dict[str, Any]:
        out = ask.text()
        if encoder:
            out["ip_adapter_image"] = [as_pil(pictures(images, (32, 32), seed=ask.seed + 3 + i)) for i in range(count)]
        else:
            rows = 2 if ask.guided else 1  # [uncond, cond]
            out["ip_adapter_image_embeds"] = [
                noise(2, images, *(() if variant == "plain" else (1 + GRID[0] * GRID[1],)), 32, seed=ask.seed + 3 + i)[-rows:]
                for i, variant in enumerate(variants)
            ]
        if masked:
            inside = masks(images, ask.size).transpose(0, 1)  # [1, images, h, w]
            out["cross_attention_kwargs"] = {"ip_adapter_masks": [inside] * count}
        return out

    return Case(pipe, own, facts={**case.facts, "reference_tokens": [TOKENS[variant] for variant in variants], "grid": GRID})


def image_processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def kandinsky22() -> Case:
    """The decoder: 32 reference tokens, added to the keys of every attention in front of its own: keys [reference, image]."""
    from diffusers import KandinskyV22Pipeline, UNet2DConditionModel, VQModel

    torch.manual_seed(0)
    denoiser = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=8,  # noise and variance
        addition_embed_type="image",
        encoder_hid_dim=24,
        encoder_hid_dim_type="image_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
    )
    movq = VQModel(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        num_vq_embeddings=8,
        norm_num_groups=4,
        vq_embed_dim=4,
    )
    pipe = KandinskyV22Pipeline(unet=sharpen(denoiser), scheduler=ddim(), movq=movq.eval())

    def own(ask: Ask) -> dict[str, Any]:
        return {
            "image_embeds": each(ask.batch, 24, seed=ask.seed + 1),
            "negative_image_embeds": each(ask.batch, 24, seed=ask.seed + 2),
            **ask.canvas(),
            **ask.guidance(),
        }

    return Case(ready(pipe), own, facts={"reference_tokens": 32})


def instruct_pix2pix() -> Case:
    """The reference is stacked on the channels: no reference tokens. Guided rows are three: [text, image, none]."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    torch.manual_seed(0)
    pipe = StableDiffusionInstructPix2PixPipeline(
        vae=autoencoder(),
        text_encoder=clip_text(32),
        tokenizer=clip_tokenizer(),
        unet=unet(in_channels=8),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

    def own(ask: Ask) -> dict[str, Any]:
        text = {"prompt": ask.prompts, "negative_prompt": ask.negative, **ask.guidance()}
        return {**text, "image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2, "image_guidance_scale": 1.5}

    return Case(ready(pipe), own, facts={"text_tokens": 77, "reference_tokens": 0})


def upscaler() -> Case:
    """The x4 upscaler: the small image is stacked on the channels, so no reference tokens; `size` is the small image's."""
    from diffusers import DDPMScheduler, StableDiffusionUpscalePipeline

    torch.manual_seed(0)
    pipe = StableDiffusionUpscalePipeline(
        vae=autoencoder(scaling_factor=0.08333),  # this model's own; any other warns
        text_encoder=clip_text(32),
        tokenizer=clip_tokenizer(),
        unet=unet(in_channels=7, num_class_embeds=1000),
        low_res_scheduler=DDPMScheduler(),
        scheduler=ddim(),
        max_noise_level=350,
    )

    def own(ask: Ask) -> dict[str, Any]:
        text = {"prompt": ask.prompts, "negative_prompt": ask.negative, **ask.guidance()}
        return {**text, "image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2, "noise_level": 20}

    return Case(ready(pipe), own, sizes=((16, 16), (16, 12)), facts={"text_tokens": 77, "reference_tokens": 0})
