"""The last thing a call prints: how fast, the lines to paste, right or not, what ended badly, what there was no time for.

What matters most comes last: of a long output a lent machine may bring home the end alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean

from benchmarks.gpu.row_store import CHECKS, gated
from benchmarks.measuring.rows import Row
from benchmarks.operator.one_call import FLOORS
from i2am_kernels.tiles import head_parts, side

MOST = 12  # reds by name
KEY = ("shape", "batch", "dtype", "rows", "mode")


def verdict(rows: Sequence[Row], left_out: Sequence[str]) -> str:
    rows = gated(list(rows))
    parts = [speeds(rows), tiles(rows), routes(rows), wholes(rows), device(rows), right(rows), crashes(rows)]
    parts.append(f"no time for: {'; '.join(left_out)}" if left_out else "everything asked for was run")
    return "\n".join(part for part in parts if part)


def device(rows: list[Row]) -> str:
    of = {row["item"]: row for row in rows if row.get("section") == "device" and "item" in row and "error" not in row}
    said = [row["environment"]["device"] for row in of.values()][:1]
    said += [f"copy {of['copy']['tb_per_s']} TB/s"] if "copy" in of else []
    said += [f"bf16 product {of['product']['tflop_per_s']} TFLOP/s"] if "product" in of else []
    smi = of.get("place", {}).get("smi", {})
    return ", ".join([*said, *(f"{key} {smi[key]}" for key in ("clocks.sm", "temperature.gpu") if key in smi)])


def right(rows: list[Row]) -> str:
    """Every check's last state by section; the red ones by name."""
    last = {(row["section"], row.get("case"), row.get("runner"), row.get("dtype")): row for row in rows if row.get("section") in CHECKS}
    lines = []
    for section in dict.fromkeys(key[0] for key in last):
        of = [row for key, row in last.items() if key[0] == section]
        bad, skipped = sum(bool(row.get("red")) for row in of), sum("skipped" in row for row in of)
        lines.append(f"{section}: {len(of) - bad - skipped} right, {bad} red, {skipped} do not apply")
    wrong = [(key, row) for key, row in last.items() if row.get("red")]
    for (section, case, runner, dtype), row in wrong[:MOST]:
        why = str(row.get("error") or {n: f"{e:.0e} of {row['allowed'][n]:.0e}" for n, e in row.get("error_of", {}).items()} or "differs")
        lines.append(f"  RED {section} {case} {runner} {dtype}: {why.splitlines()[0][:120]}")
    lines += [f"  and {len(wrong) - MOST} more"] if len(wrong) > MOST else []
    return "\n".join(lines)


def crashes(rows: list[Row]) -> str:
    found = [row for row in rows if row.get("error") and row.get("section") not in CHECKS and row.get("section") != "tune"]
    return "\n".join(f"  ENDED BADLY {row.get('group', '')} {row.get('item') or row.get('runner')}: {row['error'].splitlines()[0][:120]}"
                     for row in found[:MOST])  # fmt: skip


def speeds(rows: list[Row]) -> str:
    """A line a shape: the fastest attention without maps, and everybody's time over it."""
    timed = {(*(row[name] for name in KEY), row["runner"]): row for row in rows
             if row.get("section") == "timings" and ("ms" in row or "red_ms" in row)}  # fmt: skip
    lines = []
    for key in dict.fromkeys(key[:-1] for key in timed):
        of = {row["runner"]: row for full, row in timed.items() if full[:-1] == key}
        best = next((row["best"] for row in of.values() if "best" in row), "sdpa")
        floor = f"{of[best]['ms']['p50']:.4g} ms {best}" if "ms" in of.get(best, {}) else "no floor"
        picked = f", torch takes {of['sdpa']['picked'].split('_')[0].lower()}" if "picked" in of.get("sdpa", {}) else ""
        said = [f"{name} {row.get('ratio_best', row.get('ratio', 0)):.2f}" if "ms" in row else f"{name} RED ({row['red_ms']['p50']:.4g} ms)"
                for name, row in of.items() if name not in FLOORS]  # fmt: skip
        lines.append(f"{' '.join(map(str, key))}: {floor}{picked}; x that: {', '.join(said)}")
    return "\n".join(lines)


