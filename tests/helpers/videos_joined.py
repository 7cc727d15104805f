"""More pipelines that make videos, most of them with video and prompt in one sequence."""

from __future__ import annotations

from typing import Any

import torch
from ask import Ask
from joint import flow
from parts import as_pil, each, lively, pictures, sharpen, t5_text, t5_tokenizer
from torch import nn
from videos import SIZES, VideoCase, one_each, ours, picture, pipeline, texts, wan_autoencoder, wan_transformer

TEXT = 9  # tokens


def denoiser(name: str, **config: Any) -> nn.Module:
    """A transformer of diffusers, small and sharp."""
    torch.manual_seed(0)
    return sharpen(ours(name)(**config))


HEADS = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1}
HUNYUAN = {**HEADS, "in_channels": 4, "out_channels": 4, "num_single_layers": 1, "num_refiner_layers": 1, "patch_size": 2,
           "patch_size_t": 1, "guidance_embeds": False, "text_embed_dim": 32, "pooled_projection_dim": 8,
           "rope_axes_dim": (4, 6, 6)}  # fmt: skip


def hunyuan_autoencoder() -> nn.Module:
    """Eight pixels one way and four frames a latent cell."""
    torch.manual_seed(3)
    return ours("AutoencoderKLHunyuanVideo")(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()


def siglip() -> dict[str, Any]:
    """An image encoder without a CLS token: four by four patches."""
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(5)
    config = SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, image_size=32, patch_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    return {"image_encoder": lively(SiglipVisionModel(config)), "feature_extractor": SiglipImageProcessor(size={"height": 32, "width": 32})}


def hunyuan_texts(ask: Ask) -> dict[str, Any]:
    """A prompt of nine tokens, two of them padding, and pooled ones; guided: with a negative prompt."""
    out = {}
    for seed, prefix in enumerate(("", "negative_") if ask.guided else ("",)):
        out[f"{prefix}prompt_embeds"] = each(ask.batch, TEXT, 32, seed=ask.seed + 11 + seed)
        out[f"{prefix}pooled_prompt_embeds"] = each(ask.batch, 8, seed=ask.seed + 15 + seed)
        out[f"{prefix}prompt_attention_mask"] = (torch.arange(TEXT) < TEXT - 2).long().expand(ask.batch, -1)
    return {**out, "true_cfg_scale": 5.0 if ask.guided else 1.0, "guidance_scale": 1.0}


def hunyuan_video(kind: str | None = None) -> VideoCase:
    """[video, prompt]; `kind` is how a picture enters: "token_replace" puts it in the first frame, "latent_concat" in the channels."""
    channels = {"in_channels": 9} if kind == "latent_concat" else {}
    transformer = denoiser("HunyuanVideoTransformer3DModel", **{**HUNYUAN, "image_condition_type": kind, **channels})
    name = "HunyuanVideoImageToVideoPipeline" if kind else "HunyuanVideoPipeline"
    pipe = pipeline(name, transformer=transformer, vae=hunyuan_autoencoder(), scheduler=flow())

    def own(ask: Ask) -> dict[str, Any]:
        return {**hunyuan_texts(ask), "image": pictures(ask.batch, ask.size, seed=ask.seed + 1) if kind else None}

    return VideoCase(pipe, own, SIZES)


def framepack() -> VideoCase:
    """[history, the picture, a frame before, video, SigLIP's 16 tokens, prompt of 7]."""
    config = {**HUNYUAN, "has_image_proj": True, "image_proj_dim": 16, "has_clean_x_embedder": True, "patch_size": 2}
    transformer = denoiser("HunyuanVideoFramepackTransformer3DModel", **config)
    pipe = pipeline("HunyuanVideoFramepackPipeline", transformer=transformer, vae=hunyuan_autoencoder(), scheduler=flow(), **siglip())

    def own(ask: Ask) -> dict[str, Any]:
        return {**hunyuan_texts(ask), "image": picture(ask), "latent_window_size": 3}

    return VideoCase(pipe, own, SIZES)


def hunyuan_video15(image: bool = True) -> VideoCase:
    """[video, SigLIP's 16 tokens, 3 of one prompt, 7 of the other, padding]; without a picture 16 more of padding.

    The guider calls the model twice, conditional first."""
    guidance = ours("ClassifierFreeGuidance")
    torch.manual_seed(3)
    vae = ours("AutoencoderKLHunyuanVideo15")(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, spatial_compression_ratio=8, temporal_compression_ratio=4
    ).eval()
    config = {**HEADS, "num_layers": 2, "num_refiner_layers": 1, "in_channels": 9, "out_channels": 4, "text_embed_dim": 32,
              "text_embed_2_dim": 12, "image_embed_dim": 16, "rope_axes_dim": (4, 6, 6), "target_size": 32}  # fmt: skip
    pipe = pipeline(
        "HunyuanVideo15ImageToVideoPipeline" if image else "HunyuanVideo15Pipeline",
        transformer=denoiser("HunyuanVideo15Transformer3DModel", **config),
        vae=vae,
        scheduler=flow(),
        guider=guidance(guidance_scale=5.0),
        **(siglip() if image else {}),
    )
    pipe.vision_num_semantic_tokens = 16

    def own(ask: Ask) -> dict[str, Any]:
        pipe.guider = guidance(guidance_scale=5.0 if ask.guided else 1.0)
        out = {}
        for seed, prefix in enumerate(("", "negative_") if ask.guided else ("",)):
            for which, length, width in (("", TEXT, 32), ("_2", 5, 12)):
                out[f"{prefix}prompt_embeds{which}"] = each(ask.batch, length, width, seed=ask.seed + length + seed)
                out[f"{prefix}prompt_embeds_mask{which}"] = (torch.arange(length) < length - 2).long().expand(ask.batch, -1)
        return {**out, "image": picture(ask), "height": None, "width": None} if image else out

    return VideoCase(pipe, own, SIZES)


def ltx_autoencoder() -> nn.Module:
    """Sixteen pixels one way and four frames a latent cell."""
    torch.manual_seed(3)
    four = dict.fromkeys(("block_out_channels", "decoder_block_out_channels"), (8,) * 4)
    four |= dict.fromkeys(("spatio_temporal_scaling", "decoder_spatio_temporal_scaling"), (True, True, False, False))
    five = dict.fromkeys(("layers_per_block", "decoder_layers_per_block"), (1,) * 5)
    return ours("AutoencoderKLLTXVideo")(latent_channels=8, patch_size=4, patch_size_t=1, **four, **five).eval()


def ltx(name: str = "LTXImageToVideoPipeline") -> VideoCase:
    """attn1: the first frame was given; of `LTXConditionPipeline` also two frames of another moment, in front of the video."""
    config = {**HEADS, "num_layers": 2, "in_channels": 8, "out_channels": 8, "cross_attention_dim": 32, "caption_channels": 32}
    transformer = denoiser("LTXVideoTransformer3DModel", **config)
    parts = {} if name != "LTXPipeline" else {"text_encoder": t5_text(32), "tokenizer": t5_tokenizer()}
    pipe = pipeline(name, transformer=transformer, vae=ltx_autoencoder(), scheduler=flow(), **parts)
    conditions = name == "LTXConditionPipeline"

    def own(ask: Ask) -> dict[str, Any]:
        if parts:
            return {"prompt": ask.prompts, "negative_prompt": ask.negative, "max_sequence_length": 16, **ask.guidance()}
        out = {}
        for seed, prefix in enumerate(("", "negative_") if ask.guided else ("",)):
            out[f"{prefix}prompt_embeds"] = each(ask.batch, TEXT, 32, seed=ask.seed + 11 + seed)
            out[f"{prefix}prompt_attention_mask"] = (torch.arange(TEXT) < TEXT - 2).long().expand(ask.batch, -1)
        given: dict[str, Any] = {"image": one_each(ask)}
        if conditions:
            from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition

            given = {"conditions": [LTXVideoCondition(image=picture(ask), frame_index=0),
                                    LTXVideoCondition(image=picture(ask, 2), frame_index=4)]}  # fmt: skip
        return {**out, **given, **ask.guidance()}

    return VideoCase(pipe, own, ((32, 32), (64, 32)))


def sana_video() -> VideoCase:
    """attn2 looks at the prompt; the first frame was given. [uncond, cond]."""
    config = {**HEADS, "num_layers": 2, "num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "cross_attention_dim": 32,
              "caption_channels": 32, "rope_max_seq_len": 32}  # fmt: skip
    transformer = denoiser("SanaVideoTransformer3DModel", **config)
    pipe = pipeline("SanaImageToVideoPipeline", transformer=transformer, vae=wan_autoencoder(), scheduler=flow())

    def own(ask: Ask) -> dict[str, Any]:
        out = texts(ask, TEXT)
        masks = {name.replace("embeds", "attention_mask"): torch.ones(ask.batch, TEXT) for name in out}
        more = {"frames": 9, "num_frames": None, "use_resolution_binning": False, "negative_prompt": None}
        return {**out, **masks, **ask.guidance(), **more, "image": pictures(ask.batch, ask.size, seed=ask.seed + 1)}

    return VideoCase(pipe, own, ((32, 32), (64, 32)))


def cogvideox() -> VideoCase:
    """[prompt of 16, video]; [uncond, cond]."""
    config = {**HEADS, "num_layers": 2, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": 32,
              "sample_width": 8, "sample_height": 8, "sample_frames": 9, "max_text_seq_length": 16,
              "use_rotary_positional_embeddings": True}  # fmt: skip
    transformer = denoiser("CogVideoXTransformer3DModel", **config)
    parts = {"scheduler": ours("CogVideoXDDIMScheduler")(), "text_encoder": t5_text(32), "tokenizer": t5_tokenizer()}
    pipe = pipeline("CogVideoXPipeline", transformer=transformer, **parts)

    def own(ask: Ask) -> dict[str, Any]:
        return {"prompt": ask.prompts, "negative_prompt": ask.negative, "max_sequence_length": 16, **ask.guidance()}

    return VideoCase(pipe, own, ((64, 64), (64, 48)))


COSMOS = {**HEADS, "num_layers": 2, "in_channels": 17, "out_channels": 16, "text_embed_dim": 32, "adaln_lora_dim": 4,
          "max_size": (4, 32, 32), "concat_padding_mask": False, "extra_pos_embed_type": None}  # fmt: skip


def cosmos2() -> VideoCase:
    """attn1: the first frames were given; two calls, conditional first."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    transformer = denoiser("CosmosTransformer3DModel", **COSMOS)
    scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
    pipe = pipeline(
        "Cosmos2VideoToWorldPipeline", transformer=transformer, vae=wan_autoencoder(), scheduler=scheduler, safety_checker=Nothing()
    )

    def own(ask: Ask) -> dict[str, Any]:
        return {**texts(ask, TEXT), **ask.guidance(), "image": one_each(ask)}

    return VideoCase(pipe, own, SIZES)


def cosmos25() -> VideoCase:
    """attn1: the last frames of a video, two of the latent, were given."""
    transformer = denoiser("CosmosTransformer3DModel", **COSMOS)
    scheduler = ours("UniPCMultistepScheduler")(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=1.0)
    pipe = pipeline(
        "Cosmos2_5_PredictBasePipeline", transformer=transformer, vae=wan_autoencoder(), scheduler=scheduler, safety_checker=Nothing()
    )

    def own(ask: Ask) -> dict[str, Any]:
        return {**texts(ask, TEXT), **ask.guidance(), "video": as_pil(pictures(9, ask.size, seed=ask.seed + 1))}

    return VideoCase(pipe, own, SIZES)


def anyflow() -> VideoCase:
    """attn1: the first frame was given; [uncond, cond]."""
    pipe = pipeline(
        "AnyFlowPipeline",
        transformer=wan_transformer("AnyFlowTransformer3DModel"),
        vae=wan_autoencoder(),
        scheduler=ours("FlowMapEulerDiscreteScheduler")(),
    )

    def own(ask: Ask) -> dict[str, Any]:
        latents = each(1, 1, 16, ask.size[0] // 8, ask.size[1] // 8, seed=ask.seed + 1)
        return {**texts(ask, TEXT), **ask.guidance(), "video_latents": latents}

    return VideoCase(pipe, own, SIZES)


def kandinsky5() -> VideoCase:
    """self_attention: the first frame was given; cross_attention looks at the prompt. Two calls, conditional first."""
    config = {"in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": 32, "in_text_dim2": 8, "time_dim": 8, "model_dim": 32, "ff_dim": 32,
              "num_text_blocks": 1, "num_visual_blocks": 2, "axes_dims": (4, 6, 6), "visual_cond": True}  # fmt: skip
    transformer = denoiser("Kandinsky5Transformer3DModel", **config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "modulation" in name:  # they start at zero, and so would what text does to the video
                parameter.normal_(0.0, 0.5)
        for block in transformer.visual_transformer_blocks:
            for part in (block.self_attention, block.cross_attention):
                part.query_norm.weight.mul_(2.0)
    pipe = pipeline("Kandinsky5I2VPipeline", transformer=transformer, vae=hunyuan_autoencoder(), scheduler=flow())

    def own(ask: Ask) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for seed, prefix in enumerate(("", "negative_") if ask.guided else ("",)):
            out[f"{prefix}prompt_embeds_qwen"] = each(ask.batch, TEXT, 32, seed=ask.seed + 11 + seed)
            out[f"{prefix}prompt_embeds_clip"] = each(ask.batch, 8, seed=ask.seed + 15 + seed)
            out[f"{prefix}prompt_cu_seqlens"] = torch.arange(ask.batch + 1, dtype=torch.int32) * TEXT
        return {**out, **ask.guidance(), "image": picture(ask)}

    return VideoCase(pipe, own, SIZES)


class Nothing(nn.Module):
    """A safety checker that finds all safe."""

    dtype = torch.float32

    @property
    def device(self) -> Any:
        return torch.get_default_device()

    def check_text_safety(self, text: str) -> bool:
        return True

    def check_video_safety(self, video: Any) -> Any:
        return video


def helios() -> VideoCase:
    """attn1: [history, the picture, a frame before, video]."""
    config = {**HEADS, "num_layers": 2, "text_dim": 32, "freq_dim": 32, "ffn_dim": 32, "rope_dim": (4, 6, 6)}
    transformer = denoiser("HeliosTransformer3DModel", **config)
    scheduler = ours("HeliosScheduler")(stages=1, stage_range=[0, 1], gamma=1 / 3)
    pipe = pipeline("HeliosPipeline", transformer=transformer, vae=wan_autoencoder(), scheduler=scheduler)

    def own(ask: Ask) -> dict[str, Any]:
        return {**texts(ask, TEXT), **ask.guidance(), "image": picture(ask), "num_frames": 9, "num_latent_frames_per_chunk": 3,
                "history_sizes": [4, 2, 1], "generator": torch.Generator("cpu").manual_seed(ask.seed)}  # fmt: skip

    return VideoCase(pipe, own, SIZES)


def allegro() -> VideoCase:
    """attn2 looks at the prompt."""
    config = {**HEADS, "attention_head_dim": 24, "num_layers": 2, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 48,
              "caption_channels": 32, "sample_height": 8, "sample_width": 8, "sample_frames": 3}  # fmt: skip
    transformer = denoiser("AllegroTransformer3DModel", **config)
    pipe = pipeline("AllegroPipeline", transformer=transformer, vae=None, scheduler=ours("DDIMScheduler")(), text_encoder=t5_text(32),
                    tokenizer=t5_tokenizer())  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {"prompt": ask.prompts, "negative_prompt": ask.negative, "max_sequence_length": 16, "clean_caption": False, **ask.guidance()}

    return VideoCase(pipe, own, SIZES)
