"""The world of words: what is said is what is drawn, whatever the batch and the canvas, and a parse is a tree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from i2am.data.prompts import read_prompts
from i2am.data.scenes import COLOURS, SHAPES, Scenes, draw_scenes
from i2am.data.scenes.disk import write_scenes
from i2am.data.scenes.grammar import BESIDE, VOCABULARY, Thing, beside, both, one, touching
from i2am.data.scenes.layout import BOUND
from i2am.data.scenes.render import HATCHINGS, PALETTE
from i2am.data.word_masks import read_masks
from i2am.language.conllu import read_conllu, to_conllu

COUNT = 160


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes(COUNT)


def centre(mask: torch.Tensor) -> tuple[float, float]:
    y, x = mask.nonzero().float().mean(0)
    return y.item(), x.item()


def test_a_scene_is_the_same_in_any_batch_and_on_any_canvas(scenes: Scenes) -> None:
    some = draw_scenes(3, first=40)
    assert torch.equal(some.pictures, scenes.pictures[40:43])
    assert torch.equal(some.things, scenes.things[40:43])
    assert some.prompts == scenes.prompts[40:43]
    large = draw_scenes(3, first=40, size=(128, 192))
    assert large.prompts == some.prompts
    assert (large.things[..., ::2, ::2] != some.things).float().mean() < 0.01
    assert draw_scenes(3, first=40, seed=1).prompts != some.prompts
    upright = draw_scenes(20, size=(96, 40))
    assert upright.things.flatten(2).any(2)[:, 0].all()


def test_words_have_the_pixels_of_their_things(scenes: Scenes) -> None:
    """The colour that a word names is the mean colour of its pixels, nearer than any other of the palette."""
    for i in range(COUNT):
        masks = scenes.masks(i)
        assert set(masks) == {word.form for word in scenes.sentences[i].words if word.upos in ("NOUN", "ADJ", "VERB") and word.things}
        for word, mask in masks.items():
            if word in COLOURS:
                mean = (scenes.pictures[i][:, mask].mean(1) + 1) / 2
                assert (PALETTE - mean).square().sum(1).argmin() == COLOURS.index(word), (i, word, mean)
    both_there = scenes.things.flatten(2).any(2)
    assert both_there[:, 0].all()
    assert [len(layout.things) for layout in scenes.layouts] == both_there.sum(1).tolist()
    assert not scenes.things.all(1).any()


def test_things_lie_where_the_prompt_says(scenes: Scenes) -> None:
    height, width = scenes.pictures.shape[-2:]
    held = {"left": lambda y, x: x < width / 2, "right": lambda y, x: x > width / 2, "top": lambda y, x: y < height / 2,
            "bottom": lambda y, x: y > height / 2}  # fmt: skip
    order = {"left of": lambda a, b: a[1] < b[1], "right of": lambda a, b: a[1] > b[1], "above": lambda a, b: a[0] < b[0],
             "below": lambda a, b: a[0] > b[0]}  # fmt: skip
    seen = set()
    for i, sentence in enumerate(scenes.sentences):
        first, *other = (centre(mask) for mask in scenes.things[i] if mask.any())
        for head, word in ((sentence.words[w.head - 1], w) for w in sentence.words):
            if word.form in held and word.upos == "NOUN" and head.form in SHAPES:
                assert held[word.form](*(first if head.things == (0,) else other[0])), sentence.text
                seen.add(word.form)
        for relation in BESIDE:
            if f" {relation} " in sentence.text:
                assert order[relation](first, other[0]), sentence.text
                seen.add(relation)
        if " touches " in sentence.text:
            one, two = (mask.float()[None, None] for mask in scenes.things[i])
            assert (torch.nn.functional.max_pool2d(one, 7, 1, 3) * two).any(), sentence.text
            seen.add("touches")
    assert seen == {*held, *order, "touches"}


def test_no_threshold_on_light_finds_the_things(scenes: Scenes) -> None:
    light = scenes.pictures.mean(1)
    inside = scenes.things.any(1)
    lighter = torch.tensor([(light[i][inside[i]].mean() > light[i][~inside[i]].mean()).item() for i in range(COUNT)])
    assert 0.25 < lighter.float().mean() < 0.75


def test_bound_colours_come_with_one_shape_and_tint_the_ground() -> None:
    free, bound = draw_scenes(COUNT), draw_scenes(COUNT, bound=True)
    assert all(thing.shape == BOUND[thing.colour] for layout in bound.layouts for thing in layout.things)
    assert len({(thing.shape, thing.colour) for layout in free.layouts for thing in layout.things}) > 40
    away = []
    for scenes in (free, bound):
        tint = torch.stack([PALETTE[COLOURS.index(layout.things[0].colour)] for layout in scenes.layouts])
        ground = torch.stack([scenes.pictures[i][:, ~scenes.things[i].any(0)].mean(1) for i in range(COUNT)]) / 2 + 0.5
        away.append((ground - tint).norm(dim=1).mean())
    assert away[1] < 0.75 * away[0]


def test_a_parse_is_a_tree_with_universal_dependencies() -> None:
    red, ring = Thing("circle", "red", "big"), Thing("ring", "blue", named=False)
    sentences = [one(red), one(red, "top"), both((red, ring)), both((red, ring), "left"), touching((red, ring)),
                 *(beside((red, ring), relation) for relation in BESIDE)]  # fmt: skip
    for sentence in sentences:
        heads = [word.head for word in sentence.words]
        assert heads.count(0) == 1
        for at in range(1, len(heads) + 1):
            path = [at]
            while heads[path[-1] - 1]:
                path.append(heads[path[-1] - 1])
                assert len(path) <= len(heads), sentence.text
        assert all(word.form in VOCABULARY for word in sentence.words)
    found = {(word.form, sentence.words[word.head - 1].form, word.deps or word.deprel) for sentence in sentences for word in sentence.words}
    expected = {("big", "circle", "amod"), ("red", "circle", "amod"), ("ring", "circle", "conj:and"),
                ("ring", "circle", "nmod:left_of"), ("circle", "touches", "nsubj"), ("ring", "touches", "obj"),
                ("right", "ring", "nmod:on"), ("top", "circle", "nmod:at")}  # fmt: skip
    assert found > expected
    assert sentences[3].text == "a big red circle on the left and a ring on the right"
    assert to_conllu([sentences[5].parsed("7")]).splitlines()[:3] == [
        "# sent_id = 7", "# text = a big red circle left of a ring", "1\ta\ta\tDET\t_\t_\t4\tdet\t4:det\t_"]  # fmt: skip


def test_hatchings_are_those_of_their_shapes_alone() -> None:
    """A noun says what a thing's inside looks like, not its outline alone; and a hatching is as light as the colour, on the whole."""
    y = ((torch.arange(64) + 0.5) / 64)[:, None].expand(64, 64)
    drawn = torch.stack([hatching(y.T, y) for hatching in HATCHINGS.values()])
    assert torch.cdist(drawn.flatten(1), drawn.flatten(1))[~torch.eye(len(drawn), dtype=torch.bool)].min() > 10
    assert drawn.flatten(1).mean(1).abs().max() < 1e-5


