"""Do the maps of words mean the words? The small text-to-image model on held-out scenes: `python -m benchmarks.world.words`.

    segment  IoU of the maps of nouns and adjectives with their things: on what is painted (the truth: pixels of the colour that is named)
             and on rendered pictures looked at under noise (the truth: the renderer's), beside baselines that know no attention
    syntax   how the maps of words that depend on each other overlap, beside how their things do
    leak     "a {red, green, blue} square" and so on, one seed: how far the adjective reaches beyond the noun, and what it changes there

of the shipped model, of its twin with bound colours, and of random weights. Rows go to benchmarks/results/small-world.jsonl.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

import i2am
from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from benchmarks.world import words_tables
from benchmarks.world.word_truth import painted_masks
from i2am.data.scenes import COLOURS, SHAPES, Scenes, draw_scenes
from i2am.maps.words import WordMaps, show
from i2am.models.scenes import WEIGHTS, WEIGHTS_BOUND, SmallTextPipeline, load
from i2am.models.scenes.train import Model, Options
from i2am.score.entanglement import changed, leaking, table_of
from i2am.score.relations import CONVENTIONS, Overlaps, Pair, by_relation
from i2am.score.segmentation import Protocol, Segmentation, levels
from i2am.score.segmentation_rivals import Rivals

HELD_OUT = 20_261_121  # a seed below the training's
RANDOM = 5  # models of random weights
KINDS: dict[str, Callable[[str], bool]] = {"nouns": SHAPES.__contains__, "colours": COLOURS.__contains__}
PAINTED = ("red", "green", "blue")


def model_of(name: str) -> SmallTextPipeline:
    """shipped, bound, random N, or a folder."""
    if name.startswith("random "):
        torch.manual_seed(int(name.split()[1]))
        pipe = Model().eval().pipeline(Options.shift)
    else:
        pipe = load({"shipped": WEIGHTS, "bound": WEIGHTS_BOUND}.get(name, name))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def noise(first: int, count: int) -> list[torch.Generator]:
    """Each scene's own."""
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def traced(pipe: SmallTextPipeline, prompts: Sequence[str], first: int, given: argparse.Namespace, **more: Any) -> tuple[Tensor, WordMaps]:
    """The pictures [B, 3, H, W] in [0, 1] and the maps of their words."""
    guidance = 1.0 if "image" in more else given.guidance  # what is there needs no push
    with i2am.trace(pipe, words=True, groups=1) as run:
        images = pipe(list(prompts), num_inference_steps=given.steps, guidance_scale=guidance, generator=noise(first, len(prompts)),
                      output_type="pt", **more).images  # fmt: skip
    return images, run.maps.words()


def looked_at(
    pipe: SmallTextPipeline, given: argparse.Namespace, on: str, bound: bool, what: str
) -> Iterator[tuple[str, Scenes, int, Tensor, WordMaps, dict[str, Tensor]]]:
    """Scene by scene: its id, the batch and its place in it, the picture, the maps of its words, and the true masks."""
    for first in tqdm(range(0, given.count, given.batch), desc=what, unit="batch"):
        scenes = draw_scenes(min(given.batch, given.count - first), seed=HELD_OUT, first=first, size=pipe.size, bound=bound)
        start = {"image": scenes.pictures / 2 + 0.5, "strength": given.strength} if on == "rendered" else {}
        images, words = traced(pipe, scenes.prompts, first, given, **start)
        pictures = start.get("image", images)
        for i in range(len(scenes)):
            masks = scenes.masks(i) if start else painted_masks(images[i], scenes.layouts[i])
            yield f"{first + i:05d}", scenes, i, pictures[i], words.image(i), masks


def segment(pipe: SmallTextPipeline, given: argparse.Namespace, on: str, bound: bool, name: str) -> Iterator[Row]:
    """A row for nouns and one for colours: mIoU at every threshold, and those of the baselines."""
    scores = {kind: (Segmentation(Protocol()), Rivals(Protocol().thresholds)) for kind in KINDS}
    there, asked = 0, 0
    for id, scenes, i, picture, words, masks in looked_at(pipe, given, on, bound, f"{name}, {on}"):
        asked += len(scenes.masks(i))
        there += len(masks)
        as_bytes = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        for kind, counts in KINDS.items():
            segmentation, rivals = scores[kind]
            own = {word: mask for word, mask in masks.items() if counts(word)}
            rows = segmentation.add(id, levels(words, list(own), pipe.size), own)
            rivals.add(rows, own, Image.fromarray(as_bytes))
    for kind, (segmentation, rivals) in scores.items():
        yield {"kind": kind, "on": on, "table": segmentation.table(), "rivals": rivals.table(), "words": asked, "there": there}


