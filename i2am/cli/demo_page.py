"""The demo's page: what is seen, in plain words, around pictures that lie beside it."""

from __future__ import annotations

from html import escape
from typing import Any

ROWS = {  # folder -> what its pictures are; in the order of the sheet
    "reference": ("Garment", "the reference"),
    "agnostic": ("Person", "without it"),
    "generated": ("Painted", "by the model"),
    "person": ("Truth", "really worn"),
    "warp": ("Moved", "by attention alone"),
    "r2g": ("R2G", "of heads that point"),
    "g2r": ("G2R", "of heads that point"),
    "r2g_mean": ("R2G", "mean of all heads"),
    "g2r_mean": ("G2R", "mean of all heads"),
}
COLUMNS = {
    "field_within": (
        "Field",
        "This world is drawn by formulas, so it is known which spot of the garment every patch of cloth shows. The share of patches whose "
        "field ends within one patch of it.",
    ),
    "pointing_accuracy": ("Pointing", "The share of patches whose own map, of the heads that point, peaks there or one patch beside it."),
    "pointing_mass": ("Nearby", "How much of such a map lies within two patches of the true spot."),
    "baseline_accuracy": (
        "Same place",
        "What pointing would be if every patch pointed at its own place: the mark on the bar. Maps should beat it.",
    ),
    "correspondence": (
        "Correspondence",
        "The same question asked without the truth: patches that are followed to the garment and come back to themselves, by how sharply "
        "they look, inside the painted area less outside it.",
    ),
    "imacs_g": (
        "IMACS<sub>g</sub>",
        "Does R2G lie inside the area that was painted? What spills outside counts threefold. In grey: what the true correspondence "
        "itself would score.",
    ),
    "imacs_r": ("IMACS<sub>r</sub>", "The same of G2R and the garment on its picture."),
}
LEVELS = {
    "time": ("When?", "The steps in groups, from pure noise to the finished picture, on one scale: the more, the brighter."),
    "head": ("Which head?", "Every attention head by itself, on one scale, over all layers and steps."),
    "layer": ("Which layer?", "Every layer by itself, each on its own scale, in the order in which the model calls them."),
}
FILES = {
    "words.html": "the other half of the demo: prompts, and which word made which part of a picture",
    "viewer.html": "every map of every picture, in one file that needs nothing else",
    "sheet.png": "all pictures on one page",
    "scores.json": "the table, with what it was made from",
    "maps.safetensors": "the first picture's maps themselves, of every step group, head, layer and cell",
}
STYLE = """
:root {
  color-scheme: light dark;
  --page: light-dark(#fbfaf8, #131417); --card: light-dark(#ffffff, #1b1d21); --ink: light-dark(#1d1d1f, #ecebe8);
  --soft: light-dark(#5f6068, #a3a5ad); --line: light-dark(#e4e2dd, #2e3137); --fill: light-dark(#f1efeb, #25282d);
  --accent: light-dark(#2b50c8, #8fa8ff);
  --edge: light-dark(rgb(0 0 0 / 0.07), rgb(255 255 255 / 0.08));
  --glow: light-dark(rgb(20 20 40 / 0.10), rgb(0 0 0 / 0.45));
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", "DejaVu Sans", sans-serif;
}
* { box-sizing: border-box; }
html { background: var(--page); -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1280px; padding: 56px clamp(18px, 4vw, 48px) 64px; background: var(--page); color: var(--ink); }
h1, h2, h3, p, figure, dl, dd, ul { margin: 0; padding: 0; }
h1 { font-size: clamp(30px, 4.6vw, 52px); font-weight: 680; letter-spacing: -0.032em; line-height: 1.08; max-width: 24ch;
  text-wrap: balance; }
h2 { font-size: clamp(22px, 2.4vw, 28px); font-weight: 650; letter-spacing: -0.02em; line-height: 1.2; }
h3 { font-size: 16px; font-weight: 620; }
a { color: var(--accent); text-underline-offset: 3px; text-decoration-thickness: 1px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px; }
section { margin-top: clamp(56px, 7vw, 88px); }
.brand { font-weight: 620; font-size: 15px; color: var(--accent); margin-bottom: 14px; letter-spacing: 0.01em; }
.lede { font-size: clamp(17px, 1.6vw, 20px); line-height: 1.55; color: var(--soft); max-width: 66ch; margin-top: 22px; text-wrap: pretty; }
.lede b, .say b { color: var(--ink); font-weight: 620; }
.say { color: var(--soft); max-width: 72ch; margin-top: 8px; text-wrap: pretty; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; margin-top: 22px; padding: 0; list-style: none;
  color: var(--soft); font-size: 14px; }
.facts b { color: var(--ink); font-weight: 620; font-variant-numeric: tabular-nums; }
img { display: block; width: 100%; height: auto; border-radius: 8px; background: var(--fill); box-shadow: 0 0 0 1px var(--edge); }

.story { display: grid; grid-template-columns: repeat(3, 1fr) 28px repeat(2, 1fr); gap: 18px; margin-top: 44px; align-items: start; }
.story i { align-self: center; height: 70%; border-left: 1px solid var(--line); justify-self: center; }
.story img { border-radius: 12px; box-shadow: 0 0 0 1px var(--edge), 0 10px 30px var(--glow); }
.story figcaption { margin-top: 12px; font-size: 14px; line-height: 1.4; color: var(--soft); }
.story figcaption b { display: block; color: var(--ink); font-weight: 620; font-size: 15px; }

.sheet { margin-top: 24px; overflow-x: auto; scrollbar-width: thin; padding-bottom: 8px; }
.sheet > div { display: grid; gap: 10px; min-width: min-content; }
.sheet h3 { position: sticky; left: 0; align-self: center; background: var(--page); padding-right: 12px; line-height: 1.25; z-index: 1; }
.sheet h3 span, .files span { display: block; color: var(--soft); font-weight: 400; font-size: 13px; }
.sheet a { display: block; border-radius: 8px; transition: transform 0.15s; }
.sheet a:hover { transform: scale(1.04); }

.rows { margin-top: 22px; overflow-x: auto; scrollbar-width: thin; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 8px 14px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: 13px; color: var(--soft); }
th:first-child, td:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--page); z-index: 1; }
td:first-child img { display: inline-block; width: 33px; height: 44px; border-radius: 4px; vertical-align: middle; margin-right: 6px; }
td:first-child span { color: var(--soft); font-size: 13px; margin-left: 6px; }
.share { display: inline-flex; align-items: center; gap: 12px; }
.share i { position: relative; width: 96px; height: 8px; border-radius: 4px;
  background: linear-gradient(to right, var(--accent) var(--part), var(--fill) 0); }
.share i u { position: absolute; left: var(--at); top: -4px; bottom: -4px; width: 2px; margin-left: -1px; background: var(--ink); }
td.none { color: var(--soft); font-style: italic; }
td small { color: var(--soft); font-weight: 400; font-size: 13px; }
tr:last-child td { font-weight: 650; border-bottom: 0; }
.meant { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 18px 28px; margin-top: 24px;
  font-size: 14px; line-height: 1.5; }
.meant dt { font-weight: 620; }
.meant dd { color: var(--soft); }
sub { font-size: 0.75em; line-height: 0; }

.paper { background: #fff; border-radius: 12px; padding: 10px; overflow-x: auto; scrollbar-width: thin; margin: 14px 0 34px;
  box-shadow: 0 0 0 1px var(--edge), 0 10px 30px var(--glow); }
.paper img { background: none; border-radius: 4px; box-shadow: none; min-width: 620px; }
.level { margin-top: 26px; }

.view { display: flex; align-items: end; justify-content: space-between; gap: 12px 32px; flex-wrap: wrap; }
.button { flex: none; display: inline-block; padding: 9px 18px; border-radius: 99px; background: var(--accent);
  color: light-dark(#fff, #10131c); font-weight: 620; font-size: 14px; text-decoration: none; }
.button:hover { filter: brightness(1.08); }
.frame { margin-top: 22px; border-radius: 14px; overflow: hidden; box-shadow: 0 0 0 1px var(--line), 0 14px 44px var(--glow); }
iframe { display: block; width: 100%; height: 900px; border: 0; border-radius: inherit; background: var(--page); }
.files { margin-top: 18px; list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 18px 28px; }
pre { margin: 26px 0 0; padding: 18px 20px; border-radius: 12px; background: var(--fill); overflow-x: auto;
  font-size: 14px; line-height: 1.6; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace; }
footer { margin-top: 56px; padding-top: 20px; border-top: 1px solid var(--line); color: var(--soft); font-size: 14px; max-width: none; }

@media (max-width: 760px) {
  body { padding-top: 32px; }
  .story { grid-template-columns: repeat(6, 1fr); gap: 14px 12px; margin-top: 30px; }
  .story i { display: none; }
  .story figure { grid-column: span 2; }
  .story figure:nth-of-type(n + 4) { grid-column: span 3; }
  .story figcaption { font-size: 13px; }
  .frame { display: none; }
  .sheet h3 { font-size: 13px; }
  .sheet h3 span { font-size: 11px; }
  th, td { padding: 7px 8px; }
  .share { gap: 6px; }
  .share i { width: 40px; height: 6px; }
  td:first-child img:nth-of-type(1), td:first-child img:nth-of-type(2) { width: 27px; height: 36px; margin-right: 3px; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
"""


