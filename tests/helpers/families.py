"""The families of models: how each small pipeline is traced, and where the oracle finds the same maps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import attentions
import joint
import ldm
import oracle
import pipelines
import projects
import pytest
import tolerance
from addresses import OFFSETS, displace
from torch import Tensor

import i2am

Cut = Callable[[oracle.Call], "tuple[int, int] | None"]
STEPS, GROUPS = 3, 2
TERMS = 256  # of the sums on the way from buffers to a level: sixteen pixels, steps, heads and layers


def everything(call: oracle.Call) -> None:
    return None


@dataclass
class Family:
    """A case, how it is traced, and where the oracle looks for the same maps."""

    build: Callable[[], Any]
    trace: dict[str, Any] = field(default_factory=dict)
    layers: str = ".*attn2"  # a pattern of the layers' names
    number: int = 0  # which attention call of the layer
    two_calls: bool = False  # guidance calls the model twice, conditional first
    conditional_first: bool = False
    generated: Cut = everything
    reference: Cut = everything
    source: str | None = None
    words: Cut | None = None  # the prompt among the keys, where the family's own rule knows it
    parts: dict[str, Cut] = field(default_factory=dict)  # several references: each one's source, and where it is among the keys
    guided: tuple[bool, ...] = (False, True)
    options: dict[str, Any] = field(default_factory=dict)


def before_keys(call: oracle.Call) -> tuple[int, int]:
    """Kandinsky: the reference is in front of the layer's own pixels."""
    return 0, call.key.shape[2] - call.query.shape[2]


def first_half(call: oracle.Call) -> tuple[int, int]:
    return 0, call.query.shape[2] // 2


def second_half(call: oracle.Call) -> tuple[int, int]:
    return call.query.shape[2] // 2, call.query.shape[2]


def behind_queries(call: oracle.Call) -> tuple[int, int]:
    return call.query.shape[2], call.key.shape[2]


def kontext(part: int, text: int, reference: int) -> Cut:
    """[text, target, reference]: the target or the reference."""

    def cut(call: oracle.Call) -> tuple[int, int]:
        last = call.key.shape[2]
        return ((text, last - reference), (last - reference, last))[part]

    return cut


TEXT = joint.TEXT
FAMILIES = {
    "paint-by-example": Family(pipelines.paint_by_example),
    "ip-adapter-full": Family(lambda: pipelines.ip_adapter("full"), number=1),
    "ip-adapter-plus": Family(lambda: pipelines.ip_adapter("plus"), number=1),
    "ip-adapter-plain": Family(lambda: pipelines.ip_adapter("plain"), number=1),
    "ip-adapter-first-of-two": Family(lambda: pipelines.ip_adapter("plain", "full"), number=1, source="adapter 1"),
    "ip-adapter-second-of-two": Family(lambda: pipelines.ip_adapter("plain", "full"), number=2, source="adapter 2"),
    "ip-adapter-masked": Family(lambda: pipelines.ip_adapter("full", images=2, masked=True), number=2, source="adapter 1 image 2"),
    "kandinsky": Family(pipelines.kandinsky22, layers=".*", reference=before_keys),
    "catvton": Family(attentions.catvton, {"reference": "self"}, ".*attn1", generated=first_half, reference=second_half),
    "idm-vton": Family(attentions.idm_vton, {"reference": "self"}, ".*attn1", generated=first_half, reference=second_half),
    "idm-vton-adapter": Family(attentions.idm_vton, number=1),
    "ootdiffusion": Family(
        attentions.ootdiffusion,
        {"reference": "self", "guidance": "cond-uncond"},
        ".*attn1",
        generated=first_half,
        reference=second_half,
        conditional_first=True,
        guided=(True,),
    ),
    "leffa": Family(attentions.leffa, {"reference": "self"}, ".*attn1", generated=first_half, reference=second_half),
    "fitdit": Family(projects.fitdit, {"reference": "self"}, ".*attn", reference=behind_queries),
    "pasd": Family(projects.pasd, layers=".*pixel_attentions.*attn2"),
    "flux-kontext": Family(
        lambda: joint.flux_kontext(distilled=False),
        layers=".*attn",
        two_calls=True,
        generated=kontext(0, TEXT, 35),
        reference=kontext(1, TEXT, 35),
    ),
    "qwen-image-edit": Family(
        joint.qwen_image_edit, layers=".*attn", two_calls=True, generated=kontext(0, TEXT, 1036), reference=kontext(1, TEXT, 1036)
    ),
    "ldm-paint-by-example": Family(ldm.ldm_paint_by_example),
    "stable-viton": Family(ldm.stable_viton, {"guidance": "cond|uncond"}, two_calls=True, guided=(True,)),
}


