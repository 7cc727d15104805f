"""Compiles the sweep that makes both maps in one visit, for Hopper, and runs what came out on tests/helpers/ptx.py: says how far the maps
are off and what raced, and what is noticed of faults that are planted in the compiler's text.

Run by test_onchip_ptx.py in a process of its own: to compile, Triton must not be the interpreter, which the suite makes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from ptx import Cluster, Code
from ptx_memory import Global, Races
from tolerance import close, exponents
from torch import Tensor

from benchmarks.operator import codegen, judge
from i2am_kernels import onchip
from i2am_kernels.call import LOG2E, Call, additive
from i2am_kernels.reference import reference as definition

TARGET = "sm_90"
DEPTH = 16  # channels of one instruction of the matrix units
READ = "ld.shared::cluster.v4"  # of peers; the first are those of the sums over the cluster, in the loop over the keys


class Case(NamedTuple):
    cluster: onchip.Cluster
    generated: int
    reference: int
    size: int = 64
    heads: int = 1
    shares: int = 1
    apart: float = 0.0  # nats between a few keys and the others
    weighted: bool = False
    masked: bool = False
    dtype: torch.dtype = torch.bfloat16


EIGHT = Case(onchip.Cluster(8, 2, 32), generated=1000, reference=150, heads=2, shares=2)
CASES = {
    "eight programs": EIGHT,
    "faint columns": EIGHT._replace(apart=100.0),
    "two parts of a head": Case(onchip.Cluster(2, 1, 64), generated=100, reference=150, size=80),
    "weights and a mask": Case(onchip.Cluster(4, 1, 32), generated=250, reference=100, heads=2, weighted=True, masked=True),
    "one program": Case(onchip.Cluster(1, 1, 32), generated=50, reference=70, shares=2, dtype=torch.float16),
    "sixteen programs": Case(onchip.Cluster(16, 1, 32), generated=1000, reference=70),
}


def made(case: Case) -> Call:
    """Tokens, weights and a mask that were drawn, and maps with something in them."""
    query, key = (torch.randn(1, case.heads, count, case.size).to(case.dtype) for count in (case.generated, case.reference))
    if case.apart:
        query[..., 0] = 4.0
        key[:, :, 7::50, 0] = -case.apart / 4.0 * case.size**0.5
    given: dict[str, Any] = {"query": query, "key": key, "value": key}
    for name, count in (("r2g", case.generated), ("g2r", case.reference)):
        given[name] = torch.rand(1, case.heads, count) / count
    if case.weighted:
        given |= {"generated_weight": torch.rand(1, case.generated), "reference_weight": torch.rand(1, case.reference)}
    if case.masked:
        given["attn_mask"] = torch.rand(1, 1, 1, case.reference) < 0.7
    return judge.call_of(given)


def defined(call: Call, dtype: torch.dtype) -> Call:
    """The same call in another precision with what the definition adds to its maps, and with L."""
    own = {name: getattr(call, name).to(dtype, copy=True) for name in ("query", "key", "value", "r2g", "g2r")}
    found = replace(call, **own, lse=torch.empty(call.query.shape[:3], dtype=dtype))
    definition(found)
    return found


def wrong(got: dict[str, Tensor], truth: Call, eager: Call) -> list[str]:
    """What is said of maps that are further off than float32 makes them."""
    scores = truth.query @ truth.key.mT * truth.scale
    scores = scores if truth.mask is None else scores + additive(truth.mask, torch.float64)
    said = []
    for name, found in got.items():
        try:
            close(found, getattr(truth, name), getattr(eager, name), max(scores.shape), name, exponents(scores))
        except AssertionError as error:
            said.append(str(error))
    return said


class Compiled:
    """One launch of the sweep: the arguments it was recorded with, and what the compiler made of it."""

    def __init__(self, case: Case):
        torch.manual_seed(0)
        self.case, self.call = case, made(case)
        self.truth, self.eager = (defined(self.call, dtype) for dtype in (torch.float64, torch.float32))
        nats = (self.truth.lse / LOG2E).float()
        with codegen.recording("onchip", TARGET) as recorded, patch.object(onchip.tiles, "shares_in_waves", return_value=case.shares):
            onchip.launch_onchip(self.call, nats, LOG2E, 0, case.cluster)
        launch = recorded[0]
        if case.shares > 1:
            launch.arguments["r2g"].fill_(torch.nan)  # scratch, every word of which must be stored
        binary = codegen.compiled(launch, codegen.TARGETS[TARGET])
        self.text, self.shared, self.arguments = binary.asm["ptx"], binary.metadata.shared, launch.arguments
        self.types = [(binary.src.signature[name], launch.arguments[name]) for name in binary.src.fn.arg_names]

    def run(self, text: str) -> dict[str, Any]:
        """All clusters of the launch: what is wrong with the maps, what raced, and the products in visits to the scores."""
        case, arguments = self.case, self.arguments
        races, code = Races(), Code.of(text)
        memory = Global([value for value in arguments.values() if isinstance(value, Tensor)], races)
        parameters = [*self.parameters(memory), 0, 0]  # the last two are scratch of Triton's, which the sweep has none of
        products = 0
        for number in range(case.shares * case.heads):
            cluster = Cluster(code, parameters, memory, races, number, case.cluster.programs, self.shared).run()
            products += cluster.products.count
        r2g = memory.tensor(arguments["r2g"]).sum(0) + (self.call.r2g if case.shares > 1 else 0)
        said = wrong({"r2g": r2g, "g2r": memory.tensor(self.call.g2r)}, self.truth, self.eager)
        blocks = -(-case.reference // case.cluster.keys) * case.heads
        visit = blocks * case.cluster.tiles * (arguments["D0"] + arguments["D1"]) // DEPTH
        return {"wrong": said, "races": races.found, "visits": products / visit}

    def parameters(self, memory: Global) -> Iterator[float]:
        """The arguments as the kernel takes them: those of its tuples one by one, and none that was compiled in."""

        def flat(kind: Any, value: Any) -> Iterator[float]:
            if isinstance(kind, tuple):
                for of, one in zip(kind, value):
                    yield from flat(of, one)
            elif kind != "constexpr":
                yield memory.address(value) if isinstance(value, Tensor) else value

        for kind, value in self.types:
            yield from flat(kind, value)


def first(pattern: str, becomes: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, becomes, text, count=1)


def without_pair(text: str, behind: bool) -> str:
    """Without the barrier of the cluster before the first reads of peers, or that behind them."""
    lines = text.splitlines()
    reads = next(number for number, line in enumerate(lines) if READ in line)
    halves = [number for number, line in enumerate(lines) if "barrier.cluster." in line and (number > reads) == behind]
    gone = halves[:2] if behind else halves[-2:]
    return "\n".join(line for number, line in enumerate(lines) if number not in gone)


# A word that is read and then stored: the predicate of the read, what lies between, the address
READ_THEN_STORED = r"(@%p\d+)( ld\.global\.b32 [^;]*(\[ %rd\d+ \+ 0 \]);(?:(?!ld\.global)[\s\S])*?)@%p\d+( st\.global\.b32 \3)"
FAULTS: dict[str, Callable[[str], str]] = {
    "keys that are not waited for": first(r"cp\.async\.wait_group\s+0;", ""),
    "keys that the matrix units do not see": first(r"fence\.proxy\.async\.shared::cta;", ""),
    "a product that is not waited for": first(r"(wgmma\.wait_group\.sync\.aligned) 0;", r"\1 1;"),
    "sums of warps without a barrier": first(r"(st\.shared\.v4\.b32[^;]*;\s*)bar\.sync\s+0;", r"\1"),
    "sums of peers that are not waited for": lambda text: without_pair(text, behind=False),
    "sums that peers still read": lambda text: without_pair(text, behind=True),
    "a score that stays a logarithm": first(r"(wgmma\.wait_group[\s\S]*?)ex2\.approx\.ftz\.f32", r"\1mov.b32"),
    "a word that all who read it store": first(READ_THEN_STORED, r"\1\2\1\4"),
}


def main() -> None:
    launches = {name: Compiled(case) for name, case in CASES.items()}
    found = {name: launch.run(launch.text) for name, launch in launches.items()}
    sound = launches["weights and a mask"]
    faults = {name: planted(sound.text) for name, planted in FAULTS.items()}
    assert sound.text not in faults.values()
    print(json.dumps({"cases": found, "faults": {name: sound.run(text) for name, text in faults.items()}}))


if __name__ == "__main__":
    main()