def page(facts: dict[str, Any], scored: dict[str, Any]) -> str:
    """The HTML; every link is relative to its folder."""
    count = len(scored["images"])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>i2am demo: which part of the garment made which part of the picture?</title>
<style>{STYLE}</style>
</head>
<body>
{header(facts, count)}
<main>
{viewer()}
{sheet(count)}
{scores(scored)}
{levels()}
{files(facts)}
</main>
<footer>Attention is not causation: a map says where weights went, not what would change without them.</footer>
</body>
</html>
"""


def header(facts: dict[str, Any], count: int) -> str:
    people = "a person" if count == 1 else f"{count} people"
    garments = "a garment" if count == 1 else "garments"
    pictures = "picture" + "s" * (count > 1)
    said = [f"<b>{count}</b> {pictures}", f"<b>{facts['steps']}</b> steps", f"<b>{facts['layers']}</b> attention layers",
             f"<b>{facts['seconds']:.0f}</b> seconds, maps included", f"model <b>{escape(facts['model'])}</b>",
             f"seed <b>{facts['seed']}</b>"]  # fmt: skip
    items = "".join(f"<li>{fact}</li>" for fact in said)
    captions = {
        "reference": ("The garment", "the reference"),
        "agnostic": ("The person", "what is to be painted is grey"),
        "generated": ("Painted", "by the model, from noise"),
        "warp": ("Moved into place", "the garment, as attention alone would move it"),
        "r2g": ("R2G", "where the garment acted, by the heads that point"),
    }
    figures = [
        f"<figure>{picture(name, 0)}<figcaption><b>{title}</b>{about}</figcaption></figure>" for name, (title, about) in captions.items()
    ]
    return f"""<header>