def observed(family: Family, batch: int, size: int, guided: bool, **trace: Any) -> tuple[i2am.AttributionMaps, list[oracle.Call], Any]:
    """One run under both: the oracle sees the very queries and keys that the tracer does. The weights lie at odd addresses, as mapped
    ones do."""
    case = family.build()
    displace(case.denoiser, OFFSETS[batch % len(OFFSETS)])
    options = {"batch": batch, "size": case.sizes[size], "guided": guided, "steps": STEPS, **family.options}
    if isinstance(case, ldm.LdmCase):
        target, clock = case.denoiser, case.sampler
        traced = i2am.trace(target, scheduler=clock, groups=GROUPS, **{"guidance": layout(family, guided), **family.trace, **trace})
    else:
        target, clock = case.denoiser, case.scheduler
        settings = {**family.trace, **trace}
        if "diffusers.pipelines" not in type(case.pipe).__module__ and "guidance" not in settings:
            settings["guidance"] = layout(family, guided)
        traced = i2am.trace(case.pipe, groups=GROUPS, **settings)
    with traced as run, oracle.recorded(target, clock, keep=partial(re.fullmatch, family.layers)) as calls:
        case(**options)
    return run.maps, calls, case


def layout(family: Family, guided: bool) -> str:
    if not guided:
        return "none"
    return "cond|uncond" if family.two_calls else "cond-uncond" if family.conditional_first else "uncond-cond"


def rows(family: Family, call: oracle.Call, batch: int) -> slice:
    total = call.query.shape[0]
    return slice(0, batch) if family.conditional_first else slice(total - batch, total)


def close(ours: Tensor, truth: Tensor, eager: Tensor, calls: list[oracle.Call], what: str) -> None:
    """A layer's sums, by the suite's rule; the sum over the steps is one more sum on the way."""
    tolerance.close(ours, truth, eager, oracle.longest(calls), what, max(tolerance.exponents(call.scores) for call in calls))


def single(call: oracle.Call) -> oracle.Call:
    """The same call in float32, for the eager statement."""
    return replace(call, query=call.query.float(), key=call.key.float(), mask=None if call.mask is None else call.mask.float())


def runs(families: dict[str, Family], guided_batch: int = 3, every: bool = False) -> list[Any]:
    """What a family is asked: batch 1 in 4:3 and batch 3 square, the one guided and the other not; or both of both."""
    return [
        pytest.param(name, batch, size, guided, id=f"{name}-{batch}-{'square' if size == 0 else '4:3'}-{'guided' if guided else 'plain'}")
        for name, family in families.items()
        for batch, size in ((1, 1), (3, 0))
        for guided in family.guided
        if every or len(family.guided) == 1 or guided == (batch == guided_batch)
    ]


def hold(family: Family, batch: int, size: int, guided: bool) -> i2am.AttributionMaps:
    """Every layer's maps of every reference, against the attention of the same run stored whole."""
    maps, calls, _ = observed(family, batch, size, guided)
    assert len(maps) == batch
    parts = family.parts or {family.source: family.reference}
    if family.parts:
        assert {s.source for s in maps.sums} == set(parts)
    for source, reference in parts.items():
        recorded = [s for s in maps.sums if source is None or s.source == source]
        assert [s.layer for s in recorded] == [name for name in oracle.layers(calls) if holds(calls, name, family)]
        for sums in recorded:
            run = oracle.of(calls, sums.layer, family.number, 0)
            where = {"rows": rows(family, run[0], batch), "generated": family.generated(run[0]), "reference": reference(run[0])}
            r2g, g2r = oracle.truth(run, **where, groups=GROUPS, steps=STEPS)
            r2g32, g2r32 = oracle.truth([single(call) for call in run], **where, groups=GROUPS, steps=STEPS)
            close(sums.r2g, r2g, r2g32, run, f"r2g of {sums.layer}")
            if sums.g2r is None:
                assert g2r.shape[-1] == 1
            else:
                close(sums.g2r, g2r[:, :, :, 0], g2r32[:, :, :, 0], run, f"g2r of {sums.layer}")
            assert sums.generated_grid is not None
            assert math.prod(sums.generated_grid) == r2g.shape[-1]
    return maps


def hold_words(family: Family, batch: int, size: int, guided: bool) -> i2am.AttributionMaps:
    """Every layer's map of every text token, against the attention of the same run stored whole."""
    assert family.words is not None
    maps, calls, _ = observed(family, batch, size, guided, words=True)
    recorded = [s for s in maps.sums if s.words is not None]
    assert [s.layer for s in recorded] == [name for name in oracle.layers(calls) if holds(calls, name, family)]
    for sums in recorded:
        run = oracle.of(calls, sums.layer, family.number, 0)
        where = {"rows": rows(family, run[0], batch), "generated": family.generated(run[0]), "words": family.words(run[0])}
        where["tokens"] = None if maps.columns is None else maps.columns
        words, words32 = (oracle.word_maps(these, **where, groups=GROUPS, steps=STEPS) for these in (run, [single(call) for call in run]))
        close(sums.words, words, words32, run, f"words of {sums.layer}")
    return maps


def holds(calls: list[oracle.Call], layer: str, family: Family) -> bool:
    """Whether the layer made the call that holds the reference."""
    return any(call.layer == layer and call.number == family.number for call in calls)
