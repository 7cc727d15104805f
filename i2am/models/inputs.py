"""What our pipelines make of their inputs: pictures as tensors, one for all or one per image, and the noise to start from; and where in
memory their weights lie."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor, nn

from i2am.common.checks import is_whole, refuse
from i2am_kernels.call import aligned


def align(parts: Iterable[Any]) -> None:
    """Move the weights on a CPU that are mapped from a file, once, to where torch would have put them: the same weights then give the same
    bits, whichever way they came. What is no module, and what is no plain tensor, is left alone."""
    for part in parts:
        for weight in (*part.parameters(), *part.buffers()) if isinstance(part, nn.Module) else ():
            if weight.device.type == "cpu" and type(weight.data) is Tensor and weight.layout == torch.strided:
                weight.data = aligned(weight.data)


def check_steps(steps: Any, scheduler: Any, usual: str) -> None:
    """A number of steps that this scheduler can take; at most as many as the model was trained with."""
    most = getattr(scheduler.config, "num_train_timesteps", None)
    if not is_whole(steps, 1) or (most is not None and steps > most):
        expected = "a whole number of at least 1" + (f" and at most {most}" if most is not None else "")
        refuse("num_inference_steps", expected, repr(steps), usual)


def noise(shape: tuple[int, ...], generator: Any, latents: Any, device: Any) -> Tensor:
    """The latents to start from, float32."""
    if isinstance(generator, (list, tuple)) and len(generator) not in (1, shape[0]):
        refuse("generator", f"one, or a list of {shape[0]}, one per image", f"{len(generator)} of them", "Give one per image.")
    if latents is None:
        return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
    if not isinstance(latents, Tensor) or tuple(latents.shape) != shape:
        got = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        refuse("latents", f"a tensor {shape}", got, "Leave them out to draw them.")
    return latents.to(device, torch.float32)


def repeated(tensor: Tensor, count: int, name: str) -> Tensor:
    if len(tensor) not in (1, count):
        refuse(name, f"1 or {count}, as many as the others", len(tensor), "Give one picture, or one per image.")
    return tensor.expand(count, -1, -1, -1)


def tensor_of(given: Any, name: str, channels: int) -> Tensor:
    """[B, channels, h, w] in [0, 1] from a PIL image, an array [h, w, c] or [B, h, w, c], or a tensor [c, h, w] or [B, c, h, w]; masks
    may leave the channel out."""
    if isinstance(given, Image.Image):
        given = np.asarray(given.convert("RGB" if channels == 3 else "L"))
    if isinstance(given, np.ndarray):
        array = torch.from_numpy(given.copy())
        array = array / 255 if array.dtype == torch.uint8 else array
        bare = array.ndim == 2 or (array.ndim == 3 and channels == 1 and array.shape[-1] != 1)
        given = (array[..., None] if bare else array).movedim(-1, -3)
    if not isinstance(given, Tensor):
        refuse(name, "a PIL image, an array, a tensor, or a list of them", type(given).__name__, "Open a file first: PIL.Image.open(path).")
    tensor = given[None] if given.ndim == 3 else given
    if channels == 1 and given.ndim in (2, 3):
        tensor = given.reshape(-1, 1, *given.shape[-2:])
    if tensor.ndim != 4 or tensor.shape[1] != channels or 0 in tensor.shape:
        refuse(name, f"a picture of {channels} channels", tuple(given.shape), "Tensors are [B, channels, height, width].")
    tensor = tensor.float()
    if not ((tensor >= 0) & (tensor <= 1)).all():
        refuse(name, "values between 0 and 1", f"{tensor.min():g} to {tensor.max():g}", "Divide bytes by 255; add 1 and halve -1 ... 1.")
    return tensor
