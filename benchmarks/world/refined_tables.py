"""Tables of what training with losses on the maps does, from the small world's recorded rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measuring.rows import Row

PAPER = {"dcml": 0.01, "tv": 0.0001, "cwg": 2.0}


def named(row: Row) -> str:
    """A training's losses, in words."""
    if not row["losses"]:
        return "without"
    if row["losses"] == PAPER:
        return "the paper's weights"
    where = "" if row["loss_layers"] == "*attn2" else f", {row['loss_layers']}"
    return ", ".join(f"{name} {weight:g}" for name, weight in row["losses"].items()) + where


def refined(rows: Sequence[Row]) -> str:
    """A line a training: pictures, scores, and where its layers point."""
    of_layers = (f"{which} layers: peak, mass" for which in ("fine", "coarse", "all"))
    heads = ("losses", "loss at the end, theirs in it", "SSIM in the mask", "error in the mask", *of_layers, "IMACS_g", "IMACS_r",
             "correspondence")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        fine, coarse, whole = ([one for one in row["table"] if one["level"] == level and (level == "unified" or is_fine(one) == wanted)]
                               for level, wanted in (("layer", True), ("layer", False), ("unified", None)))  # fmt: skip
        pictures = f"{row['final_loss']:.4f} | {row['ssim_mask']:.3f} | {row['error_mask']:.4f}"
        pointing = " | ".join(f"{mean(some, 'accuracy'):.1%}, {mean(some, 'mass'):.1%}" for some in (fine, coarse, whole))
        scores = " | ".join(f"{row[name]:.3f}" for name in ("imacs_g", "imacs_r", "correspondence"))
        lines.append(f"| {named(row)} | {pictures} | {pointing} | {scores} |")
    return "\n".join(lines)


def is_fine(one: Row) -> bool:
    """Whether a layer lies on the fine grid."""
    return "up_blocks.1" in one["layer"]


def mean(rows: Sequence[Row], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows)


def how(row: Row) -> str:
    """What was trained."""
    begun = "from the shipped weights" if row["from"] == "shipped" else "from nothing"
    return (f"{row['train_steps']} steps of {row['train_batch']} pairs {begun}, at rate {row['train_rate']:g}, seed {row['train_seed']}; "
            f"the losses of all layers unless named")  # fmt: skip
