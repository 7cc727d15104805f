"""Which reference a patch took from: of the attention that it gives to them, each one's part.

    mass_r[i]  = sum over j in reference r of P_ij         recorded beside the maps, where one softmax holds several references
    share_r[i] = mass_r[i] / sum over r' of mass_r'[i]     or / the number of steps, as a row of P sums to 1

Masses are summed over the steps, resized and averaged over heads and layers, as any map; the quotient comes last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import cited, refuse, said
from i2am.maps.layers import Layers, chosen
from i2am.maps.run_sums import Recorded
from i2am.maps.tokens import Grid

NO_SHARES = (
    "A reference has a share where its softmax holds other keys as well: trace with shares=True. Several adapters attend each by itself."
)


def shares(level: Callable[..., Tensor], run: Recorded, size: Grid | None, of: str, choice: dict[str, Any]) -> Tensor:
    """[B, references, (groups, heads or layers,) H, W], made of the masses that `level` gives."""
    if of not in ("references", "attention"):
        refuse("of", '"references" or "attention"', said(of), "What the shares are parts of.")
    if "reference" in choice:
        refuse("reference", "left out of shares, which hold all of them", said(choice["reference"]), "Index the result.")
    names = run.references
    if of == "references" and len(names) == 1:
        refuse("of", '"attention" for a run of one reference', '"references"', "Its share among the references is 1 everywhere.")
    refuse_apart(run, names, of, choice.get("layers"))
    masses = torch.stack([level("mass", size=size, reference=name, **choice) for name in names], 1)
    if of == "references":
        return masses / masses.sum(1, keepdim=True).clamp(min=torch.finfo(masses.dtype).tiny)
    return masses / run.steps


def refuse_apart(run: Recorded, names: list[str], of: str, layers: Layers) -> None:
    """Parts of one whole: a row of one softmax gives the references no more than 1 a step, and in no layer is one of them missing."""
    weighed = run.about.get("weigh")
    if weighed is not None and of == "attention":
        refuse(
            "of", '"references" for maps that are weighed', '"attention"', f"Weighed by {weighed}, a row of attention does not sum to 1."
        )
    for layer in run.layers if layers == "pointing" else chosen(run.layers, layers):
        found = {s.source: s.mass for s in run.sums if s.layer == layer and s.mass is not None}
        missing = [name for name in names if name not in found]
        if found and missing:
            refuse(
                f"the references of {layer}", f"all of {cited(names)}", list(found), 'Choose layers that hold all of them: layers="...".'
            )
        whole = sum(mass.sum(1) for mass in found.values())
        if isinstance(whole, Tensor) and weighed is None and float(whole.max()) > 1.001 * run.steps:
            refuse(f"the references of {layer}", "in one softmax, of which each has a part", cited(names), NO_SHARES)
