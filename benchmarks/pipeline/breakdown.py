"""Where the time goes: the parts of one call beside what this machine could do them in, and our share of a traced run.

    python -m benchmarks.pipeline.breakdown --shapes warp_3072 words_77 --sections small

A call's operations are counted and timed one by one as they are dispatched, on the streaming backend. The floor of a part is

    2 * multiply-adds / FLOP/s of a large product + exponentials * time of one exp2

both peaks measured in the same run, with the same threads and from cache. What passes between the operations of a call, or of a
pipeline under torch.profiler, is Python: the call's own time less that of its operations. Counting costs an operation a few
microseconds, which the parts of short calls show.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring.measure import Run, cpu_ms, interleaved
from benchmarks.measuring.rows import RESULTS, Row, Writer, environment, percentiles, slug
from benchmarks.measuring.table import commit, place
from benchmarks.operator.counted import PARTS, Work, counted
from benchmarks.operator.one_call import RUNNERS
from benchmarks.operator.shapes import CPU_BATCH, SHAPES, Shape, arguments
from benchmarks.pipeline import traced

PEAK_SIZE, PEAK_ELEMENTS, PEAK_REPEATS = 1024, 1 << 18, 15
CASES = ("one_token", "clip_257", "dino_1036")
TOP = 4  # other operations of a pipeline that are named


def peaks() -> dict[str, float]:
    """What this machine reaches: GFLOP/s of a large product, nanoseconds of one exp2 in cache."""
    a, b, product = (torch.rand(PEAK_SIZE, PEAK_SIZE) for _ in range(3))
    x = -torch.rand(PEAK_ELEMENTS)
    powers = torch.empty_like(x)
    runs = {"product": lambda: torch.mm(a, b, out=product), "exp2": lambda: torch.exp2(x, out=powers)}
    best = {name: min(cpu_ms(run) for _ in range(PEAK_REPEATS)) for name, run in runs.items()}  # not interleaved: caches stay warm
    return {"gflops": 2e-6 * PEAK_SIZE**3 / best["product"], "exp_ns": 1e6 * best["exp2"] / PEAK_ELEMENTS}


def floor_ms(work: Work, peak: dict[str, float]) -> float:
    return 2e-6 * work.multiply_adds / peak["gflops"] + 1e-6 * work.exponentials * peak["exp_ns"]


def operator(name: str, shape: Shape, peak: dict[str, float], repeats: int) -> Row:
    """One shape's row: the call as a user makes it, and its parts."""
    given = arguments(shape, CPU_BATCH, torch.float32, torch.device("cpu"))
    found: list[dict[str, Work]] = []
    runs: dict[str, Run] = {runner: partial(RUNNERS[runner], given) for runner in ("sdpa", "streaming")}
    runs["parts"] = lambda: found.append(counted(given))
    with torch.no_grad():
        taken = interleaved(runs, repeats, torch.device("cpu"))
    times = {runner: percentiles(taken[runner])["p50"] for runner in ("sdpa", "streaming")}
    whole, parts = times["streaming"], {}
    for part, work in found[0].items():
        ms = percentiles([1e3 * one[part].seconds for one in found[1:]])["p50"]  # the first warms up
        parts[part] = {"ms": ms, "floor_ms": floor_ms(work, peak), "calls": work.calls, "exponentials": work.exponentials,
                       "multiply_adds": work.multiply_adds, "bytes_written": work.bytes_written}  # fmt: skip
    python = max(0.0, whole - sum(part["ms"] for part in parts.values()))
    return {
        "benchmark": "where", "level": "operator", "shape": name, "generated": shape.generated, "reference": shape.reference,
        "size": shape.size, "heads": shape.heads, "batch": CPU_BATCH, "dtype": "float32", "repeats": repeats, "ms": whole,
        "sdpa_ms": times["sdpa"], "floor_ms": sum(part["floor_ms"] for part in parts.values()), "python_ms": python, "parts": parts,
        "peaks": peak,
    }  # fmt: skip


