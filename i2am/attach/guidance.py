"""Which rows of the batch, and which of a step's calls, are the conditional ones.

A layout is written as the model sees it: rows joined by "-", separate calls by "|". "uncond-cond" is diffusers' usual batch,
"cond-uncond" has the conditional rows first, "cond|uncond" calls the model twice a step, conditional first. Any other word
("image", "perturbed") names a block that is not recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from i2am.common.checks import refuse
from i2am.maps.tokens import Range


@dataclass(frozen=True)
class Layout:
    """Where the conditional rows are: block `block` of `blocks`, in call `call` of `calls` in each step."""

    call: int
    calls: int
    block: int
    blocks: int

    def rows(self, total: int) -> Range:
        """The conditional rows of a batch of `total`."""
        images, rest = divmod(total, self.blocks)
        if rest:
            refuse(
                "guidance", f"a layout that cuts {total} rows", f"one of {self.blocks} blocks", 'Is the run guided? Pass guidance="none".'
            )
        return self.block * images, (self.block + 1) * images


NONE = Layout(0, 1, 0, 1)
CONDITIONAL_FIRST = (
    "lumina",
    "omnigen",
    "stable_cascade",
    "z_image",
)  # packages of diffusers.pipelines, which otherwise has [uncond, cond]
TWO_CALLS = ("flux", "flux2", "chroma", "bria_fibo2", "krea2", "lumina2", "cogview4", "nucleusmoe_image", "glm_image", "wan", "chronoedit",
             "hunyuan_video", "hunyuan_video1_5", "kandinsky5", "cosmos", "joyimage")  # fmt: skip
# these call their model twice a step without saying which call it is, the prompt first
PROMPT_FIRST = tuple(f"diffusers.pipelines.{package}." for package in TWO_CALLS)
GROUNDED = "StableDiffusionGLIGENTextImagePipeline"  # calls its model with the pictures in the boxes and without, guided or not
OF_THREE = {"Pix2Pix": 0, "OmniGen": 0, "DreamLite": 2}  # which of three blocks has the prompt and the picture, by the pipeline's name


def parse(text: str) -> Layout | None:
    """The layout a user states; None for "auto"."""
    if text == "auto":
        return None
    if text == "none":
        return NONE
    calls = [call.split("-") for call in text.split("|")] if isinstance(text, str) else []
    found = [(i, j) for i, call in enumerate(calls) for j, block in enumerate(call) if block == "cond"]
    if len(found) != 1 or not all(block for call in calls for block in call):
        refuse("guidance", '"auto", "none" or a layout with one "cond", such as "uncond-cond", "cond-uncond" or "cond|uncond"',
               repr(text), '"-" joins the rows of one batch, "|" separate calls of the model.')  # fmt: skip
    call, block = found[0]
    return Layout(call, len(calls), block, len(calls[call]))


def stated(pipe: Any) -> Layout | None:
    """What the pipeline's own class declares: `guidance_layout = "uncond-cond"`."""
    text = getattr(type(pipe), "guidance_layout", None)
    return None if text is None else parse(text)


def layout_before_run(pipe: Any) -> Layout | None:
    """A declared layout of several calls, which tells the first one's. Rows of one call wait until the first step has shown how many
    there are, since the pipeline may run without guidance."""
    layout = stated(pipe)
    return layout if layout is not None and layout.calls > 1 else None


def blocks_before_run(pipe: Any) -> int:
    """How many blocks of rows the first call of the model will have, by the pipeline's own word; a step then proves it."""
    name, guided = type(pipe).__name__, getattr(pipe, "do_classifier_free_guidance", None)
    if guided is None:
        refuse("guidance", f"stated for {name}, which does not say whether it is guided", '"auto"',
               'Pass guidance="none", "uncond-cond", "cond-uncond" ...')  # fmt: skip
    if "PAG" in name:
        return 1 + bool(guided) + (getattr(pipe, "pag_scale", 0) > 0)
    if not guided:
        return 1
    declared = stated(pipe)
    return declared.blocks if declared is not None else 3 if any(part in name for part in OF_THREE) else 2


def known_layout(pipe: Any, blocks: int, calls: int) -> Layout:
    """The layout of a run whose model was called `calls` times a step with `blocks` times as many rows as there are images."""
    name = type(pipe).__name__
    if calls == 1 and blocks == 1:
        return NONE
    declared = stated(pipe)
    if declared is not None and (declared.calls, declared.blocks) == (calls, blocks):
        return declared
    if calls == 2 and blocks == 1 and type(pipe).__module__.startswith(PROMPT_FIRST):
        return Layout(0, 2, 0, 1)  # the negative prompt second
    if calls == 2 and name == GROUNDED:
        return Layout(0, 2, blocks - 1, blocks)
    if calls == 1 and type(pipe).__module__.startswith("diffusers.pipelines."):
        guided = bool(getattr(pipe, "do_classifier_free_guidance", True))
        if "PAG" in name and (blocks == 3 or not guided):
            return Layout(0, 1, 1 if guided else 0, blocks)
        both = next((block for part, block in OF_THREE.items() if part in name and blocks == 3), None)
        if both is not None:
            return Layout(0, 1, both, 3)
        if blocks == 2 and guided:
            first = any(f".{package}." in f"{type(pipe).__module__}." for package in CONDITIONAL_FIRST)
            return Layout(0, 1, 0 if first else 1, 2)
    how = f"{calls} calls a step (or steps with another scheduler)" if calls > 1 else f"{blocks} times as many rows as images"
    tiles = " Where the calls are tiles of one picture, let the pipeline work in one piece." if calls > 1 else ""
    refuse("guidance", f"stated for {name}, which runs its model with {how}", '"auto"',
           f'The wrong rows would give wrong maps: pass guidance="uncond-cond", "cond-uncond", "cond|uncond" ...{tiles}')  # fmt: skip


def final_layout(layout: Layout | None, owner: Any, total: int, images: int, calls: int, named: bool) -> Layout:
    """After the first step, the layout that makes `total` rows of `images` images; what was stated must fit."""
    if layout is None and total % images == 0:
        layout = NONE if named and total == images else known_layout(owner, total // images, calls)
    if type(owner).__name__ == GROUNDED and layout == Layout(0, 2, 0, 1) and total % images == 0:
        layout = known_layout(owner, total // images, 2)
    hidden = layout is not None and layout.calls == layout.blocks == 1 and calls > 1 and not named
    if hidden:
        refuse("guidance", f"a layout of the {calls} calls a step that the model has", '"none"', 'Pass "cond|uncond" or "uncond|cond".')
    if layout is None or layout.blocks * images != total:
        refuse("guidance", f"a layout that makes {total} rows of {images} images", layout or "auto",
               'State it: guidance="none", "uncond-cond", "cond-uncond" ...')  # fmt: skip
    return layout
