"""Which attention of a denoiser was traced, and which was not: nothing that ran goes unnamed."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from torch import Tensor, nn

from i2am.maps.layers import listed

RESAMPLER = "encoder_hid_proj"  # an adapter's
ASIDE = (RESAMPLER, "time_extra_emb.pooler")  # and Hunyuan-DiT's pooled prompt: the picture does not ask there


@dataclass(frozen=True)
class Coverage:
    """The attention layers of a run's first step, by what became of them; every one that ran is in one of the four."""

    traced: tuple[str, ...]  # their maps are recorded
    without: tuple[str, ...]  # under observation, and found to hold neither a reference nor words that were asked for
    left_out: tuple[str, ...]  # known, and not under observation: layers=, or no reference can enter there
    unknown: tuple[str, ...]  # modules that the tracer does not know as attention, and that attended

    def __str__(self) -> str:
        names = {"traced": self.traced, "without a reference": self.without, "left out": self.left_out, "unknown": self.unknown}
        return "\n".join(f"{len(found)} {name}. {listed(found, 6)}" for name, found in names.items() if found)


@dataclass
class Others:
    """Attention that runs in a denoiser outside every tap, in a run's first step: found by who is on the stack."""

    denoisers: Iterable[nn.Module]
    calls: Counter[str] = field(default_factory=Counter)  # by module

    def __post_init__(self) -> None:
        self.names = {id(module): name for denoiser in self.denoisers for name, module in denoiser.named_modules() if name}

    def heard(self, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        """Attention was called and no tap is running: whose call it is, if it is one of the denoiser's modules."""
        found = whose(sys._getframe(2), self.names)
        if found is not None:
            self.calls[self.names[found]] += 1


def whose(frame: FrameType | None, known: Collection[int]) -> int | None:
    """The nearest module on the stack that is one of `known`, by id: what a processor is told it works for, or who runs itself."""
    while frame is not None:
        for local in ("attn", "self"):
            if id(frame.f_locals.get(local)) in known:
                return id(frame.f_locals[local])
        frame = frame.f_back
    return None


def covered(taps: Iterable[Any], others: Others, attention: Collection[str]) -> Coverage:
    """After the first step: the taps, and what ran beside them."""
    ran = [tap for tap in taps if tap.plan]
    traced = [tap.name for tap in ran if any(tap.plan.values())]
    known = {name for name in others.calls if name in attention or name.startswith(ASIDE)}
    return Coverage(
        tuple(dict.fromkeys(traced)),
        tuple(tap.name for tap in ran if not any(tap.plan.values())),
        tuple(name for name in others.calls if name in known),
        tuple(name for name in others.calls if name not in known),
    )
