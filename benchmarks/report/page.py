"""The results page: every recorded row as tables and plots, and the targets beside what was measured.

    python -m benchmarks.report.page        # writes benchmarks/results/README.md and its plots

A target is met where every row that it speaks of meets it; the page says how many do, and names the best and the worst. Where no
row speaks of it, as where no GPU has recorded any, it says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measuring.rows import RESULTS, Row, recorded, slug
from benchmarks.measuring.table import pipelines
from benchmarks.operator import growth, host, layer_set
from benchmarks.operator.gate import BOUNDS
from benchmarks.pipeline import breakdown
from benchmarks.report import evaluation, peers, release_hook, studies, tables, targets
from benchmarks.report.targets import TARGETS, Rows, calls, device, on
from benchmarks.world.tables import plots

PAGE = RESULTS / "README.md"
LABELS = {("ours", "all"): "ours", ("ours", "half"): "ours, conditional half", ("eager", "all"): "eager, two softmaxes",
          ("four_flash", "all"): "four flash calls"}  # fmt: skip
COLOURS = {"ours": "#1f5fbf", "ours, conditional half": "#8fb4e8", "eager, two softmaxes": "#d9661f", "four flash calls": "0.65",
           "release's hooks": "#d9661f"}  # fmt: skip


def everything() -> Rows:
    """The recorded rows, by the benchmark that made them."""
    both = tables.recorded()
    return {
        "operators": [row for row in both if "shape" in row], "pipelines": [row for row in both if "untraced_peak_mb" in row],
        **{kind: recorded(kind) for kind in ("evaluation", "where", "layer-set", "growth", "peers", "studies", "host")},
        "hook": recorded("release-hook"),
    }  # fmt: skip


def bounds() -> str:
    lines = ["| counts of | call | bounds |", "|---|---|---|"]
    for key, counts in json.loads(BOUNDS.read_text()).items():
        for call, found in counts.items():
            lines.append(f"| {key} | {call} | " + ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in found.items()) + " |")
    return "\n".join(lines)


def pictures(rows: Rows) -> dict[str, Callable[[], Any]]:
    """The plots of the page by file name, each a figure when it is called."""
    made: dict[str, Callable[[], Any]] = {}
    drawn = {"operators": draw_operators, "pipelines": draw_pipelines, "evaluation": draw_evaluation}
    for kind, draw in drawn.items():
        for gpu in (False, True):
            for name, here in on(rows[kind], gpu).items():
                if not any("ms" in row or "images_per_second" in row for row in here):
                    continue
                made[f"{kind}-{slug(name)}.png"] = partial(draw, here, gpu)
    return made


def line_at(axis: Any, value: float, text: str, colour: str = "#b02020") -> None:
    axis.axhline(value, color=colour, linestyle="--", linewidth=1, label=text)


def bars(axis: Any, names: Sequence[str], series: dict[str, list[Row | None]], value: Callable[[Row], float]) -> list[list[float]]:
    """Groups of bars, a group a name, none where a row is missing; where each series' bars stand."""
    width, at = 0.8 / max(1, len(series)), []
    for i, (label, of) in enumerate(series.items()):
        at.append([n + (i - len(series) / 2 + 0.5) * width for n in range(len(names))])
        here = [(x, value(row)) for x, row in zip(at[-1], of) if row is not None]
        axis.bar([x for x, _ in here], [height for _, height in here], width, label=label, color=COLOURS[label])
    axis.set_xticks(range(len(names)), names)
    axis.grid(alpha=0.3, axis="y")
    axis.set_axisbelow(True)
    return at


def draw_operators(rows: list[Row], gpu: bool) -> Any:
    figure, axis = plots().subplots(figsize=(10, 4), layout="constrained")
    found = calls(rows)
    shapes = {shape: row for (shape, *_), row in found.items()}
    series = {label: [found.get((shape, *way)) for shape in shapes] for way, label in LABELS.items()}
    first = next(iter(shapes.values()))
    names = [f"{row['generated']} x {row['reference']}\n{row['heads']} heads of {row['size']}" for row in shapes.values()]
    bars(axis, names, series, tables.ratio)
    axis.axhline(1, color="0.4", linewidth=1)
    whole = "operator, GPU, head size 64" if gpu else "operator, CPU"
    for name, text in ((whole, "ours"), (f"{whole}, conditional half", "ours, conditional half")):
        line_at(axis, TARGETS[name].limit, f"target of {text}", COLOURS[text])
    axis.legend(frameon=False, fontsize=8, ncols=2)
    axis.tick_params(axis="x", labelsize=8)
    axis.set(ylabel="time / attention without maps")
    axis.set_title(f"one call with both maps, batch {first['batch']}, {first['dtype']}: {device(first)}", fontsize=10)
    return figure