def test_scenes_on_disk_are_read_by_the_studies(tmp_path: Path) -> None:
    root, scenes = write_scenes(tmp_path / "world", 4, seed=3), draw_scenes(4, seed=3)
    asked = read_prompts(root / "prompts.csv")
    assert [one.prompt for one in asked] == scenes.prompts
    masks = read_masks(root, [one.id for one in asked], size=(64, 96))
    for i, found in enumerate(asked):
        assert {word: mask.tolist() for word, mask in masks[found.id].items()} == {w: m.tolist() for w, m in scenes.masks(i).items()}
        with Image.open(found.image) as image:
            drawn = ((scenes.pictures[i] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            assert np.array_equal(np.asarray(image), drawn)
    assert read_conllu(root / "scenes.conllu") == [sentence.parsed(one.id) for one, sentence in zip(asked, scenes.sentences)]
    assert json.loads((root / "world.json").read_text())["seed"] == 3
    write_scenes(root, 4, seed=3)
    with pytest.raises(ValueError, match=r"^i2am: root must be new, or scenes of .*'seed': 4"):
        write_scenes(root, 4, seed=4)
    with pytest.raises(ValueError, match=r"^i2am: root must be new"):
        write_scenes(root / "images", 4)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"count": 0}, "count"), ({"size": (0, 9)}, "size"), ({"seed": -1}, "seed"), ({"size": 64}, "size")], ids=str
)
def test_scenes_that_cannot_be_are_refused(wrong: dict, said: str, tmp_path: Path) -> None:
    for draw in (draw_scenes, lambda count, **other: write_scenes(tmp_path / "new", count, **other)):
        with pytest.raises(ValueError, match=f"^i2am: {said} must be"):
            draw(**{"count": 1, **wrong})
    assert not (tmp_path / "new").exists()
