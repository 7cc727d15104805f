"""An evaluation's page: one HTML file without scripts, whose plots are SVG and whose pictures travel inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from i2am.evaluation.report_charts import NAMES, Columns, bar, histogram, label, number, scatter
from i2am.evaluation.report_pairs import best_and_worst, data_urls, pairs
from i2am.evaluation.report_parts import document, facts_table, flat, heading

FOOTER = """IMACS says how much of a map lies inside a mask, not whether it points at the right spot there; and attention is not causation:
a map says where weights went, not what would change without them."""
BYTES = 5_000_000  # of the page; pictures beyond it are left out
SCATTERS = 6
WAYS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}
VITONHD = 2032  # pairs of its test split
PUBLISHED: dict[str, tuple[str | None, dict[str, float]]] = {  # the I2AM paper's: convention of IMACS as far as known, numbers
    "DCI-VTON": (None, {"imacs_g": 0.0785, "ssim": 0.8612, "lpips": 0.0824, "fid": 13.0953, "kid": 0.0334}),
    "StableVITON": (
        "stableviton",
        {"imacs_g": 0.3083, "imacs_r": 0.3388, "ssim": 0.8634, "lpips": 0.0817, "fid": 10.6755, "kid": 0.0064},
    ),
    "custom": ("custom", {"imacs_g": 0.0833, "imacs_r": 0.0403, "ssim": 0.8396, "lpips": 0.1020, "fid": 11.6572, "kid": 0.0042}),
    "refined custom": ("custom", {"imacs_g": 0.2215, "imacs_r": 0.0948, "ssim": 0.8644, "lpips": 0.0964, "fid": 11.5420, "kid": 0.0022}),
}
DETAILS = {
    "options": "Options",
    "convention": "How IMACS was scored",
    "settings": "Settings of the other metrics",
    "time": "Time",
    "hardware": "Hardware",
    "versions": "Versions",
    "bootstrap": "Bootstrap",
}


def page(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], columns: Columns, looks: Path) -> str:
    """The HTML of a report; pictures are taken from the folder `looks` as long as there is room."""
    chosen = best_and_worst(columns)

    def filled(pictures: Mapping[int, str]) -> str:
        parts = [
            header(report), means(report), distributions(report, columns), correlated(report, columns),
            pairs(chosen, rows, columns, pictures, report["convention"]["g2r"] is not None), failures(report), details(report),
        ]  # fmt: skip
        return document(report["title"], "".join(parts), FOOTER)

    bare = filled({place: "" for parts in chosen.values() for some in parts.values() for place in some})
    return filled(data_urls(chosen, rows, looks, BYTES - len(bare.encode("utf-8", "backslashreplace"))))


def option_named(options: Any, name: str) -> Any:
    """The option of this name, wherever it is nested."""
    if not isinstance(options, Mapping):
        return None
    return (
        options[name]
        if name in options
        else next((x for x in (option_named(one, name) for one in options.values()) if x is not None), None)
    )


def header(report: Mapping[str, Any]) -> str:
    model, data, paired = (option_named(report["options"], name) for name in ("model", "data", "paired"))
    asked, scored, failed = (report["pairs"][name] for name in ("asked", "scored", "failed"))
    what = [f"<b>{escape(str(model))}</b>" if model else "", f"on <b>{escape(Path(str(data)).name or str(data))}</b>" if data else ""]
    what += [] if paired is None else ["with each person's own garment (paired)" if paired else "with another garment (unpaired)"]
    count = f"<b>{scored:,}</b> of {asked:,} pairs have scores."
    lost = f' <a class="warn" href="#failed">{failed:,} failed</a> and are in no number of this page.' if failed else ""
    time = report["time"]
    speed = f" Generated and scored at {time['images_per_second']:.3g} images a second." if time.get("images_per_second") else ""
    return f"""<header>
<p class="brand">i2am evaluation</p>
<h1>{escape(report["title"])}</h1>
<p class="lede">{" ".join(filter(None, what))}{": " * any(what)}{count}{lost}{speed}</p>
</header>
<main>
"""


def means(report: Mapping[str, Any]) -> str:
    lines = []
    for name, found in report["metrics"].items():
        interval = f"{number(found['low'])} to {number(found['high'])}" if found["count"] else ""
        cells = (f"<b>{number(found['mean'])}</b>", interval, *(number(found[key]) for key in ("median", "min", "max")),
                 f"{found['count']:,}", f"{found['nan']:,}")  # fmt: skip
        lines.append(f'<tr><th scope="row">{head(report, name)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    for name, value in report["sets"].items():
        if not name.endswith("_std"):
            spread = report["sets"].get(f"{name}_std")
            beside = "" if spread is None else f"<small>&plusmn; {number(spread)} over subsets</small>"
            lines.append(f'<tr><th scope="row">{head(report, name)}</th><td><b>{number(value)}</b></td><td>{beside}</td>'
                         '<td colspan="5"><small>of all pictures as a set</small></td></tr>')  # fmt: skip
    how, sure = report["convention"], report["bootstrap"]
    heads = ("Metric", "Mean", f"{sure['confidence']:.0%} interval", "Median", "Min", "Max", "Pairs", "No score")
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in report["notes"])
    return f"""<section>
