"""What the demo measures: in its world it is known where every patch of the cloth comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from i2am.data.truth import Truth, oracle_maps
from i2am.maps.levels import AttributionMaps
from i2am.score import correspondence
from i2am.score.end_points import EndPoints, end_points
from i2am.score.imacs import imacs, scores
from i2am.score.pointing import pointing

if TYPE_CHECKING:
    from i2am.data.synthetic import Pairs

NO_CLOTH = "no patch of this picture is all cloth"
MISSING = {  # score -> why there may be none
    "field_within": NO_CLOTH,
    "pointing_accuracy": NO_CLOTH,
    "pointing_mass": NO_CLOTH,
    "correspondence": "the mask has no inside or no outside",
    "imacs_g": "the mask has no inside or no outside",
    "imacs_r": "the garment fills its picture, or is not in it",
}
SCORES = tuple(MISSING)


@dataclass
class Scored:
    """Per picture and over all of them: a number, or None where `missing` says why there is none."""

    images: list[dict[str, Any]]
    all: dict[str, float | None]
    missing: dict[str, str] = field(default_factory=dict)


def score(pairs: Pairs, maps: AttributionMaps) -> Scored:
    """How near the field ends to what is known and how well the maps of single cells point at it, by the heads that point; correspondence;
    and IMACS of both directions."""
    count = len(maps)
    mask, cloth = pairs.mask.float(), pairs.garment_mask.float()
    (h, w), (down, across) = (maps.unified(direction).shape[-2:] for direction in ("r2g", "g2r"))
    perfect = oracle_maps(pairs.truth, (h, w), (down, across))
    columns = scores(maps, mask, cloth)
    columns |= {"truth_imacs_g": imacs(perfect["r2g"], mask), "truth_imacs_r": imacs(perfect["g2r"], cloth)}
    columns["correspondence"] = correspondence.scores(maps, mask)["correspondence"]
    whole: dict[str, Any] = {name: number(values.double().nanmean()) for name, values in columns.items()}
    truth = pairs.truth
    ends = [end_points(maps[i], Truth(truth.source[i : i + 1], truth.inside[i : i + 1])) for i in range(count)]
    columns["field_within"] = torch.tensor([one.within() for one in ends])
    whole["field_within"] = number(EndPoints(torch.cat([one.errors for one in ends])).within())
    found = pointing(maps, truth, layers="pointing")
    sums = {"pointing_accuracy": "hits", "pointing_mass": "held", "baseline_accuracy": "baseline_hits", "baseline_mass": "baseline_held"}
    columns |= {name: getattr(found, of).double() / found.count for name, of in sums.items()}
    whole |= {name: number(getattr(found, name.removeprefix("pointing_"))) for name in sums}
    each = [{"image": i, **{name: number(values[i]) for name, values in columns.items()}, "patches": int(found.count[i])}
            for i in range(count)]  # fmt: skip
    labelled = [*((f"{row['image']:02d}", row) for row in each), ("all", whole)]
    lost = {f"{label} {name}": MISSING[name] for label, row in labelled for name in SCORES if row[name] is None}
    return Scored(each, whole, lost)


def number(value: Any) -> float | None:
    """A finite number, or none."""
    return round(float(value), 6) if math.isfinite(value) else None


def table(scored: Scored) -> str:
    """The scores as text."""
    heads = {
        "picture": (), "field within a patch": ("field_within",), "pointing": ("pointing_accuracy",), "same place": ("baseline_accuracy",),
        "mass nearby": ("pointing_mass",), "correspondence": ("correspondence",), "IMACS_g, truth's": ("imacs_g", "truth_imacs_g"),
        "IMACS_r, truth's": ("imacs_r", "truth_imacs_r"),
    }  # fmt: skip

    def line(first: str, row: dict[str, Any]) -> str:
        texts = [", ".join(shown(name, row[name]) for name in names) or first for names in heads.values()]
        return "  ".join(text.rjust(len(head)) for text, head in zip(texts, heads))

    lines = ["  ".join(heads), *(line(f"{row['image']:02d}", row) for row in scored.images), line("all", scored.all)]
    return "\n".join([*lines, *(f"{name}: none, because {why}" for name, why in scored.missing.items())])


def shown(name: str, value: float | None) -> str:
    """A score as it is read: IMACS and correspondence as numbers, shares in percent."""
    return "none" if value is None else f"{round(value, 2) + 0:.2f}" if "imacs" in name or name == "correspondence" else f"{value:.0%}"
