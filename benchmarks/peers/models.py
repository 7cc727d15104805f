"""The pipelines that tracers are measured on: diffusers' own around random weights, and what each is asked."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.measuring.weights import filled
from benchmarks.pipeline.traced import NARROW, SD15

PROMPT, NEGATIVE, WORDS = "red shirt on blue cat", "dog", ("red", "shirt", "on", "blue", "cat")
SIDE = 64  # of the latents and of DAAM's maps
TEXT = 128  # Flux 2 Klein's text tokens, which are given as embeddings
KLEIN: dict[str, Any] = {  # published: 5 and 20 layers, 24 heads of 128, whose text is as wide as three of its layers
    "num_layers": 1, "num_single_layers": 3, "num_attention_heads": 8, "attention_head_dim": 64, "axes_dims_rope": (16,) * 4,
    "joint_attention_dim": 1536, "guidance_embeds": False,
}  # fmt: skip


class Model:
    """A pipeline of random weights: `asked` are the keywords of its call, `tokens` the text tokens whose maps are compared."""

    guided: bool
    pipe: Any
    tokens: int
    asked: dict[str, Any]

    def __init__(self, section: Section, device: torch.device) -> None:
        self.section = section
        self.build(section.config, device)
        self.pipe.set_progress_bar_config(disable=True)

    def build(self, config: dict[str, Any], device: torch.device) -> None:
        raise NotImplementedError

    def denoise(self) -> Tensor:
        """The latents of one image; the same at every call."""
        side = self.section.side * self.pipe.vae_scale_factor
        return self.pipe(**self.asked, height=side, width=side, num_inference_steps=self.section.steps, output_type="latent",
                         generator=torch.Generator("cpu").manual_seed(1)).images  # fmt: skip


class StableDiffusion(Model):
    """Stable Diffusion 1.5: text enters a UNet in cross-attention; guided, the conditional row last."""

    guided = True

    def build(self, config: dict[str, Any], device: torch.device) -> None:
        from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        width, words = config["cross_attention_dim"], tokenizer()
        text = CLIPTextConfig(vocab_size=len(words), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
                              num_attention_heads=4, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id)  # fmt: skip
        with torch.device("meta"):
            empty: Any = UNet2DConditionModel(sample_size=SIDE, **config)
        unet, encoder = (filled(model, device) for model in (empty.to_empty(device=device), CLIPTextModel(text).to(device)))
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1)
        self.pipe = StableDiffusionPipeline(None, encoder, words, unet, scheduler, None, None, requires_safety_checker=False)
        self.asked, self.tokens = {"prompt": PROMPT, "negative_prompt": NEGATIVE}, len(words(PROMPT).input_ids)


class Klein(Model):
    """Flux 2 Klein: text and picture are one sequence in every layer; distilled, so that it is not guided."""

    guided = False

    def build(self, config: dict[str, Any], device: torch.device) -> None:
        from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel

        blocks: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKLFlux2(**blocks, block_out_channels=(8,) * 4, norm_num_groups=8, layers_per_block=1)  # scales the latents
        parts: dict[str, Any] = {"text_encoder": None, "tokenizer": None, "vae": vae.to(device), "is_distilled": True}
        transformer = filled(Flux2Transformer2DModel(**config).to(device), device)
        self.pipe = Flux2KleinPipeline(FlowMatchEulerDiscreteScheduler(), transformer=transformer, **parts)
        text = torch.randn(1, TEXT, config["joint_attention_dim"], generator=torch.Generator("cpu").manual_seed(2))
        self.asked, self.tokens = {"prompt_embeds": text.to(device), "guidance_scale": 1.0}, TEXT


class Section(NamedTuple):
    """A denoiser, how often it runs, in which pipeline, and whether the last step alone is asked for."""

    config: dict[str, Any]
    steps: int
    rounds: int
    side: int = SIDE
    model: type[Model] = StableDiffusion
    last: bool = False


SECTIONS = {
    "small": Section(NARROW, 4, 5),
    "sd15-full": Section(SD15, 2, 2),
    "klein": Section(KLEIN, 2, 5, model=Klein),
    "klein-last": Section(KLEIN, 2, 5, model=Klein, last=True),
}


def tokenizer() -> Any:
    """CLIP's tokenizer with letters for a vocabulary: every word falls apart into its letters."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    names = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
        (place / "merges.txt").write_text("#version: 0.2\n")
        (place / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}))
        return CLIPTokenizer.from_pretrained(place)
