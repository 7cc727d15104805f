"""`with i2am.trace(pipe) as run:` is the way to a run under observation: here its options are said and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from i2am.attach.finder import Finder
from i2am.attach.learning import LearningTrace
from i2am.attach.parts import placed_reference, scheduler_of
from i2am.attach.prompts import asked
from i2am.attach.relevant import RelevantTrace, Scalar
from i2am.attach.run import Trace
from i2am.common.checks import refuse, said
from i2am.maps.layers import Layers
from i2am.maps.recorder import Recorder
from i2am.maps.regions import Region
from i2am.maps.relevant import EXAMPLE
from i2am.maps.tokens import AnyGrid


def trace(
    pipe: Any,
    *,
    groups: int | None = None,
    layers: Layers = None,
    generated_mask: Any = None,
    reference_mask: Any = None,
    specific: Sequence[Region] | str | None = None,
    words: bool | Sequence[str] | None = None,
    field: bool = False,
    weigh: str = "weights",
    shares: bool = False,
    scalar: Scalar | None = None,
    differentiable: bool = False,
    guidance: str = "auto",
    steps: int | None = None,
    backend: str = "auto",
    reference: Any = "auto",
    reference_grid: AnyGrid | None = None,
    special: int = 0,
    scheduler: Any = None,
) -> Trace:
    """Record the attribution maps of what a diffusers pipeline generates inside the `with` block.

        with i2am.trace(pipe, groups=5) as run:
            images = pipe(...).images
        run.maps.unified("r2g", size=(1024, 768))

    pipe: a pipeline, or a denoiser module with its `scheduler=` (an LDM sampler will do).
    groups: time groups, which cut the actual steps evenly; default: five, or as many as steps. steps: only where it cannot be seen.
    layers: names, patterns ("*attn2", "up_blocks*") or a function of the name; default: every layer in which the reference enters.
    generated_mask: inpainting mask(s), 1 inside, of any size; weigh G2R. reference_mask: the same on the reference; weighs R2G. Of a video
        one for every frame, or [frames, h, w] or [m, frames, h, w] with as many as the model's own.
    specific: points (y, x), boxes (top, left, bottom, right) in fractions of the image, masks, or "grid": each adds a map on the
        reference: R float32 per image, group, head and layer. "grid" (some 50 cells) of 64x48 tokens, 8 heads, 5 groups: 24 MB a layer.
        Of a video they lie in every frame; (frame, y, x) and (frame, top, left, bottom, right) in one. "grid" cuts each frame in 4 x 4.
    words: True, or a list of words: DAAM's maps of the prompt. One map [G] per text token, image, group, head and layer: with
        SD1.5 at 512x512 a 10-word prompt takes about 50 MB per image and group; a list of words keeps their tokens alone.
    field: where every patch comes from and where it goes, for `maps.field`: six sums a token and direction beside the maps' one.
    weigh: what a reference token counts with in every map: "weights", its attention alone, "values", times the norm of what it brings
        to the layer's output, ||W_h v_j|| of head h with W_h the output projection's columns (||v_j|| where a layer has none), or
        "gradient", times what that adds to a scalar of the prediction, max(dO_i . v_j, 0) with dO the scalar's gradient by attention's
        output: R2G is then a sum of P, as G2R is. The denoiser runs with gradient: memory for one call's activations, and its backward.
    shares: how much of each patch's attention the reference takes, against text and the picture itself, for `maps.shares`; recorded in
        any case where one call holds several references. One more number a token.
    scalar: for weigh="gradient": a function of the denoiser's prediction, all rows of the call, that gives one number or one a row, such
        as (prediction * mask).square().flatten(1).sum(1).
    differentiable: for losses and guidance: every call of the denoiser is recorded by itself, and `run.maps` are those of the last one, on
        its device, with gradient to what it was called with and to its weights. A backward that computes the forward again (gradient
        checkpointing) must run inside the block. A compiled denoiser runs uncompiled.
    guidance: "auto", "none", or the batch's layout: "uncond-cond", "cond-uncond", "cond-image-uncond"; "cond|uncond" for separate calls.
    reference: "auto"; "context" (the cross-attention's keys), "adapter" (IP-Adapter), "self" (self-attention that also sees the
        reference), "self-below" or "self-beside" (the same, in one latent with the reference below what is generated, or to its right), or
        a rule: a function of `i2am.Seen` that returns `i2am.Tokens` or None; `i2am.explain(pipe, ...)` shows what it would see.
    reference_grid, special: the reference's (height, width) in tokens, of a video (frames, height, width), and its leading tokens without
        a place (CLS); default: what the pipeline declares as `reference_tokens`, a pair of the two.
    """
    recorder = Recorder(groups=groups, steps=steps, generated_mask=generated_mask, reference_mask=reference_mask, specific=specific,
                        field=field, weigh=weigh, shares=shares, differentiable=differentiable, backend=backend)  # fmt: skip
    if (scalar is None) == (weigh == "gradient") or not (scalar is None or callable(scalar)):
        expected = "a function of the prediction" if weigh == "gradient" else 'left out without weigh="gradient"'
        refuse("scalar", expected, said(scalar), f"For example {EXAMPLE}.")
    words, finder = asked(words), Finder(pipe, reference)
    if scheduler is None and not differentiable:
        scheduler = scheduler_of(pipe)
    reference_grid, special = placed_reference(pipe, reference_grid, special)
    if (differentiable or scalar is not None) and len(finder.denoisers) > 1:
        refuse("pipe", 'one denoiser with differentiable=True or weigh="gradient"', f"{len(finder.denoisers)} in {type(pipe).__name__}",
               "Pass the one that is meant, with scheduler=.")  # fmt: skip
    kind = LearningTrace if differentiable else Trace if scalar is None else RelevantTrace
    made = kind(finder, recorder, scheduler, layers=layers, words=words, guidance=guidance, reference_grid=reference_grid, special=special)
    if isinstance(made, RelevantTrace) and scalar is not None:
        made.scalar = scalar
    return made
