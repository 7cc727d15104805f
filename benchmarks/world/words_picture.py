"""Prompts, what the small text-to-image model paints of them, and the maps of their words: `python -m benchmarks.world.words_picture`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

import i2am
from i2am.data.scenes import COLOURS, SHAPES
from i2am.models.scenes import WEIGHTS, SmallTextPipeline, load
from i2am.show.drawing import as_images, font
from i2am.show.pictures import overlay

ROOT = Path(__file__).parents[2]
PROMPTS = ("a red circle left of a blue square", "a green star above a white ring", "a black ring touches a red star",
           "a purple triangle on the left and a cyan circle on the right")  # fmt: skip
LARGE, GAP, TOP = 2, 8, 30  # times; pixels between pictures, and for what is written over them


def shown(prompt: str) -> list[str]:
    """The words whose maps are drawn."""
    return [word for word in prompt.split() if word in SHAPES or word in COLOURS]


def draw(pipe: SmallTextPipeline, path: Path, steps: int, guidance: float) -> None:
    pipe.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(i) for i in range(len(PROMPTS))]
    with i2am.trace(pipe, words=True, groups=1) as run:
        made = pipe(list(PROMPTS), num_inference_steps=steps, guidance_scale=guidance, generator=noise, output_type="pt").images
    words, (height, width) = run.maps.words(), (LARGE * side for side in pipe.size)
    most = 1 + max(len(shown(prompt)) for prompt in PROMPTS)
    page = Image.new("RGB", (most * (width + GAP) + GAP, len(PROMPTS) * (height + TOP + GAP) + GAP), "white")
    pen = ImageDraw.Draw(page)
    for i, (prompt, picture) in enumerate(zip(PROMPTS, as_images(made))):
        picture, own = picture.resize((width, height), Image.Resampling.BICUBIC), words.image(i)
        columns = [("", picture)] + [(word, overlay([picture.convert("L")], own[word], alpha=0.7)[0]) for word in shown(prompt)]
        top = GAP + i * (height + TOP + GAP)
        pen.text((GAP, top + TOP / 2), prompt, "#1d1d1f", font=font(13 if len(prompt) < 40 else 9), anchor="lm")
        for j, (word, one) in enumerate(columns):
            left = GAP + j * (width + GAP)
            page.paste(one, (left, top + TOP))
            pen.text((left + width / 2, top + TOP / 2), word if j else "", "#5f6068", font=font(15), anchor="mm")
    page.save(path)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.words_picture", description=__doc__)
    parser.add_argument("--weights", default=WEIGHTS, help="a pipeline's folder; default: the shipped model")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "words.png")
    given = parser.parse_args(words)
    draw(load(given.weights), given.out, given.steps, given.guidance)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
