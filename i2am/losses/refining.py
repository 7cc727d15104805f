"""The paper's refinement losses on the maps of a differentiable run: dcml, tv and cwg.

For a layer, A_ij = P averaged over heads, r_j = (row, column) of reference cell j and c_i = sum_j A_ij r_j, in cells; m is the garment's
mask on the layer's generated grid (nearest, at least 1/2):

    tv = weight (mean over vertical neighbours of m m' (c - c')^2 + the same over horizontal ones)
    dcml = -weight mean over pairs of m m' (relu(x' - x), right in a row + relu(y' - y), below in a column)
    cwg = -weight mean over images, i and j of m_i A_ij exp(-|r_j - c_i| / (2 sigma^2))

Each is the mean over the chosen layers of the layer's loss. Of several denoising steps, tv and dcml take the centres of all steps together
(first moments over mass, of sums over steps); cwg is the mean over the layer's calls of each call's loss. What the means divide by is said
in `i2am.losses.centres` and `i2am.losses.concentrating`. An option that is None is the preset's (`PRESETS`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.losses.centres import centres_of, disorder, variation
from i2am.losses.concentrating import concentration
from i2am.losses.presets import part_weight, preset_named, preset_of, truth_value
from i2am.losses.reading import GRADIENT, garment, layers_of, mean_of
from i2am.maps.canvas import picture
from i2am.maps.layers import Layers
from i2am.maps.levels import AttributionMaps

Reference = int | str | None


def tv(
    maps: AttributionMaps, mask: Any, *, layers: Layers = None, reference: Reference = None, preset: str = "release",
    weight: float | None = None, distance: str | None = None, mean: str | None = None, renormalise: bool | None = None,
) -> Tensor:  # fmt: skip
    """How rough the attention's centres are within the mask: a scalar with gradient.

    mask: the garment in the generated image, of any size, one or one per image. preset: "release", "earlier" or "stableviton".
    distance: "square" or "absolute". mean: over "all" pairs or those of the "mask". renormalise: whether the mass on special tokens (CLS)
    is divided out.
    """
    changed = {"weight": weight, "distance": distance, "mean": mean, "renormalise": renormalise}
    return of_centres(variation, maps, mask, layers, reference, preset_of("tv", preset, changed))


def dcml(
    maps: AttributionMaps, mask: Any, *, layers: Layers = None, reference: Reference = None, preset: str = "release",
    weight: float | None = None, mean: str | None = None, renormalise: bool | None = None,
) -> Tensor:  # fmt: skip
    """How well the attention's centres keep the order of their tokens within the mask, with a minus: a scalar with gradient.

    Options as for `tv`.
    """
    changed = {"weight": weight, "mean": mean, "renormalise": renormalise}
    return of_centres(disorder, maps, mask, layers, reference, preset_of("dcml", preset, changed))


def cwg(
    maps: AttributionMaps, mask: Any, *, layers: Layers = None, reference: Reference = None, preset: str = "release",
    weight: float | None = None, sigma: float | None = None, distance: str | None = None, mean: str | None = None,
    renormalise: bool | None = None, detach_centre: bool | None = None,
) -> Tensor:  # fmt: skip
    """How much attention lies near its own centre, with a minus: a scalar with gradient.

    Options as for `tv`; sigma in cells; distance: exp of the "absolute" distance or of its "square"; detach_centre: whether the centre
    is a target without gradient. P is made again from the calls that a differentiable run keeps, a chunk of queries at a time.
    """
    changed = {"weight": weight, "sigma": sigma, "distance": distance, "mean": mean, "renormalise": renormalise,
               "detach_centre": detach_centre}  # fmt: skip
    options = preset_of("cwg", preset, changed)
    losses = []
    for sums in layers_of(maps, "field_g2r", layers, reference):
        if not sums.calls:
            refuse(f"the attention of {sums.layer}", "kept, for cwg", "no calls", GRADIENT)
        inside = garment(mask, sums)
        cells = picture(sums, "g2r", "cwg")
        found = [concentration(call.query, call.keys, inside, cells, reference=call.reference, special=sums.special, attn_mask=call.mask,
                               scale=call.scale, **options) for call in sums.calls]  # fmt: skip
        losses.append(mean_of(found))
    return mean_of(losses)


def total(
    maps: AttributionMaps, mask: Any, *, dcml: float | None = None, tv: float | None = None, cwg: float | None = None,
    layers: Layers = None, reference: Reference = None, preset: str = "release",
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """The sum of the preset's losses with gradient, and each by its name without, for a log.

    dcml, tv, cwg: their weights; None is the preset's (the release's 0.01, 0.0001 and 2), 0 leaves one out.
    """
    given = {"dcml": dcml, "tv": tv, "cwg": cwg}
    weights = {name: options["weight"] for name, options in preset_named(preset).items()}
    weights |= {name: part_weight(name, weight) for name, weight in given.items() if weight is not None}
    parts = {name: LOSSES[name](maps, mask, layers=layers, reference=reference, preset=preset, weight=weight)
             for name, weight in weights.items() if weight}  # fmt: skip
    if not parts:
        refuse("the weights", "above 0 for at least one of dcml, tv and cwg", "0 for all", "None takes the preset's.")
    return sum(list(parts.values())[1:], next(iter(parts.values()))), {name: loss.detach() for name, loss in parts.items()}


LOSSES: dict[str, Callable[..., Tensor]] = {"dcml": dcml, "tv": tv, "cwg": cwg}


def of_centres(
    loss: Callable[..., Tensor], maps: AttributionMaps, mask: Any, layers: Layers, reference: Reference, options: dict[str, Any]
) -> Tensor:
    """A loss on centres, the mean over layers."""
    renormalise = options.pop("renormalise")
    truth_value("renormalise", renormalise, "True divides the mass on special tokens out.")
    losses = []
    for sums in layers_of(maps, "field_g2r", layers, reference):
        inside = garment(mask, sums)
        centres = centres_of(sums, inside, renormalise, len(sums.calls) or maps.steps or 1)
        losses.append(loss(centres, inside, **options))
    return mean_of(losses)
