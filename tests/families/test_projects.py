"""Try-on projects outside diffusers: numbers of their own code, and stand-ins of the same names and shapes.

`projects_numbers.npz` holds what one guided step of each project's own pipeline gave, built small with random weights: the names of the
layers, how many queries and keys each had, the queries and keys of one layer of each grid, and the maps that float64 makes of them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import attentions
import numpy as np
import oracle
import projects
import pytest
import tolerance
import torch
from families import FAMILIES, Family, hold_words
from torch import Tensor

import i2am
from i2am.attach.finder import RULES
from i2am.attach.guidance import parse
from i2am.families.unet import pixel_attention
from i2am.maps.tokens import Seen, Tokens

pytestmark = pytest.mark.usefixtures("on_the_cpu")

NUMBERS = Path(__file__).parents[1] / "helpers" / "projects_numbers.npz"


class Project(NamedTuple):
    """A line of the documentation, and what the project's code gave."""

    pipeline: str  # its class
    rule: Any
    guidance: str
    other: str  # a layout that it does not have
    build: Any  # a stand-in, where there is one
    half: bool = False  # whether the reference is a half of the queries as well
    index: int = 0


FIRST, LAST = "cond-uncond", "uncond-cond"
PROJECTS = {
    "catvton": Project("CatVTONPipeline", RULES["self"], LAST, FIRST, attentions.catvton, True),
    "leffa": Project("LeffaPipeline", RULES["self"], LAST, FIRST, attentions.leffa, True),
    "idm-vton": Project("StableDiffusionXLInpaintPipeline", RULES["self"], LAST, FIRST, attentions.idm_vton, True),
    "idm-vton-adapter": Project("StableDiffusionXLInpaintPipeline", RULES["adapter"], LAST, FIRST, attentions.idm_vton, index=1),
    "ootdiffusion": Project("OotdPipeline", RULES["self"], FIRST, LAST, attentions.ootdiffusion, True),
    "magic-clothing": Project("OmsDiffusionPipeline", RULES["self"], "uncond-cloth-cond", "cond-cloth-uncond", None, True),
    "fitdit": Project("StableDiffusion3TryOnPipeline", RULES["self"], LAST, FIRST, projects.fitdit),
    "pasd": Project("StableDiffusionControlNetPipeline", pixel_attention, LAST, FIRST, projects.pasd),
    "pasd-light": Project("StableDiffusionControlNetPipeline", pixel_attention, LAST, FIRST, projects.pasd),
}
GRIDS = {48: (8, 6), 12: (4, 3)}  # of a picture of 64 x 48 pixels; FitDiT's is twice as large and cut into patches
ADAPTER = 16  # tokens


@cache
def numbers(name: str) -> dict[str, Any]:
    with np.load(NUMBERS) as recorded:
        return {key.split("/")[1]: recorded[key] for key in recorded if key.startswith(f"{name}/")}


def seen(name: str, layer: str, queries: int, keys: int) -> Seen:
    """The call as a rule sees it."""
    project, size = PROJECTS[name], tuple(numbers(name)["latent"].tolist())
    processor = SimpleNamespace(to_k_ip=None, num_tokens=ADAPTER)
    pipe = type(project.pipeline, (), {})()
    inputs = {"sample": torch.empty(2, 4, *size, device="meta")}
    return Seen(layer, SimpleNamespace(processor=processor), project.index, queries, keys, inputs, pipe=pipe)


def tokens_of(name: str, layer: str, queries: int, keys: int) -> Tokens:
    found = PROJECTS[name].rule(seen(name, layer, queries, keys))
    return found if isinstance(found, Tokens) else found[0]


def recorded_layers(name: str) -> list[tuple[str, Tensor, Tensor, Tensor, Tensor]]:
    """The layers whose queries and keys are kept, with their maps."""
    kept = numbers(name)
    count = sum(key.startswith("query") for key in kept)
    return [
        (str(kept[f"layer {i}"]), *(torch.from_numpy(kept[f"{what} {i}"]) for what in ("query", "key", "r2g", "g2r"))) for i in range(count)
    ]


@pytest.mark.parametrize("name", PROJECTS)
def test_every_layer_of_the_project_is_read(name: str) -> None:
    """The rule finds the reference in every layer that the project's code has, on the grids of its picture."""
    kept, project = numbers(name), PROJECTS[name]
    assert len(kept["layers"]) == len(kept["tokens"]) >= 2
    for layer, (queries, keys) in zip(kept["layers"], kept["tokens"].tolist()):
        tokens = tokens_of(name, str(layer), queries, keys)
        cells = queries // 2 if project.half else queries
        assert tokens.generated in (None, (0, cells))
        if name == "idm-vton-adapter":
            assert tokens.reference == (0, ADAPTER)
            assert tokens.reference_grid is None
        else:
            assert tokens.reference == ((cells, 2 * cells) if project.half or name == "fitdit" else (0, cells))
            assert tokens.reference_grid == GRIDS[cells]


