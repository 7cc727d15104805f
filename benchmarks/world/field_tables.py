"""Tables and a plot of the field in the small world, from its recorded rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring.rows import Row
from benchmarks.world.plots import plots
from i2am.score.correlation import spearman

SCORES = {"correspondence": "Correspondence", "returning": "Returning", "inside": "Inside", "sharpness": "Sharpness",
          "smoothness": "Smoothness", "imacs_g": "IMACS_g", "imacs_r": "IMACS_r"}  # fmt: skip
SHORT = ".transformer_blocks.0.attn2"


def short(layer: str) -> str:
    return layer.removesuffix(SHORT)


def end_points(row: Row) -> str:
    """The error of all layers, of those that point, of each layer and of each head."""
    lines = ["| field of | median error, patches | 90% of patches within | within one patch |", "|---|---|---|---|"]
    for one in row["table"]:
        layer = short(one["layer"])
        name = layer if " " in layer else f"`{layer}`"
        name += "" if one["head"] is None else f", head {one['head']}"
        lines.append(f"| {name} | {one['median']:.2f} | {one['p90']:.2f} | {one['within']:.1%} |")
    return "\n".join(lines)


def scores(rows: Sequence[Row]) -> str:
    """Every score of every model, beside the truth."""
    lines = ["| model | pointing | end-point error | " + " | ".join(SCORES.values()) + " |", "|---" * (3 + len(SCORES)) + "|"]
    for row in rows:
        own = " | ".join(f"{row[name]:.3f}" for name in SCORES)
        lines.append(f"| {row['model']} | {row['pointing']:.1%} | {row['end_point']:.2f} | {own} |")
    return "\n".join(lines)


def verdict(rows: Sequence[Row]) -> str:
    """How each score follows the truth, and whether it notices damage."""
    whole = [row for row in rows if row["damage"] is None]
    broken, intact = [row for row in rows if row["damage"] is not None], next(row for row in rows if row["model"] == "shipped")
    heads = ("score", f"pointing, {len(whole)} models", "end-point error", f"pointing, {len(rows)} with the broken", "end-point error",
             f"broken ones scored below the intact, of {len(broken)}")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, title in SCORES.items():
        rhos = [spearman([row[name] for row in some], [row[truth] for row in some]).rho
                for some in (whole, rows) for truth in ("pointing", "end_point")]  # fmt: skip
        noticed = sum(row[name] < intact[name] for row in broken)
        lines.append(f"| {title} | " + " | ".join(f"{rho:+.2f}" for rho in rhos) + f" | {noticed} |")
    return "\n".join(lines)


def plot_scores(rows: Sequence[Row], path: Path) -> None:
    """A panel a score: each model a dot, over how well it points."""
    plt = plots()
    figure, axes = plt.subplots(2, 4, figsize=(11.5, 5.4), layout="constrained")
    kinds = {
        "checkpoints of five trainings": [row for row in rows if ", step " in row["model"]],
        "random weights": [row for row in rows if row["model"].startswith("random")],
        "broken on purpose": [row for row in rows if row["damage"] is not None],
        "shipped": [row for row in rows if row["model"] == "shipped"],
    }
    marks = dict(zip(kinds, (("o", "#2b50c8"), ("s", "#9a9ca5"), ("X", "#d1382c"), ("*", "#0f9d58"))))
    for side, (name, title) in zip(axes.flat, SCORES.items()):
        for kind, some in kinds.items():
            mark, colour = marks[kind]
            points = [row["pointing"] for row in some], [row[name] for row in some]
            side.scatter(*points, s=110 if mark == "*" else 34, marker=mark, color=colour, alpha=0.85, linewidths=0, label=kind)
        rho = spearman([row[name] for row in rows], [row["pointing"] for row in rows]).rho
        side.set_title(f"{title}: rank correlation {rho:+.2f}", fontsize=9)
        side.set(xlabel="peaks within a patch of the truth", xlim=(-0.05, 1.05))
        side.grid(alpha=0.3)
    last = axes.flat[len(SCORES)]
    last.axis("off")
    last.legend(*axes.flat[0].get_legend_handles_labels(), loc="center", frameon=False, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
