"""Small parts of the pipelines under test: tokenizers with a vocabulary of their own, text encoders, autoencoders, UNets.

All weights are random and no file is fetched. Queries are scaled up so that the attention is far from uniform: with a fresh
model's nearly constant maps a wrong row or a swapped canvas would hide inside any tolerance.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

WORDS = ("a", "red", "blue", "shirt", "cat", "dog", "and", "on", "the", "plain")  # one token each; other words fall into pieces
PROMPTS = ("a red shirt and a blue cat", "the dog on a striped shirt", "a plain red coat")
NEGATIVE = "a plain dog"
VAE_FACTOR = 4  # image pixels per latent pixel, one way


def absent(what: str, why: object) -> NoReturn:
    """Skip the test: the installed diffusers is older than this pipeline."""
    import diffusers

    pytest.skip(f"{what} is not in diffusers {diffusers.__version__}: {why}")


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal values, the same on every device."""
    values = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")
    return values.to(torch.get_default_device())


def each(batch: int, *shape: int, seed: int = 0) -> Tensor:
    """`noise` for every image of a batch, so that image i does not depend on the size of the batch."""
    return torch.stack([noise(*shape, seed=1000 * seed + image) for image in range(batch)])


def pictures(batch: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Images in [-1, 1], [B, 3, h, w]."""
    return each(batch, 3, *size, seed=seed).clamp(-1, 1)


def masks(batch: int, size: tuple[int, int]) -> Tensor:
    """One rectangle an image, 1 inside, [B, 1, h, w]; it moves with the image's number."""
    out = torch.zeros(batch, 1, *size)
    for image in range(batch):
        top, left = size[0] // 8 * (1 + image % 3), size[1] // 8 * (1 + image % 2)
        out[image, :, top : top + size[0] // 2, left : left + size[1] // 2] = 1
    return out


def as_pil(images: Tensor) -> list[Any]:
    from PIL import Image

    values = ((images + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(value) for value in values]


def generators(count: int, seed: int) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(1000 * seed + image) for image in range(count)]


def sharpen(model: nn.Module, factor: float = 4.0) -> nn.Module:
    """Scale what queries are made of; where a query is normalised, the norm's weight is what counts."""
    with torch.no_grad():
        for module in model.modules():
            if not hasattr(module, "to_q"):
                continue
            if getattr(getattr(module, "norm_q", None), "weight", None) is not None:
                module.norm_q.weight.mul_(factor / 2)
            elif module.to_q is not None:
                module.to_q.weight.mul_(factor)
    return model.eval()


@cache
def folder() -> Path:
    """A folder with the vocabularies, written once per run and removed at its end."""
    keep = tempfile.TemporaryDirectory(prefix="i2am-vocabulary-")
    path = Path(keep.name)
    _kept.append(keep)
    return path


_kept: list[tempfile.TemporaryDirectory] = []


@cache
def clip_tokenizer() -> Any:
    """A CLIPTokenizer whose byte pairs know WORDS and no other word."""
    from transformers import CLIPTokenizer

    # the printable stand-ins of bytes: enough of them for lower-case English
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = letters + [letter + "</w>" for letter in letters]
    merges = []
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            vocabulary.append(pieces[0])
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    place = folder() / "clip"
    place.mkdir(exist_ok=True)
    (place / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in dict.fromkeys(merges))]
    (place / "merges.txt").write_text("\n".join(lines) + "\n")
    (place / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}))
    return CLIPTokenizer.from_pretrained(place)


@cache
def t5_tokenizer() -> Any:
    """A fast T5 tokenizer (Unigram with leading-space marks) over the same words and single letters."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers import T5TokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    pieces += [("▁" + word, -3.0) for word in WORDS if len(word) > 1] + [("▁a", -3.0)]
    pieces += [(letter, -8.0) for letter in letters]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    place = folder() / "t5"
    place.mkdir(exist_ok=True)
    tokenizer.save(str(place / "tokenizer.json"))
    config = {"model_max_length": 512, "tokenizer_class": "T5Tokenizer", "extra_ids": 0, "additional_special_tokens": []}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    return T5TokenizerFast.from_pretrained(place, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def clip_text(width: int = 32, projection: int | None = None) -> nn.Module:
    """A CLIPTextModel, or with `projection` a CLIPTextModelWithProjection."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=projection or width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModelWithProjection(config) if projection else CLIPTextModel(config)
    return lively(model)


def t5_text(width: int = 32) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(t5_tokenizer()), d_model=width, d_kv=8, d_ff=width, num_layers=2, num_heads=2)
    return lively(T5EncoderModel(config))


def lively(model: nn.Module) -> nn.Module:
    """Transformers start at a deviation of 0.02: at these widths all tokens would look alike."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, max(parameter.shape[-1], 1) ** -0.5)
    return model.eval()


def autoencoder(channels: int = 4, **config: Any) -> nn.Module:
    """An AutoencoderKL that shrinks an image by VAE_FACTOR."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        **config,
    )
    return model.eval()


def unet(**config: Any) -> nn.Module:
    """Cross-attention on two grids (the latent's and half of it) and in the middle block: 7 `attn2` layers."""
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,  # that many heads: diffusers keeps the old name
        "norm_num_groups": 8,
        **config,
    }
    return sharpen(UNet2DConditionModel(**config))


def ddim(**config: Any) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1, **config)


def ready(pipe: Any) -> Any:
    """No progress bar, and on the device tests run on."""
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(torch.get_default_device())


def pooling_autoencoder(channels: int = 4, factor: int = 16) -> nn.Module:
    """What QwenImageEditPipeline asks of its video autoencoder: means of factor by factor pixels, and nearest pixels back."""
    from types import SimpleNamespace

    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class PoolingAutoencoder(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, z_dim: int, temperal_downsample: tuple[bool, ...], latents_mean: list[float], latents_std: list[float]) -> None:
            super().__init__()
            self.temperal_downsample = temperal_downsample  # diffusers' spelling; 2 ** its length is the factor
            self.colours = nn.Conv2d(3, z_dim, 1)

        def encode(self, images: Tensor) -> Any:  # [B, 3, 1, h, w]
            small = nn.functional.avg_pool2d(images[:, :, 0], 2 ** len(self.temperal_downsample))
            return SimpleNamespace(latents=self.colours(small * 8)[:, :, None])

    return PoolingAutoencoder(channels, (True,) * (factor.bit_length() - 1), [0.0] * channels, [1.0] * channels).eval()
