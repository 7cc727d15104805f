"""What one gets wrong about losses: every refusal says what was expected, what came, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from refined import drawn, half, traced

from i2am import AttributionMaps
from i2am.losses import concentration, cwg, dcml, disorder, mass_outside, total, tv, variation

pytestmark = pytest.mark.usefixtures("on_the_cpu")
NAN, INF = float("nan"), float("inf")
GRADIENT = r"Trace with differentiable=True, under torch\.enable_grad\(\)\."
CENTRES, INSIDE = torch.rand(1, 4, 3, 2), torch.ones(1, 4, 3)


def with_sums(**changed: Any) -> AttributionMaps:
    maps = traced(drawn(special=1))
    return replace(maps, sums=(replace(maps.sums[0], **changed),))


def without_gradient() -> AttributionMaps:
    with torch.no_grad():
        return traced(drawn())


def broken(value: float) -> AttributionMaps:
    sums = traced(drawn()).sums[0].field_g2r.clone()
    sums[1, 0, 0, 1, 3] = value
    return with_sums(field_g2r=sums)


def nowhere() -> AttributionMaps:
    """Tokens of the second image that see no cell."""
    sums = traced(drawn()).sums[0].field_g2r.clone()
    sums[1, :, :, :, -2:] = 0
    return with_sums(field_g2r=sums)


def concentrated(special: int = 0, scale: float | None = None, cls: float = 0.0, **changed: Any) -> Any:
    query, key = drawn(special, images=1, dtype=torch.float32).operands
    given = {"query": query, "key": key + cls, "mask": torch.ones(1, 4, 3), "grid": (5, 4), "special": special, "scale": scale, **changed}
    return concentration(**given)


def lost() -> Any:
    """A CLS token that takes everything."""
    query, key = torch.ones(1, 1, 12, 1), torch.zeros(1, 1, 21, 1)
    key[:, :, 0] = 200
    return concentrated(1, 1.0, query=query, key=key)


ASKED: dict[str, tuple[Callable[[], Any], str]] = {
    # maps
    "no maps": (lambda: tv({}, half()), r"maps must be an AttributionMaps, got \{\}\. They are run\.maps"),
    "no gradient, tv": (lambda: tv(without_gradient(), half()), rf"maps must be ones that carry gradient, got maps without\. {GRADIENT}"),
    "no gradient, cwg": (lambda: cwg(without_gradient(), half()), GRADIENT),
    "no gradient, guidance": (lambda: mass_outside(without_gradient(), half(), "r2g"), GRADIENT),
    "no field": (lambda: dcml(with_sums(field_g2r=None), half()), r"this run has no field_g2r maps\. Trace with field=True"),
    "no calls": (lambda: cwg(with_sums(calls=()), half()), rf"the attention of a must be kept, for cwg, got no calls\. {GRADIENT}"),
    "no calls, total": (lambda: total(with_sums(calls=()), half()), r"kept, for cwg"),
    "no such layer": (lambda: tv(traced(drawn()), half(), layers="up*"), r"layers must be .*got 'up\*'\. There are: a"),
    "no g2r": (lambda: mass_outside(with_sums(g2r=None), half(1, (5, 4)), "g2r"), r"this run has no g2r maps"),
    "no grid": (lambda: tv(with_sums(generated_grid=None), half()), r"the 12 generated tokens of a have no known place on a canvas"),
    "NaN": (lambda: tv(broken(NAN), half()), r"the field_g2r sums must be finite, got NaN or infinity in 1 of 1 layers"),
    "infinity": (lambda: dcml(broken(INF), half()), r"the field_g2r sums must be finite"),
    "zero mass": (lambda: tv(nowhere(), half()), r"the attention of a to its reference must be above 0 .*, got 0 for 2 tokens"),
    "zero map": (lambda: mass_outside(with_sums(r2g=0 * traced(drawn()).sums[0].r2g), half(), "r2g"), r"the r2g map of a must be above 0"),
    # masks
    "transposed": (lambda: tv(traced(drawn()), half().mT), r"as high and wide as a's grid of 4 x 3, .*got 12 x 16\. Transpose"),
    "square": (lambda: cwg(traced(drawn()), torch.ones(8, 8)), r"grid of 4 x 3, or in proportion, got 8 x 8\. It covers the picture"),
    "other number": (lambda: dcml(traced(drawn()), half(3)), r"mask must be one mask, or one per image .*\(2 images\), got 3 masks"),
    "empty": (lambda: tv(traced(drawn()), 0 * half()), r"mask must be at least 1/2 on some cell .*, got less on all in image 0, 1 of 2"),
    "one empty": (lambda: tv(traced(drawn()), half(2) * torch.tensor([1, 0])[:, None, None]), r"got less on all in image 1 of 2\. Leave"),
    "empty on the grid": (lambda: cwg(traced(drawn()), 0.4 * half()), r"mask must be at least 1/2 on some cell of a's grid of 4 x 3"),
    "bytes": (lambda: tv(traced(drawn()), 255 * half()), r"mask must be between 0 and 1"),
    "no mask": (lambda: tv(traced(drawn()), None), r"mask must be a mask: a tensor, an array or a picture, got None"),
    "transposed region": (lambda: mass_outside(traced(drawn()), half().mT, "g2r"), r"region must be as high .*grid of 5 x 4.*got 12 x 16"),
    "empty region": (lambda: mass_outside(traced(drawn()), 0 * half(), "r2g"), r"region must be above 0 on some cell"),
    "a spot": (lambda: mass_outside(traced(drawn()), torch.eye(16, 12).roll(1) * (torch.arange(12) == 5), "r2g"),
               r"region must be above 0 on some cell of a's grid of 4 x 3, got 0 on all in image 0, 1 of 2\. Pass resize=\"area\""),
    # options
    "unknown preset": (lambda: tv(traced(drawn()), half(), preset="paper"), r"preset must be one of \"release\", .*got 'paper'"),
    "unknown preset, total": (lambda: total(traced(drawn()), half(), preset=1), r"preset must be one of"),
    "preset of another": (lambda: cwg(traced(drawn()), half(), preset="stableviton"), r"\"release\" or \"earlier\" for cwg.*has tv alone"),
    "weight 0": (lambda: tv(traced(drawn()), half(), weight=0), r"weight must be above 0 and finite, got 0"),
    "weight NaN": (lambda: dcml(traced(drawn()), half(), weight=NAN), r"weight must be above 0 and finite, got nan"),
    "sigma": (lambda: cwg(traced(drawn()), half(), sigma=-1.0), r"sigma must be above 0 and finite, got -1"),
    "sigma infinite": (lambda: cwg(traced(drawn()), half(), sigma=INF), r"sigma must be above 0 and finite, got inf"),
    "distance": (lambda: tv(traced(drawn()), half(), distance="l1"), r"distance must be \"absolute\" or \"square\", got 'l1'"),
    "mean": (lambda: dcml(traced(drawn()), half(), mean="batch"), r"mean must be \"all\" or \"mask\", got 'batch'"),
    "renormalise": (lambda: tv(traced(drawn()), half(), renormalise=1), r"renormalise must be True or False, got 1"),
    "detach_centre": (lambda: cwg(traced(drawn()), half(), detach_centre="no"), r"detach_centre must be True or False, got 'no'"),
    "total negative": (lambda: total(traced(drawn()), half(), cwg=-2), r"cwg must be 0 or more, and finite, got -2\. 0 leaves"),
    "total of nothing": (lambda: total(traced(drawn()), half(), cwg=0, tv=0, dcml=0), r"the weights must be above 0 for at least one"),
    "total of what is not there": (lambda: total(traced(drawn()), half(), cwg=1, preset="stableviton"), r"for cwg, got 'stableviton'"),
    "direction": (lambda: mass_outside(traced(drawn()), half(), "words"), r"direction must be \"r2g\" or \"g2r\", got 'words'"),
    "resize": (lambda: mass_outside(traced(drawn()), half(), "r2g", resize="bicubic"), r"resize must be \"nearest\" or \"area\""),
    # plain tensors
    "centres": (lambda: variation(CENTRES[..., 0], INSIDE), r"centres must be a tensor \[B, h, w, 2\]"),
    "mask of centres": (lambda: disorder(CENTRES, INSIDE.mT), r"mask must be floating point numbers \[1, 4, 3\] on cpu"),
    "boolean mask": (lambda: disorder(CENTRES, INSIDE > 0), r"mask must be floating point numbers .*got bool"),
    "query": (lambda: concentrated(query=torch.rand(12, 6)), r"query must be a tensor \[batch, heads, tokens, head size\]"),
    "key": (lambda: concentrated(key=torch.rand(1, 2, 20, 6)), r"key must be like the query"),
    "grid": (lambda: concentrated(grid=(4, 4)), r"grid and special must be of the 20 reference tokens.*got \(4, 4\) and 0"),
    "special": (lambda: concentrated(special=-1, query=torch.rand(1, 1, 12, 6), key=torch.rand(1, 1, 19, 6)), r"grid and special"),
    "reference": (lambda: concentrated(reference=slice(30, 40)), r"reference must be a slice of the 20 keys"),
    "bias": (lambda: concentrated(attn_mask=torch.ones(12, 20)), r"the attention's mask must be boolean or additive, \[1, 3, 12, 20\]"),
    "mask of queries": (lambda: concentrated(mask=torch.ones(1, 3, 3)), r"mask must be \[B, h, w\] with h \* w = 12"),
    "mask of images": (lambda: concentrated(mask=torch.ones(2, 4, 3)), r"mask must be floating point numbers \[1, 4, 3\]"),
    "scale": (lambda: concentrated(scale=NAN), r"scale must be finite, got nan"),
    "chunk": (lambda: concentrated(chunk=0), r"chunk must be a whole number of at least 1"),
    "NaN in keys": (lambda: concentrated(cls=NAN), r"query, key and attn_mask must be finite"),
    "all on CLS": (lost, r"the attention to the reference must be above 0 wherever the mask is, got 0 for some tokens"),
}  # fmt: skip


@pytest.mark.parametrize("what", ASKED)
def test_it_is_refused_in_a_few_words(what: str) -> None:
    ask, said = ASKED[what]
    with pytest.raises(ValueError, match=said) as raised:
        ask()
    assert len(str(raised.value)) < 500
