"""Text-to-image transformers of diffusers, small and random: what each one's attention holds is the prompt and the picture.

The prompts are given as embeddings of TEXT tokens, so no text encoder is needed; without an autoencoder a latent pixel is 8 image pixels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from ask import Ask, Case
from joint import flow
from parts import absent, ddim, each, ready, sharpen, t5_text, t5_tokenizer
from torch import Tensor, nn

TEXT = 9
SECOND = 5  # tokens of a second encoder
HEADS = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16}


def named(name: str) -> Any:
    """A class of diffusers, or the test is skipped."""
    cls = getattr(diffusers, name, None)
    return absent(name, "it came later") if cls is None else cls


def within(name: str, *modules: str) -> Any:
    """A class that diffusers keeps in one of these modules, or the test is skipped."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"diffusers.{module}"), name)
        except (ImportError, AttributeError):
            continue
    return absent(name, f"none of {', '.join(modules)} has it")


def lively(model: nn.Module) -> nn.Module:
    """Whatever starts at zero or at nearly zero (gates, output layers) is made random, so that layers differ."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and parameter.std() < 0.03:
                parameter.normal_(0.0, max(parameter.shape[-1], 1) ** -0.5)
    return sharpen(model)


def case(pipeline: str, transformer: str, config: dict[str, Any], own: Callable[[Ask], dict[str, Any]], scheduler: Any = None,
         parts: tuple[str, ...] = ("vae", "text_encoder", "tokenizer"), **rest: Any) -> Case:  # fmt: skip
    """A pipeline around a small transformer."""
    cls, denoiser = named(pipeline), named(transformer)
    torch.manual_seed(0)
    pipe = cls(transformer=lively(denoiser(**config)), scheduler=scheduler or flow(), **dict.fromkeys(parts), **rest)

    def asked(ask: Ask) -> dict[str, Any]:
        return {**ask.canvas(), **own(ask)}

    return Case(ready(pipe), asked, facts={"text_tokens": TEXT})


def embedded(ask: Ask, masked: str = "", lengths: tuple[int, ...] = (TEXT,), width: int = 32, names: tuple[str, str] = ("", "")) -> Any:
    """`prompt_embeds`, and the negative ones where guidance is asked for; `masked` names the masks, `lengths` what counts of each row."""
    out: dict[str, Any] = {}
    for seed, prefix in enumerate(("", "negative_") if ask.guided else ("",)):
        out[f"{prefix}prompt_embeds{names[0]}"] = each(ask.batch, TEXT, width, seed=ask.seed + 11 + seed)
        if masked:
            counts = torch.tensor([lengths[row % len(lengths)] for row in range(ask.batch)])
            out[f"{prefix}{masked}{names[1]}"] = (torch.arange(TEXT)[None] < counts[:, None]).long()
    return out


def guided(ask: Ask) -> dict[str, float]:
    return {"guidance_scale": 4.0 if ask.guided else 1.0}


MASK = "prompt_attention_mask"


def sana() -> Case:
    """attn1 is linear attention, without scaled_dot_product_attention; attn2 reads the prompt, of which two tokens are padding."""
    config = {**HEADS, "in_channels": 4, "out_channels": 4, "num_cross_attention_heads": 2, "cross_attention_head_dim": 16,
              "cross_attention_dim": 32, "caption_channels": 32, "sample_size": 8}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask, MASK, (TEXT - 2,)), **guided(ask), "use_resolution_binning": False, "negative_prompt": None}

    made = case("SanaPipeline", "SanaTransformer2DModel", config, own)
    return Case(made.pipe, made.own, ((128, 128), (128, 96)))  # a latent pixel is 32 image pixels


def pixart() -> Case:
    config = {**HEADS, "in_channels": 4, "out_channels": 8, "cross_attention_dim": 32, "caption_channels": 32, "sample_size": 8}

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask, MASK, (TEXT - 2, TEXT)), **guided(ask), "use_resolution_binning": False, "negative_prompt": None}

    return case("PixArtSigmaPipeline", "PixArtTransformer2DModel", config, own, ddim())


def lumina_next() -> Case:
    """Guided rows are [cond, uncond]; two query heads share a key head."""
    config = {"sample_size": 8, "in_channels": 4, "hidden_size": 32, "num_layers": 2, "num_attention_heads": 4, "num_kv_heads": 2,
              "cross_attention_dim": 32, "multiple_of": 16}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask, MASK, (TEXT - 2, TEXT)), **guided(ask)}

    return case("LuminaPipeline", "LuminaNextDiT2DModel", config, own)


def hunyuan_dit() -> Case:
    """Keys [CLIP's text, T5's text]."""
    config = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "patch_size": 2, "sample_size": 8, "hidden_size": 32,
              "num_layers": 2, "cross_attention_dim": 32, "cross_attention_dim_t5": 32, "pooled_projection_dim": 16, "text_len": TEXT,
              "text_len_t5": TEXT, "activation_fn": "gelu-approximate"}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        out = {**embedded(ask, MASK), **embedded(ask, MASK, names=("_2", "_2")), **guided(ask), "use_resolution_binning": False}
        out.update({name: states.flip(1) for name, states in out.items() if name.endswith("embeds_2")})
        return out

    parts = ("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    return case("HunyuanDiTPipeline", "HunyuanDiT2DModel", config, own, ddim(), parts, requires_safety_checker=False)


def kandinsky3() -> Case:
    """Of each block's attentions the first looks at the block itself, also where it has as many pixels as the prompt has tokens."""
    torch.manual_seed(0)
    denoiser = named("Kandinsky3UNet")(time_embedding_dim=16, groups=8, attention_head_dim=8, layers_per_block=2,
                              block_out_channels=(16, 32, 32, 32), cross_attention_dim=32, encoder_hid_dim=32)  # fmt: skip
    pipe = named("Kandinsky3Pipeline")(tokenizer=None, text_encoder=None, unet=lively(denoiser), scheduler=ddim(), movq=None)

    def own(ask: Ask) -> dict[str, Any]:
        out = {**ask.canvas(), **guided(ask), **embedded(ask)}
        for prefix in ("", "negative_") if ask.guided else ("",):
            states = out[f"{prefix}prompt_embeds"]
            out[f"{prefix}prompt_embeds"] = torch.cat([states, states[:, :3].flip(1)], 1)  # 12: the pixels of its smallest grid, 4 x 3
            out[f"{prefix}attention_mask"] = torch.ones(ask.batch, TEXT + 3)
        return out

    return Case(ready(pipe), own, ((128, 128), (256, 192)))


