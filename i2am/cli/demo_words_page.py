"""The page of words: prompts whose words can be picked, without a script: a word is a radio button, and CSS shows its map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from i2am.cli.demo_page import STYLE
from i2am.data.scenes import COLOURS, SHAPES

MODELS = {
    "free": ("Colours free", "It has seen every shape in every colour, on grounds of any tint."),
    "bound": ("Colours bound", "It has seen each colour on one shape only, on a ground of its tint. Its colours leak."),
}
MORE = """
.scenes { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr)); gap: 26px; margin-top: 28px; }
.scene { background: var(--card); border-radius: 16px; padding: 20px 20px 16px; min-width: 0;
  box-shadow: 0 0 0 1px var(--edge), 0 10px 30px var(--glow); border: 0; margin: 0; }
.scene input { position: absolute; opacity: 0; width: 1px; height: 1px; pointer-events: none; }
.prompt { display: flex; flex-wrap: wrap; gap: 4px 2px; margin: 0 -7px 14px; padding: 0; min-height: 34px; align-content: start; }
.prompt label { padding: 2px 8px 3px; border-radius: 8px; font-size: 18px; line-height: 1.45; cursor: pointer; color: var(--soft);
  transition: background 0.12s, color 0.12s; }
.prompt label.thing { color: var(--ink); font-weight: 600; }
.prompt label:hover { background: var(--fill); color: var(--ink); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.stage { position: relative; }
.stage img { border-radius: 10px; }
.stage img + img { position: absolute; inset: 0; opacity: 0; transition: opacity 0.16s; }
.stage small, .iou { display: block; margin-top: 7px; font-size: 13px; color: var(--soft); line-height: 1.4; }
.iou { min-height: 19px; font-variant-numeric: tabular-nums; }
.iou span { display: none; }
.iou b { color: var(--ink); font-weight: 620; }
.models { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 560px), 1fr)); gap: 34px; margin-top: 26px; }
.models .say { margin-bottom: 16px; }
.tinted { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px; }
.tinted figure b { display: block; font-size: 14px; font-weight: 620; margin-bottom: 6px; }
.tinted img + img { margin-top: 8px; }
.back { font-size: 15px; margin-top: 22px; }
"""
WIDEST = 18  # words of a prompt
THRESHOLD = 0.4  # DAAM's
THINGS = {*SHAPES, *COLOURS, "small", "big"}  # words that have pixels of their own


@dataclass(frozen=True)
class Scene:
    """A prompt's picture, and by place in the prompt each word's map over it; with a truth, its pixels and the IoU of both."""

    prompt: str
    picture: str  # data URLs
    maps: list[str]
    truth: list[str] = field(default_factory=list)  # "" where a word has no pixels
    iou: list[float | None] = field(default_factory=list)
    chosen: int = 0  # the word that is shown first


def picking() -> str:
    """What is shown of the word that is picked, or for a moment pointed at."""
    rules = []
    for k in range(1, WIDEST + 1):
        picked, pointed = f".scene:has(input:nth-of-type({k}):checked)", f".scene:has(label:nth-of-type({k}):hover)"
        rules.append(f"{picked} label:nth-of-type({k}) {{ background: var(--accent); color: light-dark(#fff, #10131c); }}")
        rules.append(f".scene:has(input:nth-of-type({k}):focus-visible) label:nth-of-type({k}) {{ outline: 2px solid var(--ink); }}")
        rules.append(f"{picked}:not(:has(label:hover)) .maps img:nth-of-type({k + 1}), {pointed} .maps img:nth-of-type({k + 1}) "
                     "{ opacity: 1; }")  # fmt: skip
        rules.append(f"{picked}:not(:has(label:hover)) .iou span:nth-of-type({k}), {pointed} .iou span:nth-of-type({k}) "
                     "{ display: inline; }")  # fmt: skip
    return "\n".join(rules)


def page(painted: Sequence[Scene], looked_at: Sequence[Scene], leaking: Mapping[str, Sequence[Scene]]) -> str:
    """The HTML of one file that needs nothing else."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>i2am demo: which word made which part of the picture?</title>
