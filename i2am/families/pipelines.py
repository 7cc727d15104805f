"""What is known of every pipeline of diffusers that takes a picture: how the picture enters, and whether attention sees it.

A pipeline that is not here and takes a picture is refused: nobody has looked at it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from i2am.families.family import class_names


@dataclass(frozen=True)
class Known:
    """How a pipeline's pictures enter."""

    kind: str  # "works": attention sees them and a rule knows where; "none": attention does not; "refused": it does, and no rule knows
    how: str  # where the reference is, why there is none, or why it is refused and what to write instead


WORKS, NONE, REFUSED = "works", "none", "refused"
PICTURES = ("image", "images", "reference_image", "reference_images", "ref_image", "example_image", "ip_adapter_image", "control_image",
            "video", "reference_video", "control_video", "pose_video", "face_video", "image_reference", "gligen_images")  # fmt: skip
QWEN = "behind what is generated, in the joint attention of every layer; the text's encoder sees it too, among the words"
KNOWN: dict[str, Known] = {
    "QwenImageEditPipeline": Known(WORKS, QWEN),
    "QwenImageEditInpaintPipeline": Known(WORKS, QWEN),
    "QwenImageEditPlusPipeline": Known(WORKS, QWEN),
    "QwenImageLayeredPipeline": Known(WORKS, QWEN + "; the whole picture and its layers are frames"),
    "QwenImage21Pipeline": Known(WORKS, "among the text, in front of what is generated; with use_kv_cache=False"),
    "QwenImageImg2ImgPipeline": Known(NONE, "the picture is what the noise is laid over"),
    "QwenImageInpaintPipeline": Known(NONE, "the picture is what the noise is laid over, and stays outside the mask"),
    "QwenImageControlNetPipeline": Known(NONE, "the picture is added to the layers' outputs by a ControlNet"),
    "QwenImageControlNetInpaintPipeline": Known(NONE, "the pictures are added to the layers' outputs by a ControlNet"),
    "VisualClozeGenerationPipeline": Known(REFUSED, "its sequence is a grid of pictures, of which the last is generated"),
}


def pictures_of(pipeline: Any) -> list[str]:
    """The pictures that a pipeline's call takes, by parameter."""
    return [name for name in inspect.signature(pipeline.__call__).parameters if name in PICTURES]


def known(pipe: Any) -> Known | None:
    """What is known of a pipeline, or of a class that it derives from."""
    return next((KNOWN[name] for name in class_names(pipe) if name in KNOWN), None)
