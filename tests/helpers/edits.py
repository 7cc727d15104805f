"""An editing pipeline that reads its prompt as text, beside a reference picture; and what the page on words takes for granted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import joint
import torch
from parts import absent, as_pil, autoencoder, clip_text, clip_tokenizer, pictures, ready, t5_text, t5_tokenizer
from pipelines import sd15

from i2am.data.prompts import Asked

TEXT, GENERATED, REFERENCE = 16, (8, 6), (5, 7)  # tokens
CALL: dict[str, Any] = {"_auto_resize": False, "max_area": 64 * 48, "max_sequence_length": TEXT}


def kontext() -> Any:
    """Flux Kontext with its text encoders: keys [text, generated, reference]."""
    try:
        from diffusers import FluxKontextPipeline
    except ImportError as error:
        absent("Flux Kontext", error)
    torch.manual_seed(0)
    parts = {"text_encoder": clip_text(32), "tokenizer": clip_tokenizer(), "text_encoder_2": t5_text(32), "tokenizer_2": t5_tokenizer()}
    return ready(
        FluxKontextPipeline(scheduler=joint.flow(), vae=autoencoder(shift_factor=0.0), transformer=joint.flux_transformer(True), **parts)
    )


def edits(folder: Path) -> list[Asked]:
    """Two prompts over one reference, which is written into the folder."""
    path = folder / "garment.png"
    as_pil(pictures(1, joint.REFERENCE))[0].save(path)
    return [Asked("one", "a red shirt on a blue cat", image=path), Asked("two", "the plain dog", image=path)]


def words_study() -> dict[str, Any]:
    """A list of prompts, and a text-to-image pipeline in a folder."""
    Path("prompts.txt").write_text("a red shirt\na dog and a cat\n")
    pipe = sd15().pipe
    pipe.save_pretrained("weights/model")
    return {"pipe": pipe}


def joint_study() -> dict[str, Any]:
    """Pictures that were painted from a prompt and a reference."""
    from i2am.studies.options import Options
    from i2am.studies.run import paint

    options = Options(steps=2, size=(64, 48), arguments=CALL)
    return {"painted": paint([replace(edits(Path("."))[0], id="0000")], kontext(), out="runs/edits", options=options, cpu=True)}
