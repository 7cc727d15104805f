"""Pipelines laid out like Flux: the text and every picture are one sequence, and positions say which picture a token belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from adapters import plain, weight
from ask import Ask, Case, Size
from joint import TEXT, embeddings, flow, flux_transformer
from parts import (
    VAE_FACTOR,
    absent,
    as_pil,
    autoencoder,
    clip_text,
    clip_tokenizer,
    each,
    masks,
    pictures,
    ready,
    sharpen,
    t5_text,
    t5_tokenizer,
)
from torch import Tensor

PIXELS = 2 * VAE_FACTOR  # image pixels per token, one way
TALL, WIDE = (80, 64), (64, 96)  # pixels of references: not the output's size, and not each other's; 64 is Flux 2's least


def grid(size: Size) -> Size:
    """A picture's tokens."""
    return size[0] // PIXELS, size[1] // PIXELS


def of_diffusers(*names: str) -> list[Any]:
    """Classes that an older diffusers lacks."""
    import diffusers

    try:
        return [getattr(diffusers, name) for name in names]
    except AttributeError as error:
        absent(names[0], error)


def flux_case(
    name: str, own: Callable[[Ask], dict[str, Any]], text: bool = False, adapters: int = 0, more: Any = None, **config: Any
) -> Case:
    """A pipeline of the first Flux around a small transformer; with `text` the prompt goes through CLIP and T5."""
    (cls,) = of_diffusers(name)
    torch.manual_seed(0)
    parts = {"text_encoder": clip_text(32) if text else None, "tokenizer": clip_tokenizer() if text else None,
             "text_encoder_2": t5_text(32) if text else None, "tokenizer_2": t5_tokenizer() if text else None}  # fmt: skip
    transformer = flux_transformer(False, **config)
    pipe = cls(scheduler=flow(), vae=autoencoder(shift_factor=0.0), transformer=transformer, **parts, **(more or {}))
    if adapters:
        adapt(transformer, adapters)
    return Case(ready(pipe), own, sizes=((48, 48), (64, 48)))


def adapt(transformer: Any, adapters: int) -> None:
    """IP-Adapters of random weights, in the layout that the loader of the published ones makes of them."""
    if not hasattr(transformer, "_load_ip_adapter_weights"):
        absent("an IP-Adapter for Flux", "came with 0.32")
    layers = len(transformer.transformer_blocks)
    several = []
    for _ in range(adapters):
        matrices = {}
        for layer in range(layers):
            for what in ("to_k_ip", "to_v_ip"):
                matrices |= {f"{layer}.{what}.weight": weight(32, 32), f"{layer}.{what}.bias": torch.zeros(32)}
        several.append({"image_proj": plain(), "ip_adapter": matrices})
    transformer._load_ip_adapter_weights(several)
    sharpen(transformer, 2.0)


def shown(ask: Ask, adapters: int) -> dict[str, Any]:
    """The image embeddings of every adapter, and those of its negative picture, for each row."""
    names = {"ip_adapter_image_embeds": 41, "negative_ip_adapter_image_embeds": 51}
    return {name: [each(ask.batch, 1, 32, seed=ask.seed + seed + place) for place in range(adapters)] for name, seed in names.items()}


def true_guidance(ask: Ask) -> dict[str, Any]:
    return {**embeddings(ask, negatives=ask.guided), **ask.canvas(), "true_cfg_scale": 4.0 if ask.guided else 1.0, "guidance_scale": 2.5}


def adapted(adapters: int = 1) -> Case:
    """Flux with IP-Adapters of 4 tokens."""
    return flux_case("FluxPipeline", lambda ask: {**true_guidance(ask), **shown(ask, adapters)}, adapters=adapters)


def adapted_kontext() -> Case:
    """Flux Kontext with an IP-Adapter: the adapter's queries are the picture's and its reference's."""

    def own(ask: Ask) -> dict[str, Any]:
        reference = (pictures(ask.batch, TALL, seed=ask.seed + 1) + 1) / 2
        exact = {"max_area": ask.size[0] * ask.size[1], "_auto_resize": False}
        return {**true_guidance(ask), **shown(ask, 1), "image": reference, **exact}

    return flux_case("FluxKontextPipeline", own, adapters=1)


