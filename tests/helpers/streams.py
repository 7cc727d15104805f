"""Newer pipelines around one stream or two, each with a text encoder that is a stand-in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ask import Ask, Case
from fluxes import TALL, WIDE, lengths, of_diffusers
from joint import TEXT, embeddings, flow
from klein import flux2_autoencoder
from parts import as_pil, autoencoder, each, pictures, pooling_autoencoder, ready, sharpen, t5_text, t5_tokenizer
from reading import chat_tokenizer, reader
from torch import Tensor, nn

SMALL = {"attention_head_dim": 16, "num_attention_heads": 2}
SIZES = ((48, 48), (64, 48))
READ = 16  # text tokens of a prompt that is read


def spoken(ask: Ask) -> dict[str, Any]:
    """The prompts as text."""
    return {**ask.text(), "max_sequence_length": READ}


def pooling(channels: int = 16, factor: int = 32) -> nn.Module:
    """What LongCat's editing asks of its autoencoder, which shrinks every picture to about 1024 by 1024 pixels."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class Pooling(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, latent_channels: int, block_out_channels: list[int], scaling_factor: float, shift_factor: float) -> None:
            super().__init__()
            self.colours = nn.Conv2d(3, latent_channels, 1)

        def encode(self, images: Tensor) -> Any:
            latents = self.colours(nn.functional.avg_pool2d(images, 2 ** (len(self.config.block_out_channels) - 1)) * 8)
            return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents, sample=lambda generator=None: latents))

    return Pooling(channels, [8] * factor.bit_length(), 1.0, 0.0).eval()


def longcat(edit: bool = False) -> Case:
    """LongCat-Image; edited, the reference has the output's size, and one prompt makes all images of a batch."""
    cls, transformer_cls = of_diffusers("LongCatImageEditPipeline" if edit else "LongCatImagePipeline", "LongCatImageTransformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(in_channels=64, num_layers=1, num_single_layers=1, joint_attention_dim=32, pooled_projection_dim=32,
                                  axes_dims_rope=(4, 4, 8), **SMALL)  # fmt: skip
    pipe = cls(scheduler=flow(), vae=pooling() if edit else autoencoder(16, shift_factor=0.0), text_encoder=reader(),
               tokenizer=chat_tokenizer(), text_processor=Looks(), transformer=sharpen(transformer))  # fmt: skip
    pipe.tokenizer_max_length = READ

    def own(ask: Ask) -> dict[str, Any]:
        if edit:
            picture = as_pil(pictures(1, ask.size, seed=ask.seed + 1))[0]
            return {"prompt": ask.prompts[:1], "negative_prompt": ask.negative and ask.negative[:1], "image": picture,
                    "num_images_per_prompt": ask.batch, **ask.guidance()}  # fmt: skip
        return {**ask.text(), "enable_prompt_rewrite": False, "enable_cfg_renorm": False}

    return Case(ready(pipe), own, sizes=SIZES)


class Looks:
    """A processor of pictures for a reader that does not look at them: one token a picture."""

    merge_size = 1

    def __init__(self) -> None:
        self.image_processor = self

    def __call__(self, images: Any, return_tensors: str) -> dict[str, Tensor]:
        return {"pixel_values": torch.zeros(1, 3), "image_grid_thw": torch.ones(1, 3, dtype=torch.long)}


def bria() -> Case:
    """Bria: [text, generated]; the text is T5's, one prompt at a time."""
    cls, transformer_cls = of_diffusers("BriaPipeline", "BriaTransformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(
        in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=32, axes_dims_rope=(4, 4, 8), **SMALL
    )
    pipe = cls(scheduler=flow(), vae=autoencoder(), text_encoder=t5_text(32), tokenizer=t5_tokenizer(), transformer=sharpen(transformer))
    return Case(ready(pipe), spoken, sizes=SIZES)


def fibo(edit: bool = False) -> Case:
    """Fibo; edited, with two references of their own sizes. Texts are padded to the longest, and the padding is masked."""
    cls, transformer_cls = of_diffusers("BriaFiboEditPipeline" if edit else "BriaFiboPipeline", "BriaFiboTransformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(in_channels=4, num_layers=1, num_single_layers=1, joint_attention_dim=64, text_encoder_dim=32,
                                  axes_dims_rope=(4, 4, 8), **SMALL)  # fmt: skip
    pipe = cls(scheduler=flow(), vae=wan_pooling(), text_encoder=reader(tokenizer=t5_tokenizer()), tokenizer=t5_tokenizer(),
               transformer=sharpen(transformer))  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        out = {**ask.text(), "max_sequence_length": 64}
        if edit:
            out["image"] = [as_pil(pictures(1, size, seed=ask.seed + 31 + place))[0] for place, size in enumerate((TALL, WIDE))]
            out["prompt"] = [f'{{"edit_instruction": "{prompt}"}}' for prompt in ask.prompts]
        return out

    return Case(ready(pipe), own, sizes=((96, 96), (128, 96)))


