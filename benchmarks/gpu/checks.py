"""Right or wrong on this device, a runner at a time, so that a crash has one name.

A call is checked against float64 into buffers that already hold something. `behaviour` checks that two calls give the same bits,
that torch.compile keeps the call whole at two shapes, and that a replayed CUDA graph equals the call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.cases import FAMILIES, QUICK, QUICK_SAME, SAME, Case, arguments, fresh
from benchmarks.gpu.items import Begin, Item
from benchmarks.measuring import health
from benchmarks.measuring.measure import captured
from benchmarks.measuring.rows import Row
from benchmarks.operator import judge, shapes
from benchmarks.operator.baselines import Unsupported
from benchmarks.operator.one_call import DTYPES, OURS, RUNNERS, Runner, ours

CHECKED = (*OURS, "reference")
PRECISE = tuple(OURS)  # maps as exact as float32 whatever the inputs; the reference works in the inputs' precision
PATIENCE = 60.0
PARTS = 3  # processes that share the shapes people use
Given = dict[str, Any]


def runner_of(name: str) -> Runner:
    return RUNNERS[name] if name in RUNNERS else partial(ours, name)


def what_of(given: Given, name: str) -> Row:
    """What a red row silences: the runner at this head size and dtype, with or without a mask."""
    query = given["query"]
    return {"runner": name, "dtype": str(query.dtype).removeprefix("torch."), "size": query.shape[-1],
            "masked": given.get("attn_mask") is not None}  # fmt: skip


def people(dtype: str, part: int, device: torch.device, quick: bool) -> list[Item]:
    """A part of the shapes that are timed, the conditional half of a guided pair."""
    every = {f"tiny_{keys}": shapes.TINY._replace(reference=keys) for keys in (19, 270)} if quick else shapes.SHAPES
    chosen, dtype = dict(list(every.items())[part::PARTS]), "float32" if quick else dtype
    return [Item(name, PATIENCE, partial(checked, name, partial(shapes.arguments, shape, 2, DTYPES[dtype], device, "half")))
            for name, shape in chosen.items()]  # fmt: skip


def family(name: str, dtype: str, device: torch.device, quick: bool) -> list[Item]:
    cases = (QUICK if quick else FAMILIES)[name]
    return [Item(case.name, PATIENCE, partial(checked, case.name, partial(arguments, case, DTYPES[dtype], device))) for case in cases]


def checked(name: str, make: Callable[[], Given], begin: Begin) -> Iterator[Row]:
    """One row per runner."""
    given = make()
    call = judge.call_of(given)
    true = judge.answer(call, torch.float64)
    limits = {precise: judge.allowed(call, true, precise) for precise in (True, False)}
    device = given["query"].device
    for runner in CHECKED:
        what = what_of(given, runner)
        if not begin(runner, case=name, **what):
            continue

        def check(row: Row, runner: str = runner) -> None:
            mine = fresh(given)
            out = runner_of(runner)(mine)
            found = judge.errors(judge.picked(judge.call_of(mine), out, given), true)
            allowed = limits[runner in PRECISE]
            row |= {"error_of": found, "allowed": {n: allowed[n] for n in found}, "red": judge.red(found, allowed)}

        yield guarded({"case": name, **what}, check, device)


def guarded(row: Row, check: Callable[[Row], None], device: torch.device) -> Row:
    """The row with what the check found; a refusal at the door is `skipped`, a crash is an error and red."""
    try:
        check(row)
    except (ValueError, Unsupported) as reason:
        row["skipped"] = str(reason)
    except Exception as broken:
        row |= {"error": health.told(broken, device), "red": True}
    return row


def buffers_of(given: Given, out: Tensor) -> list[Tensor]:
    return [out, *(given[name] for name in judge.BUFFERS if given.get(name) is not None)]


def same(one: Given, out: Tensor, two: Given, other: Tensor) -> bool:
    return all(torch.equal(a, b) for a, b in zip(buffers_of(one, out), buffers_of(two, other)))


def behaviours(dtype: str, device: torch.device, quick: bool) -> list[Item]:
    return [Item(case.name, 2 * PATIENCE, partial(behaviour, case, dtype, device)) for case in (QUICK_SAME if quick else SAME)]


def behaviour(case: Case, dtype: str, device: torch.device, begin: Begin) -> Iterator[Row]:
    given = arguments(case, DTYPES[dtype], device)
    larger = arguments(case.larger(), DTYPES[dtype], device)
    for runner in ("triton", "streaming"):
        for title, check in (("determinism", twice), ("compile", compiled), ("graph", graph)):
            row: Row = {"case": case.name, **what_of(given, runner)}
            if begin(f"{title} {runner}", **row):
                yield guarded({**row, "section": title}, partial(found_right, check, runner, [given, larger]), device)


def found_right(check: Callable[[str, Sequence[Given]], bool], runner: str, given: Sequence[Given], row: Row) -> None:
    row["red"] = not check(runner, given)


def twice(runner: str, given: Sequence[Given]) -> bool:
    one, two = fresh(given[0]), fresh(given[0])
    return same(one, runner_of(runner)(one), two, runner_of(runner)(two))


def compiled(runner: str, given: Sequence[Given]) -> bool:
    """Both shapes through one compiled function, the second with sizes that are symbols."""
    backend = "inductor" if given[0]["query"].is_cuda else "aot_eager"  # a CPU may have no C++ compiler
    torch.compiler.reset()
    whole = torch.compile(lambda given: ours(runner, given), fullgraph=True, backend=backend)
    right = True
    for one, two in ((fresh(of), fresh(of)) for of in given):
        right &= same(one, runner_of(runner)(one), two, whole(two))
    return right


def graph(runner: str, given: Sequence[Given]) -> bool:
    if not given[0]["query"].is_cuda:
        raise ValueError("CUDA graphs need a GPU")
    one, two = fresh(given[0]), fresh(given[0])
    held: dict[str, Tensor] = {}

    def run() -> None:
        held["out"] = runner_of(runner)(two)

    replayed = captured(run)
    for buffer in judge.BUFFERS:  # the warm-up has added to them
        if given[0].get(buffer) is not None:
            two[buffer].copy_(given[0][buffer])
    held["out"].fill_(torch.nan)
    replayed.replay()
    torch.cuda.synchronize()
    return same(one, runner_of(runner)(one), two, held["out"])
