"""Tables and plots of the small world from its recorded rows: `python -m benchmarks.world.tables`.

Writes benchmarks/results/small-world.md and, into docs, along-training.png, scores.png and faithfulness.png; `python -m
benchmarks.report.tables` puts the short table where it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring.rows import SMALL_WORLD, Row, read
from benchmarks.measuring.table import commit, place
from benchmarks.world import field_tables, refined_tables, weighed_tables, words_tables
from benchmarks.world.field_tables import short
from benchmarks.world.plots import plots
from i2am.score.correlation import spearman

ROOT = Path(__file__).parents[2]
WAYS = {"top": "most", "garment": "random, on the garment", "random": "random", "bottom": "least"}


def latest(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of the last run of a benchmark: those of its environment's date."""
    here = [row for row in rows if row["benchmark"] == name]
    return [row for row in here if row["environment"]["date"] == here[-1]["environment"]["date"]]


def of_level(row: Row, level: str, layer: str | None = None) -> list[Row]:
    return [r for r in row["table"] if r["level"] == level and r["layer"] == layer]


def layers(row: Row) -> list[Row]:
    return [r for r in row["table"] if r["level"] == "layer"]


def best(row: Row) -> Row:
    return max(layers(row), key=lambda r: r["accuracy"])


def pointing(row: Row) -> str:
    """The table of one model: every layer, then the best layer's heads and time groups."""
    lines = ["| map | peak within 1 patch | mass within 2 | identity: peak, mass |", "|---|---|---|---|"]
    found = best(row)
    named = [("all layers together", r) for r in of_level(row, "unified")] + [(f"`{short(r['layer'])}`", r) for r in layers(row)]
    named += [(f"`{short(found['layer'])}`, head {r['head']}", r) for r in of_level(row, "head", found["layer"])]
    named += [(f"`{short(found['layer'])}`, time group {r['group']}", r) for r in of_level(row, "time", found["layer"])]
    for name, r in named:
        lines.append(f"| {name} | {r['accuracy']:.1%} | {r['mass']:.1%} | {r['baseline_accuracy']:.1%}, {r['baseline_mass']:.1%} |")
    return "\n".join(lines)


def scores(row: Row, random: Sequence[Row]) -> str:
    """IMACS and similarity of the shipped model beside what is possible and what chance gives."""
    mean = {key: sum(r[key] for r in random) / len(random) for key in ("imacs_g", "imacs_r", "ssim", "ssim_mask")} if random else {}
    lines = ["| | shipped model | the truth itself | random weights, mean of " + str(len(random)) + " |", "|---|---|---|---|"]
    for key, name, ceiling in (
        ("imacs_g", "IMACS_g", row["oracle_g"]), ("imacs_r", "IMACS_r", row["oracle_r"]),
        ("ssim_mask", "SSIM inside the mask", 1.0), ("ssim", "SSIM", 1.0),
    ):  # fmt: skip
        chance = f"{mean[key]:.3f}" if mean else ""
        lines.append(f"| {name} | {row[key]:.3f} | {ceiling:.3f} | {chance} |")
    return "\n".join(lines)


def along(rows: Sequence[Row]) -> str:
    """The checkpoints, and how their numbers follow the similarity of the pictures."""
    lines = ["| checkpoint | best layer's peak within 1 | mass within 2 | IMACS_g | IMACS_r | SSIM in the mask |", "|---" * 6 + "|"]
    for row in rows:
        r, own = best(row), " | ".join(f"{row[key]:.3f}" for key in ("imacs_g", "imacs_r", "ssim_mask"))
        lines.append(f"| {row['model']} | {r['accuracy']:.1%} | {r['mass']:.1%} | {own} |")
    found = [f"{name} {rho:+.2f} ({'p < 0.001' if p < 0.001 else f'p = {p:.2g}'})" for name, (rho, p) in follows(rows).items()]
    lines += ["", f"Spearman's correlation with SSIM in the mask over these checkpoints: {', '.join(found)}."]
    return "\n".join(lines)


