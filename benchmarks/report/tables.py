"""The tables of README and docs from the recorded rows: `python -m benchmarks.report.tables` writes each between its two markers.

The operator's has one line per shape, the baselines side by side as ratios to plain SDPA of the same run, the pipelines' one
per traced run; a test fails when a page says anything else than the rows do. It also mends the lines that links into the code name.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.measuring.rows import RESULTS, SMALL_WORLD, Row, read
from benchmarks.measuring.rows import recorded as rows_of
from benchmarks.measuring.table import commit, pipelines, place
from benchmarks.report.evaluation import summary as evaluation
from benchmarks.report.family_cost import summary as family_cost
from benchmarks.report.field_cost import summary as field_cost
from benchmarks.report.gradients import summary as gradient_cost
from benchmarks.report.grouped import summary as grouped_cost
from benchmarks.report.peers import summary as peers
from benchmarks.report.release_hook import summary as hook
from benchmarks.report.studies import summary as studies
from benchmarks.world.tables import ends, follow, steering, trainings, weighings, words
from benchmarks.world.tables import summary as small_world

ROOT = Path(__file__).parents[2]
END = "<!-- end of table -->"
CODE = re.compile(r"\[`([\w.()]+)`\]\(([\w./-]+\.py)#L\d+\)")
PLAIN = "scaled_dot_product_attention without maps"
NO_GPU_RUN = "*No GPU has recorded a run yet: the Triton kernels run under the interpreter, and are compiled for real architectures.*"
NO_GPU = "*No GPU has recorded a row yet: this table is empty until `make gpu-pack` has run on one.*"
COLUMNS = (("streaming", "all"), ("triton", "all"), ("eager", "all"), ("four_flash", "all"), ("streaming", "half"), ("triton", "half"))
NAMES = {"streaming": "ours", "triton": "ours (Triton)", "eager": "eager, two softmaxes", "four_flash": "four flash calls"}


def recorded() -> list[Row]:
    """The rows of the operator's benchmark and of the pipelines'."""
    others = [path for kind in ("evaluation", "release-hook", "peers", "studies", "grouped") for path in RESULTS.glob(f"*-{kind}.jsonl")]
    rows = [row for path in sorted(set(RESULTS.glob("*.jsonl")) - set(others)) for row in read(path) if "runner" in row]
    return [row for row in rows if "untraced_peak_mb" in row or ("shape" in row and timed(row))]


def latest(rows: list[Row], gpu: bool) -> list[Row]:
    """The rows of the place of this kind that measured last; the results page has all places."""
    rows = [row for row in rows if "shape" in row and on_gpu(row) == gpu]
    last = max(rows, key=lambda row: row["environment"]["date"], default=None)
    return [row for row in rows if last is not None and place(row) == place(last)]


def on_gpu(row: Row) -> bool:
    return row["environment"]["capability"] is not None


def timed(row: Row) -> bool:
    """On a GPU the replay of a graph: a call of a short layer takes the host's time, not the device's."""
    return row.get("section", "timings") == "timings" and row.get("mode", "call") == ("graph" if on_gpu(row) else "call")


def summary(rows: list[Row]) -> str:
    """A table per device, batch and dtype, of whatever was measured there."""
    rows = [row for row in rows if "shape" in row]
    parts = []
    for where, batch, dtype in dict.fromkeys((place(row), row["batch"], row["dtype"]) for row in rows):
        here = [row for row in rows if (place(row), row["batch"], row["dtype"]) == (where, batch, dtype) and "ms" in row]
        found = {(row["shape"], row["runner"], row["rows"]): row for row in here}
        columns = [column for column in COLUMNS if any(key[1:] == column for key in found)]
        commits = ", ".join(dict.fromkeys(commit(row) for row in found.values()))
        gpu = any(map(on_gpu, here))
        names = {**NAMES, **({"triton": "ours", "streaming": "ours (streaming)"} if gpu else {})}
        heads = [f"{names[name]}{', conditional half' if rows_ == 'half' else ''}" for name, rows_ in columns]
        floor = "the fastest of torch's fused attentions without maps, all replayed as CUDA graphs" if gpu else PLAIN
        parts.append(
            f"{where}; batch {batch}, {dtype}; measured at {commits} with `make {'gpu-pack' if gpu else 'bench'}`.\n"
            f"Times are ratios to {floor} in the same run; memory is a call's peak, output included.\n"
        )
        parts.append("| G x R, head size, heads | SDPA ms | " + " | ".join(heads) + " | MB: ours, eager | largest error |")
        parts.append("|---" * (len(heads) + 4) + "|")
        for shape in dict.fromkeys(row["shape"] for row in here):
            parts.append(line(shape, columns, found))
        parts.append("")
    return "\n".join(parts).rstrip()


def ratio(row: Row) -> float:
    """To the fastest attention without maps, where several were timed."""
    return float(row["ratio_best"] if "ratio_best" in row else row.get("ratio", math.nan))


def line(shape: str, columns: list[tuple[str, str]], found: dict[tuple[str, str, str], Row]) -> str:
    of = {runner: row for (name, runner, rows), row in found.items() if name == shape and rows == "all"}
    some = next(row for (name, _, _), row in found.items() if name == shape)
    plain = of.get(next((row["best"] for row in of.values() if "best" in row), "sdpa"))
    floor = "" if plain is None else f"{plain['ms']['p50']:.3g}"
    if plain is not None and "best" in plain:
        floor += f" ({plain['runner'].partition('_')[2] or 'as torch picks'})"
    cells = [f"{ratio(row):.2f}" if (row := found.get((shape, *column))) else "" for column in columns]
    ours = next((of[name] for name in ("triton", "streaming") if name in of), None)
    memory = ", ".join(f"{row['peak_mb']:.0f}" if row else "" for row in (ours, of.get("eager")))
    sizes = f"{some['generated']} x {some['reference']}, {some['size']}, {some['heads']}"
    worst = f"{max(ours['error_of'].values()):.0e}" if ours else ""
    return f"| {sizes} | {floor} | " + " | ".join(cells) + f" | {memory} | {worst} |"


def cost(rows: list[Row]) -> str:
    """What a trace costs, in a line a model, on the CPU and the GPU that measured last, beside the release's hooks."""
    rows = [row for row in rows if "untraced_peak_mb" in row and "ms" in row]
    parts = []
    for gpu in (False, True):
        of = [row for row in rows if on_gpu(row) == gpu]
        last = max((row for row in of if cost_of(row)), key=lambda row: row["environment"]["date"], default=None)
        if last is None:
            parts.append(NO_GPU_RUN if gpu else "*No CPU has recorded a run yet.*")
            continue
        here = {(row["section"], row["case"], row["runner"]): row for row in of
                if place(row) == place(last) and row["dtype"] == last["dtype"]}  # fmt: skip
        lines = ["| model, and what is traced | overhead of the run | extra memory | the release's hooks |", "|---|---|---|---|"]
        for (section, case, _), row in here.items():
            if name := cost_of(row):
                hooks = here.get((section, case, "eager_hook"))
                release = f"{hooks['overhead_percent']['p50']:.0f}%, {hooks['extra_mb']:.0f} MB" if hooks else ""
                lines.append(f"| {name} | {row['overhead_percent']['p50']:.1f}% | {row['extra_mb']:.0f} MB | {release} |")
        commits = ", ".join(dict.fromkeys(commit(row) for row in here.values()))
        command = "make gpu-pack" if gpu else "make bench-full"
        parts.append("\n".join([*lines, "", f"{place(last)}; {last['dtype']}, medians; measured at {commits} with `{command}`."]))
    return "\n\n".join(parts)


