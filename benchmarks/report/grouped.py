"""What a call costs whose query heads share key heads, beside the same with its keys repeated first, from recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row
from benchmarks.measuring.table import commit, place

COMMAND = "python -m benchmarks.operator.one_call --key-heads"
KINDS = ("streaming", "triton")


def summary(rows: Sequence[Row]) -> str:
    """The documentation's table, of the machine that measured last."""
    rows = [row for row in rows if "ms" in row]
    if not rows:
        return f"*Nothing has been recorded yet: `{COMMAND} 2`.*"
    here = [row for row in rows if place(row) == place(rows[-1])]
    found = {(row["shape"], row["key_heads"], row["batch"], row["dtype"], row["rows"], row["runner"]): row for row in here}  # the newest
    lines = ["| G x R, head size, query and key heads | SDPA ms | ours | keys repeated first | MB: ours, repeated | largest error |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    shown = []
    for key, row in found.items():
        pair = [found.get((*key[:-1], name)) for name in (key[-1], f"{key[-1]}_repeated")]
        if key[-1] not in KINDS or None in pair:
            continue
        of, other = (one for one in pair if one is not None)
        shown += [of, other]
        sizes = f"{row['generated']} x {row['reference']}, {row['size']}, {row['heads']} : {row['key_heads']}"
        floor = found[(*key[:-1], "sdpa")]["ms"]["p50"]
        memory = f"{of['peak_mb']:.0f}, {other['peak_mb']:.0f}"
        worst = max(of["error_of"].values())
        lines.append(f"| {sizes} | {floor:.3g} | {of['ratio']:.2f} | {other['ratio']:.2f} | {memory} | {worst:.0e} |")
    commits, last = ", ".join(dict.fromkeys(commit(row) for row in shown)), rows[-1]
    what = f"batch {last['batch']}, {last['dtype']}; times are ratios to scaled_dot_product_attention without maps, of the same run"
    loads = [row["load"] for row in shown]
    lines += ["", f"{place(last)}; {what}; measured at {commits} with `{COMMAND} {last['key_heads']}`, the machine's load average "
                  f"{min(loads):.1f} to {max(loads):.1f}, this among it."]  # fmt: skip
    return "\n".join(lines)
