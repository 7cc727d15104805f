"""What the code of README and docs takes for granted: `<!-- given: NAME -->` before a block brings the names, and the files, of NAME.

Every pipeline is a small one with random weights, or the embedded model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attentions
import fluxes
import joint
import klein
import ldm
import pipelines
import projects
import torch
import videos
from edits import joint_study, words_study
from made_up import tailor
from parts import PROMPTS
from PIL import Image
from refined import drawn, half, traced
from stableviton import tiny as small_stableviton
from trainings import Training, adapter, warp

import i2am
from benchmarks.parity.stableviton import SMALL
from benchmarks.parity.stableviton import inputs as stableviton_inputs
from i2am.data.synthetic import draw, unit, write_vitonhd
from i2am.models.small import load
from i2am_kernels import moments

Names = dict[str, Any]


def asked(case: Any, **changed: Any) -> Names:
    """A pipeline, and everything that it is called with."""
    return {"pipe": case.pipe, "inputs": {**case.kwargs(batch=2), **changed}}


def paint_by_example() -> Names:
    case = pipelines.paint_by_example()
    inputs = case.kwargs(batch=2)
    return {"pipe": case.pipe, "person": inputs["image"], "mask": inputs["mask_image"], "garment": inputs["example_image"]}


def text() -> Names:
    return {**asked(pipelines.sd15(), prompt=[PROMPTS[0]] * 2), "torch": torch}


def image_tokens() -> Names:
    """A UNet whose cross-attention reads 1037 tokens in the place of a prompt."""
    case = pipelines.sd15()
    inputs = case.kwargs(batch=2)
    width = case.pipe.unet.config.cross_attention_dim
    made = {f"{name}_embeds": torch.randn(2, 1037, width) for name in ("prompt", "negative_prompt")}
    return {"pipe": case.pipe, "inputs": {key: value for key, value in inputs.items() if "prompt" not in key} | made}


def ldm_code() -> Names:
    case = ldm.stable_viton()
    return {"model": case.model, "sampler": case.sampler, "inputs": case.kwargs(batch=2)}


def own_loop() -> Names:
    query, key = torch.randn(2, 2, 768, 8), torch.randn(2, 2, 1037, 8)
    return {"query": query, "key": key, "value": key, "timesteps": range(10)}


def small_model(count: int = 2) -> Names:
    pairs = draw(count, seed=7, size=(128, 96))
    inputs = {"image": unit(pairs.person), "mask_image": pairs.mask[:, None].float(), "garment": unit(pairs.garment)}
    return {"pipe": load(), "inputs": {**inputs, "densepose": unit(pairs.densepose), "num_inference_steps": 2}}


def run(count: int = 2) -> Names:
    """A traced run of the embedded model."""
    names = small_model(count)
    with i2am.trace(names["pipe"], specific=i2am.cells(4, 3)) as found:
        images = names["pipe"](**names["inputs"]).images
    return {"run": found, "images": images}


def field_run() -> Names:
    """A traced run of the embedded model that knows where its patches come from."""
    names = small_model()
    with i2am.trace(names["pipe"], field=True) as found:
        images = names["pipe"](**names["inputs"]).images
    return {"run": found, "images": images, "garments": names["inputs"]["garment"]}


def joint_layer() -> Names:
    """One joint layer's queries, keys and values: text, a generated picture and two references of 8 by 6 tokens."""
    query, key, value = torch.randn(3, 2, 2, 153, 8).unbind(0)
    return {"query": query, "key": key, "value": value}


def shares() -> Names:
    """A run in which two references shared one attention, and the pictures that it made."""
    recorder = i2am.Recorder(shares=True)
    for source, start in (("shirt", 57), ("trousers", 105)):
        recorder.attend("joint", *joint_layer().values(), generated=(9, 57), reference=(start, start + 48), generated_grid=(8, 6),
                        reference_grid=(8, 6), source=source)  # fmt: skip
    recorder.step()
    return {"maps": recorder.maps, "images": torch.rand(2, 3, 64, 48)}