def kontext_inpaint(reference: bool) -> Case:
    """The reference is `image_reference`, or else the picture that is painted into."""

    def own(ask: Ask) -> dict[str, Any]:
        out = {"image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2, "mask_image": masks(ask.batch, ask.size)}
        if reference:
            out["image_reference"] = (pictures(ask.batch, TALL, seed=ask.seed + 2) + 1) / 2
        exact = {"max_area": ask.size[0] * ask.size[1], "_auto_resize": False, "strength": 1.0}
        return {**true_guidance(ask), **out, **exact}

    return flux_case("FluxKontextInpaintPipeline", own)


def adapted_from(name: str) -> Case:
    """Flux with an IP-Adapter that begins at a picture."""

    def own(ask: Ask) -> dict[str, Any]:
        out = {**true_guidance(ask), **shown(ask, 1), "image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2, "strength": 1.0}
        return out if "Inpaint" not in name else {**out, "mask_image": masks(ask.batch, ask.size)}

    return flux_case(name, own, adapters=1)


def redux(kontext: bool = False) -> Case:
    """Flux with what FluxPriorReduxPipeline makes of a picture: 512 tokens of T5, and 27 by 27 of the picture."""
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    prior_cls, embedder = of_diffusers("FluxPriorReduxPipeline", "ReduxImageEncoder")
    torch.manual_seed(0)
    vision = SiglipVisionModel(SiglipVisionConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                                                  image_size=108, patch_size=4))  # fmt: skip
    prior = ready(prior_cls(image_encoder=vision.eval(), feature_extractor=SiglipImageProcessor(size={"height": 108, "width": 108}),
                            image_embedder=embedder(32, 32).eval(), text_encoder=clip_text(32), tokenizer=clip_tokenizer(),
                            text_encoder_2=t5_text(32), tokenizer_2=t5_tokenizer()))  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        made = prior(as_pil(pictures(1, (108, 108), seed=ask.seed + 1)), prompt=ask.prompts[0])
        several = {name: value.expand(ask.batch, *value.shape[1:]) for name, value in made.items()}
        reference = {"image": (pictures(ask.batch, TALL, seed=ask.seed + 1) + 1) / 2, "max_area": ask.size[0] * ask.size[1],
                     "_auto_resize": False}  # fmt: skip
        return {**several, **ask.canvas(), "guidance_scale": 2.5, **(reference if kontext else {})}

    return flux_case("FluxKontextPipeline" if kontext else "FluxPipeline", own, num_single_layers=1, num_layers=1)


def cloze() -> Case:
    """VisualCloze: two rows of two pictures side by side, of which the last is generated."""
    (cls,) = of_diffusers("VisualClozeGenerationPipeline")
    torch.manual_seed(0)
    pipe = cls(scheduler=flow(), vae=autoencoder(shift_factor=0.0), text_encoder=clip_text(32), tokenizer=clip_tokenizer(),
               text_encoder_2=t5_text(32), tokenizer_2=t5_tokenizer(), resolution=48,
               transformer=flux_transformer(False, in_channels=16 + 16 + 64, out_channels=16))  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        one, two, three = (as_pil(pictures(1, (48, 48), seed=ask.seed + place))[0] for place in range(3))
        return {"task_prompt": ask.prompts, "content_prompt": ask.prompts, "image": [[[one, two], [three, None]]] * ask.batch,
                "max_sequence_length": 16, "guidance_scale": 2.5}  # fmt: skip

    return Case(ready(pipe), own)


def control() -> Case:
    """Flux Control: the control picture enters through the channels."""

    def own(ask: Ask) -> dict[str, Any]:
        picture = (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2
        return {"prompt": ask.prompts, "max_sequence_length": 16, **ask.canvas(), "control_image": picture, "guidance_scale": 3.5}

    return flux_case("FluxControlPipeline", own, text=True, in_channels=32, out_channels=16)


def controlled() -> Case:
    """Flux with a ControlNet, whose attention is not the denoiser's."""
    (cls,) = of_diffusers("FluxControlNetModel")
    torch.manual_seed(0)
    controlnet = cls(in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
                     joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8)).eval()  # fmt: skip

    def own(ask: Ask) -> dict[str, Any]:
        picture = (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2
        return {"prompt": ask.prompts, "max_sequence_length": 16, **ask.canvas(), "control_image": picture, "guidance_scale": 3.5}

    return flux_case("FluxControlNetPipeline", own, text=True, more={"controlnet": controlnet})


def fill() -> Case:
    """Flux Fill: the picture and its mask enter through the channels."""

    def own(ask: Ask) -> dict[str, Any]:
        picture = {"image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2, "mask_image": masks(ask.batch, ask.size)}
        return {"prompt": ask.prompts, "max_sequence_length": 16, **ask.canvas(), **picture, "guidance_scale": 3.5}

    return flux_case("FluxFillPipeline", own, text=True, in_channels=16 + 16 + 64, out_channels=16)


def chroma(name: str = "ChromaPipeline", adapters: int = 0, text: bool = False) -> Case:
    """Chroma, whose text has a mask; guided in two calls, the prompt first."""
    cls, transformer_cls = of_diffusers(name, "ChromaTransformer2DModel")
    torch.manual_seed(0)
    transformer = transformer_cls(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=16,
        approximator_layers=1)  # fmt: skip
    sharpen(transformer)
    transformer.register_to_config(guidance_embeds=False)  # which inpainting reads, and the model does not write
    pipe = cls(scheduler=flow(), vae=autoencoder(shift_factor=0.0), transformer=transformer, text_encoder=t5_text(32) if text else None,
               tokenizer=t5_tokenizer() if text else None)  # fmt: skip
    if adapters:
        adapt(transformer, adapters)

    def own(ask: Ask) -> dict[str, Any]:
        if text:
            out: dict[str, Any] = {"prompt": ask.prompts, "max_sequence_length": 16}
        else:
            out = embeddings(ask, negatives=ask.guided, pooled=False)
            for key in [key for key in out if key.endswith("prompt_embeds")]:
                out[key.replace("_embeds", "_attention_mask")] = lengths(ask.batch)
        out |= {**ask.canvas(), **ask.guidance(), **(shown(ask, adapters) if adapters else {})}
        if name != "ChromaPipeline":
            out |= {"image": (pictures(ask.batch, ask.size, seed=ask.seed + 1) + 1) / 2, "strength": 1.0}
        if "Inpaint" in name:
            out["mask_image"] = masks(ask.batch, ask.size)
        return out

    return Case(ready(pipe), own, sizes=((48, 48), (64, 48)))


def lengths(batch: int) -> Tensor:
    """A mask of texts of different lengths."""
    mask = torch.ones(batch, TEXT)
    for image in range(batch):
        mask[image, TEXT - 2 * (image % 3) :] = 0
    return mask