def aura_flow() -> Case:
    """Eight registers, text, generated; joint blocks, then single ones."""
    config = {"sample_size": 8, "in_channels": 4, "out_channels": 4, "num_mmdit_layers": 1, "num_single_dit_layers": 1,
              "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32, "caption_projection_dim": 32,
              "pos_embed_max_size": 64}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask, MASK), **guided(ask)}

    return case("AuraFlowPipeline", "AuraFlowTransformer2DModel", config, own)


def cogview3() -> Case:
    config = {**HEADS, "in_channels": 4, "out_channels": 4, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 8,
              "pos_embed_max_size": 8, "sample_size": 8}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask), **guided(ask)}

    return case("CogView3PlusPipeline", "CogView3PlusTransformer2DModel", config, own, ddim())


def cogview4() -> Case:
    """Guided: two calls a step, named by the pipeline."""
    config = {**HEADS, "in_channels": 4, "out_channels": 4, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 8,
              "pos_embed_max_size": 8, "sample_size": 8, "rope_axes_dim": (8, 8)}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask), **guided(ask)}

    return case("CogView4Pipeline", "CogView4Transformer2DModel", config, own)


def prx(text: bool = False) -> Case:
    """Only the picture asks; the prompts of a batch have lengths of their own. With `text` one call of T5 reads them and negative ones."""
    config = {"in_channels": 4, "context_in_dim": 32, "hidden_size": 32, "num_heads": 2, "depth": 2, "axes_dim": [8, 8]}

    def own(ask: Ask) -> dict[str, Any]:
        if text:
            return {"prompt": ask.prompts, "negative_prompt": "a plain dog", **guided(ask), "use_resolution_binning": False}
        out = {**embedded(ask, MASK, (TEXT - 2, TEXT)), **guided(ask), "use_resolution_binning": False}
        return {name: value.bool() if name.endswith("mask") else value for name, value in out.items()}

    if not text:
        return case("PRXPipeline", "PRXTransformer2DModel", config, own)
    reads = {"text_encoder": t5_text(32), "tokenizer": t5_tokenizer()}
    made = case("PRXPipeline", "PRXTransformer2DModel", config, own, parts=("vae",), **reads)
    made.pipe.text_preprocessor = SimpleNamespace(clean_text=str)  # its own asks for ftfy
    return made


