"""The models that an evaluation knows by name. Their files are read where they lie; a hub's name is downloaded by diffusers."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.common.machine import out_of_memory
from i2am.evaluation.painter import picture
from i2am.evaluation.tryon import Batch, TryOn
from i2am.maps.tokens import Grid
from i2am.score.imacs import convention

MOST = 2**26  # pixels of a picture: what is more is a slip


def small(path: str | None = None, dtype: str = "float32") -> TryOn:
    """The embedded model, or one that `i2am train-small` wrote."""
    from i2am.models.small import WEIGHTS, load

    pipe = load(path or WEIGHTS, torch_dtype=dtype_of(dtype))

    def paint(batch: Batch, *, steps: int, guidance_scale: float, generators: list[torch.Generator]) -> Tensor:
        return pipe(batch["person"], batch["mask"][:, None], batch["garment"], batch["densepose"], num_inference_steps=steps,
                    guidance_scale=guidance_scale, generator=generators, output_type="pt").images  # fmt: skip

    return TryOn(pipe, paint, pipe.size, steps=10, guidance_scale=1.0, parts=("densepose",), about={"dtype": dtype})


def paint_by_example(path: str | None = None, dtype: str = "float32", size: str = "512x384") -> TryOn:
    """Any diffusers checkpoint of Paint-by-Example; its reference is one token, so there is no G2R."""
    import diffusers
    from transformers import CLIPImageProcessor

    from i2am.models.paint_by_example import PaintByExampleImageEncoder

    if path is None:
        refuse(
            "paint-by-example", "the folder or hub name of its weights", "none", "Write paint-by-example:Fantasy-Studio/Paint-by-Example."
        )
    height, width = pixels(size)
    # part by part, as diffusers 0.38 moved the encoder's class away from where checkpoints say it is
    kinds: dict[str, Any] = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "image_encoder": PaintByExampleImageEncoder,
    }
    models = {name: loaded(kind, path, dtype, subfolder=name) for name, kind in kinds.items()}
    with reading("Paint-by-Example", path):
        stepper = diffusers.DDIMScheduler.load_config(path, subfolder="scheduler")["_class_name"]
        pipe = diffusers.PaintByExamplePipeline(
            **models, scheduler=getattr(diffusers, stepper).from_pretrained(path, subfolder="scheduler"), safety_checker=None,
            feature_extractor=CLIPImageProcessor.from_pretrained(path, subfolder="feature_extractor"), requires_safety_checker=False,
        )  # fmt: skip

    def paint(batch: Batch, *, steps: int, guidance_scale: float, generators: list[torch.Generator]) -> Tensor:
        return pipe(
            example_image=squared(batch["garment"], pipe.image_encoder), image=batch["person"] * 2 - 1,
            mask_image=batch["mask"][:, None], height=height, width=width, num_inference_steps=steps,
            guidance_scale=guidance_scale, generator=generators, output_type="pt",
        ).images  # fmt: skip

    return TryOn(pipe, paint, (height, width), convention="paint-by-example", about={"dtype": dtype})


def ip_adapter(
    path: str | None = None,
    adapter: str = "h94/IP-Adapter",
    subfolder: str = "models",
    weight_name: str = "ip-adapter_sd15.safetensors",
    image_encoder_folder: str = "image_encoder",
    scale: str = "1.0",
    prompt: str = "a person wearing the garment, best quality",
    dtype: str = "float32",
    size: str = "512x384",
) -> TryOn:
    """An inpainting model (SD1.5 or SDXL) with an IP-Adapter for the garment. Only an adapter with every token of CLIP has G2R.

    image_encoder_folder: empty where the pipeline has its own.
    """
    from diffusers import AutoPipelineForInpainting
    from diffusers.models.embeddings import ImageProjection, IPAdapterFullImageProjection

    if path is None:
        refuse("ip-adapter", "the folder or hub name of an inpainting model", "none", "Write ip-adapter:PATH --model-option adapter=PATH.")
    height, width = pixels(size)
    weight = real("scale", scale)
    pipe = loaded(AutoPipelineForInpainting, path, dtype)
    with reading("the IP-Adapter", f"{adapter}/{subfolder}/{weight_name}"):
        pipe.load_ip_adapter(adapter, subfolder=subfolder, weight_name=weight_name, image_encoder_folder=image_encoder_folder or None)
    pipe.set_ip_adapter_scale(weight)
    pipe.prepare_ip_adapter_image_embeds = ready  # its own gives every row the garments of the whole batch

    plain = isinstance(pipe.unet.encoder_hid_proj.image_projection_layers[0], ImageProjection)

    def garments(batch: Batch, guided: bool) -> Tensor:
        """Embeddings [uncond, cond], each pair's its own."""
        worn, without = pipe.encode_image(squared(batch["garment"], pipe.image_encoder), pipe._execution_device, 1, not plain)
        return (torch.cat([without, worn]) if guided else worn)[:, None]

    def paint(batch: Batch, *, steps: int, guidance_scale: float, generators: list[torch.Generator]) -> Tensor:
        return pipe(
            prompt=[prompt] * len(batch["name"]), image=batch["person"], mask_image=batch["mask"][:, None], height=height,
            width=width, ip_adapter_image_embeds=[garments(batch, guidance_scale > 1)], strength=1.0, num_inference_steps=steps,
            guidance_scale=guidance_scale, generator=generators, output_type="pt",
        ).images  # fmt: skip

    how = convention("method")
    if not isinstance(pipe.unet.encoder_hid_proj.image_projection_layers[0], IPAdapterFullImageProjection):
        how = replace(how, g2r=None, about="The formula on R2G; the adapter's tokens have no grid, so there is no G2R.")
    about = {"dtype": dtype, "adapter": f"{adapter}/{subfolder}/{weight_name}", "scale": weight, "prompt": prompt}
    return TryOn(pipe, paint, (height, width), convention=how, trace={"reference": "adapter"}, about=about)


