"""Tables of what weighing G2R in several ways does to hiding by it, from the small world's recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row
from benchmarks.world.field_tables import short


def hiding(rows: Sequence[Row]) -> str:
    """A line for each way of weighing and each choice of layers, and share; changes beside random patches, intervals in brackets."""
    lines = ["| hidden | weighed by | G2R of | change | most / random | most - random ones of the garment |", "|---" * 6 + "|"]
    for row in rows:
        ratio, above = (f"({low:{how}} to {high:{how}})" for (low, high), how in
                        ((row["ratio_interval"], ".2f"), (row["above_garment_interval"], "+.4f")))  # fmt: skip
        lines.append(f"| {row['share']:.0%} | {row['weigh']} | {row['choice']} | {row['top']:.4f} | {row['ratio']:.2f} {ratio} "
                     f"| {row['above_garment']:+.4f} {above} |")  # fmt: skip
    return "\n".join(lines)


def pointing(rows: Sequence[Row]) -> str:
    """How well the best layer of each way of weighing points at the truth."""
    lines = ["| weighed by | best layer | peak within 1 patch | mass within 2 |", "|---" * 4 + "|"]
    for row in {row["weigh"]: row for row in rows if "best_layer" in row}.values():
        lines.append(f"| {row['weigh']} | `{short(row['best_layer'])}` | {row['accuracy']:.1%} | {row['mass']:.1%} |")
    return "\n".join(lines)