@pytest.mark.parametrize("name", PROJECTS)
def test_maps_are_those_of_the_project(name: str) -> None:
    """Its own queries and keys, through the rule and the recorder; other rows or the other half would not do."""
    project = PROJECTS[name]
    for layer, query, key, r2g, g2r in recorded_layers(name):
        tokens = tokens_of(name, layer, query.shape[2], key.shape[2])
        made = {}
        for guidance in (project.guidance, project.other):
            recorder = i2am.Recorder(groups=1)
            where = {"generated": tokens.generated, "reference": tokens.reference, "reference_grid": tokens.reference_grid}
            rows = parse(guidance).rows(len(query))  # type: ignore[union-attr]
            recorder.attend(layer, query, key, key, rows=rows, generated_grid=GRIDS[r2g.shape[-1]], **where)
            recorder.step()
            made[guidance] = recorder.maps.sums[0]
        call = oracle.Call(layer, 0, 0, 0, query.double(), key.double(), None, query.shape[-1] ** -0.5, torch.float32)
        single = oracle.Call(layer, 0, 0, 0, query, key, None, query.shape[-1] ** -0.5, torch.float32)
        rows = slice(*parse(project.guidance).rows(len(query)))  # type: ignore[union-attr]
        eager = oracle.truth([single], rows=rows, generated=tokens.generated, reference=tokens.reference)
        for what, right, one in (("r2g", r2g, eager[0][:, 0]), ("g2r", g2r, eager[1][:, 0, :, 0])):
            ours, wrong = (getattr(made[guidance], what).flatten(3)[:, 0] for guidance in (project.guidance, project.other))
            tolerance.close(ours, right, one, oracle.longest([call]), f"{what} of {layer}", tolerance.exponents(call.scores))
            assert (wrong - right).abs().max() > 1e-3 * right.max()


@pytest.mark.parametrize("name", [name for name, project in PROJECTS.items() if project.build is not None])
def test_stand_ins_bear_the_names_of_the_project(name: str) -> None:
    """Pipelines, and layers but for their numbers."""
    case = PROJECTS[name].build()
    assert type(case.pipe).__name__ == PROJECTS[name].pipeline
    here = {re.sub(r"\d+", "N", layer) for layer, module in case.denoiser.named_modules() if hasattr(module, "processor")}
    there = {re.sub(r"\d+", "N", str(layer)) for layer in numbers(name)["layers"]}
    assert there & here or name == "pasd-light"


def test_pictures_side_by_side_are_told_apart() -> None:
    """Mask-free CatVTON: `catvton-pix2pix` holds what its code gave. Halves of its sequence are not its pictures, the rule's order is."""
    kept = numbers("catvton-pix2pix")
    assert kept["latent"].tolist() == [8, 12]
    query, key, r2g = (torch.from_numpy(kept[f"{what} 0"]).double() for what in ("query", "key", "r2g"))
    scores = query @ key.mT * query.shape[-1] ** -0.5
    halves = scores[1:, :, :48, 48:].softmax(-2).mean(-1)
    columns = torch.arange(96).view(8, 12)
    beside = scores[1:, :, columns[:, :6].flatten()][..., columns[:, 6:].flatten()].softmax(-2).mean(-1)
    torch.testing.assert_close(beside, r2g, rtol=1e-9, atol=0)
    assert (halves - r2g).abs().max() > 0.1 * r2g.max()
    pipe = type("CatVTONPix2PixPipeline", (), {})()
    tokens = RULES["self"](Seen("attn1", None, 0, 96, 96, {"sample": torch.empty(2, 8, 8, 12, device="meta")}, pipe=pipe))
    assert isinstance(tokens, i2am.Tokens)
    assert tokens.query_order is not None
    assert tokens.query_order == tokens.key_order
    assert (tokens.generated, tokens.reference, tokens.generated_grid) == ((0, 48), (48, 96), (8, 6))
    order = torch.tensor(tokens.query_order)
    ordered = scores[1:, :, order][..., order][:, :, :48, 48:].softmax(-2).mean(-1)
    torch.testing.assert_close(ordered, r2g, rtol=1e-9, atol=0)


def side_by_side(call: oracle.Call, columns: int, rows: slice) -> tuple[Tensor, Tensor]:
    """The maps of a latent whose left half is generated and whose right half is the reference: [B, H, left], [B, H, right]."""
    places = torch.arange(call.query.shape[2]).unflatten(0, (-1, 2, columns))
    left, right = (places[:, half].flatten() for half in (0, 1))
    scores = call.scores[rows]
    return scores[:, :, left][..., right].softmax(-2).mean(-1), scores.softmax(-1)[:, :, left][..., right].mean(-2)


