"""The checkpoint of the original Paint-by-Example, or of DCI-VTON, as a folder that diffusers and `i2am evaluate` read.

StableVITON is made of the same parts under the same names, so its tables serve here as well. DCI-VTON trains Paint-by-Example
further without changing a part: its file also holds the VGG19 that its training compares pictures with, and no more. Its sampler
differs: it starts from the noised warped garment (`latents=`) and shows the UNet the warped garment under the mask, which
diffusers' pipeline blanks, so the folder holds DCI-VTON's weights, and that pipeline does not paint as DCI-VTON does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import PaintByExamplePipeline, UNet2DConditionModel
from transformers import CLIPImageProcessor, CLIPVisionConfig

try:  # wherever this version of diffusers has it
    from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder
except ImportError:
    from diffusers.pipelines.paint_by_example import PaintByExampleImageEncoder

from i2am.common import outputs
from i2am.common.checks import refuse
from i2am.models.stableviton.convert import checked_tensors, fill
from i2am.models.stableviton.names import LDM_LEFT_OUT, LDM_PREFIXES, Rule, clip
from i2am.models.stableviton.release import autoencoder, scheduler

AVERAGES = {"averages of the weights, which the release does not paint with": r"model_ema\.(decay|num_updates|diffusion_model\w+)"}
LEFT_OUT = {
    "paint-by-example": {**LDM_LEFT_OUT, **AVERAGES},
    "dci-vton": {**LDM_LEFT_OUT, **AVERAGES, "read by the loss alone": r"vgg\.conv[1-5]_[1-4]\.(weight|bias)"},
}


def convert(checkpoint: str | Path, out: str | Path, release: str = "paint-by-example", models: Mapping[str, Any] | None = None) -> Path:
    """Write the folder `out` from `checkpoint`, a .ckpt (read with weights_only) or .safetensors file; returns `out`.

    release: "paint-by-example" or "dci-vton". models: `parts(...)` of other widths; they are filled.
    """
    if release not in LEFT_OUT:
        refuse("release", f"one of {', '.join(LEFT_OUT)}", repr(release), "Others have parts of their own.")
    state = checked_tensors(checkpoint, out)
    if models is None:
        with torch.device("meta"):
            models = parts()
    fill(models, state, release, prefixes(models["image_encoder"]), LEFT_OUT[release])
    rest = {"scheduler": scheduler(), "feature_extractor": CLIPImageProcessor(), "safety_checker": None}
    with outputs.whole_folder(Path(out)):
        PaintByExamplePipeline(**models, **rest).save_pretrained(out)
    return Path(out)


def parts(width: int = 320, tokens: int = 768, vae_width: int = 128, hidden: int = 1024, layers: int = 24) -> dict[str, Any]:
    """The models by the names of their folders. width: channels on the finest grid; hidden, layers: CLIP's, by default ViT-L/14's."""
    vision = CLIPVisionConfig(hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers, num_attention_heads=hidden // 64,
                              image_size=224, patch_size=14, projection_dim=tokens)  # fmt: skip
    return {
        "unet": UNet2DConditionModel(
            sample_size=64,
            in_channels=9,  # noise, the picture without what is painted anew, where that is not
            block_out_channels=(width, 2 * width, 4 * width, 4 * width),
            cross_attention_dim=tokens,
        ),
        "image_encoder": PaintByExampleImageEncoder(vision),
        "vae": autoencoder(vae_width),
    }


def prefixes(image_encoder: Any) -> dict[str, tuple[str, Rule]]:
    """The table of names; transformers 4 has CLIP's vision model inside a model, 5 has not."""
    model = "model.vision_model" if hasattr(image_encoder.model, "vision_model") else "model"
    rule = partial(clip, model=model, mapper="mapper.blocks")
    return {**LDM_PREFIXES, "cond_stage_model.": ("image_encoder", rule)}
