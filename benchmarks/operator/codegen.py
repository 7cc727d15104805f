"""What the compiler makes of the Triton sweeps, without a GPU: `python -m benchmarks.operator.codegen` (`make codegen`).

The launcher runs on meta tensors and every launch it would make is compiled instead, with the tile and the specialisation
it would have on a device. For NVIDIA the machine code is taken apart: registers, spilled bytes, shared memory and, in the
main loop, instructions, exponentials and shuffles per score. AMD code is compiled to assembly and not counted.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource

from benchmarks.operator import cycles
from benchmarks.operator.sass import loops, main_loop, mnemonic, taken_apart
from i2am_kernels import onchip, triton_backend, triton_backward
from i2am_kernels.backward import Upstream
from i2am_kernels.call import Call
from i2am_kernels.fields import MOMENTS

TARGETS = {"sm_80": GPUTarget("cuda", 80, 32), "sm_90": GPUTarget("cuda", 90, 32), "sm_100": GPUTarget("cuda", 100, 32),
           "gfx942": GPUTarget("hip", "gfx942", 64)}  # fmt: skip
HEAD_SIZES = (40, 64, 80, 128, 160)
CASES = ("plain", "masked", "added", "few keys", "words", "words masked", "image", "specific", "one key", "one query", "field", "grouped")
ONCHIP_CASES = ("onchip", "onchip weighted", "onchip masked", "onchip 3072")  # Hopper alone, and from Triton 3.9 on
BACKWARD_CASES = tuple(f"backward {of}".strip() for of in ("", "output", "rows", "columns", "masked", "field", "one key", "one query"))
SWEEPS = ("forward_sweep", "keys_sweep", "queries_sweep", "one_tile_sweep", "finish")
ONCHIP_SWEEPS = ("onchip_sweep", "finish")
BACKWARD_SWEEPS = ("sums_sweep", "keys_backward_sweep", "queries_backward_sweep")
SIDES = ("BLOCK_G", "BLOCK_R", "BLOCK_LINES", "BLOCK_OTHERS")  # of a tile of scores
POINTERS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int8: "*i8"}
Place = tuple[int, ...]
SHARED_LIMIT = {"sm_80": 163, "sm_90": 227, "sm_100": 227, "gfx942": 64}  # KiB a program may use


class Launch(NamedTuple):
    sweep: str
    case: str
    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, int]


def launches(size: int, dtype: torch.dtype, case: str, target: str) -> list[Launch]:
    """What the launcher would launch for one call, recorded on tensors without memory."""
    if case in BACKWARD_CASES:
        return backward_launches(size, dtype, case, target)
    if case in ONCHIP_CASES and (target != "sm_90" or onchip.onchip_sweep is None):
        return []
    reference = {"few keys": 16, "words": 77, "words masked": 77, "image": 256, "one key": 1, "one query": 300}.get(case, 3072)
    batch, heads, generated = {
        "one key": (1, 1, 4096),
        "one query": (1, 1, 1),
        "field": (4, 8, 3072),
        "onchip 3072": (8, 8, 3072),
        "onchip masked": (4, 8, 3072),
    }.get(case, (4, 8, 4096))
    largest = onchip.largest_cluster(size) if case in ONCHIP_CASES else None
    generated = min(generated, largest.queries) if largest else generated
    key_heads = heads // 4 if case == "grouped" else heads
    mask = {  # of the keys, or another one for every query
        "masked": torch.empty(batch, 1, 1, reference, dtype=torch.bool, device="meta"),
        "added": torch.empty(batch, 1, generated, reference, dtype=dtype, device="meta"),
        "words masked": torch.empty(batch, 1, generated, reference, dtype=torch.bool, device="meta"),
        "onchip masked": torch.empty(batch, 1, 1, reference, dtype=torch.bool, device="meta"),
    }
    words, weightings = {"words": 77, "field": MOMENTS}.get(case, 0), 48 if case == "specific" else 1
    columns = MOMENTS if case == "field" else 0
    shape = lambda *sizes: torch.empty(sizes, dtype=torch.float32, device="meta")  # noqa: E731
    call = Call(
        query=torch.empty(batch, heads, generated, size, dtype=dtype, device="meta"),
        key=torch.empty(batch, key_heads, reference, size, dtype=dtype, device="meta"),
        value=torch.empty(batch, key_heads, reference, size, dtype=dtype, device="meta"),
        mask=mask.get(case),
        scale=size**-0.5, r2g=shape(batch, heads, generated),
        g2r=shape(batch, heads, weightings, reference),
        token_maps=shape(batch, heads, words, generated) if words else None,
        column_maps=shape(batch, heads, columns, reference) if columns else None,
        generated_weight=shape(batch, 1, weightings, generated) if weightings > 1 or case == "onchip weighted" else None,
        reference_weight=shape(batch, 1, reference) if case == "onchip weighted" else None,
        token_weight=shape(batch, 1, reference, words) if words else None,
        column_weight=shape(batch, 1, columns, generated) if columns else None,
        rows=(0, batch), generated=(0, generated), reference=(0, reference),
    )  # fmt: skip
    with recording(case, target) as recorded:
        triton_backend.launch(call, route="onchip" if case in ONCHIP_CASES else "own")
    return [launch for launch in recorded if case not in ONCHIP_CASES or launch.sweep == "onchip_sweep"]


def backward_launches(size: int, dtype: torch.dtype, case: str, target: str) -> list[Launch]:
    """Likewise for the gradients of a call: of the output, of P's map, of C's, of all; or of the field."""
    batch, heads = 4, 8
    generated, reference = {"backward one key": (3072, 1), "backward one query": (1, 300)}.get(case, (3072, 3072))
    empty = lambda *sizes, of=torch.float32: torch.empty(sizes, dtype=of, device="meta")  # noqa: E731
    query, out, output = (empty(batch, heads, generated, size, of=dtype) for _ in range(3))
    key, value = (empty(batch, heads, reference, size, of=dtype) for _ in range(2))
    mask = empty(batch, 1, generated, reference, of=torch.bool) if case == "backward masked" else None
    moments = MOMENTS if case == "backward field" else 0
    words, columns = (empty(batch, 1, reference, moments), empty(batch, 1, moments, generated)) if moments else (None, None)
    call = Call(query, key, value, mask, size**-0.5, None, None, None, None, None, None, words, columns, (0, batch), (0, generated),
                (0, reference), empty(batch, heads, generated))  # fmt: skip
    alone = case.split()[-1]
    maps = [empty(batch, heads, moments, tokens) if moments else None for tokens in (generated, generated, reference)]
    d_r2g = None if alone in ("output", "rows") else empty(batch, heads, generated)
    d_g2r = None if alone in ("output", "columns") else empty(batch, heads, 1, reference)
    up = Upstream(None if alone in ("rows", "columns") else out, d_r2g, d_g2r, maps[0], maps[2], output, maps[1])
    with recording(case, target) as recorded:
        triton_backward.launch_backward(call, up)
    return recorded


@contextmanager
def recording(case: str, target: str) -> Iterator[list[Launch]]:
    """The list of what is launched meanwhile, as on the target."""
    recorded: list[Launch] = []
    capability = (int(target[3:-1]), int(target[-1])) if target.startswith("sm_") else (0, 0)
    stand_ins: dict[str, Any] = {"cores": lambda device: 132, "capability": lambda device: capability}
    stand_ins["PRECISION"] = triton_backend.precision(TARGETS[target].backend == "hip")
    with ExitStack() as stack:
        for module, names in ((triton_backend, SWEEPS), (triton_backward, BACKWARD_SWEEPS), (onchip, ONCHIP_SWEEPS)):
            kernels: dict[str, Any] = {
                name: Recorder(name, case, recorded, getattr(module, name).jit) for name in names if getattr(module, name)
            }
            stack.enter_context(mock.patch.multiple(module, **kernels) if kernels else nullcontext())  # an old Triton has not all
        stack.enter_context(mock.patch.multiple(triton_backend, **stand_ins))
        stack.enter_context(mock.patch.object(triton_backend, "route_of", return_value="own"))
        yield recorded


class Recorder:
    """Stands where a kernel stands and writes down how it is launched."""

    compiles = False  # nothing is planned

    def __init__(self, name: str, case: str, recorded: list[Launch], kernel: Any):
        self.name, self.case, self.recorded, self.kernel = name, case, recorded, kernel

    def __getitem__(self, grid: tuple[int, ...]) -> Recorder:
        return self

    def __call__(self, *values: Any, **constants: Any) -> None:
        options: dict[str, int] = {key: constants.pop(key) for key in ("num_warps", "num_stages", "num_ctas") if key in constants}
        assert constants.pop("enable_fp_fusion")
        arguments = dict(zip(self.kernel.arg_names, values), **constants)
        self.recorded.append(Launch(self.name, self.case, self.kernel, arguments, options))


def compiled(launch: Launch, target: GPUTarget) -> Any:
    """The launch compiled as the runtime would: ones folded in, multiples of 16 and aligned pointers known."""
    signature: dict[str, Any] = {}
    constants: dict[Place, Any] = {}
    attributes: dict[Place, list[list[Any]]] = {}

    def typed(value: Any, place: Place, parameter: Any) -> Any:
        """Its type; what else is known of it goes under its place: the argument's number, inside a tuple the element's behind it."""
        known = isinstance(value, int) and not parameter.do_not_specialize
        if parameter.is_constexpr or (known and value == 1):
            constants[place] = value
            return "constexpr"
        if isinstance(value, tuple):
            return tuple(typed(element, (*place, index), parameter) for index, element in enumerate(value))
        if isinstance(value, torch.Tensor) or (known and value % 16 == 0):
            attributes[place] = [["tt.divisibility", 16]]
        if isinstance(value, torch.Tensor):
            return POINTERS[value.dtype]
        return "fp32" if isinstance(value, float) else "i32" if abs(value) < 2**31 else "i64"

    for index, parameter in enumerate(launch.kernel.params):
        signature[parameter.name] = typed(launch.arguments[parameter.name], (index,), parameter)
    Source = GluonASTSource if launch.kernel.is_gluon() else ASTSource
    source = Source(launch.kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options={**launch.options, "enable_fp_fusion": True})


def measured(launch: Launch, name: str) -> dict[str, Any]:
    """One row: what this launch compiles to on this target."""
    binary = compiled(launch, TARGETS[name])
    sizes: dict[str, int] = {key: launch.arguments[key] for key in SIDES if key in launch.arguments}
    if "TILES" in launch.arguments:  # of a program; its cluster has as many times more
        sizes["BLOCK_G"] = onchip.ROWS * launch.arguments["TILES"]
    gives = {key.lower(): launch.arguments[key] for key in ("NORM", "KEYS", "VALUES") if key in launch.arguments}  # of the backward's
    row: dict[str, Any] = {"target": name, "sweep": launch.sweep, "case": launch.case, "head": launch.arguments.get("D"),
           **gives, **sizes, **launch.options,
           "dtype": str(launch.arguments.get("query", launch.arguments.get("lines", torch.empty(0))).dtype).removeprefix("torch."),
           "shared_kib": round(binary.metadata.shared / 1024, 1), "triton": triton.__version__}  # fmt: skip
    if TARGETS[name].backend == "hip":
        return row | {"spill_bytes": int(re.findall(r"\.private_segment_fixed_size:\s*(\d+)", binary.asm["amdgcn"])[0])}
    resources, code = taken_apart(binary.asm["cubin"])
    row |= {"registers": resources["REG"], "spill_bytes": max(resources["STACK"], resources["LOCAL"])}
    bodies = [body for body in loops(code) if any("MMA" in mnemonic(line) for line in body)]
    if bodies and sizes:
        body = main_loop(bodies, launch.sweep)
        counts = collections.Counter(mnemonic(line).split(".")[0] for line in body)
        threads_per_score = 32 * launch.options["num_warps"] / math.prod(sizes.values())
        row |= {"instructions": round(len(body) * threads_per_score, 2),
                "exponentials": round(sum("EX2" in mnemonic(line) for line in body) * threads_per_score, 3),
                "shuffles": round(counts["SHFL"] * threads_per_score, 3)}  # fmt: skip
    return row


def table(rows: list[dict[str, Any]]) -> str:
    columns = ["target", "sweep", "norm", "keys", "values", "case", "dtype", "head", "BLOCK_G", "BLOCK_R", "num_warps", "num_stages",
               "num_ctas", "registers", "spill_bytes", "shared_kib", "instructions", "exponentials", "shuffles"]  # fmt: skip
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows])


def page(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, behind a model of time where they have what it wants."""
    model = cycles.model(rows)
    said = "\n".join(line for line in (cycles.__doc__ or "").splitlines()[2:] if line)
    return f"Cycles a score, sm_90, bfloat16.\n\n{model}\n\n{said}\n\n{table(rows)}" if model else table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--heads", nargs="+", type=int, default=list(HEAD_SIZES))
    parser.add_argument(
        "--cases",
        nargs="+",
        default=["plain", *ONCHIP_CASES, "words", "field", "backward", "backward field"],
        choices=(*CASES, *ONCHIP_CASES, *BACKWARD_CASES),
    )
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"], choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--out", type=Path, help="write the rows there as JSON lines, and the table beside them as Markdown")
    chosen = parser.parse_args()
    if triton_backend.INTERPRETED:
        sys.exit("codegen compiles the kernels: unset TRITON_INTERPRET")
    rows = []
    for dtype in chosen.dtypes:
        for case in chosen.cases:
            for size in chosen.heads:
                for target in chosen.targets:
                    for launch in launches(size, getattr(torch, dtype), case, target):
                        rows.append(measured(launch, target))
                        print(json.dumps(rows[-1]), flush=True)
    if chosen.out:
        chosen.out.write_text("".join(json.dumps(row) + "\n" for row in rows))
        chosen.out.with_suffix(".md").write_text(page(rows) + "\n")
    print("\n" + page(rows))


if __name__ == "__main__":
    main()
