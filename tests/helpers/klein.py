"""Flux 2 and Klein: single blocks with one matrix for queries, keys, values and an MLP, and references that all rows of a batch share."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from ask import Ask, Case, Size
from fluxes import TALL, WIDE, of_diffusers
from joint import embeddings, flow
from parts import as_pil, masks, pictures, ready, sharpen
from reading import chat_tokenizer, reader
from torch import nn


def widened(model: nn.Module, factor: float = 3.0) -> nn.Module:
    """Sharper queries where their projection is one matrix with others, as in Flux 2's single blocks, by the norm behind it."""
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "to_qkv_mlp_proj"):
                module.norm_q.weight.mul_(factor)
    return sharpen(model)


def flux2_transformer(joint: int = 32, **config: Any) -> nn.Module:
    """1 layer with separate streams and 2 with one, whose projection holds the queries, the keys, the values and an MLP."""
    (cls,) = of_diffusers("Flux2Transformer2DModel")
    config = {"in_channels": 16, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
              "joint_attention_dim": joint, "timestep_guidance_channels": 16, "axes_dims_rope": (4, 4, 4, 4), **config}  # fmt: skip
    return widened(cls(**config))


@cache
def flux2_autoencoder() -> nn.Module:
    """The autoencoder of Flux 2 and its relatives, which shrinks a picture by VAE_FACTOR."""
    (cls,) = of_diffusers("AutoencoderKLFlux2")
    torch.manual_seed(1)
    model = cls(block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
                layers_per_block=1, latent_channels=4, norm_num_groups=4)  # fmt: skip
    return model.eval()


def flux2(name: str = "Flux2Pipeline", references: tuple[Size, ...] = (TALL, WIDE), text: bool = False, **config: Any) -> Case:
    """Flux 2 and Klein with references that all rows share; guided in two calls, which Flux2Pipeline and Klein KV are not. With `text`
    three states of what reads the prompt stand side by side."""
    (cls,) = of_diffusers(name)
    torch.manual_seed(0)
    distilled = {} if name == "Flux2Pipeline" else {"is_distilled": name.endswith("KVPipeline")}
    reads = {"text_encoder": reader() if text else None, "tokenizer": chat_tokenizer() if text else None}
    transformer = flux2_transformer(96 if text else 32, guidance_embeds=name == "Flux2Pipeline", **config)
    pipe = cls(scheduler=flow(), vae=flux2_autoencoder(), transformer=transformer, **reads, **distilled)
    pipe.system_message = "a plain red answer"

    def own(ask: Ask) -> dict[str, Any]:
        if text:
            out = {"prompt": ask.prompts, "max_sequence_length": 64, "text_encoder_out_layers": (0, 1, 2), **ask.canvas()}
            return out if name.endswith("KVPipeline") else {**out, **ask.guidance()}
        out = {**embeddings(ask, ask.guided and name == "Flux2KleinPipeline", pooled=False), **ask.canvas()}
        if references:
            out["image"] = [as_pil(pictures(1, size, seed=ask.seed + 31 + place))[0] for place, size in enumerate(references)]
        return out if name.endswith("KVPipeline") else {**out, **ask.guidance()}

    return Case(ready(pipe), own, sizes=((64, 64), (64, 48)))


def klein_inpaint(reference: bool) -> Case:
    """The picture that is painted into is a reference too; `reference` adds one more."""
    (cls,) = of_diffusers("Flux2KleinInpaintPipeline")
    torch.manual_seed(0)
    pipe = cls(scheduler=flow(), vae=flux2_autoencoder(), text_encoder=None, tokenizer=None, transformer=flux2_transformer(
        guidance_embeds=False))  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        out = {**embeddings(ask, ask.guided, pooled=False), **ask.canvas(), **ask.guidance(), "strength": 1.0}
        out |= {"image": (pictures(ask.batch, ask.size, seed=ask.seed + 31) + 1) / 2, "mask_image": masks(ask.batch, ask.size)}
        if reference:
            out["image_reference"] = (pictures(ask.batch, TALL, seed=ask.seed + 32) + 1) / 2
        return out

    return Case(ready(pipe), own, sizes=((48, 48), (64, 48)))