def draw_pipelines(rows: list[Row], gpu: bool) -> Any:
    last = {(row["section"], row["case"], row["runner"]): row for row in rows if "ms" in row}
    panels: dict[str, dict[tuple[str, str], str]] = {}  # a UNet's cases; whole pipelines have one each, and share theirs
    for section, case, _ in last:
        panel, name = ("whole pipelines", section) if case == "all_levels" else (section, case)
        panels.setdefault(panel, {})[section, case] = name
    figure, axes = plots().subplots(1, len(panels), figsize=(5 * len(panels), 3.8), layout="constrained", squeeze=False)
    for axis, (panel, cases) in zip(axes[0], panels.items()):
        series = {label: [last.get((*case, runner)) for case in cases]
                  for label, runner in (("ours", "i2am"), ("release's hooks", "eager_hook"))
                  if any((*case, runner) in last for case in cases)}  # fmt: skip
        for of, xs in zip(series.values(), bars(axis, list(cases.values()), series, lambda row: row["overhead_percent"]["p50"])):
            for x, row in zip(xs, of):
                if row is not None:
                    axis.vlines(x, row["overhead_percent"]["p20"], row["overhead_percent"]["p80"], color="0.15", linewidth=1)
        if panel == "sd15-full":
            line_at(axis, TARGETS[f"pipeline, {'GPU' if gpu else 'CPU'}, SD1.5's width"].limit, "target")
        axis.legend(frameon=False, fontsize=8)
        axis.axhline(0, color="0.4", linewidth=1)
        axis.set_xlim(-0.6, max(len(cases), 3) - 0.4)
        axis.tick_params(axis="x", labelsize=8)
        axis.set_title(f"{panel}: {device(rows[0])}", fontsize=10)
    axes[0, 0].set_ylabel("overhead of a trace, %\np20, p50, p80 of the pairs")
    return figure


def draw_evaluation(rows: list[Row], gpu: bool) -> Any:
    figure, axis = plots().subplots(figsize=(7, 4), layout="constrained")
    ways = {"bare": ("painting alone", "0.6"), "ours": ("ours: two directions, all levels, scores", COLOURS["ours"])}
    for runner, processes in dict.fromkeys((row["runner"], row["processes"]) for row in rows if row["runner"] in ways):
        label, colour = ways[runner]
        of = {row["batch"]: row["images_per_second"] for row in rows if (row["runner"], row["processes"]) == (runner, processes)}
        more = {"label": label, "marker": "o"} if processes == 1 else {"label": f"{label}, {processes} processes", "marker": "^"}
        axis.plot(list(of), list(of.values()), color=colour, **more)
    times = TARGETS[f"evaluation, {'GPU' if gpu else 'CPU'}"].limit
    for slow in [row["images_per_second"] for row in rows if row["runner"] == "release"][-1:]:
        line_at(axis, slow, "the release's way: one image, one level, a run for each direction", COLOURS["release's hooks"])
        line_at(axis, times * slow, f"target: {times:g} times that")
    batches = sorted({row["batch"] for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, batches)
    axis.set_ylim(0, 1.5 * max(row["images_per_second"] for row in rows))  # room for the legend
    axis.set(xlabel="batch", ylabel="images a second")
    axis.set_title(f"a test set scored: {device(rows[0])}", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    return figure


def page(rows: Rows) -> str:
    """The page that the rows make."""
    drawn = list(pictures(rows))

    def section(title: str, kind: str, text: Callable[[list[Row]], str]) -> list[str]:
        found = [f"## {title}", text(rows[kind]) if rows[kind] else "No row yet."]
        if rows[kind] and not on(rows[kind], gpu=True):
            found.append("*No row of a GPU yet.*")
        return [*found, *(f"![{title}]({name})" for name in drawn if name.startswith(f"{kind}-"))]

    parts = [
        "# What was measured",
        "Made from the rows in this folder by `python -m benchmarks.report.page`. Losing rows stay. The small world's numbers are in "
        "[small-world.md](small-world.md), what the compiler makes of the kernels in [codegen.md](codegen.md).",
        "## Targets", targets.table(rows),
        "What limits the misses, and what was tried: [limits.md](../limits.md).",
        *section("The operator", "operators", tables.summary),
        *section("The layers of one step", "layer-set", layer_set.summary),
        *section("Whole denoising runs", "pipelines", pipelines),
        *section("A test set", "evaluation", evaluation.summary),
        *section("The release's hook and its drop-in", "hook", release_hook.summary),
        *section("Beside other tracers", "peers", peers.summary),
        *section("A study of words", "studies", studies.summary),
        *section("How it grows", "growth", growth.summary),
        *(f"![How it grows]({path.name})" for path in sorted(RESULTS.glob("*-growth.png")) if rows["growth"]),
        *section("Where the time goes", "where", breakdown.summary),
        *section("What the host pays for a call of the kernels", "host", host.summary),
        "## The gate",
        "Counts that `python -m benchmarks.operator.gate` holds within 10%, so that a slow-down shows on a noisy machine. The kernels' "
        "SASS has its bounds in [tests/kernels/test_codegen.py](../../tests/kernels/test_codegen.py).",
        bounds() if BOUNDS.exists() else "No bounds yet.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def write(rows: Rows, folder: Path) -> None:
    for name, draw in pictures(rows).items():
        figure = draw()
        figure.savefig(folder / name, dpi=110)
        plots().close(figure)
    (folder / PAGE.name).write_text(page(rows))


def main() -> None:
    rows = everything()
    write(rows, RESULTS)
    print(f"wrote {PAGE.name} and {len(pictures(rows))} plots from {sum(map(len, rows.values()))} rows")


if __name__ == "__main__":
    main()