def follows(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    similar = [row["ssim_mask"] for row in rows]
    series = {
        "pointing": [best(row)["accuracy"] for row in rows],
        "mass": [best(row)["mass"] for row in rows],
        "IMACS_g": [row["imacs_g"] for row in rows],
        "IMACS_r": [row["imacs_r"] for row in rows],
    }
    found = {name: spearman(values, similar) for name, values in series.items()}
    return {name: (one.rho, one.p) for name, one in found.items()}


def changes(rows: Sequence[Row], name: str) -> str:
    ways = [way for way in WAYS if way in rows[0]]
    lines = [f"| {name} | " + " | ".join(WAYS[way] for way in ways) + " | most / random |", "|---" * (len(ways) + 2) + "|"]
    for r in rows:
        lines.append(f"| {r['share']:.0%} of the patches | " + " | ".join(f"{r[way]:.4f}" for way in ways) + f" | {r['ratio']:.2f} |")
    return "\n".join(lines)


def source(row: Row) -> str:
    """Where a table's rows were made."""
    count = row.get("pairs", row.get("images"))
    return f"{count} held-out pairs, {row['steps']} steps, guidance {row['guidance']}; {place(row)}, at {commit(row)}."


def plot_checkpoints(rows: Sequence[Row], path: Path) -> None:
    plt = plots()
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    similar = [row["ssim_mask"] for row in rows]
    series = {
        "peak within 1 patch": [best(row)["accuracy"] for row in rows],
        "mass within 2 patches": [best(row)["mass"] for row in rows],
        "IMACS_g": [row["imacs_g"] for row in rows],
        "IMACS_r": [row["imacs_r"] for row in rows],
    }
    for side, names in zip(axes, (("peak within 1 patch", "mass within 2 patches"), ("IMACS_g", "IMACS_r"))):
        for name in names:
            side.plot(similar, series[name], "o-", markersize=4, linewidth=1, label=name)
        for x, y, row in zip(similar, series[names[0]], rows):
            side.annotate(row["model"].removeprefix("step "), (x, y), textcoords="offset points", xytext=(0, 6), fontsize=7, ha="center")
        side.set(xlabel="SSIM of the pictures inside the mask")
        side.grid(alpha=0.3)
        side.legend(frameon=False)
    axes[0].set_title("maps that point, along training (steps at the points)", fontsize=10)
    axes[1].set_title("IMACS, along training", fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_changes(hiding: Sequence[Row], swapping: Sequence[Row], path: Path) -> None:
    plt = plots()
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
    for side, rows, title in (
        (axes[0], hiding, "hidden reference patches, chosen by G2R:\nchange inside the mask"),
        (axes[1], swapping, "another garment: change of the patches\nof the picture, chosen by R2G"),
    ):
        ways = [way for way in WAYS if way in rows[0]]
        width = 0.8 / len(ways)
        for i, way in enumerate(ways):
            places = [n + (i - len(ways) / 2 + 0.5) * width for n in range(len(rows))]
            side.bar(places, [r[way] for r in rows], width, label=WAYS[way])
        side.set_xticks(range(len(rows)), [f"{r['share']:.0%}" for r in rows])
        side.set_title(title, fontsize=10)
        side.set(xlabel="share of the patches", ylabel="mean absolute change")
        side.legend(frameon=False, fontsize=8)
        side.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def summary(rows: Sequence[Row]) -> str:
    """The short table of the documentation."""
    truth, random = latest(rows, "truth")[-1], latest(rows, "random")
    return f"{pointing(truth)}\n\n{scores(truth, random)}\n\n{source(truth)}"


def ends(rows: Sequence[Row]) -> str:
    """Where the field ends."""
    row = latest(rows, "end points")[-1]
    return f"{field_tables.end_points(row)}\n\n{source(row)}"


def follow(rows: Sequence[Row]) -> str:
    """Which score follows the truth."""
    fields = latest(rows, "field scores")
    return f"{field_tables.verdict(fields)}\n\n{source(fields[-1])}"


def trainings(rows: Sequence[Row]) -> str:
    """What losses on the maps did to the model."""
    here = latest(rows, "refined")
    return f"{refined_tables.refined(here)}\n\n{refined_tables.how(here[0])}; {source(here[0])}"


def weighings(rows: Sequence[Row], share: float | None = None) -> str:
    """What ways of weighing G2R do to hiding by it, of one share of the patches or of all, and to pointing."""
    here = [row for row in latest(rows, "weighed") if share in (None, row["share"])]
    return f"{weighed_tables.hiding(here)}\n\n{weighed_tables.pointing(here)}\n\n{source(here[0])}"


def steering(rows: Sequence[Row]) -> str:
    """What steering wins and costs."""
    found = latest(rows, "steered")
    heads = ("pushed", "strength", "mass inside, mean of the steps", "in the last step", "finished picture, looked at again",
             "SSIM inside the mask", "seconds a picture")  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for r in found:
        shares = " | ".join(f"{r[key]:.1%}" for key in ("share", "share_last", "share_again"))
        where = {"g2r": "G2R into the left half", "r2g": "R2G into the mask"}[r["direction"]]
        lines.append(f"| {where} | {r['strength']:g} | {shares} | {r['ssim_mask']:.3f} | {r['seconds']:.2f} |")
    lines += ["", f"A plain run takes {found[-1]['plain_seconds']:.2f} s a picture. Layers `{found[-1]['layers']}`, {source(found[-1])}"]
    return "\n".join(lines)


def words(rows: Sequence[Row], question: str) -> str:
    """What word maps are worth, by one of the questions of `benchmarks.world.words`."""
    if not any(row["benchmark"] == f"words {question}" for row in rows):
        return words_tables.NOT_YET
    here = latest(rows, f"words {question}")
    return f"{words_tables.TABLES[question](here)}\n\n{words_tables.how(here[0])}; {place(here[0])}, at {commit(here[0])}."


def report(rows: Sequence[Row]) -> str:
    truth, random, checkpoints = latest(rows, "truth")[-1], latest(rows, "random"), latest(rows, "checkpoints")
    hiding, swapping = latest(rows, "hiding"), latest(rows, "swapping")
    fields = latest(rows, "field scores")
    return "\n\n".join([
        "# The small try-on world", "Made from `small-world.jsonl` by `python -m benchmarks.world.tables`.",
        "## Pointing", pointing(truth), source(truth),
        "## Scores", scores(truth, random), source(truth),
        "## Along training", along(checkpoints), source(checkpoints[-1]), "![checkpoints](../../docs/along-training.png)",
        "## Where the field ends", ends(rows),
        "## Which score follows the truth", follow(rows), field_tables.scores(fields),
        "![scores](../../docs/scores.png)",
        "## Faithfulness", changes(hiding, "hidden by G2R"), changes(swapping, "changed, by R2G"),
        f"Rank correlation of R2G and change over an image's patches, mean: {swapping[0]['rank_correlation']:.3f}.", source(hiding[0]),
        "![faithfulness](../../docs/faithfulness.png)",
        "## Ways of weighing", weighings(rows),
        "## Trained with losses on the maps", trainings(rows), "![refined](../../docs/refined.jpg)",
        "## Steering", steering(rows), "![steered](../../docs/steered.jpg)",
        "## Words as segmentation", words(rows, "segment"),
        "## Words that depend on each other", words(rows, "syntax"),
        "## Colours that leak", words(rows, "leak"),
    ]) + "\n"  # fmt: skip


def main() -> None:
    rows = read(SMALL_WORLD)
    (SMALL_WORLD.parent / "small-world.md").write_text(report(rows))
    plot_checkpoints(latest(rows, "checkpoints"), ROOT / "docs" / "along-training.png")
    plot_changes(latest(rows, "hiding"), latest(rows, "swapping"), ROOT / "docs" / "faithfulness.png")
    field_tables.plot_scores(latest(rows, "field scores"), ROOT / "docs" / "scores.png")
    print(f"wrote small-world.md, along-training.png, scores.png and faithfulness.png from {len(rows)} rows")


if __name__ == "__main__":
    main()
