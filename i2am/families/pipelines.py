"""What is known of every pipeline of diffusers that takes a picture: how the picture enters, and whether attention sees it.

A pipeline that is not here and takes a picture is refused: nobody has looked at it. docs/models/census.md is this as a table; it is
written by `python -m benchmarks.report.census`.
"""

from __future__ import annotations

import inspect
from typing import Any

from i2am.families.family import class_names
from i2am.families.image_pipelines import IMAGES
from i2am.families.joint_pipelines import JOINT
from i2am.families.known import ADAPTER, NONE, REFUSED, VERDICTS, WORKS, Known, by_name
from i2am.families.transformer_pipelines import TRANSFORMERS
from i2am.families.unet_pipelines import UNETS
from i2am.families.video_pipelines import VIDEOS

__all__ = ["ADAPTER", "KNOWN", "NONE", "PICTURES", "REFUSED", "VERDICTS", "WORKS", "Known", "known", "pictures_of"]

# parameters of a pipeline's call that are pictures, videos or their latents, and not masks
PICTURES = (
    "image", "images", "input_images", "image_latents", "original_image", "last_image", "example_image", "ip_adapter_image",
    "reference_image", "reference_images", "ref_image", "image_reference", "reference_latents", "reference_conditions",
    "cond_image", "condtioning_image", "control_image", "controls", "conditions", "conditioning_frames", "gligen_images",
    "gligen_inpaint_image", "video", "video_latents", "control_video", "pose_video", "face_video", "background_video",
    "keyframes_latents",
)  # fmt: skip
KNOWN: dict[str, Known] = {
    **by_name((*UNETS, *TRANSFORMERS)),
    **JOINT,
    **VIDEOS,
    **IMAGES,
}


def pictures_of(pipeline: Any) -> list[str]:
    """The pictures that a pipeline's call takes, by parameter."""
    return [name for name in inspect.signature(pipeline.__call__).parameters if name in PICTURES]


def known(pipe: Any) -> Known | None:
    """What is known of a pipeline, or of a class that it derives from."""
    return next((KNOWN[name] for name in class_names(pipe) if name in KNOWN), None)