def wan_pooling() -> nn.Module:
    """What Fibo asks of its video autoencoder, which shrinks a picture by 16."""
    model = pooling_autoencoder(4, 16)
    original = model.encode

    def encode(images: Tensor) -> Any:
        latents = original(images).latents
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=latents))

    model.encode = encode
    return model


def ovis() -> Case:
    """Ovis-Image: [text, generated]; the beginning of a template is cut off."""
    cls, transformer_cls = of_diffusers("OvisImagePipeline", "OvisImageTransformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(in_channels=16, out_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=32,
                                  axes_dims_rope=(4, 4, 8), **SMALL)  # fmt: skip
    pipe = cls(scheduler=flow(), vae=autoencoder(shift_factor=0.0), text_encoder=reader(), tokenizer=chat_tokenizer(),
               transformer=sharpen(transformer))  # fmt: skip
    pipe.system_prompt = "a plain:"
    pipe.user_prompt_begin_id = len(chat_tokenizer()("<|im_start|>user\na plain:")["input_ids"])
    return Case(ready(pipe), lambda ask: {**ask.text(), "max_sequence_length": 64}, sizes=SIZES)


def krea2(text: bool = False) -> Case:
    """Krea 2: [text, generated], 2 key heads for 4 of queries, which its processor repeats."""
    cls, transformer_cls = of_diffusers("Krea2Pipeline", "Krea2Transformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(
        in_channels=16, num_layers=2, attention_head_dim=16, num_attention_heads=4, num_key_value_heads=2, intermediate_size=32,
        timestep_embed_dim=16, text_hidden_dim=32, num_text_layers=2, text_num_attention_heads=2, text_num_key_value_heads=2,
        text_intermediate_size=32, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 6, 6))  # fmt: skip
    pipe = cls(scheduler=flow(), vae=pooling_autoencoder(4, 4), text_encoder=reader() if text else None, tokenizer=chat_tokenizer() if text
               else None, transformer=sharpen(transformer), text_encoder_select_layers=(1, 2))  # fmt: skip
    pipe.prompt_template_encode_start_idx = len(chat_tokenizer()(pipe.prompt_template_encode_prefix)["input_ids"])
    pipe.prompt_template_encode_num_suffix_tokens = len(chat_tokenizer()(pipe.prompt_template_encode_suffix)["input_ids"])

    def own(ask: Ask) -> dict[str, Any]:
        if text:
            return {**ask.text(), "max_sequence_length": 32, **ask.guidance()}
        out = {**ask.canvas(), "guidance_scale": 5.0 if ask.guided else 0.0}
        for seed, prefix in enumerate(("", "negative_")):
            out[f"{prefix}prompt_embeds"] = each(ask.batch, TEXT, 2, 32, seed=ask.seed + 11 + seed)
            out[f"{prefix}prompt_embeds_mask"] = lengths(ask.batch).bool()
        return out

    return Case(ready(pipe), own, sizes=SIZES)


def ernie() -> Case:
    """Ernie-Image: [generated, text]; every prompt is read by itself, and shorter ones are padded behind."""
    cls, transformer_cls = of_diffusers("ErnieImagePipeline", "ErnieImageTransformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(hidden_size=32, num_attention_heads=2, num_layers=2, ffn_hidden_size=32, in_channels=16, out_channels=16,
                                  text_in_dim=32, rope_axes_dim=(4, 6, 6))  # fmt: skip
    with torch.no_grad():
        for module in (transformer.adaLN_modulation[-1], transformer.final_linear):  # which start at zero
            module.weight.normal_(0, 0.2)
    pipe = cls(
        scheduler=flow(), vae=flux2_autoencoder(), text_encoder=reader(), tokenizer=chat_tokenizer(), transformer=sharpen(transformer)
    )
    return Case(ready(pipe), lambda ask: {**ask.text(), "use_pe": False}, sizes=SIZES)


def ideogram4() -> Case:
    """Ideogram 4: [text padded in front, generated]; the unconditional half of guidance is a transformer of its own."""
    cls, transformer_cls = of_diffusers("Ideogram4Pipeline", "Ideogram4Transformer2DModel")
    torch.manual_seed(0)
    config = {"in_channels": 16, "num_layers": 2, "intermediate_size": 32, "adaln_dim": 16, "llm_features_dim": 32,
              "mrope_section": (4, 2, 2), "rope_theta": 1000, **SMALL}  # fmt: skip
    one, other = (sharpen(transformer_cls(**config)) for _ in range(2))
    encoder = reader()
    pipe = cls(scheduler=flow(), vae=flux2_autoencoder(), text_encoder=encoder, tokenizer=chat_tokenizer(), transformer=one,
               unconditional_transformer=other)  # fmt: skip
    pipe._get_text_encoder_hidden_states = lambda encoder, ids, *rest: [encoder(ids).last_hidden_state]

    def own(ask: Ask) -> dict[str, Any]:
        return {"prompt": ask.prompts, **ask.canvas(), "guidance_scale": 3.0, "guidance_schedule": None, "max_sequence_length": 32}

    return Case(ready(pipe), own, sizes=SIZES)


