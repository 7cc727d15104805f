"""Pipelines that make videos: Wan and what is built like it. Five frames unless said: two of the latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from ask import Ask, Case
from joint import flow
from parts import absent, as_pil, each, generators, lively, pictures, ready, sharpen, t5_text, t5_tokenizer
from torch import Tensor, nn

PROMPT = 512  # tokens: Wan's own code parts the picture's tokens from the last 512
FEATURES = 17  # of the image encoder: a CLS token and four by four
FRAMES = 9  # three of the latent
SIZES = ((32, 32), (64, 48))  # image pixels; sixteen a token, one way


@dataclass
class VideoCase(Case):
    """A pipeline that makes videos: its call has other names for the same things."""

    def kwargs(self, batch: int = 1, size: tuple[int, int] | None = None, guided: bool = True, steps: int = 2, seed: int = 0,
               images_per_prompt: int = 1) -> dict[str, Any]:  # fmt: skip
        ask = Ask(batch, size or self.sizes[0], guided, steps, seed, images_per_prompt)
        common = {"num_inference_steps": steps, "generator": generators(batch, seed), "output_type": "latent"}
        found = {**common, **ask.canvas(), "num_frames": FRAMES, **self.own(ask)}
        return {name: value for name, value in found.items() if value is not None or name == "negative_prompt"}

    def __call__(self, **options: Any) -> Tensor:
        frames = self.pipe(**self.kwargs(**options)).frames
        return torch.cat(frames) if isinstance(frames, list) else frames


def ours(name: str) -> Any:
    """A class of diffusers; the test is skipped where it came later."""
    import diffusers

    return getattr(diffusers, name, None) or absent(name, "it came later")


def wan_autoencoder() -> nn.Module:
    """What Wan's pipelines ask of their autoencoder, cheap: means of eight by eight pixels; the first frame alone, then of four frames."""
    from types import SimpleNamespace

    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class PoolingVideoAutoencoder(ModelMixin, ConfigMixin):
        temperal_downsample = (False, True, True)  # diffusers' spelling

        @register_to_config
        def __init__(self, z_dim: int, latents_mean: list[float], latents_std: list[float], scale_factor_temporal: int = 4,
                     scale_factor_spatial: int = 8) -> None:  # fmt: skip
            super().__init__()
            self.colours = nn.Conv3d(3, z_dim, 1)

        def encode(self, video: Tensor) -> Any:  # [B, 3, frames, h, w]
            padded = torch.cat([video[:, :, :1]] * 3 + [video], 2)
            latents = self.colours(nn.functional.avg_pool3d(padded, (4, 8, 8)) * 8)
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents, sample=lambda generator=None: latents))

        def decode(self, latents: Tensor, return_dict: bool = True) -> Any:
            video = latents[:, :3].repeat_interleave(4, 2)[:, :, 3:]
            return (video.repeat_interleave(8, 3).repeat_interleave(8, 4),)

    torch.manual_seed(3)
    return PoolingVideoAutoencoder(16, [0.0] * 16, [1.0] * 16).eval()


def wan_transformer(name: str = "WanTransformer3DModel", seed: int = 0, **config: Any) -> nn.Module:
    """Two layers, two heads of 16."""
    found = ours(name)
    torch.manual_seed(seed)
    settings = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "rope_max_seq_len": 32,
        **config,
    }
    return sharpen(found(**settings))