<p class="brand">i2am demo</p>
<h1>Which part of the garment made which part of the picture?</h1>
<p class="lede">A small try-on model has just dressed {people} in {garments} it had never seen. While it painted, its attention layers
added up <b>where every patch comes from</b>: moved there, the garment dresses the person by attention alone. They also added up two
maps. <b>R2G</b> lies on the painted picture: where did the garment act? <b>G2R</b> lies on the garment: which parts of it were used?</p>
<ul class="facts">{items}</ul>
<div class="story">{"".join(figures[:3])}<i></i>{"".join(figures[3:])}</div>
</header>"""


def picture(folder: str, index: int) -> str:
    what = " ".join(ROWS[folder]).lower() if "2" not in folder else f"{ROWS[folder][0]}, {ROWS[folder][1]}"
    return f'<img src="{folder}/{index:02d}.png" width="96" height="128" alt="Pair {index:02d}: {what}" loading="lazy">'


def viewer() -> str:
    return """<section>
<div class="view"><div><h2>Point at the picture</h2>
<p class="say">Point at a patch of the painted picture, and the garment shows <b>the spot it comes from</b>, and how widely it looked. Then
ask for maps, single time groups, heads and layers.</p></div>
<a class="button" href="viewer.html">Open it full screen</a></div>
<div class="frame"><iframe src="viewer.html" title="The viewer: maps of single patches" loading="lazy"></iframe></div>
</section>"""


def sheet(count: int) -> str:
    rows = []
    for name, (title, about) in ROWS.items():
        links = "".join(f'<a href="{name}/{i:02d}.png">{picture(name, i)}</a>' for i in range(count))
        rows.append(f"<h3>{title}<span>{about}</span></h3>{links}")
    columns = f"grid-template-columns: 104px repeat({count}, minmax(92px, {'1fr' if count > 4 else '190px'}))"
    return f"""<section>