<h2>Scores</h2>
<p class="say">Arrows say which way is better. Intervals are of the mean, from {sure["resamples"]:,} bootstrap draws of pairs.</p>
<div class="rows" role="region" aria-label="Scores" tabindex="0"><table><thead><tr>{heading(heads)}</tr></thead>
<tbody>{"".join(lines)}</tbody></table></div>
<ul class="notes"><li>IMACS by the convention <b>{escape(str(how["name"]))}</b>: {escape(str(how["about"]))}</li>{notes}</ul>
{published(report)}
</section>
"""


def head(report: Mapping[str, Any], name: str) -> str:
    way = report["better"].get(name)
    return label(name) + (f' <small aria-hidden="true">{WAYS[way]}</small><span class="away"> ({way} is better)</span>' if way else "")


def published(report: Mapping[str, Any]) -> str:
    """The paper's table, beside a run that may be the same measurement: paired, and as many pairs as VITON-HD's test split has."""
    if not option_named(report["options"], "paired") or report["pairs"]["asked"] != VITONHD:
        return ""
    how = report["convention"]["name"]
    own = {name: found["mean"] for name, found in report["metrics"].items()} | report["sets"]
    rows: dict[str, tuple[str | None, Mapping[str, float | None]]] = {"this run": (how, own), **PUBLISHED}
    lines = "".join(
        f'<tr class="{"own" if title == "this run" else "others"}"><th scope="row">{title}</th>'
        f"<td>{'not known' if scored is None else escape(str(scored))}</td>"
        + "".join(f"<td>{number(numbers.get(name))}</td>" for name in NAMES)
        + "</tr>"
        for title, (scored, numbers) in rows.items()
    )
    return f"""<details><summary>Published numbers, measured by others</summary>
<p class="say">VITON-HD's test split, paired, 50 DDIM steps, from the I2AM paper (ICLR 2025, arXiv 2407.12331). They are comparable only if
this run's data, picture size, steps and metrics' settings are the same, and IMACS only within one convention.</p>
<div class="rows" role="region" aria-label="Published numbers" tabindex="0"><table>
<thead><tr>{heading(("Model", "IMACS scored as", *(head({"better": {}}, name) for name in NAMES)))}</tr></thead>
<tbody>{lines}</tbody></table></div></details>"""


def distributions(report: Mapping[str, Any], columns: Columns) -> str:
    cards = []
    for name, found in report["metrics"].items():
        there = [x for x in columns[name] if x is not None]
        plot = histogram(there, found, name) if there else '<p class="none">No pair has this score.</p>'
        missing = f'<small class="side">{found["nan"]:,} without a score</small>' if there and found["nan"] else ""
        cards.append(f"<figure><figcaption>{head(report, name)}{missing}</figcaption>{plot}</figure>")
    if not cards:
        return ""
    return f"""<section>
<h2>Distributions</h2>
<p class="say">Pairs by their score; the line is the mean, the band its interval.</p>
<div class="charts">{"".join(cards)}</div>
</section>
"""


def correlated(report: Mapping[str, Any], columns: Columns) -> str:
    found = sorted(report["correlations"], key=lambda one: -abs(one["spearman"] or 0))
    if not found:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{label(one["a"])} <small>and</small> {label(one["b"])}</th><td>{bar(one["spearman"])}</td>'
        f"<td><b>{number(one['spearman'])}</b></td><td>{number(one['pearson'])}</td><td>{one['n']:,}</td></tr>"
        for one in found
    )
    plots = "".join(
        f'<figure><figcaption>{label(one["b"])} over {label(one["a"])}<small class="side">Spearman {number(one["spearman"])}</small>'
        f"</figcaption>{scatter(one, columns)}</figure>"
        for one in found[:SCATTERS]
        if one["spearman"] is not None
    )
    sign = " Of LPIPS less is better: where it agrees with the others, the sign is negative." if "lpips" in columns else ""
    return f"""<section>
<h2>Do the scores agree?</h2>
<p class="say">Correlations over pairs, the strongest first.{sign}</p>
<div class="rows" role="region" aria-label="Correlations" tabindex="0"><table>
<thead><tr>{heading(("Scores", "", "Spearman", "Pearson", "Pairs"))}</tr></thead><tbody>{lines}</tbody></table></div>
<div class="charts wide">{plots}</div>
</section>
"""


def failures(report: Mapping[str, Any]) -> str:
    failed = [(one["name"], one["what"]) for one in report["failed"]]
    if not failed:
        return ""
    return f"""<section id="failed">
<h2>Failed pairs</h2>
<p class="say">These {len(failed):,} are in no number of this page.</p>
<details{" open" * (len(failed) <= 20)}><summary>What is wrong with each</summary>{facts_table(failed)}</details>
</section>
"""


def details(report: Mapping[str, Any]) -> str:
    parts = "".join(
        f"<details><summary>{title}</summary>{facts_table(flat(report[name]))}</details>" for name, title in DETAILS.items() if report[name]
    )
    return f"""<section>
<h2>How it was measured</h2>
<p class="say">All of this, and every number, is also in report.json; every pair's scores are in scores.csv.</p>
<div class="rows">{parts}</div>
</section>
</main>
"""