GIST = 8  # tokens of a text that is not long; Fibo 2 crops several references to these grids, by its own table of sizes
FIBO2_GRIDS = ((9, 7), (7, 10))


def fibo2(edit: bool = True) -> Case:
    """Fibo 2: the refiner has [generated, references], the layers the text's gist as well, one of them a cross-attention to the text."""
    cls, transformer_cls = of_diffusers("BriaFibo2Pipeline", "BriaFibo2Transformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(
        in_channels=4, patch_size=2, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, cap_feat_dim=32, injection_layer_ids=(1,),
        perceiver_num_layers=1, min_num_gist_tokens=GIST, max_num_gist_tokens=2 * GIST, gist_step=GIST, gist_min_text_len=TEXT - 2,
        gist_max_text_len=4 * TEXT, axes_dims=(4, 6, 6), axes_lens=(64, 32, 32))  # fmt: skip
    pipe = cls(scheduler=flow(), vae=flux2_autoencoder(), text_encoder=None, processor=None, transformer=sharpen(transformer))
    pipe.default_sample_size = 16

    def own(ask: Ask) -> dict[str, Any]:
        out = {**ask.canvas(), **ask.guidance()}
        if edit:
            out["image"] = [as_pil(pictures(1, size, seed=ask.seed + 31 + place))[0] for place, size in enumerate((TALL, WIDE))]
        for seed, prefix in enumerate(("", "negative_")):
            out[f"{prefix}prompt_embeds"] = each(ask.batch, 2, TEXT, 32, seed=ask.seed + 11 + seed)
            out[f"{prefix}prompt_embeds_mask"] = lengths(ask.batch).bool()
        return out

    return Case(ready(pipe), own, sizes=SIZES)


class Flux3Loop:
    """A loop around Flux 3's transformer, whose own pipeline is put together from blocks: the prompt's call first, as its guider has it."""

    def __init__(self, transformer: nn.Module) -> None:
        self.transformer, self.scheduler = transformer, flow()

    def __call__(self, prompt_embeds: Tensor, references: list[Tensor], latents: Tensor, num_inference_steps: int, size: tuple[int, int],
                 negative_prompt_embeds: Tensor | None = None, **_: Any) -> Any:  # fmt: skip
        self.scheduler.set_timesteps(num_inference_steps)
        ids = torch.cat([places(10 * n + 10, latent.shape[2:]) for n, latent in enumerate(references)])
        rest = {"image_cond_hidden_states": torch.cat([latent.flatten(2).mT for latent in references], 1), "image_cond_ids": ids}
        text = torch.zeros(prompt_embeds.shape[1], 4)
        for step in self.scheduler.timesteps:
            made = [
                self.transformer(latents, states, step.expand(len(latents)) / 1000, places(0, size), text, **rest).sample
                for states in (prompt_embeds, negative_prompt_embeds)
                if states is not None
            ]
            latents = self.scheduler.step(made[0] if len(made) == 1 else made[1] + 3 * (made[0] - made[1]), step, latents)[0]
        return SimpleNamespace(images=latents)


def places(number: int, size: Any) -> Tensor:
    return torch.cartesian_prod(torch.tensor([float(number)]), *(torch.arange(float(side)) for side in size), torch.zeros(1))


def flux3() -> Case:
    """Flux 3: one block for each kind of tokens by itself, and two over [text, generated, references]."""
    (cls,) = of_diffusers("Flux3Transformer2DModel")
    torch.manual_seed(0)
    model = cls(in_channels=16, cond_in_channels=16, num_layers=1, num_single_layers=2, joint_attention_dim=32, timestep_channels=16,
                axes_dims_rope=(4, 4, 4, 4), **SMALL)  # fmt: skip
    pipe = Flux3Loop(sharpen(model))

    def own(ask: Ask) -> dict[str, Any]:
        size = (ask.size[0] // 8, ask.size[1] // 8)
        return {**embeddings(ask, negatives=ask.guided, pooled=False), "size": size, "latents": each(ask.batch, size[0] * size[1], 16),
                "references": [each(ask.batch, 16, *grid, seed=5) for grid in FIBO2_GRIDS]}  # fmt: skip

    case = Case(pipe, own, sizes=SIZES)
    return case