class Writer:
    """In the place of a SummaryWriter: takes what it is given."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        assert isinstance(scalar_value, float)

    def add_images(self, tag: str, img_tensor: torch.Tensor, global_step: int, dataformats: str) -> None:
        assert img_tensor.dtype == torch.uint8


def training() -> Names:
    names = small_model()
    return {**names, "garments": names["inputs"]["garment"], "writer": Writer(), "step": 100}


def saved_run() -> Names:
    """Maps of one image in a file, and its pictures beside it."""
    names = run(1)
    names["run"].maps.save("run.safetensors")
    names["images"][0].save("generated.png")
    Image.new("RGB", (96, 128), "grey").save("garment.png")
    return {}


def text_run() -> Names:
    names = text()
    with i2am.trace(names["pipe"], words=True, groups=2) as found:
        images = names["pipe"](**{**names["inputs"], "output_type": "pil"}).images
    return {"run": found, "images": images, "words": found.maps.words()}


def ip_adapter_run() -> Names:
    """A run that has both a reference and words."""
    names = asked(pipelines.ip_adapter("full"))
    with i2am.trace(names["pipe"], words=True, groups=2) as found:
        images = names["pipe"](**{**names["inputs"], "output_type": "pil"}).images
    return {"run": found, "images": images}


def viton() -> Names:
    if not Path("zalando-hd-resized").exists():
        write_vitonhd("zalando-hd-resized", 4, seed=3, size=(128, 96))
    return {}


def stableviton() -> Names:
    small_stableviton().save_pretrained("stableviton")
    inputs = stableviton_inputs(SMALL, 1)
    return {"person": inputs["image"], "mask": inputs["mask_image"], "garment": inputs["garment"], "densepose": inputs["densepose"]}


def my_pipeline() -> Names:
    class MyPipeline:
        @staticmethod
        def from_pretrained(path: str) -> Any:
            return load()

    return {"MyPipeline": MyPipeline}


def operands() -> Names:
    batch, heads, tokens, size = 2, 2, 8704, 8
    query, key, value = (torch.randn(batch, heads, tokens, size) for _ in range(3))
    return {
        "torch": torch, "F": torch.nn.functional, "query": query, "key": key, "value": value, "batch": batch, "heads": heads,
        "generated_tokens": tokens, "reference_tokens": tokens,
    }  # fmt: skip


def everything() -> Names:
    """The call with everything: ranges of 4096 tokens, the conditional half."""
    heads = 2
    return operands() | {
        "B": 2, "mask": None, "r2g": torch.zeros(1, heads, 4096), "g2r": torch.zeros(1, heads, 4096),
        "words": torch.zeros(1, heads, 3, 4096), "inpainting": torch.full((1, 4096), 1 / 4096), "pieces": torch.rand(1, 4096, 3),
        "leaving": torch.zeros(1, heads, 6, 4096), "places": moments((64, 64))[None],
    }  # fmt: skip


def grids() -> Names:
    """Generated tokens on 12 x 10 cells, and a CLS token before a reference of 6 x 8."""
    sizes = {"B": 2, "H": 2, "G": 120, "R": 49}
    return sizes | {"torch": torch, "query": torch.randn(2, 2, 120, 8), "key": torch.randn(2, 2, 49, 8), "value": torch.randn(2, 2, 49, 8)}


def carried() -> Names:
    """Maps that carry gradient, of a layer named "a"."""
    return {"maps": traced(drawn(special=1, dtype=torch.float32)), "mask": half(2), "region": half()}


def in_batches(training: Training) -> Names:
    """A model to train, the names of a batch, and two such batches."""
    batch = tuple(training.named[name] for name in training.order)
    names = {"unet": training.unet, "scheduler": training.scheduler, "optimizer": torch.optim.AdamW(training.own, lr=1e-4)}
    return {**training.named, **names, "batches": [batch, batch], "i2am": i2am, "torch": torch, "F": torch.nn.functional}


def mending() -> Names:
    """A pipeline with an IP-Adapter, a batch of its UNet's, and a region of its pictures."""
    names, training = asked(pipelines.ip_adapter("full")), adapter()
    made = {"unet": training.unet, "batch": training.asked, "noise": training.named["noise"], "mask": training.named["mask"]}
    height, width = names["inputs"]["height"], names["inputs"]["width"]
    return {**names, **made, "region": half(1, (height // 4, width // 4)), "i2am": i2am, "F": torch.nn.functional}


def video_run() -> Names:
    """A traced run of a pipeline that makes videos of nine frames, three of its own."""
    names = asked(videos.wan_image_to_video(), output_type="pil")
    with i2am.trace(names["pipe"]) as found:
        made = names["pipe"](**names["inputs"]).frames
    return {"run": found, "videos": made, "picture": names["inputs"]["image"]}


GIVEN: dict[str, Callable[[], Names]] = {
    "nothing": dict,
    "paint-by-example": paint_by_example,
    "ip-adapter": lambda: asked(pipelines.ip_adapter("full")),
    "ip-adapter run": ip_adapter_run,
    "two adapters": lambda: asked(pipelines.ip_adapter("plain", "full")),
    "kandinsky": lambda: asked(pipelines.kandinsky22()),
    "kontext": lambda: asked(joint.flux_kontext()),
    "flux2": lambda: asked(klein.flux2()),
    "cloze": lambda: {**asked(fluxes.cloze()), "i2am": i2am},
    "image tokens": image_tokens,
    "pasd": lambda: asked(projects.pasd()),
    "catvton": lambda: asked(attentions.catvton()),
    "catvton without mask": lambda: asked(attentions.catvton(attentions.CatVTONPix2PixPipeline)),
    "leffa": lambda: asked(attentions.leffa()),
    "idm-vton": lambda: asked(attentions.idm_vton()),
    "ootdiffusion": lambda: asked(attentions.ootdiffusion()),
    "fitdit": lambda: asked(projects.fitdit()),
    "ldm": ldm_code,
    "own loop": own_loop,
    "carried": carried,
    "adapter training": lambda: in_batches(adapter()),
    "warp training": lambda: in_batches(warp()),
    "small model": small_model,
    "steering": lambda: (names := small_model()) | {"mask": names["inputs"]["mask_image"]},
    "run": run,
    "field run": field_run,
    "video": lambda: asked(videos.wan_image_to_video()),
    "video run": video_run,
    "joint layer": joint_layer,
    "shares": shares,
    "saved run": saved_run,
    "training": training,
    "text": text,
    "words": text_run,
    "words run": text_run,
    "words study": words_study,
    "joint study": joint_study,
    "viton": viton,
    "stableviton": stableviton,
    "mending": mending,
    "my pipeline": my_pipeline,
    "made-up pipeline": tailor,
    "operands": operands,
    "grids": grids,
    "everything": everything,
    "checkout": partial(dict, ROOT=Path(__file__).parents[2]),
}
