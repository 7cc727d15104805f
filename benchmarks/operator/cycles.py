"""A model of time from counts: how many cycles a multiprocessor of a Hopper spends on a score in each of its units.

In a cycle a multiprocessor issues 128 instructions (of a thread each), takes 16 exponentials and does 2048 multiply-adds of 16-bit numbers.
A sweep is no faster than its busiest unit; how near it comes, and what waiting for a cluster costs, only a GPU says. "x it" is how many
times cuDNN's attention without maps the whole is, if every sweep is as fast as its busiest unit; cuDNN's own 0.124 cycles a score at head
size 64 and 0.191 at 128 are worked out from speeds that others have published. The half: maps of half of the rows.
"""

from __future__ import annotations

from typing import Any

from i2am_kernels.tiles import head_parts

ISSUED, EXPONENTIALS, PRODUCTS = 128, 16, 2048
CUDNN = {64: 0.124, 128: 0.191}  # head size -> cycles a score of its attention in bfloat16
Row = dict[str, Any]


def units(row: Row) -> dict[str, float]:
    """Cycles a score in each unit, of a sweep that multiplies queries with keys once."""
    return {
        "issue": row["instructions"] / ISSUED,
        "exponentials": row["exponentials"] / EXPONENTIALS,
        "products": sum(head_parts(row["head"])) / PRODUCTS,
    }


def model(rows: list[Row]) -> str:
    """Both ways to both maps on a Hopper, as a table."""
    of = {(row["sweep"], row["case"], row["head"]): row for row in rows
          if row["target"] == "sm_90" and row["dtype"] == "bfloat16" and "instructions" in row}  # fmt: skip
    lines = [
        "| head | sweep | instructions | exponentials | issue | exponentials | products | busiest unit | with cuDNN's forward, x it |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size, forward in CUDNN.items():
        two = [of.get((sweep, "plain", size)) for sweep in ("keys_sweep", "queries_sweep")]
        for name, sweeps in (("keys, then queries", two), ("onchip, 4096 queries", [of.get(("onchip_sweep", "onchip", size))]),
                             ("onchip, 3072 queries", [of.get(("onchip_sweep", "onchip 3072", size))])):  # fmt: skip
            found = [row for row in sweeps if row]
            if len(found) < len(sweeps):
                continue
            each = {unit: sum(units(row)[unit] for row in found) for unit in units(found[0])}
            busiest = sum(max(units(row).values()) for row in found)
            counts = [sum(row[count] for row in found) for count in ("instructions", "exponentials")]
            cells = [*(f"{count:.2f}" for count in counts), *(f"{each[unit]:.4f}" for unit in each), f"{busiest:.4f}"]
            lines.append(f"| {size} | {name} | {' | '.join(cells)} | {1 + busiest / forward:.2f}, half {1 + busiest / 2 / forward:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""