<style>{STYLE}{MORE}{picking()}</style>
</head>
<body>
<header>
<p class="brand">i2am demo</p>
<h1>Which word made which part of the picture?</h1>
<p class="lede">A small text-to-image model, trained on a world of a few dozen words, has just painted these prompts. <b>Point at a word,
or pick it,</b> and the picture shows where the model's attention looked for it, over all steps, layers and heads.</p>
<p class="back"><a href="index.html">The other half of the demo: garments</a></p>
</header>
<main>
<section>
<h2>Painted</h2>
<p class="say">From noise, by what the prompt says. Each map has its own scale: dark is its least, bright its most.</p>
<div class="scenes">{"".join(card(scene, f"p{i}") for i, scene in enumerate(painted))}</div>
</section>
<section>
<h2>Are the maps right?</h2>
<p class="say">These pictures were drawn by formulas, so the pixels of every word are known. The model looked at them under noise, with
their prompts. On the left the word's own pixels, on the right its map; below, how well the map above {THRESHOLD:g} covers them (IoU: 1 is
perfect).</p>
<div class="scenes">{"".join(card(scene, f"t{i}") for i, scene in enumerate(looked_at))}</div>
</section>
<section>
<h2>Where colours leak</h2>
<p class="say">One noise, three colours, by two models that differ in nothing but what they were shown. Below each picture the map of its
colour's word.</p>
<div class="models">{"".join(tinted(name, found) for name, found in leaking.items())}</div>
</section>
</main>
<footer>Attention is not causation: a map says where weights went, not what would change without them.</footer>
</body>
</html>
"""


def card(scene: Scene, name: str) -> str:
    """One prompt: its words to pick, the picture or the word's own pixels, and the word's map."""
    said = scene.prompt.split()
    inputs = "".join(f'<input type="radio" name="{name}" id="{name}-{k}"{" checked" * (k == scene.chosen)}>' for k in range(len(said)))
    thing = [word in THINGS for word in said]
    labels = "".join(f'<label for="{name}-{k}"{" class=thing" * thing[k]}>{escape(word)}</label>' for k, word in enumerate(said))
    plain = f'<img src="{scene.picture}" alt="{escape(scene.prompt)}">'
    maps = "".join(f'<img src="{one}" alt="the map of {escape(word)}">' for word, one in zip(said, scene.maps))
    left, caption = plain, "Painted"
    if scene.truth:
        left += "".join(f'<img src="{one or scene.picture}" alt="the pixels of {escape(word)}">' for word, one in zip(said, scene.truth))
        caption = "The word's own pixels"
    scores = "".join(f"<span>{score(word, value)}</span>" for word, value in zip(said, scene.iou))
    below = f'<p class="iou">{scores}</p>' if scene.truth else ""
    kind = " maps" * bool(scene.truth)
    return f"""<fieldset class="scene" aria-label="{escape(scene.prompt)}">{inputs}
<div class="prompt">{labels}</div>
<div class="pair"><div class="stage{kind}">{left}<small>{caption}</small></div>
<div class="stage maps">{plain}{maps}<small>The word's map</small></div></div>{below}</fieldset>"""


def score(word: str, value: float | None) -> str:
    if value is None:
        return f"{escape(word)} has no pixels of its own"
    return f"IoU of <b>{escape(word)}</b>: <b>{value:.2f}</b>"


def tinted(name: str, scenes: Sequence[Scene]) -> str:
    """One model's three colours, and where it looked for them."""
    title, about = MODELS[name]
    figures = "".join(
        f'<figure><b>{escape(scene.prompt)}</b><img src="{scene.picture}" alt="{escape(scene.prompt)}">'
        f'<img src="{scene.maps[1]}" alt="the map of {escape(scene.prompt.split()[1])}"></figure>'
        for scene in scenes
    )
    return f'<div><h3>{title}</h3><p class="say">{about}</p><div class="tinted">{figures}</div></div>'