def stableviton(path: str | None = None, dtype: str = "float32", size: str = "512x384", start_from_image: str = "yes") -> TryOn:
    """A folder that `i2am convert stableviton` wrote. start_from_image: as the release does, from the noised picture of the person."""
    from i2am.models.stableviton import StableVITONPipeline

    if path is None:
        refuse("stableviton", "the folder of its converted weights", "none", "i2am convert stableviton VITONHD.ckpt FOLDER writes one.")
    if start_from_image not in ("yes", "no"):
        refuse("start_from_image", "yes or no", repr(start_from_image), "The release starts from the noised picture of the person.")
    height, width = pixels(size)
    pipe = loaded(StableVITONPipeline, path, dtype)

    def paint(batch: Batch, *, steps: int, guidance_scale: float, generators: list[torch.Generator]) -> Tensor:
        return pipe(
            batch["person"], batch["mask"][:, None], batch["garment"], batch["densepose"], agnostic=batch["agnostic"], height=height,
            width=width, num_inference_steps=steps, guidance_scale=guidance_scale, start_from_image=start_from_image == "yes",
            generator=generators, output_type="pt",
        ).images  # fmt: skip

    about = {"dtype": dtype, "start_from_image": start_from_image}
    return TryOn(pipe, paint, (height, width), guidance_scale=1.0, parts=("agnostic", "densepose"), convention="stableviton", about=about)


def ready(images: Any, embeds: list[Tensor], *_: Any) -> list[Tensor]:
    """In the place of a pipeline's preparation of adapters' images."""
    return embeds


def loaded(kind: Any, path: str, dtype: str, **options: Any) -> Any:
    """From a folder or the hub."""
    kept = dtype_of(dtype)
    with reading(kind.__name__, path), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch_dtype, the name that every version reads
        return kind.from_pretrained(path, torch_dtype=kept, **options)


@contextlib.contextmanager
def reading(what: str, path: str) -> Iterator[None]:
    """Whatever a folder, or the hub, raises because it holds something else."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # OSError, KeyError, ValueError, RuntimeError, SafetensorError and the hub's own
        if out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(
            f"i2am: {what} cannot be read from {path} ({said}). Give a folder that diffusers wrote, or a name on the hub and a network."
        ) from error


def real(name: str, text: str) -> float:
    """A finite number, from text."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        refuse(name, "a number", repr(text), "1.0 is usual.")
    return found


def dtype_of(name: str) -> torch.dtype:
    found = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in found:
        refuse("dtype", f"one of {', '.join(found)}", repr(name), "float16 and bfloat16 are for a GPU.")
    return found[name]


def pixels(size: str) -> Grid:
    """ "512x384" as (height, width)."""
    height, _, width = size.partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) * int(width) <= MOST):
        refuse("size", f"HEIGHTxWIDTH in pixels, at most {MOST:,} of them", repr(size), "512x384 is VITON-HD's shape.")
    return int(height), int(width)


def squared(pictures: Tensor, encoder: Any) -> list[Any]:
    """As an image encoder sees them, whole: what diffusers would do first is to cut off the top and bottom of a garment."""
    edge = encoder.config.image_size
    small = torch.nn.functional.interpolate(pictures.float(), (edge, edge), mode="bicubic", antialias=True)
    return [picture(one) for one in small.clamp(0, 1)]


BUILT_IN: dict[str, Callable[..., TryOn]] = {
    "small": small, "paint-by-example": paint_by_example, "ip-adapter": ip_adapter, "stableviton": stableviton,
}  # fmt: skip
