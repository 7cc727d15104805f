"""Tables of what the small text-to-image model's word maps are worth, from the small world's recorded rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measuring.rows import Row

RIVALS = {"whole": "the whole picture", "random": "a random box", "bright": "what is bright", "dark": "what is dark"}
NOT_YET = "*Nothing has been recorded yet: `python -m benchmarks.world.words`.*"


def tables(rows: Sequence[Row]) -> list[str]:
    """Those of the questions that were asked."""
    return [table(here) for name, table in TABLES.items() if (here := [row for row in rows if row["benchmark"] == f"words {name}"])]


def how(row: Row) -> str:
    """What the pictures of a question were made with."""
    many = f"{row['count']} seeds" if row["benchmark"] == "words leak" else f"{row['count']} held-out scenes"
    noise = f"; rendered pictures under noise of strength {row['strength']:g}, without guidance" if row.get("on") else ""
    return f"{many}, {row['steps']} steps, guidance {row['guidance']:g}{noise}"


def models(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by model, those of random weights together."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault("random weights" if row["model"].startswith("random") else row["model"], []).append(row)
    return found


def mean(values: Sequence[float | None]) -> str:
    """The mean of what there is, with its range where it is of several."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    middle = sum(known) / len(known)
    return f"{middle:.3f}" if len(known) == 1 else f"{middle:.3f} ({min(known):.3f} to {max(known):.3f})"


def segmentation(rows: Sequence[Row]) -> str:
    """mIoU of nouns and colours, painted and rendered: each model, then the baselines, each at its best threshold."""
    thresholds = [line["threshold"] for line in rows[0]["table"]]
    lines = ["| mIoU of | on | " + " | ".join(f"> {t:g}" for t in thresholds) + " |", "|---" * (2 + len(thresholds)) + "|"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        for on in dict.fromkeys(row["on"] for row in rows):
            here = [row for row in rows if (row["kind"], row["on"]) == (kind, on)]
            for name, some in models(here).items():
                if not any(row["table"][0]["count"] for row in some):  # noise paints nothing that could be found
                    continue
                cells = [mean([row["table"][i]["mean"] for row in some]) for i in range(len(thresholds))]
                lines.append(f"| {kind}, {name} | {on} | " + " | ".join(cells) + " |")
            for rival, name in RIVALS.items():
                cells = [mean([here[0]["rivals"][rival][i]["mean"]]) for i in range(len(thresholds))]
                lines.append(f"| {kind}, {name} | {on} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def relations(rows: Sequence[Row]) -> str:
    """IoU, IoD and IoH of each relation's maps, and of its things, in brackets."""
    lines = ["| relation | model | on | pairs | IoU | IoD | IoH |", "|---" * 7 + "|"]
    for row in rows:
        truth = {line["relation"]: line for line in row["truth"]}
        for line in row["maps"]:
            shares = [f"{number(line[what])} ({number(truth[line['relation']][what])})" for what in ("iou", "iod", "ioh")]
            lines.append(f"| {line['relation']} | {row['model']} | {row['on']} | {line['count']} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def number(stated: dict[str, Any]) -> str:
    return "-" if stated["mean"] is None else f"{stated['mean']:.2f}"


def leaks(rows: Sequence[Row]) -> str:
    """Where adjectives look, and what they change outside of their noun."""
    lines = [
        "| model | adjective outside of its noun | chance | their ratio | 1 - SSIM outside | difference of pixels outside |",
        "|---" * 6 + "|",
    ]
    for name, some in models(rows).items():
        looks = [mean([row["looks"][what]["mean"] for row in some]) for what in ("outside", "chance", "leak")]
        changes = [mean([row["changes"][what]["mean"] for row in some]) for what in ("ssim_outside", "absolute_outside")]
        lines.append(f"| {name} | {' | '.join([*looks, *changes])} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {"segment": segmentation, "syntax": relations, "leak": leaks}