def nucleus() -> Case:
    """Only the picture asks, keys [generated, text]; two query heads share a key head. Guided: two calls a step, conditional first."""
    config = {"in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 4,
              "num_key_value_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": (4, 6, 6), "moe_enabled": False,
              "dense_moe_strategy": "all_dense"}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask, "prompt_embeds_mask", (TEXT - 2, TEXT)), **guided(ask)}

    return case("NucleusMoEImagePipeline", "NucleusMoEImageTransformer2DModel", config, own, parts=("vae", "text_encoder", "processor"))


def hunyuan_image(letters: bool = False) -> Case:
    """[generated, text]; with `letters` a second encoder's text. Guided by a guider: two calls a step, named by the pipeline."""
    guider = named("AdaptiveProjectedMixGuidance")
    config = {**HEADS, "in_channels": 4, "out_channels": 4, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 32,
              "text_embed_2_dim": 32 if letters else None, "rope_axes_dim": (8, 8)}  # fmt: skip
    made = case("HunyuanImagePipeline", "HunyuanImageTransformer2DModel", config, lambda ask: {},
                parts=("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))  # fmt: skip
    made.pipe.vae_scale_factor = 8  # that of its autoencoder is 32

    def own(ask: Ask) -> dict[str, Any]:
        made.pipe.register_modules(guider=guider(enabled=ask.guided))
        pairs = Ask(ask.batch, ask.size, True, ask.steps, ask.seed)
        second = embedded(pairs, "prompt_embeds_mask", (SECOND, TEXT), names=("_2", "_2"))
        out = {**ask.canvas(), **embedded(pairs, "prompt_embeds_mask", (TEXT - 2, TEXT)), **second}
        return out if letters else {name: value * 0 if "_2" in name else value for name, value in out.items()}

    return Case(made.pipe, own)


def hidream() -> Case:
    """[generated, T5's text, Llama's last, Llama's of the layer]; other pictures than square ones are padded to 24 tokens."""
    config = {"patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
              "num_attention_heads": 2, "caption_channels": [32, 32], "text_emb_dim": 16, "axes_dims_rope": (4, 6, 6),
              "max_resolution": (8, 12), "llama_layers": [0, 1], "num_routed_experts": 2, "num_activated_experts": 1}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        out: dict[str, Any] = guided(ask)
        for seed, prefix in enumerate(("", "negative_") if ask.guided else ("",)):
            out[f"{prefix}prompt_embeds_t5"] = each(ask.batch, TEXT, 32, seed=ask.seed + 11 + seed)
            layers: Tensor = each(ask.batch, 2, SECOND, 32, seed=ask.seed + 21 + seed)
            out[f"{prefix}prompt_embeds_llama3"] = layers.transpose(0, 1).contiguous()
            out[f"{prefix}pooled_prompt_embeds"] = each(ask.batch, 16, seed=ask.seed + 31 + seed)
        return out

    names = [f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3", "_4")]
    made = case("HiDreamImagePipeline", "HiDreamImageTransformer2DModel", config, own, parts=("vae", *names))
    made.pipe.default_sample_size = 8  # it makes pictures of about this area, whatever is asked
    return made


def lumina2(lengths: tuple[int, ...] = (TEXT - 2,)) -> Case:
    """[text without its padding, generated]; two query heads share a key head. Guided: two calls a step, conditional first."""
    config = {"sample_size": 8, "in_channels": 4, "hidden_size": 32, "num_layers": 2, "num_refiner_layers": 1, "num_attention_heads": 4,
              "num_kv_heads": 2, "multiple_of": 16, "axes_dim_rope": (4, 2, 2), "axes_lens": (32, 32, 32), "cap_feat_dim": 32}  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {**embedded(ask, MASK, lengths), **guided(ask)}

    return case("Lumina2Pipeline", "Lumina2Transformer2DModel", config, own)
