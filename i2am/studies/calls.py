"""How a pipeline is called for some prompts: which of its parameters take them, and whether it takes several at a time."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from i2am.attach.explain import few_steps
from i2am.common.checks import refuse, said
from i2am.data.prompts import Asked
from i2am.families.pipelines import pictures_of
from i2am.maps.tokens import Grid
from i2am.studies.options import Options

ORIENTATION = 0x0112  # of a photograph, in its EXIF


@dataclass
class Calls:
    """The calls of one pipeline. takes: its call's parameters, None where it takes anything. alone: why prompts are painted one at a
    time, if they are."""

    pipe: Any
    options: Options
    takes: Mapping[str, inspect.Parameter] | None = field(init=False)
    fixed: dict[str, Any] = field(init=False)
    picture: str | None = field(init=False)  # the parameter of a list's pictures
    alone: str = field(init=False, default="")

    def __post_init__(self) -> None:
        parameters = inspect.signature(self.pipe.__call__).parameters
        # diffusers' own take deprecated arguments as **kwargs, and drop whatever else comes
        anything = "prompt" not in parameters and any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
        self.takes, self.fixed = None if anything else parameters, self.options.asked()
        name = type(self.pipe).__name__
        wanted = [*self.fixed, *(["negative_prompt"] if self.options.negative_prompt is not None else [])]
        if unknown := [one for one in wanted if not self.has(one)]:
            refuse(f"a parameter of {name}", f"one of {', '.join(parameters)}", ", ".join(unknown), "Look at the pipeline's call.")
        if not self.has("prompt"):
            refuse("model", "a pipeline that is called with a prompt", name, "A study paints a list of prompts.")
        self.picture = next((one for one in pictures_of(self.pipe) if one not in self.fixed), None)
        if self.picture == "ip_adapter_image" and not has_adapter(self.pipe):
            self.picture = None
        if not self.has("generator"):
            self.alone = f"{name} takes no generator"
        elif not listed(parameters.get("generator")):
            self.alone = f"{name} takes no list of generators"
        elif not listed(parameters.get("prompt")):
            self.alone = f"{name} takes no list of prompts"

    def has(self, name: str) -> bool:
        return self.takes is None or name in self.takes

    def together(self, asked: Asked) -> bool:
        """Whether this prompt may be painted beside others. Of a list of pictures only UNets' pipelines say surely that they are one for
        each prompt; others take it for several references of one."""
        return not self.alone and (asked.image is None or (self.picture == "image" and hasattr(self.pipe, "unet")))

    def why_alone(self, asked: Sequence[Asked]) -> str:
        """Why prompts are painted one at a time, if some of them are."""
        if self.alone or all(self.together(one) for one in asked):
            return self.alone
        return f"{type(self.pipe).__name__} may take a list of pictures for several references of one"

    def keywords(self, some: Sequence[Asked], pictures: Sequence[Any], seeds: Sequence[int], short: bool = False) -> dict[str, Any]:
        """Of one call. short: of as few steps as the pipeline takes."""
        many = self.together(some[0])
        assert many or len(some) == 1
        negative = self.options.negative_prompt
        found: dict[str, Any] = {**self.fixed, "prompt": [one.prompt for one in some]}
        if negative is not None:
            found["negative_prompt"] = [negative] * len(some)
        if pictures and self.picture is not None:
            found[self.picture] = list(pictures)
        if self.has("generator"):
            found["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        if not many:
            ours = ("prompt", "negative_prompt", "generator", self.picture if pictures else None)
            found |= {name: found[name][0] for name in ours if name in found}
        if self.takes is not None and "output_type" in self.takes:
            found["output_type"] = "np"
        if short:
            found.pop("num_inference_steps", None)
            found = few_steps(self.pipe, found)
        return found

    def paint(self, some: Sequence[Asked], pictures: Sequence[Any], seeds: Sequence[int], short: bool = False) -> Tensor:
        """The images [B, 3, H, W] in [0, 1], float32 on the CPU."""
        with contextlib.ExitStack() as stack:
            if not self.has("generator"):
                stack.enter_context(torch.random.fork_rng())
                torch.manual_seed(seeds[0])
            made = self.pipe(**self.keywords(some, pictures, seeds, short))
        images = made[0] if isinstance(made, (tuple, list)) else getattr(made, "images", None)
        return as_images(images, len(some), type(self.pipe).__name__)


def as_images(images: Any, count: int, name: str) -> Tensor:
    """What a pipeline returned as [B, 3, H, W] in [0, 1]: an array [B, H, W, 3], a tensor [B, 3, H, W], or PIL images."""
    if isinstance(images, (list, tuple)) and images and all(hasattr(one, "convert") for one in images):
        images = np.stack([np.asarray(one.convert("RGB"), dtype=np.float32) / 255 for one in images])
    if isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[-1] == 3:
        images = torch.from_numpy(images).permute(0, 3, 1, 2)
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[:2] != (count, 3):
        refuse(f"what {name} returns", f"{count} images", said(images), "Studies are of pictures: a video's words are traced by hand.")
    return images.detach().float().cpu()


def listed(parameter: inspect.Parameter | None) -> bool:
    """Whether a parameter takes a list, as far as its annotation says."""
    if parameter is None or parameter.annotation is inspect.Parameter.empty:
        return True
    told = parameter.annotation if isinstance(parameter.annotation, str) else str(parameter.annotation)
    return any(word in told for word in ("list[", "List[", "Sequence[", "Any", "Iterable["))


def has_adapter(pipe: Any) -> bool:
    """Whether an IP-Adapter is loaded."""
    for name in ("unet", "transformer"):
        module = getattr(pipe, name, None)
        if getattr(module, "encoder_hid_proj", None) is not None or getattr(module, "image_proj", None) is not None:
            return True
    return False


def read_picture(one: Asked) -> Any:
    """The picture that a prompt begins from, upright."""
    from PIL import Image, ImageOps

    assert one.image is not None
    with Image.open(one.image) as found:
        return ImageOps.exif_transpose(found).convert("RGB")


def size_of(one: Asked) -> Grid:
    """(height, width) of the picture that a prompt begins from, which is not read for it."""
    from PIL import Image

    assert one.image is not None
    with Image.open(one.image) as found:
        lying = found.getexif().get(ORIENTATION, 1) >= 5
        return (found.width, found.height) if lying else (found.height, found.width)