def tiles(rows: list[Row]) -> str:
    """The best tile of each sweep and head size, as it is written in tiles.py, beside the table's."""
    lines = []
    timed = [row for row in rows if row.get("section") == "tune" and "ms" in row and not row.get("red")]
    for sweep, size, keys in dict.fromkeys((row["sweep"], row["size"], row["reference"]) for row in timed):
        of = {tuple(row["tile"]): row for row in timed if (row["sweep"], row["size"], row["reference"]) == (sweep, size, keys)}
        best = min(of.values(), key=lambda row: row["ms"]["p50"])
        table = next((row for row in of.values() if row["table"]), None)
        beside = f"the table's {tuple(table['tile'])} {table['ms']['p50']:.4f} ms" if table else "the table's has no time"
        name = f"{sweep} {side(keys)}" if sweep == "one_tile" else sweep
        text = f'"{name}": {{{sum(head_parts(size))}: Tile({", ".join(map(str, best["tile"]))})}}'
        lines.append(f"{text}  # {best['ms']['p50']:.4f} ms at {keys} keys, {beside}")
    return "\n".join(lines)


def routes(rows: list[Row]) -> str:
    """The fastest forward of each head size, as it is written in tiles.py, and where both maps in one visit beat two sweeps behind it."""
    lines, faster = [], []
    timed = [row for row in rows if row.get("section") == "route" and "ms" in row and row["runner"].startswith("triton_")]
    for size in dict.fromkeys(row["size"] for row in timed):
        of = {row["runner"].removeprefix("triton_"): row for row in timed if row["size"] == size}
        together = of.pop("onchip", None)
        if not of:
            continue
        best = min(of, key=lambda name: of[name]["ms"]["p50"])
        place = tuple(int(part) for part in (of[best]["environment"]["capability"] or "0.0").split("."))
        others = ", ".join(f"{name} {row['ms']['p50']:.4f} ms" for name, row in of.items())
        lines.append(f'({place}, {size}): "{best}",  # {others}')
        if together and together["ms"]["p50"] < of[best]["ms"]["p50"]:
            faster.append(f"({place}, {size}),  # of ONCHIP: {together['ms']['p50']:.4f} ms, {best} {of[best]['ms']['p50']:.4f} ms")
    return "\n".join(lines + faster)


def wholes(rows: list[Row]) -> str:
    """Pipelines, a step's layers and evaluations in a line each."""
    lines = []
    for row in rows:
        if "overhead_percent" in row:
            lines.append(
                f"{row['section']} {row['case']} {row['runner']}: +{row['overhead_percent']['p50']:.1f} %, {row['extra_mb']:.0f} MB more"
            )
        elif "family" in row and "ratio" in row and row["runner"] != "sdpa":
            lines.append(f"layers {row['family']} {row['runner']}: {row['ratio']:.2f} x attention alone")
        elif "images_per_second" in row:
            lines.append(f"evaluation {row['runner']} batch {row['batch']}: {row['images_per_second']:.2f} images/s")
    lines += fields(rows)
    ours = [row["ratio_best"] for row in rows if row.get("runner") == "triton" and row.get("section") == "timings" and "ratio_best" in row]
    lines += [f"all timings of triton, geometric mean: {geometric_mean(ours):.2f} x the best attention without maps"] if ours else []
    return "\n".join(lines)


def fields(rows: list[Row]) -> list[str]:
    """What the field adds to a call with maps, a shape a line."""
    timed = {(*(row[name] for name in KEY), row["runner"]): row["ms"]["p50"] for row in rows
             if row.get("section") == "timings" and "ms" in row}  # fmt: skip
    pairs = [(key[:-1], ms, timed.get((*key[:-1], "triton"))) for key, ms in timed.items() if key[-1] == "triton_field"]
    return [f"field {' '.join(map(str, key))}: {ms / alone:.2f} x the maps alone" for key, ms, alone in pairs if alone]