def cost_of(row: Row) -> str | None:
    """How a traced run is called in the table of costs, if it is there."""
    return COST.get((row["section"], row["case"])) if row["runner"] == "i2am" else None


COST = {
    ("sd15-full", "one_token"): "Stable Diffusion 1.5's width, a reference of one token",
    ("sd15-full", "clip_257"): "Stable Diffusion 1.5's width, a reference of 257 tokens, both directions",
    ("sd15-full", "both_77"): "Stable Diffusion 1.5's width, a reference and every word of the prompt",
    ("sd15-full", "dino_1036"): "Stable Diffusion 1.5's width, a reference of 1036 tokens",
    ("stableviton", "all_levels"): "StableVITON at full width, all levels and a patch",
    ("small-world", "all_levels"): "the embedded model, 4 images, all levels and a patch",
}


TABLES: dict[str, Callable[[list[Row]], str]] = {
    "<!-- table: cost -->": cost,
    "<!-- table: operators -->": lambda rows: summary(latest(rows, gpu=False)),
    "<!-- table: operators on a GPU -->": lambda rows: summary(latest(rows, gpu=True)) or NO_GPU,
    "<!-- table: pipelines -->": pipelines,
    "<!-- table: evaluation -->": lambda _: evaluation(rows_of("evaluation")),
    "<!-- table: peers -->": lambda _: peers(rows_of("peers")),
    "<!-- table: studies -->": lambda _: studies(rows_of("studies")),
    "<!-- table: release hook -->": lambda _: hook(rows_of("release-hook")),
    "<!-- table: field cost -->": lambda _: field_cost(rows_of("field")),
    "<!-- table: families -->": lambda _: family_cost(rows_of("families")),
    "<!-- table: grouped -->": lambda _: grouped_cost(rows_of("grouped")),
    "<!-- table: gradient cost -->": lambda _: gradient_cost(rows_of("gradients")),
    "<!-- table: weigh cost -->": lambda _: field_cost(rows_of("weigh"), "values", "benchmarks.pipeline.weigh_cost"),
    "<!-- table: small world -->": lambda _: small_world(read(SMALL_WORLD)),
    "<!-- table: small world field -->": lambda _: ends(read(SMALL_WORLD)),
    "<!-- table: small world scores -->": lambda _: follow(read(SMALL_WORLD)),
    "<!-- table: small world weighings -->": lambda _: weighings(read(SMALL_WORLD), 0.2),
    "<!-- table: small world trainings -->": lambda _: trainings(read(SMALL_WORLD)),
    "<!-- table: small world steering -->": lambda _: steering(read(SMALL_WORLD)),
    "<!-- table: small world words -->": lambda _: words(read(SMALL_WORLD), "segment"),
    "<!-- table: small world syntax -->": lambda _: words(read(SMALL_WORLD), "syntax"),
    "<!-- table: small world leaks -->": lambda _: words(read(SMALL_WORLD), "leak"),
}