def vision() -> dict[str, Any]:
    """An image encoder and what prepares a picture for it: a CLS token and four by four patches."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(5)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=16, image_size=32, patch_size=8, num_hidden_layers=2, num_attention_heads=2)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return {"image_encoder": lively(CLIPVisionModel(config)), "image_processor": processor}


WITH_PICTURE = {"in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 32}


def texts(ask: Ask, length: int, width: int = 32) -> dict[str, Any]:
    """A prompt, and a negative one where the run is guided, as embeddings."""
    out = {"prompt_embeds": each(ask.batch, length, width, seed=ask.seed + 11)}
    if ask.guided:
        out["negative_prompt_embeds"] = each(ask.batch, length, width, seed=ask.seed + 12)
    return out


def picture(ask: Ask, seed: int = 1) -> Any:
    return as_pil(pictures(1, ask.size, seed=ask.seed + seed))[0]


def one_each(ask: Ask) -> list[Any]:
    return as_pil(pictures(ask.batch, ask.size, seed=ask.seed + 1))


def pipeline(name: str, **parts: Any) -> Any:
    """A pipeline of diffusers; every part that is not given is None."""
    import inspect

    found = ours(name)
    known = inspect.signature(found.__init__).parameters
    empty = {key: None for key, value in known.items() if key != "self" and value.default is inspect.Parameter.empty}
    return ready(found(**{**empty, **parts}))


def wan_image_to_video(name: str = "WanImageToVideoPipeline", model: str = "WanTransformer3DModel", last: bool = False) -> VideoCase:
    """attn2 looks at the picture's 17 tokens first, then at the prompt's 512; with `last` at those of two pictures."""
    transformer = wan_transformer(model, **WITH_PICTURE, **({"pos_embed_seq_len": 2 * FEATURES} if last else {}))
    pipe = pipeline(name, transformer=transformer, vae=wan_autoencoder(), scheduler=flow(), **vision())

    def own(ask: Ask) -> dict[str, Any]:
        more = {"last_image": picture(ask, 2)} if last else {}
        return {**texts(ask, PROMPT), **ask.guidance(), "image": picture(ask), **more}

    return VideoCase(pipe, own, SIZES)


def wan_first_frame() -> VideoCase:
    """Wan 2.2's small model: the picture is the first frame of the latent, at time 0."""
    pipe = pipeline(
        "WanImageToVideoPipeline", transformer=wan_transformer(), vae=wan_autoencoder(), scheduler=flow(), expand_timesteps=True
    )

    def own(ask: Ask) -> dict[str, Any]:
        return {**texts(ask, 9), **ask.guidance(), "image": picture(ask)}

    return VideoCase(pipe, own, SIZES)


def wan(second: bool = False, name: str = "WanPipeline", model: str = "WanTransformer3DModel") -> VideoCase:
    """Text to video, 16 tokens of prompt; with `second` another transformer takes over in the middle."""
    more = {"transformer_2": wan_transformer(model, seed=1), "boundary_ratio": 0.5} if second else {}
    pipe = pipeline(name, transformer=wan_transformer(model), vae=wan_autoencoder(), scheduler=flow(), text_encoder=t5_text(32),
                    tokenizer=t5_tokenizer(), **more)  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        return {"prompt": ask.prompts, "negative_prompt": ask.negative, "max_sequence_length": 16, **ask.guidance()}

    return VideoCase(pipe, own, SIZES)


def wan_vace(images: int = 2) -> VideoCase:
    """Pictures in frames of their own, in front of the video; the control branch has them from its first layer on."""
    transformer = wan_transformer("WanVACETransformer3DModel", num_layers=3, vace_layers=[0, 2], vace_in_channels=96)
    pipe = pipeline("WanVACEPipeline", transformer=transformer, vae=wan_autoencoder(), scheduler=flow())

    def own(ask: Ask) -> dict[str, Any]:
        generator = generators(1, ask.seed)[0]  # the pipeline takes no list
        references = [picture(ask, 1 + number) for number in range(images)]
        return {**texts(ask, 9), **ask.guidance(), "reference_images": references or None, "generator": generator}

    return VideoCase(pipe, own, SIZES)


def wan_animate() -> VideoCase:
    """A picture as the first latent frame, which is no frame of the video, and as tokens of an image encoder."""
    transformer = wan_transformer(
        "WanAnimateTransformer3DModel",
        **WITH_PICTURE,
        latent_channels=16,
        motion_encoder_channel_sizes={"4": 16, "8": 16, "16": 16},
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=2,
    )
    pipe = pipeline("WanAnimatePipeline", transformer=transformer, vae=wan_autoencoder(), scheduler=flow(), **vision())

    def own(ask: Ask) -> dict[str, Any]:
        pose, face = (as_pil(pictures(FRAMES, ask.size, seed=ask.seed + seed)) for seed in (31, 32))
        own = {"image": picture(ask), "pose_video": pose, "face_video": face, "segment_frame_length": FRAMES, "num_frames": None}
        return {**texts(ask, PROMPT), **ask.guidance(), **own}

    return VideoCase(pipe, own, SIZES)