@pytest.mark.parametrize("reference", ["self", "self-beside"])
@pytest.mark.parametrize("guided", [True, False])
def test_pictures_side_by_side(reference: str, guided: bool) -> None:
    """A whole run, against its stored attention: of a class that is known by name, and of a bare denoiser."""
    case = attentions.catvton(attentions.CatVTONPix2PixPipeline)
    target = {"pipe": case.pipe} if reference == "self" else {"pipe": case.denoiser, "scheduler": case.scheduler}
    ask = {"batch": 2, "size": case.sizes[1], "guided": guided}
    plain = case(**ask)
    guidance = "uncond-cond" if guided else "none"
    with (
        i2am.trace(**target, reference=reference, guidance=guidance, groups=1) as run,
        oracle.recorded(case.denoiser, case.scheduler, keep=lambda name: name.endswith("attn1")) as calls,
    ):
        out = case(**ask)
    torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-4)
    assert {(s.generated_grid, s.reference_grid) for s in run.maps.sums} == {((16, 12), (16, 12)), ((8, 6), (8, 6))}
    for sums in run.maps.sums:
        found = oracle.of(calls, sums.layer)
        right = [side_by_side(call, sums.generated_grid[1], slice(-2, None)) for call in found]
        for ours, true in ((sums.r2g, sum(pair[0] for pair in right)), (sums.g2r, sum(pair[1] for pair in right))):
            assert (ours[:, 0].flatten(2) - true).abs().max() < 1e-5 * true.max()


def test_packed_sequences_are_no_halves() -> None:
    """CatVTON on Flux: one packed sequence, in which person and garment alternate row by row."""
    call = Seen("transformer_blocks.0.attn", None, 0, 96, 96, {"hidden_states": torch.empty(1, 96, 64)})
    with pytest.raises(ValueError, match=r"attn must be of a model that takes a picture-shaped latent, .*got 96 tokens in no known order"):
        RULES["self"](call)


@pytest.mark.parametrize("guidance", ["uncond-cond", "none"])
def test_tiles_are_refused(guidance: str) -> None:
    """PASD cuts large latents; the maps of its first tile are not the picture's."""
    case = projects.pasd()
    call = case.kwargs(guided=guidance != "none")
    message = r"shown to its model whole, 16 x 16, got a tile of 8 x 8, and 4 calls in a step\. Let the pipeline work in one piece"
    with pytest.raises(ValueError, match=message), i2am.trace(case.pipe, guidance=guidance, groups=1):
        case.pipe(**call, tile=8)
    with pytest.raises(ValueError, match="tiles of one picture"), i2am.trace(case.pipe, groups=1):
        case.pipe(**call, tile=8)
    with i2am.trace(case.pipe, guidance=guidance, groups=1) as run:
        case.pipe(**call, tile=16)
    assert len(run.maps.layers) == 2


def test_light_pixel_attention_is_no_text() -> None:
    """PASD's light version looks at the picture in a third attention of the blocks that read text."""
    from i2am.families.unet import reads_pixels, text

    assert [reads_pixels(str(layer)) for layer in numbers("pasd-light")["layers"]] == [True] * 4
    assert reads_pixels("up_blocks.0.pixel_attentions.1.transformer_blocks.0.attn2")
    assert not reads_pixels("up_blocks.0.pixel_attentions.1.transformer_blocks.0.attn1")
    assert not reads_pixels("up_blocks.0.attentions.1.transformer_blocks.0.attn2")
    prompt = {"encoder_hidden_states": torch.empty(2, 77, 32)}
    module = SimpleNamespace(processor=None)
    assert text(Seen("attn2", module, 0, 192, 77, prompt)) == Tokens(words=(0, 77), source="words")
    assert text(Seen("attn2", module, 0, 192, 192, prompt)) is None


def test_an_original_adapter_and_the_words_beside_it() -> None:
    """IDM-VTON: its processor has a number of tokens, where diffusers has a list."""
    family = Family(attentions.idm_vton, words=lambda call: (0, attentions.TEXT))
    maps = hold_words(family, 2, 1, True)
    assert maps.references == ["reference"]
    assert {s.r2g is None for s in maps.sums} == {True, False}


def test_the_conditional_rows_are_the_ones() -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of the other rows."""
    for name in ("catvton", "leffa", "idm-vton", "idm-vton-adapter", "ootdiffusion", "fitdit", "pasd"):
        project, trace = PROJECTS[name], FAMILIES[name].trace
        found = {}
        for guidance in (project.guidance, project.other, "none"):
            case = project.build()
            with i2am.trace(case.pipe, **{**trace, "guidance": guidance}, groups=1) as run:
                case(batch=2, steps=1, guided=guidance != "none")
            found[guidance] = run.maps.unified("r2g")
        plain = found["none"]
        assert (found[project.guidance] - plain).abs().max() <= 1e-5 * plain.max(), name
        if name != "pasd":  # whose picture is in both rows, and meets the text's difference only later
            assert (found[project.other] - plain).abs().max() > 1e-3 * plain.max(), name
