"""Flux and what is laid out like it: every map equals the one that is made from the stored attention of the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import fluxes
import klein
import oracle
import pytest
import torch
from ask import Case
from cuts import at, behind, first_of, in_front_of, made, second_of, tokens
from families import Family, hold, hold_words, observed, runs
from fluxes import TALL, WIDE
from joint import TEXT, flow
from torch import Tensor, nn

import i2am
from i2am.attach.projection import output_weight

BOTH = tokens(TALL) + tokens(WIDE)
ALIKE = (64, 64)  # both references, and in one of the runs what is generated
PAIR = {"image 1": behind(tokens(TALL), tokens(WIDE)), "image 2": behind(tokens(WIDE))}
T5, IMAGE = 512, 27 * 27  # the tokens of Flux's text, and of Redux's image behind them
Joint = partial(Family, layers=".*attn")
flux2 = partial(partial, klein.flux2)
Adapted = partial(Family, layers=r"transformer_blocks.*attn", number=1, two_calls=True)
FAMILIES = {
    "flux2": Joint(flux2(), generated=made(references=BOTH), parts=PAIR, guided=(False,)),
    "klein": Joint(flux2("Flux2KleinPipeline"), two_calls=True, generated=made(references=BOTH), parts=PAIR),
    "klein-inpaint": Joint(partial(klein.klein_inpaint, False), two_calls=True, generated=first_of(), reference=second_of(),
        guided=(True,)),
    "klein-inpaint-reference": Joint(partial(klein.klein_inpaint, True), two_calls=True, generated=first_of(tokens(TALL)),
                                     parts={"image 1": second_of(tokens(TALL)), "image 2": behind(tokens(TALL))}, guided=(True,)),
    **{f"klein-kv-{'-'.join(map(str, map(tokens, sizes)))}": Joint(
        flux2("Flux2KleinKVPipeline", sizes), generated=made(), guided=(False,), reference=at(TEXT, tokens(sizes[0])),
        parts={"image 1": at(TEXT, tokens(sizes[0])), "image 2": at(TEXT + tokens(sizes[0]), tokens(sizes[-1]))} if sizes[1:] else {})
       for sizes in ((TALL,), (TALL, WIDE), (ALIKE, ALIKE))},
    "kontext-inpaint": Joint(partial(fluxes.kontext_inpaint, False), two_calls=True, generated=first_of(), reference=second_of(),
        guided=(True,)),
    "kontext-inpaint-reference": Joint(partial(fluxes.kontext_inpaint, True), two_calls=True, generated=made(references=tokens(TALL)),
                                       reference=behind(tokens(TALL)), guided=(True,)),
    "flux-ip-adapter": Adapted(fluxes.adapted),
    "flux-second-ip-adapter": Adapted(partial(fluxes.adapted, 2), number=2, source="adapter 2", guided=(True,)),
    "kontext-ip-adapter": Adapted(fluxes.adapted_kontext, source="adapter", generated=in_front_of(tokens(TALL)), guided=(True,)),
    "flux-img2img": Adapted(partial(fluxes.adapted_from, "FluxImg2ImgPipeline"), guided=(True,)),
    "flux-inpaint": Adapted(partial(fluxes.adapted_from, "FluxInpaintPipeline"), guided=(True,)),
    "flux-redux": Joint(fluxes.redux, generated=made(T5 + IMAGE), reference=at(T5, IMAGE), source="redux", words=at(0, T5),
                        guided=(False,)),
    "kontext-redux": Joint(partial(fluxes.redux, True), generated=made(T5 + IMAGE, tokens(TALL)), guided=(False,),
                           parts={"redux": at(T5, IMAGE), "image 2": behind(tokens(TALL))}),
    "chroma-ip-adapter": Adapted(partial(fluxes.chroma, adapters=1)),
    "chroma-img2img": Adapted(partial(fluxes.chroma, "ChromaImg2ImgPipeline", adapters=1), guided=(True,)),
    "chroma-inpaint": Adapted(partial(fluxes.chroma, "ChromaInpaintPipeline", adapters=1), guided=(True,)),
}  # fmt: skip


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(FAMILIES))
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold(FAMILIES[name], batch, size, guided)


def test_every_block_of_flux2_is_traced() -> None:
    """The single blocks have one matrix for queries, keys, values and their MLP."""
    case = klein.flux2()
    expected = ["transformer_blocks.0.attn", "single_transformer_blocks.0.attn", "single_transformer_blocks.1.attn"]
    with i2am.trace(case.pipe) as run:
        case()
    assert run.maps.layers == expected
    assert run.coverage is not None
    assert list(run.coverage.traced) == expected
    assert not run.coverage.unknown


def test_values_of_a_single_block() -> None:
    """weigh="values": the matrix behind a single block has the columns of its MLP behind those of the heads."""
    family = replace(FAMILIES["flux2"], layers="single_transformer_blocks.0.attn")
    maps, calls, case = observed(family, 1, 1, False, weigh="values", layers=[family.layers])
    attention = case.denoiser.single_transformer_blocks[0].attn
    heads = attention.to_out.weight.detach().double()[:, : attention.inner_dim].unflatten(1, (2, 16))  # [C, H, D]
    (sums,) = [s for s in maps.sums if s.source == "image 2"]
    right = 0.0
    for call in oracle.of(calls, sums.layer):
        generated, reference = family.generated(call), family.parts["image 2"](call)
        p, _ = oracle.probabilities(call, generated, reference)
        count = torch.einsum("chd,bhrd->bhrc", heads, call.value[:, :, slice(*reference)]).norm(dim=-1)
        right = right + count * p.mean(-2)
    found = sums.g2r.double().sum(1).squeeze()
    assert (found - right.squeeze()).abs().max() <= 1e-5 * right.max()


def test_the_columns_of_the_heads_behind_an_adapter() -> None:
    """What wraps the output projection, as a LoRA does, is asked for its unit vectors."""

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Linear) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    attention = klein.flux2_transformer().single_transformer_blocks[0].attn
    weight = attention.to_out.weight
    assert weight.shape[1] > attention.inner_dim
    attention.to_out = Wrapped(attention.to_out)
    found = output_weight(attention, attention.inner_dim, weight)
    assert found is not None
    torch.testing.assert_close(found, weight[:, : attention.inner_dim], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["flux2", "klein", "klein-kv-80-96", "kontext-inpaint", "flux-redux"])
def test_words_beside_references(name: str) -> None:
    family = FAMILIES[name]
    hold_words(replace(family, words=family.words or at(0, TEXT)), 1, 1, family.guided[-1])


def test_text_that_is_longer_than_flux_reads() -> None:
    """512 tokens are the most that a prompt has: what stands behind them is an image's, of a number that is known, or refused."""
    case = fluxes.redux()
    asked = case.kwargs()
    asked["prompt_embeds"] = asked["prompt_embeds"][:, :-1]
    with (
        pytest.raises(ValueError, match="the 512 tokens of T5 at most, or these and the 729 of an image"),
        i2am.trace(case.pipe, words=True),
    ):
        case.pipe(**asked)


