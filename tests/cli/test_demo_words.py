"""The demo's page of words, by small random models: every word can be picked, every picture lies inside, scores are those of the maps."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("matplotlib")
import numpy as np
from PIL import Image
from scene_model import SIZE, tiny

import i2am
from i2am.cli.demo_words import ENLARGED, LEAKING, PROMPTS, SCENES, lit, looked_at, scene, write_words
from i2am.cli.demo_words_page import MODELS, WIDEST, card
from i2am.data.scenes import SHAPES, draw_scenes
from i2am.maps.words import iou, show

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory, on_the_cpu: None) -> str:
    out: Path = tmp_path_factory.mktemp("words")
    return write_words(out, 0, tiny(), tiny(1)).read_text(encoding="utf-8")


def test_every_word_can_be_picked_and_has_its_map(html: str) -> None:
    cards = re.findall(r'<fieldset class="scene" aria-label="([^"]*)">(.*?)</fieldset>', html, re.S)
    assert [prompt for prompt, _ in cards] == [*PROMPTS, *(draw_scenes(max(SCENES) + 1, size=SIZE).prompts[i] for i in SCENES)]
    for prompt, inside in cards:
        words = prompt.split()
        assert re.findall(r"<label [^>]*>([^<]*)</label>", inside) == words
        assert re.findall(r'alt="the map of ([^"]*)"', inside) == words
        assert inside.count(" checked>") == 1
        assert words[int(re.search(r'id="\w+-(\d+)" checked', inside)[1])] in SHAPES
        assert len(words) <= WIDEST
    names = re.findall(r' id="([^"]*)"', html)
    assert sorted(names) == sorted(re.findall(r'for="([^"]*)"', html))
    assert len(set(names)) == len(names)


def test_the_page_needs_nothing_else(html: str) -> None:
    assert re.findall(r'(?:href|src)="((?!data:)[^"]*)"', html) == ["index.html"]
    assert "http" not in re.sub(r"data:[^\"]*", "", html)
    pictures = re.findall(r'src="data:image/webp;base64,([^"]*)"', html)
    sizes = {Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures}
    assert sizes == {(SIZE[1] * ENLARGED, SIZE[0] * ENLARGED)}
    tinted = html.partition("Where colours leak")[2]
    assert all(title in tinted for title, _ in MODELS.values())
    assert [alt for alt in re.findall(r'alt="([^"]*)"', tinted) if alt in LEAKING] == [*LEAKING, *LEAKING]


def test_scores_are_those_of_the_words_maps() -> None:
    found = looked_at(tiny(), 3)
    drawn, pipe = draw_scenes(max(SCENES) + 1, seed=3, size=SIZE), tiny()
    prompts = [drawn.prompts[i] for i in SCENES]
    with i2am.trace(pipe, words=True, groups=1) as run:
        pipe(prompts, image=drawn.pictures[list(SCENES)] / 2 + 0.5, strength=0.2, guidance_scale=1.0, num_inference_steps=16,
             generator=[torch.Generator().manual_seed(3 + i) for i in range(len(SCENES))])  # fmt: skip
    for i, (one, index) in enumerate(zip(found, SCENES)):
        masks, words = drawn.masks(index), run.maps.words().image(i)
        expected = [iou(show(words[word][0], size=SIZE, threshold=0.4), masks[word].float()).item() if word in masks else None
                    for word in prompts[i].split()]  # fmt: skip
        assert one.iou == expected
        assert [bool(url) for url in one.truth] == [word in masks for word in prompts[i].split()]
        assert ("has no pixels of its own" in card(one, "x")) == (None in expected)


def test_a_words_pixels_are_lit() -> None:
    picture, mask = Image.new("RGB", (40, 20), (200, 10, 10)), torch.zeros(5, 10, dtype=torch.bool)
    mask[:, :5] = True
    shown = np.asarray(lit(picture, mask))
    assert (shown[:, :16] == (200, 10, 10)).all()
    assert (shown[:, 24:] > 180).all()


def test_what_a_prompt_says_is_escaped() -> None:
    pipe = tiny()
    with i2am.trace(pipe, words=True, groups=1) as run:
        image = pipe("a red ring", num_inference_steps=1, output_type="pt").images[0]
    made = scene("a red ring", image, run.maps.words())
    assert "<b>" not in card(type(made)("a <b> ring", made.picture, made.maps, chosen=2), "x")
