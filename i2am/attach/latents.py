"""A picture as the latents that a pipeline denoises: encoded, normalised and packed as that pipeline does it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from i2am.attach.steps import wrap
from i2am.common.checks import refuse

GIVE = "Give the latents themselves, in the form in which the pipeline hands them to scheduler.step: i2am.encode(pipe, latents, ...)."


def clean_latents(pipe: Any, picture: Any, like: Tensor, size: tuple[int, int] | None) -> Tensor:
    """The latents of a picture, or of one an image, in the form of `like`; what already has it is taken as it is."""
    if isinstance(picture, Tensor) and picture.shape[1:] == like.shape[1:]:
        return rows_for(picture, like)
    name = type(pipe).__name__
    processor, vae = getattr(pipe, "image_processor", None), getattr(pipe, "vae", None)
    if processor is None or vae is None:
        refuse(f"the picture for {name}", "latents, as it has no image_processor and vae to make them", type(picture).__name__, GIVE)
    where = {} if size is None else dict(zip(("height", "width"), size))
    pixels = processor.preprocess(picture, **where).to(like.device, next(vae.parameters()).dtype)
    with torch.no_grad():
        latents = packed(pipe, encoded(pipe, vae, pixels, like), like)
    if latents.shape[1:] != like.shape[1:]:
        refuse(f"the latents of the picture for {name}", f"of the shape {tuple(like.shape[1:])} that it denoises", tuple(latents.shape[1:]),
               f"Is the picture as large as what is generated? Pass height= and width=. {GIVE}")  # fmt: skip
    return rows_for(latents.to(like), like)


def encoded(pipe: Any, vae: Any, pixels: Tensor, like: Tensor) -> Tensor:
    """Normalised latents [B, C, (1,) h, w], by the pipeline's own method where it has one."""
    if hasattr(pipe, "_encode_vae_image"):
        frames = [None] if getattr(vae.config, "latents_mean", None) and like.ndim != 4 else []  # an autoencoder of videos
        with ExitStack() as undo:
            wrap(vae, "encode", partial(undrawn, vae.encode), undo)
            return pipe._encode_vae_image(image=pixels[(slice(None), slice(None), *frames)], generator=None)
    found = vae.encode(pixels)
    latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
    config = vae.config
    if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
        mean, std = (torch.tensor(numbers).view(1, -1, *(1,) * (latents.ndim - 2)).to(latents) for numbers in
                     (config.latents_mean, config.latents_std))  # fmt: skip
        return (latents - mean) / std * (getattr(config, "scaling_factor", None) or 1)
    return (latents - (getattr(config, "shift_factor", None) or 0)) * (getattr(config, "scaling_factor", None) or 1)


def undrawn(encode: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What an autoencoder finds, whose sample is its mode: some pipelines would draw one, another at each call."""
    found = encode(*args, **kwargs)
    if hasattr(found, "latent_dist"):
        mode = found.latent_dist.mode
        found.latent_dist.sample = lambda generator=None: mode()
    return found


def packed(pipe: Any, latents: Tensor, like: Tensor) -> Tensor:
    """Latents as the tokens that the pipeline denoises, where it does."""
    if latents.ndim == like.ndim or not hasattr(pipe, "_pack_latents"):
        return latents
    if len(inspect.signature(pipe._pack_latents).parameters) == 1:
        return pipe._pack_latents(latents)
    return pipe._pack_latents(latents, latents.shape[0], latents.shape[1], *latents.shape[-2:])


def rows_for(latents: Tensor, like: Tensor) -> Tensor:
    """One picture for all images, or one for each prompt, repeated as diffusers repeats prompts."""
    times, rest = divmod(like.shape[0], latents.shape[0])
    if rest:
        refuse("the pictures", f"1 or as many as the {like.shape[0]} images", latents.shape[0], "Give one, or one per image.")
    return latents.to(like).repeat_interleave(times, 0)