def test_keys_that_were_cached_before_the_trace() -> None:
    """A cache does not say which pictures its keys are of."""
    model = klein.flux2_transformer(guidance_embeds=False)
    step = {"timestep": torch.ones(1), "txt_ids": torch.zeros(1, TEXT, 4), "encoder_hidden_states": torch.randn(1, TEXT, 32)}
    ids = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), torch.zeros(1))[None]
    cache = SimpleNamespace(num_ref_tokens=3, get_double=lambda index: None, get_single=lambda index: None)
    refused = pytest.raises(ValueError, match="with the references among its tokens")
    with refused, torch.no_grad(), i2am.trace(model, scheduler=flow(), words=True):
        model(torch.randn(1, 16, 16), img_ids=ids, kv_cache=cache, kv_cache_mode="cached", **step)


REASONS = {fluxes.control: "channels", fluxes.fill: "channels", fluxes.controlled: "a network beside the denoiser"}


@pytest.mark.parametrize("build", REASONS)
def test_pictures_that_are_no_tokens_are_no_reference(build: Callable[[], Case]) -> None:
    """Refused with the reason; the prompt's words are there."""
    case = build()
    with (
        pytest.raises(ValueError, match=f"no reference tokens exist in {type(case.pipe).__name__}: .*{REASONS[build]}"),
        i2am.trace(case.pipe),
    ):
        case()
    with i2am.trace(case.pipe, words=["red"]) as run:
        case()
    assert run.maps.words()["red"].shape[0] == 1


def test_a_grid_of_pictures_is_refused_and_its_rows_are_a_rule() -> None:
    """VisualCloze: the pictures of a row lie side by side in one grid, and what is generated is one of the last row."""
    case = fluxes.cloze()
    with pytest.raises(ValueError, match="side by side in one grid"):
        i2am.trace(case.pipe)

    def rows(seen: i2am.Seen) -> i2am.Tokens:
        text = seen.inputs["encoder_hidden_states"].shape[1]
        count = (seen.keys - text) // 2
        return i2am.Tokens(
            reference=(text, text + count), reference_grid=(6, 12), generated=(text + count, seen.keys), generated_grid=(6, 12)
        )

    with i2am.trace(case.pipe, reference=rows) as run, oracle.recorded(case.denoiser, case.pipe.scheduler) as calls:
        case()
    for sums in run.maps.sums:
        stored = oracle.of(calls, sums.layer)
        assert stored[0].key.shape[2] == 16 + 2 * 72
        r2g, _ = oracle.truth(stored, generated=(16 + 72, 16 + 144), reference=(16, 16 + 72))
        assert (sums.r2g.double().sum(1) - r2g.sum(1)).abs().max() <= 1e-5 * r2g.max()


@pytest.mark.parametrize("name", ["klein", "flux-ip-adapter", "chroma-ip-adapter"])
def test_the_conditional_call_is_the_one(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's, and those of the other call are not."""
    case = FAMILIES[name].build()
    maps = []
    for guided, options in ((True, {}), (False, {}), (True, {"guidance": "uncond|cond"})):
        with i2am.trace(case.pipe, groups=1, **options) as run:
            case(batch=2, steps=1, guided=guided)
        maps.append(torch.cat([sums.r2g.flatten() for sums in run.maps.sums]))
    guided, plain, wrong = maps
    assert (guided - plain).abs().max() <= 1e-5 * plain.max()
    assert (wrong - plain).abs().max() > 1e-3 * plain.max()
