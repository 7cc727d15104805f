"""The demo's page of words: prompts painted by the embedded text-to-image model, rendered scenes looked at under noise, and the twin whose
colours leak; every word's map beside them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from i2am.attach.trace import trace
from i2am.cli.demo_words_page import THRESHOLD, Scene, page
from i2am.common.outputs import write_whole
from i2am.data.scenes import SHAPES
from i2am.maps.words import WordMaps, iou, show

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = "words.html"
PROMPTS = (
    "a red circle left of a blue square", "a green star above a white ring", "a purple triangle on the left and a cyan circle on the right",
    "a big yellow cross", "a black ring touches a red star", "a small blue circle and a big green triangle",
)  # fmt: skip
LEAKING = tuple(f"a {colour} square" for colour in ("red", "green", "blue"))
SCENES = (4, 7, 17, 19, 22, 30)  # of a seed: rendered, and looked at
STEPS, GUIDANCE, STRENGTH = 16, 3.0, 0.2
ENLARGED = 4


def write_words(out: Path, seed: int = 0, pipe: Any = None, bound: Any = None) -> Path:
    """Paint, look, and write out/words.html. The pipelines are the shipped ones unless others are given."""
    from i2am.models.scenes import WEIGHTS_BOUND, load

    pipe, bound = pipe or load(), bound or load(WEIGHTS_BOUND)
    painted = scenes(pipe, PROMPTS, seed)
    leaking = {name: scenes(model, LEAKING, seed, same=True) for name, model in (("free", pipe), ("bound", bound))}
    html = page(painted, looked_at(pipe, seed), leaking)
    write_whole(out / PAGE, lambda part: part.write_text(html, encoding="utf-8"))
    return out / PAGE


def scenes(pipe: Any, prompts: Sequence[str], seed: int, same: bool = False) -> list[Scene]:
    """Prompts as the model paints them; same: all from the same noise."""
    pipe.set_progress_bar_config(desc=f"painting {len(prompts)} prompts", unit="step")
    noise = [torch.Generator("cpu").manual_seed(20_000 + 100 * seed + (0 if same else i)) for i in range(len(prompts))]
    with trace(pipe, words=True, groups=1) as run:
        images = pipe(list(prompts), num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=noise, output_type="pt").images
    words = run.maps.words()
    return [scene(prompt, images[i], words.image(i)) for i, prompt in enumerate(prompts)]


def looked_at(pipe: Any, seed: int) -> list[Scene]:
    """Rendered scenes, with a little noise over them."""
    from i2am.data.scenes import draw_scenes

    drawn = draw_scenes(max(SCENES) + 1, seed=seed, size=pipe.size)
    pictures = drawn.pictures[list(SCENES)] / 2 + 0.5
    prompts = [drawn.prompts[i] for i in SCENES]
    pipe.set_progress_bar_config(desc=f"looking at {len(prompts)} pictures", unit="step")
    with trace(pipe, words=True, groups=1) as run:
        pipe(prompts, image=pictures, strength=STRENGTH, guidance_scale=1.0, num_inference_steps=STEPS, output_type="pt",
             generator=[torch.Generator("cpu").manual_seed(seed + i) for i in range(len(prompts))])  # fmt: skip
    words = run.maps.words()
    return [scene(prompt, pictures[i], words.image(i), drawn.masks(SCENES[i])) for i, prompt in enumerate(prompts)]


def scene(prompt: str, picture: Tensor, words: WordMaps, masks: dict[str, Tensor] | None = None) -> Scene:
    """A picture [3, H, W] in [0, 1] with every map and mask over it."""
    from i2am.show.drawing import as_images
    from i2am.show.pictures import overlay

    image, said = large(as_images(picture[None])[0]), prompt.split()
    grey = image.convert("L")
    found = {word: url(overlay([grey], words[word], alpha=0.72)[0]) for word in dict.fromkeys(said)}
    chosen = next(at for at, word in enumerate(said) if word in SHAPES)
    if masks is None:
        return Scene(prompt, url(image), [found[word] for word in said], chosen=chosen)
    size = (picture.shape[-2], picture.shape[-1])
    shown = {word: url(lit(image, mask)) for word, mask in masks.items()}
    scores = {word: iou(show(words[word][0], size=size, threshold=THRESHOLD), mask.float()).item() for word, mask in masks.items()}
    return Scene(prompt, url(image), [found[word] for word in said], [shown.get(word, "") for word in said],
                 [scores.get(word) for word in said], chosen)  # fmt: skip


def large(picture: Image) -> Image:
    from PIL.Image import Resampling

    return picture.resize((picture.width * ENLARGED, picture.height * ENLARGED), Resampling.BICUBIC)


def lit(picture: Image, mask: Tensor) -> Image:
    """The picture as it is inside of a mask, faint outside."""
    from PIL import Image

    faint = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, "white"), 0.72)
    inside = Image.fromarray(mask.numpy().astype("uint8") * 255).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.composite(picture, faint, inside)


def url(picture: Image) -> str:
    """A picture inside the page."""
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
