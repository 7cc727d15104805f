"""Pipelines that write a picture's tokens into the prompt, or into the keys of every layer: OmniGen, GLM-Image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case
from joint import flow
from parts import as_pil, pictures, ready, t5_tokenizer
from prompted import TEXT, embedded, guided, lively, named
from torch import Tensor, nn

SHOWN = ((32, 48), (48, 16))  # two pictures' sizes in pixels: 2 x 3 and 3 x 1 tokens
GRIDS = ((2, 3), (3, 1))


def eightfold() -> nn.Module:
    """An AutoencoderKL that shrinks an image by 8."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(block_out_channels=(4,) * 4, **blocks, layers_per_block=1, latent_channels=4, norm_num_groups=2).eval()


class Transforms:
    """torchvision's part in OmniGen's processor, for where it is not installed."""

    @staticmethod
    def Compose(steps: list[Any]) -> Any:
        def run(picture: Any) -> Any:
            for step in steps:
                picture = step(picture)
            return picture

        return run

    @staticmethod
    def Lambda(function: Any) -> Any:
        return function

    @staticmethod
    def ToTensor() -> Any:
        import numpy

        return lambda picture: torch.from_numpy(numpy.array(picture)).permute(2, 0, 1) / 255

    @staticmethod
    def Normalize(mean: list[float], std: list[float], inplace: bool) -> Any:
        return lambda picture: (picture - mean[0]) / std[0]


def omnigen(count: int = 1, prompts: tuple[str, ...] = ("a red", "a cat"), endings: tuple[str, ...] = ("dog",)) -> Case:
    """`count` pictures in each prompt, between what it begins and ends with. Rows [prompt and pictures, neither, pictures]; without a
    picture [prompt, nothing]."""
    cls = named("OmniGenPipeline")
    from diffusers.pipelines.omnigen import pipeline_omnigen, processor_omnigen

    if not hasattr(pipeline_omnigen, "OmniGenMultiModalProcessor"):
        processor_omnigen.transforms = Transforms
        pipeline_omnigen.OmniGenMultiModalProcessor = processor_omnigen.OmniGenMultiModalProcessor
    torch.manual_seed(0)
    transformer = named("OmniGenTransformer2DModel")(
        in_channels=4, hidden_size=32, num_attention_heads=2, num_key_value_heads=2, intermediate_size=32, num_layers=2, pad_token_id=0,
        vocab_size=len(t5_tokenizer()), max_position_embeddings=512, original_max_position_embeddings=512, pos_embed_max_size=16,
        rope_scaling={"short_factor": [1.0] * 8, "long_factor": [1.0] * 8}, time_step_dim=32,
    )  # fmt: skip
    pipe = cls(transformer=lively(transformer), scheduler=flow(), vae=eightfold(), tokenizer=t5_tokenizer())
    pipe.multimodal_processor.text_tokenizer = by_words  # its own negative prompt is long, and would be spelled

    def own(ask: Ask) -> dict[str, Any]:
        places = " and ".join(f"<img><|image_{number + 1}|></img>" for number in range(count))
        asked = [f"{prompts[row % len(prompts)]} {places} {endings[row % len(endings)]}" for row in range(ask.batch)]
        shown = [as_pil(pictures(ask.batch, SHOWN[number], seed=ask.seed + number)) for number in range(count)]
        images = {"input_images": [list(row) for row in zip(*shown)]} if count else {}
        return {"prompt": asked, **images, **ask.canvas(), "guidance_scale": 2.0}

    return Case(ready(pipe), own)


def by_words(text: str) -> Any:
    """A token a word."""
    return SimpleNamespace(input_ids=[2 + sum(map(ord, word)) % 20 for word in text.split()])


def glm_image(count: int = 1) -> Case:
    """Keys [pictures, text, generated]. Guided: two calls a step, conditional first, of which the second sees no picture."""
    transformer = named("GlmImageTransformer2DModel")
    torch.manual_seed(0)
    denoiser = transformer(in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, text_embed_dim=32,
                           time_embed_dim=16, condition_dim=8, prior_vq_quantizer_codebook_size=32)  # fmt: skip
    vae = eightfold()
    vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    pipe = named("GlmImagePipeline")(tokenizer=None, processor=None, text_encoder=None, vision_language_encoder=None, vae=vae,
                                     transformer=lively(denoiser), scheduler=flow())  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        rows, columns = ask.size[0] // 16, ask.size[1] // 16
        out = {**embedded(ask), **guided(ask), **ask.canvas(), "prior_token_ids": ids(ask.batch, rows * columns, ask.seed)}
        if count:
            shown = [as_pil(pictures(ask.batch, SHOWN[number], seed=ask.seed + number)) for number in range(count)]
            grids = torch.tensor([[1, *grid] for grid in GRIDS[:count]])
            total = int(grids.prod(1).sum())
            out |= {"image": [list(row) for row in zip(*shown)], "source_image_grid_thw": [grids] * ask.batch,
                    "prior_token_image_ids": list(ids(ask.batch, total, ask.seed + 1))}  # fmt: skip
        return out

    return Case(ready(pipe), own, facts={"text_tokens": TEXT})


def ids(batch: int, count: int, seed: int) -> Tensor:
    """Tokens of the prior."""
    return torch.randint(0, 32, (batch, count), generator=torch.Generator("cpu").manual_seed(seed))
