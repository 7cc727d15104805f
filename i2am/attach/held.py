"""Attention of the first picture of a batch, held fixed in the others: which of it was the words' doing, and which the attention's.

    O_b = softmax(Q_1 K_1^T) V_b    in every attention to the prompt, for every picture b of the batch, in each block of guided rows

Nothing is stored. Whoever wants the first picture's probabilities in another run has to keep a matrix a layer, head and step; side by side
in one batch it is enough that the other rows take the first row's queries and keys, and only their values stay their own.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from i2am.attach.eager import eager
from i2am.attach.finder import Finder
from i2am.attach.guidance import blocks_before_run, parse
from i2am.attach.parts import scheduler_of
from i2am.attach.steps import count_steps
from i2am.attach.under_gradient import SAMPLES
from i2am.common.checks import cited, refuse, said
from i2am.maps.layers import Layers, chosen
from i2am.maps.tokens import Range

PROJECTED = ("to_q", "to_k")
MASK = "encoder_attention_mask"


def hold(pipe: Any, *, layers: Layers = None, guidance: str = "auto", scheduler: Any = None) -> Held:
    """Hold the first picture's attention to the prompt fixed in the other pictures of a batch, inside the `with` block.

        with i2am.hold(pipe):
            images = pipe(["a blue car", "a green car", "a red car"], generator=[torch.manual_seed(0) for _ in range(3)]).images

    The first picture is what it would be alone. The others look where it looks, in every layer, head and step, and see their own words
    there: token i of theirs in the place of token i of its. It goes with `i2am.trace(pipe, words=True)`, inside it or around it, and
    then the maps are those of the attention as it was held.

    pipe: a pipeline whose UNet reads the prompt by cross-attention (Stable Diffusion 1 and 2, SDXL).
    layers: names, patterns ("mid_block*") or a function of the name; default: every attention to the prompt.
    guidance, scheduler: as for `i2am.trace`. A compiled UNet runs uncompiled.
    """
    finder = Finder(pipe, "auto")
    name, layout = type(finder.owner).__name__, parse(guidance)
    found = {} if finder.family is not None or not finder.is_unet else {
        layer: modules[0] for layer, modules in finder.layers(True).items() if crosses(layer, modules[0])
    }  # fmt: skip
    if not found:
        refuse("pipe", "one whose UNet reads the prompt by cross-attention", name, "Where the words ask as well as the picture, in joint "
               "attention, the queries and keys are the words', and there is no attention to hold apart from them.")  # fmt: skip
    if finder.adapted:
        refuse("pipe", "one without an IP-Adapter", name, "Its layers attend to a picture by the same queries: pipe.unload_ip_adapter().")
    only = chosen(list(found), layers)
    return Held(finder, {layer: found[layer] for layer in only}, scheduler_of(pipe) if scheduler is None else scheduler,
                None if layout is None else layout.blocks)  # fmt: skip


def crosses(layer: str, module: Any) -> bool:
    """Whether it is cross-attention whose projections can be heard."""
    return layer.endswith("attn2") and all(isinstance(getattr(module, name, None), nn.Module) for name in PROJECTED)


class Held:
    """A pipeline under `i2am.hold`. `layers`: the names of the layers that are held."""

    def __init__(self, finder: Finder, modules: dict[str, nn.Module], scheduler: Any, stated: int | None) -> None:
        self.finder, self.modules, self.scheduler, self.stated = finder, modules, scheduler, stated
        self.undo = ExitStack()
        self.begin()

    @property
    def layers(self) -> list[str]:
        return list(self.modules)

    def __repr__(self) -> str:
        return f"Held attention of {type(self.finder.owner).__name__}: {cited(self.layers)}"

    def __enter__(self) -> Held:
        self.undo = ExitStack()
        try:
            count_steps(self.scheduler, None, self.begin, self.stepped, self.undo)
            denoiser = self.finder.denoiser
            self.undo.callback(denoiser.register_forward_pre_hook(self.before, with_kwargs=True).remove)
            self.undo.callback(denoiser.register_forward_hook(self.after).remove)
            for layer, module in self.modules.items():
                for name in PROJECTED:
                    self.undo.callback(getattr(module, name).register_forward_hook(partial(self.projected, layer, name)).remove)
            eager.begin()
            self.undo.callback(eager.end)
        except BaseException:
            self.undo.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.undo.close()
        self.begin()

    def begin(self) -> None:
        """A run begins."""
        self.images: int | None = None  # known after the first step
        self.blocks = self.rows = 0  # of the call that is running
        self.ran: set[tuple[int, int]] = set()  # (rows, blocks) of the first step's calls
        self.heard: Counter[tuple[str, str]] = Counter()  # projections of the call that is running

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """A call of the denoiser begins: how many rows, in how many blocks."""
        sample = args[0] if args else next((kwargs[name] for name in SAMPLES if isinstance(kwargs.get(name), Tensor)), None)
        if not isinstance(sample, Tensor):
            refuse("the denoiser's call", f"with its sample first, or named one of {', '.join(SAMPLES)}", list(kwargs), "Wrap it.")
        self.heard.clear()
        self.rows = len(sample)
        if self.images is None:
            self.blocks = blocks_before_run(self.finder.owner) if self.stated is None else self.stated
            self.ran.add((self.rows, self.blocks))
        else:
            self.blocks = self.rows // self.images
        if self.rows % self.blocks:
            self.refuse_layout(self.rows, self.blocks)
        if self.rows == self.blocks:
            refuse("the batch", "of at least two pictures, as the first one's attention is held in the others", "one", "Pass the prompts "
                   "as a list, with as many generators of one seed.")  # fmt: skip
        mask = kwargs.get(MASK)
        if isinstance(mask, Tensor) and not torch.equal(mask, self.first(mask)):
            refuse("the prompts", "padded to one length, so that all of them have the tokens of the first",
                   f"a {MASK} that hides other tokens of each", "Take prompts of as many tokens.")  # fmt: skip

    def projected(self, layer: str, name: str, module: nn.Module, args: Any, out: Tensor) -> Tensor:
        """Queries or keys [rows, tokens, size] of one layer: the first row's for all of its block."""
        if len(out) != self.rows:
            refuse(f"{name} of {layer}", f"called with the {self.rows} rows of the denoiser's sample", len(out),
                   "Frames of a video in the batch cannot be held.")  # fmt: skip
        self.heard[layer, name] += 1
        return self.first(out)

    def first(self, rows: Tensor) -> Tensor:
        """Every row replaced by the first one of its block."""
        cut = rows.unflatten(0, (self.blocks, -1))
        return cut[:, :1].expand_as(cut).flatten(0, 1)

    def after(self, *_: Any) -> None:
        """The call is over: a layer whose projections were not both heard has not been held."""
        missed = [layer for layer in self.modules if self.heard[layer, "to_q"] != self.heard[layer, "to_k"]]
        if missed or not self.heard:
            refuse(f"the attention of {type(self.finder.owner).__name__}", "projected by its modules to_q and to_k in every call",
                   f"calls without them in {cited(missed or self.layers)}", "Undo pipe.fuse_qkv_projections() and what skips or caches "
                   "keys; enter i2am.hold before i2am.trace where the UNet is compiled.")  # fmt: skip

    def stepped(self, images: int | None, steps: int | None, size: Range | None) -> None:
        """A step is over, which shows how many pictures there are."""
        if self.images is not None or not images:
            return
        for rows, blocks in sorted(self.ran):
            if rows != blocks * images:
                self.refuse_layout(rows, blocks, images)
        self.images = images

    def refuse_layout(self, rows: int, blocks: int, images: int | None = None) -> None:
        of = "" if images is None else f" of {images} pictures"
        refuse("guidance", f"a layout of the {rows} rows{of} that the denoiser was called with", f"{said(blocks)} blocks",
               'State it: guidance="none", "uncond-cond", "cond-image-uncond" ...; "cond|uncond" where it is called twice.')  # fmt: skip
