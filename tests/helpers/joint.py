"""Pipelines whose denoiser is a transformer: text, image and reference share one sequence, and one SDPA call a layer."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch
from ask import Ask, Case
from packaging import version
from parts import (
    VAE_FACTOR,
    absent,
    as_pil,
    autoencoder,
    clip_text,
    clip_tokenizer,
    each,
    pictures,
    pooling_autoencoder,
    ready,
    sharpen,
    t5_text,
    t5_tokenizer,
)
from torch import nn

TEXT = 9  # tokens, where embeddings are given in place of a prompt
REFERENCE = (40, 56)  # pixels; on purpose neither the output's size nor its shape
PATCH = 2 * VAE_FACTOR  # image pixels per token, one way


def flow() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=1.0)


def flux_transformer(guidance_embeds: bool, **config: Any) -> nn.Module:
    """2 layers with separate text and image streams (`transformer_blocks`), 2 with one (`single_transformer_blocks`)."""
    try:
        from diffusers import FluxTransformer2DModel
    except ImportError as error:
        absent("Flux", error)
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=config.pop("in_channels", 4 * 4),
        num_layers=config.pop("num_layers", 2),
        num_single_layers=config.pop("num_single_layers", 2),
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
        **config,
    )
    return sharpen(model)


def embeddings(ask: Ask, negatives: bool, pooled: bool = True) -> dict[str, Any]:
    """Text that is given as embeddings."""
    out = {}
    for seed, prefix in enumerate(("", "negative_") if negatives else ("",)):
        out[f"{prefix}prompt_embeds"] = each(ask.batch, TEXT, 32, seed=ask.seed + 11 + seed)
        if pooled:
            out[f"{prefix}pooled_prompt_embeds"] = each(ask.batch, 32, seed=ask.seed + 21 + seed)
    return out


def flux(distilled: bool = False, words: bool = True) -> Case:
    """Text to image; keys [text, image]. With `words` the prompt goes through a T5 and a CLIP tokenizer: 16 text tokens."""
    from diffusers import FluxPipeline

    torch.manual_seed(0)
    pipe = FluxPipeline(
        scheduler=flow(),
        vae=autoencoder(shift_factor=0.0),
        text_encoder=clip_text(32) if words else None,
        tokenizer=clip_tokenizer() if words else None,
        text_encoder_2=t5_text(32) if words else None,
        tokenizer_2=t5_tokenizer() if words else None,
        transformer=flux_transformer(distilled),
    )

    def own(ask: Ask) -> dict[str, Any]:
        if ask.guided and "true_cfg_scale" not in inspect.signature(pipe.__call__).parameters:
            absent("Flux with a negative prompt", "no true_cfg_scale")
        if not words:
            text = embeddings(ask, negatives=ask.guided)
        else:
            text = {"prompt": ask.prompts, "max_sequence_length": 16}
            if ask.guided:
                text["negative_prompt"] = ask.negative
        scale = {"true_cfg_scale": 4.0} if ask.guided else {}
        return {**text, **scale, **ask.canvas(), "guidance_scale": 3.5}

    return Case(ready(pipe), own, facts={"order": "text, image", "text_tokens": 16 if words else TEXT})


def flux_kontext(distilled: bool = True) -> Case:
    """A reference image of 5 by 7 tokens; keys [text 9, image, reference 35]. Guided: two calls a step, conditional first."""
    try:
        from diffusers import FluxKontextPipeline
    except ImportError as error:
        absent("Flux Kontext", error)
    torch.manual_seed(0)
    pipe = FluxKontextPipeline(
        scheduler=flow(),
        vae=autoencoder(shift_factor=0.0),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=flux_transformer(distilled),
    )

    def own(ask: Ask) -> dict[str, Any]:
        return {
            **embeddings(ask, negatives=ask.guided),
            **ask.canvas(),
            "image": (pictures(ask.batch, REFERENCE, seed=ask.seed + 1) + 1) / 2,
            "true_cfg_scale": 4.0 if ask.guided else 1.0,
            "guidance_scale": 2.5,
            "max_area": ask.size[0] * ask.size[1],
            "_auto_resize": False,
        }

    grid = (REFERENCE[0] // PATCH, REFERENCE[1] // PATCH)
    return Case(ready(pipe), own, facts={"order": "text, image, reference", "text_tokens": TEXT, "grid": grid})


def qwen_transformer(**config: Any) -> nn.Module:
    """2 layers with separate text and image streams."""
    try:
        from diffusers import QwenImageTransformer2DModel
    except ImportError as error:
        absent("Qwen-Image", error)
    torch.manual_seed(0)
    model = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=4 * 4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(4, 6, 6),
        **config,
    )
    return sharpen(model)


def qwen_image_edit(padded: bool = False) -> Case:
    """A reference image of 37 by 28 tokens; keys [text 9, image, reference]. Guided: two calls a step, conditional first.

    The pipeline resizes any reference to about 1024 by 1024 pixels, so the autoencoder here is a cheap pooling by 16. With
    `padded` the texts are of unequal lengths and their padding is masked, which diffusers does since 0.37.
    """
    try:
        from diffusers import QwenImageEditPipeline
    except ImportError as error:
        absent("Qwen-Image-Edit", error)
    if padded and version.parse(diffusers.__version__) < version.parse("0.37.0"):
        absent("Qwen-Image-Edit with masked padding", "came with 0.37.0")
    transformer = qwen_transformer()
    pipe = QwenImageEditPipeline(
        scheduler=flow(), vae=pooling_autoencoder(), text_encoder=None, tokenizer=None, processor=None, transformer=transformer
    )

    def own(ask: Ask) -> dict[str, Any]:
        out = {**embeddings(ask, negatives=ask.guided, pooled=False), **ask.canvas()}
        for key in [key for key in out if key.endswith("prompt_embeds")]:
            mask = torch.ones(ask.batch, TEXT, dtype=torch.long)
            for image in range(ask.batch if padded else 0):
                mask[image, TEXT - 4 + 2 * (image % 3) :] = 0
            out[f"{key}_mask"] = mask
        reference = as_pil(pictures(ask.batch, (64, 48), seed=ask.seed + 1))
        return {**out, "image": reference, "true_cfg_scale": 4.0 if ask.guided else 1.0}

    facts = {"order": "text, image, reference", "text_tokens": TEXT, "grid": (37, 28), "patch": 32}
    return Case(ready(pipe), own, sizes=((256, 256), (256, 192)), facts=facts)


def sd3(words: bool = False, dual: bool = False) -> Case:
    """Keys [image, text]; guided rows are [uncond, cond]. With `words` the text is CLIP's 77 tokens, then T5's 16.

    `dual` is SD3.5: in the first layer an `attn2` looks at the image alone, whatever its name promises elsewhere.
    """
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
        **({"dual_attention_layers": (0,), "qk_norm": "rms_norm"} if dual else {}),
    )
    pipe = StableDiffusion3Pipeline(
        transformer=sharpen(transformer),
        scheduler=flow(),
        vae=autoencoder(shift_factor=0.0),
        text_encoder=clip_text(16, projection=16) if words else None,
        tokenizer=clip_tokenizer() if words else None,
        text_encoder_2=clip_text(16, projection=16) if words else None,
        tokenizer_2=clip_tokenizer() if words else None,
        text_encoder_3=t5_text(32) if words else None,
        tokenizer_3=t5_tokenizer() if words else None,
    )

    def own(ask: Ask) -> dict[str, Any]:
        if not words:
            return {**embeddings(ask, negatives=True), **ask.canvas(), **ask.guidance()}
        return {**ask.text(), "max_sequence_length": 16}

    return Case(ready(pipe), own, facts={"order": "image, text", "text_tokens": 77 + 16 if words else TEXT})