def syntax(pipe: SmallTextPipeline, given: argparse.Namespace, on: str, bound: bool, name: str) -> Iterator[Row]:
    """The overlaps of a relation's maps, and those of its words' true masks."""
    how = CONVENTIONS["paper"]
    found: dict[str, list[Pair]] = {"maps": [], "truth": []}
    for id, scenes, i, _, words, masks in looked_at(pipe, given, on, bound, f"{name}, {on}"):
        order = list(masks)
        if len(order) < 2:
            continue
        both = {"maps": Overlaps(torch.cat([words[word] for word in order]), how, pipe.size),
                "truth": Overlaps(torch.stack([masks[word] for word in order]).float(), how, pipe.size)}  # fmt: skip
        sentence = scenes.sentences[i].words
        for word in sentence:
            head = sentence[word.head - 1].form if word.head else ""
            if word.form in masks and head in masks:
                for which, overlaps in both.items():
                    pair = overlaps.pair(order.index(head), order.index(word.form))
                    found[which].append(Pair(id, word.deps or word.deprel, pair))
    yield {"on": on, **{which: by_relation(pairs, most=20) for which, pairs in found.items()}}


def leak(pipe: SmallTextPipeline, given: argparse.Namespace, on: str, bound: bool, name: str) -> Iterator[Row]:
    """Of every shape in three colours from the same noise: where the adjectives look, and what else they change."""
    looks, changes = [], []
    for seed in tqdm(range(given.count), desc=f"{name}, colours", unit="seed"):
        prompts = [f"a {colour} {shape}" for shape in SHAPES for colour in PAINTED]
        start = torch.randn(1, 48, *pipe.unet.config.sample_size, generator=torch.Generator().manual_seed(seed))
        images, words = traced(pipe, prompts, 0, given, latents=start.expand(len(prompts), -1, -1, -1).contiguous())
        for at, shape in enumerate(SHAPES):
            places = range(3 * at, 3 * at + 3)
            nouns = []
            for place, colour in zip(places, PAINTED):
                own = words.image(place)
                nouns.append(show(own[shape], size=pipe.size, threshold=0.4))
                looks.append({"seed": seed, **{k: v.item() for k, v in leaking(own[colour], own[shape], size=pipe.size).items()}})
            for one, other in combinations(range(3), 2):
                union = torch.maximum(nouns[one], nouns[other])
                pictures = (images[places[one]][None], images[places[other]][None])
                changes.append({"seed": seed, **{k: v.item() for k, v in changed(*pictures, union).items()}})
    numbers = [name for name in looks[0] if name != "seed"], [name for name in changes[0] if name != "seed"]
    yield {"looks": table_of(looks, "seed", numbers[0]), "changes": table_of(changes, "seed", numbers[1])}


QUESTIONS: dict[str, tuple[Callable[..., Iterator[Row]], tuple[str, ...]]] = {
    "segment": (segment, ("painted", "rendered")), "syntax": (syntax, ("painted", "rendered")), "leak": (leak, ("",)),
}  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.words", description=__doc__, formatter_class=raw)
    parser.add_argument("questions", nargs="*", default=list(QUESTIONS), metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--models", nargs="+", default=["shipped", "bound", *(f"random {i}" for i in range(RANDOM))],
                        help="shipped, bound, 'random N', or folders")  # fmt: skip
    parser.add_argument("--count", type=int, default=60, help="scenes; of leak seeds, a tenth of it")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--strength", type=float, default=0.2, help="of the noise on rendered pictures")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    given = parser.parse_args(words)
    if strange := [one for one in given.questions if one not in QUESTIONS]:
        parser.error(f"no question: {', '.join(strange)}; there are {', '.join(QUESTIONS)}")
    writer = Writer(given.out, environment(torch.device("cpu")))
    rows = []
    for name in given.models:
        pipe = model_of(name)
        for question in given.questions:
            asked, places = QUESTIONS[question]
            options = {"count": max(1, given.count // 10) if question == "leak" else given.count, "steps": given.steps,
                       "guidance": given.guidance, "strength": given.strength, "batch": given.batch}  # fmt: skip
            for on in places:
                for row in asked(pipe, argparse.Namespace(**options), on, name == "bound", name):
                    rows.append({"benchmark": f"words {question}", "model": name, **options, **row})
                    writer.write(rows[-1])
    writer.close()
    print("\n\n".join(words_tables.tables(rows)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
