"""Flux and what is laid out like it: every map equals the one that is made from the stored attention of the same run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import fluxes
import oracle
import pytest
import torch
from cuts import at, behind, first_of, in_front_of, made, second_of, tokens
from families import Family, hold, observed, runs
from fluxes import TALL, WIDE
from joint import TEXT
from torch import Tensor, nn

import i2am
from i2am.attach.projection import output_weight

BOTH = tokens(TALL) + tokens(WIDE)
ALIKE = (64, 64)  # both references, and in one of the runs what is generated
PAIR = {"image 1": behind(tokens(TALL), tokens(WIDE)), "image 2": behind(tokens(WIDE))}
Joint = partial(Family, layers=".*attn")
flux2 = partial(partial, fluxes.flux2)
Adapted = partial(Family, layers=r"transformer_blocks.*attn", number=1, two_calls=True)
FAMILIES = {
    "flux2": Joint(flux2(), generated=made(references=BOTH), parts=PAIR, guided=(False,)),
    "klein": Joint(flux2("Flux2KleinPipeline"), two_calls=True, generated=made(references=BOTH), parts=PAIR),
    "klein-inpaint": Joint(partial(fluxes.klein_inpaint, False), two_calls=True, generated=first_of(), reference=second_of()),
    "klein-inpaint-reference": Joint(partial(fluxes.klein_inpaint, True), two_calls=True, generated=first_of(tokens(TALL)),
                                     parts={"image 1": second_of(tokens(TALL)), "image 2": behind(tokens(TALL))}),
    **{f"klein-kv-{'-'.join(map(str, map(tokens, sizes)))}": Joint(
        flux2("Flux2KleinKVPipeline", sizes), generated=made(), guided=(False,), reference=at(TEXT, tokens(sizes[0])),
        parts={"image 1": at(TEXT, tokens(sizes[0])), "image 2": at(TEXT + tokens(sizes[0]), tokens(sizes[-1]))} if sizes[1:] else {})
       for sizes in ((TALL,), (TALL, WIDE), (ALIKE, ALIKE))},
    "kontext-inpaint": Joint(partial(fluxes.kontext_inpaint, False), two_calls=True, generated=first_of(), reference=second_of()),
    "kontext-inpaint-reference": Joint(partial(fluxes.kontext_inpaint, True), two_calls=True, generated=made(references=tokens(TALL)),
                                       reference=behind(tokens(TALL))),
    "flux-ip-adapter": Adapted(fluxes.adapted),
    "flux-second-ip-adapter": Adapted(partial(fluxes.adapted, 2), number=2, source="adapter 2"),
    "kontext-ip-adapter": Adapted(fluxes.adapted_kontext, source="adapter", generated=in_front_of(tokens(TALL))),
    "chroma-ip-adapter": Adapted(partial(fluxes.chroma, adapters=1)),
    "chroma-img2img": Adapted(partial(fluxes.chroma, "ChromaImg2ImgPipeline", adapters=1), guided=(True,)),
    "chroma-inpaint": Adapted(partial(fluxes.chroma, "ChromaInpaintPipeline", adapters=1), guided=(True,)),
}  # fmt: skip


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(FAMILIES))
def test_maps_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    hold(FAMILIES[name], batch, size, guided)


def test_every_block_of_flux2_is_traced() -> None:
    """The single blocks have one matrix for queries, keys, values and their MLP."""
    case = fluxes.flux2()
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

    attention = fluxes.flux2_transformer().single_transformer_blocks[0].attn
    weight = attention.to_out.weight
    assert weight.shape[1] > attention.inner_dim
    attention.to_out = Wrapped(attention.to_out)
    found = output_weight(attention, attention.inner_dim, weight)
    assert found is not None
    torch.testing.assert_close(found, weight[:, : attention.inner_dim], rtol=1e-6, atol=1e-7)