def pages() -> list[Path]:
    """Whatever a reader is shown: the README and the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]


def filled(text: str, rows: list[Row]) -> str:
    """A page with the tables in their places."""
    for begin, made in TABLES.items():
        if begin in text:
            before, rest = text.split(begin)
            text = f"{before}{begin}\n{made(rows)}\n{END}{rest.split(END, 1)[1]}"
    return text


def line_of(file: Path, name: str) -> int:
    """The line of a file on which `name`, or `Class.name`, is defined."""
    nodes: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    found: ast.stmt | None = None
    for part in name.removesuffix("()").split("."):
        found = next((node for node in nodes if getattr(node, "name", None) == part), None)
        if found is None:
            raise ValueError(f"a page links to {name} of {file}, which defines no such name. Correct the link.")
        nodes = getattr(found, "body", [])
    assert found is not None
    return found.lineno


def linked(text: str, page: Path) -> str:
    """A page whose links into the code, [`name`](file.py#L12), name the line that `name` is defined on."""
    return CODE.sub(lambda m: f"[`{m[1]}`]({m[2]}#L{line_of(page.parent / m[2], m[1])})", text)


def main() -> None:
    rows = recorded()
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (now := linked(filled(text, rows), path)) != text:
            path.write_text(now, encoding="utf-8")
            print(f"wrote the tables and links of {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