<h2>{"Every pair" if count > 1 else "The pair"}</h2>
<p class="say">The model saw the garment, the person without it and how the body stands, but never the truth.
<a href="sheet.png">All of this as one picture</a></p>
<div class="sheet"><div style="{columns}">{"".join(rows)}</div></div>
</section>"""


def scores(scored: dict[str, Any]) -> str:
    heads = "".join(f"<th>{title}</th>" for title, _ in COLUMNS.values())
    rows = []
    for row in [*scored["images"], scored["all"]]:
        first = "All"
        if "image" in row:
            first = picture("reference", row["image"]) + picture("generated", row["image"]) + f"<span>{row['image']:02d}</span>"
        cells = "".join(cell(name, row) for name in COLUMNS)
        rows.append(f"<tr><td>{first}</td>{cells}</tr>")
    meant = "".join(f"<div><dt>{title}</dt><dd>{about}</dd></div>" for title, about in COLUMNS.values())
    missing = "".join(f"<br>{escape(name)}: none, because {escape(why)}." for name, why in scored["missing"].items())
    return f"""<section>
<h2>Are the maps right?</h2>
<p class="say">A map that looks plausible may still be wrong. Here it can be measured.{missing}</p>
<div class="rows"><table><thead><tr><th>Pair</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>
<dl class="meant">{meant}</dl>
</section>"""


def cell(name: str, row: dict[str, Any]) -> str:
    """A score; a share with a bar, on which what pointing must beat is a mark."""
    value, least = row[name], row["baseline_accuracy"]
    if value is None:
        return '<td class="none">none</td>'
    if name.startswith("imacs"):
        texts = [f"{round(x, 2) + 0:.2f}".replace("-", "\N{MINUS SIGN}") for x in (value, row[f"truth_{name}"])]
        return f"<td>{texts[0]} <small>of {texts[1]}</small></td>"
    if name == "correspondence":
        return f"<td>{round(value, 2) + 0:.2f}</td>".replace("-", "\N{MINUS SIGN}")
    if name not in ("pointing_accuracy", "field_within"):
        return f"<td>{value:.0%}</td>"
    beat = f'<u style="--at: {100 * least:.0f}%"></u>' if name == "pointing_accuracy" and least else ""
    return f'<td><span class="share">{value:.0%}<i style="--part: {100 * value:.0f}%">{beat}</i></span></td>'


def levels() -> str:
    parts = [
        f'<div class="level"><h3>{title}</h3><p class="say">{about}</p><a class="paper" style="display: block" href="{name}.png">'
        f'<img src="{name}.png" alt="Maps of pair 00: {title.lower()}" loading="lazy"></a></div>'
        for name, (title, about) in LEVELS.items()
    ]
    return f"""<section>
<h2>When, by which head, in which layer?</h2>
<p class="say">The means above are over all steps, heads and layers. The same run holds the parts: here those of pair 00.</p>
{"".join(parts)}
</section>"""


def files(facts: dict[str, Any]) -> str:
    size = {"maps.safetensors": f" ({facts['megabytes']:.0f} MB)"}
    items = "".join(f'<li><a href="{name}">{name}</a><span>{about}{size.get(name, "")}</span></li>' for name, about in FILES.items())
    return f"""<section>
<h2>What lies here</h2>
<ul class="files">{items}</ul>
<pre><code>import i2am

maps = i2am.load("maps.safetensors")
positions, spread = maps.field("g2r")         # where every patch comes from, and how widely it looks
maps.unified("r2g", layers="pointing")        # [B, H, W], where the garment acts, by the heads that point
maps.overlay(direction="g2r")[0].save("used.png")</code></pre>
</section>"""