def pipeline(section: str, case: str, model: traced.Model, steps: int, trace: Path | None = None) -> Row:
    """One traced run under the profiler: our operator, the largest others, what is left in small ones, and Python between them."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it announces every start and stop
    model.traced(case, 1)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        whole = cpu_ms(lambda: model.traced(case, steps))
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    ours = calls = 0.0
    others: dict[str, float] = {}
    for event in profiler.events() or ():
        above, inside = event.cpu_parent, False
        while above is not None and not inside:
            above, inside = above.cpu_parent, above.name == "i2am_kernels::bi_attention"
        if event.name == "i2am_kernels::bi_attention":
            ours, calls = ours + event.cpu_time_total / 1e3, calls + 1
        elif not inside:
            others[event.name] = others.get(event.name, 0.0) + event.self_cpu_time_total / 1e3
    named = sorted(others, key=lambda name: -others[name])[:TOP]
    rest = sum(ms for name, ms in others.items() if name not in named)
    return {
        "benchmark": "where", "level": "pipeline", "section": section, "case": case, "steps": steps, "batch": 1, "dtype": "float32",
        "profiled_ms": whole, "ours_ms": ours, "ours_calls": int(calls), "others_ms": {name: others[name] for name in named},
        "rest_ms": rest, "python_ms": max(0.0, whole - ours - sum(others.values())),
    }  # fmt: skip


def summary(rows: list[Row]) -> str:
    """Two tables for each place: the parts of a call, and of a pipeline; a repeated measurement shows its last row."""
    parts = []
    for where in dict.fromkeys(place(row) for row in rows):
        here = {(row["level"], row.get("shape"), row.get("section"), row.get("case")): row for row in rows if place(row) == where}
        commits = ", ".join(dict.fromkeys(commit(row) for row in here.values()))
        parts.append(f"{where}; measured at {commits} with `python -m benchmarks.pipeline.breakdown`.\n")
        calls = [row for row in here.values() if row["level"] == "operator"]
        if calls:
            parts += [of_calls(calls), ""]
        runs = [row for row in here.values() if row["level"] == "pipeline"]
        if runs:
            parts += [of_runs(runs), ""]
    return "\n".join(parts).rstrip()


def of_calls(rows: list[Row]) -> str:
    peak = rows[-1]["peaks"]
    heads = ["G x R, head size, heads", "SDPA, ours, floor: ms", "ours / floor", *PARTS, "Python"]
    lines = [
        f"Share of a call's time, batch {CPU_BATCH}, float32, and in brackets how many times its floor a part takes. The floor counts "
        f"products and exponentials at the measured peaks, here {peak['gflops']:.0f} GFLOP/s and {peak['exp_ns']:.2f} ns an exponential.\n",
        "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|",
    ]  # fmt: skip
    for row in rows:
        cells = [f"{row['generated']} x {row['reference']}, {row['size']}, {row['heads']}",
                 f"{row['sdpa_ms']:.3g}, {row['ms']:.3g}, {row['floor_ms']:.3g}", f"{row['ms'] / row['floor_ms']:.2f}"]  # fmt: skip
        for part in PARTS:
            one = row["parts"][part]
            times = f" ({one['ms'] / one['floor_ms']:.1f})" if one["multiply_adds"] + one["exponentials"] else ""
            cells.append(f"{one['ms'] / row['ms']:.0%}{times}" if one["calls"] else "")
        lines.append("| " + " | ".join([*cells, f"{row['python_ms'] / row['ms']:.0%}"]) + " |")
    return "\n".join(lines)


def of_runs(rows: list[Row]) -> str:
    heads = ["UNet", "case", "profiled ms, steps", "**bi_attention**, calls", "largest others", "smaller ones", "Python"]
    lines = ["Share of a traced run under torch.profiler, whose own cost is in it.\n", "| " + " | ".join(heads) + " |",
             "|---" * len(heads) + "|"]  # fmt: skip
    for row in rows:
        whole = row["profiled_ms"]
        others = ", ".join(f"{name.removeprefix('aten::')} {ms / whole:.0%}" for name, ms in row["others_ms"].items())
        cells = [row["section"], row["case"], f"{whole:.0f}, {row['steps']}", f"**{row['ours_ms'] / whole:.1%}**, {row['ours_calls']}",
                 others, f"{row['rest_ms'] / whole:.0%}", f"{row['python_ms'] / whole:.0%}"]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pipeline.breakdown", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shapes", nargs="*", default=[name for name in SHAPES if name != "joint"], choices=list(SHAPES))
    parser.add_argument("--sections", nargs="*", default=list(traced.SECTIONS), choices=list(traced.SECTIONS))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(traced.CASES))
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--traces", type=Path, help="a folder for the profiler's traces, for chrome://tracing")
    parser.add_argument("--out", type=Path, help="default benchmarks/results/<device>-where.jsonl")
    given = parser.parse_args(words)
    for option in ("steps", "repeats", "threads"):
        if getattr(given, option) < 1:
            raise ValueError(f"--{option} must be 1 or more, got {getattr(given, option)}. Raise it.")
    torch.set_num_threads(given.threads)
    here = environment(torch.device("cpu"))
    path = given.out or RESULTS / f"{slug(here['device'])}-where.jsonl"
    writer, peak, rows = Writer(path, here), peaks(), []
    for name in given.shapes:
        rows.append(operator(name, SHAPES[name], peak, given.repeats))
        writer.write(rows[-1])
    for section in given.sections:
        model = traced.Model(traced.SECTIONS[section], torch.device("cpu"))
        for case in given.cases:
            trace = given.traces and given.traces / f"{section}-{case}.json"
            rows.append(pipeline(section, case, model, given.steps, trace))
            writer.write(rows[-1])
        del model  # 3.4 GB
    print(summary([{**row, "environment": here} for row in rows]) + f"\n\nrows in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
