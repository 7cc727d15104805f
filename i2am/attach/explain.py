"""`i2am.explain(pipe, ...)`: a small call of a pipeline, watched and told: what each of the denoiser's attention calls holds, and why.

No maps are made and nothing is refused: pipelines that a trace refuses are shown as well, with the numbers that a rule needs.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from i2am.attach import ldm, sdpa
from i2am.attach.coverage import whose
from i2am.attach.denoiser_calls import Calls
from i2am.attach.explained import AttentionCall, Explanation, shown
from i2am.attach.finder import Finder, attends
from i2am.attach.guidance import Layout, final_layout, layout_before_run, parse
from i2am.attach.parts import scheduler_of
from i2am.attach.prompts import asked
from i2am.attach.run import Trace
from i2am.attach.steps import count_steps
from i2am.families import pipelines
from i2am.families.family import EXPLAIN, several, with_generated_grid
from i2am.families.unet import adapter_order
from i2am.maps.tokens import Seen, Tokens

AHEAD = "before the first step: no map is made of it"


def explain(
    pipe: Any, *, reference: Any = "auto", words: Any = True, guidance: str = "auto", scheduler: Any = None, **call: Any
) -> Explanation:
    """Run a small call and show each attention call of the denoiser: its sizes, which keys are reference and words, which queries are
    generated, which rows are conditional, and who says so.

        print(i2am.explain(pipe, prompt="a cat", image=picture))

    pipe: a pipeline, or a denoiser module, which is then called once.
    reference, guidance, scheduler: as for `i2am.trace`; a rule is shown what a trace would show it.
    words: False leaves the prompt's tokens out, as a trace without words does.
    call: the pipeline's own keywords. Unless said, as few steps are run as the pipeline takes, and the first is shown.
    """
    watch = Watch(Finder(pipe, reference, check=False), words=bool(asked(words)), guidance=guidance, scheduler=scheduler)
    return watch.run(pipe, call)


class Watch:
    """The call under observation."""

    def __init__(self, finder: Finder, words: bool, guidance: str, scheduler: Any) -> None:
        self.finder, self.words, self.scheduler = finder, words, scheduler
        self.calls = CallsThrough(finder.denoisers, finder.owner, parse(guidance) or layout_before_run(finder.pipe))
        self.modules: dict[int, tuple[str, Any]] = {}
        for number, denoiser in enumerate(finder.denoisers):
            for name, module in denoiser.named_modules():
                if name:
                    self.modules.setdefault(id(module), (f"{name} of denoiser {number + 1}" if number else name, module))
        self.rows: list[AttentionCall] = []
        self.entered: dict[str, None] = {}  # layers whose forward ran
        self.places: Counter[int] = Counter()  # attention calls of each module in this forward
        self.orders: dict[int, list[int]] = {}  # an adapter's layers: the places of their calls, as a trace counts them
        self.images: dict[int, dict[int, str]] = {}
        self.forward = 0  # which call of the denoiser the places are of
        self.over = False  # the first step
        self.count: int | None = None  # images
        self.done = 0  # calls of the denoiser in the first step

    def run(self, pipe: Any, call: dict[str, Any]) -> Explanation:
        if Trace.running is not None:
            raise RuntimeError("i2am: another trace is running in this process. Leave its `with` block first.")
        error: Exception | None = None
        with ExitStack() as undo:
            self.watch(undo)
            try:
                pipe(**(call if isinstance(pipe, nn.Module) else few_steps(pipe, call)))
            except Exception as failed:
                error = failed
            if not self.over:
                self.done = self.calls.count
            inputs = {name: shown(value) for name, value in self.calls.inputs.items() if value is not None}
        return self.told(inputs, error)

    def watch(self, undo: ExitStack) -> None:
        """Everything that listens, and its end."""
        Trace.running = self  # type: ignore[assignment]
        undo.callback(setattr, Trace, "running", None)
        sdpa.listen(undo)
        sdpa.STATE.others = self  # type: ignore[assignment]
        scheduler = self.scheduler
        if scheduler is None and self.finder.pipe is not None:
            try:
                scheduler = scheduler_of(self.finder.pipe)
            except ValueError:  # then the whole call is the step
                scheduler = None
        if scheduler is not None:
            count_steps(scheduler, self.finder.pipe, self.started, self.stepped, undo)
        self.calls.watch(undo)
        for name, module in self.modules.values():
            if not attends(name, module):
                continue
            undo.callback(module.register_forward_pre_hook(self.entering(name), with_kwargs=True).remove)
            if ldm.is_ldm(module):
                ldm.install_ldm(Look(name, module, self), undo)
            else:
                sdpa.use_native(module.processor, undo)

    def entering(self, name: str) -> Any:
        def before(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.entered.setdefault(name)
            self.places[id(module)] = 0
            processor = getattr(module, "processor", None)
            if hasattr(processor, "to_k_ip"):
                self.orders[id(module)], self.images[id(module)] = adapter_order(processor, kwargs.get("ip_adapter_masks"))

        return before

    def started(self) -> None:
        """The scheduler was given its timesteps: what ran before is told, and is no part of a step."""
        if not self.over:
            self.rows = [replace(row, call=-1, active=False, tokens=(), why=AHEAD) for row in self.rows]
            self.calls.begin()
            self.forward = 0

    def stepped(self, images: int | None, steps: int | None, size: Any = None) -> None:
        if not self.over:
            self.over, self.count, self.done = True, images, self.calls.count
            self.calls.over = True
            sdpa.STATE.others = None

    # What is heard

    @property
    def active(self) -> bool:
        """For an LDM layer: always looked at."""
        return True

    def slots(self, tap: sdpa.Tap, place: int, query: Tensor, key: Tensor) -> list[Any]:
        return []

    def reshaped(self, slot: Any, query: Tensor, key: Tensor) -> None: ...

    def heard(self, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        """Attention was called: by a module of the denoiser, or by another model."""
        found = whose(sys._getframe(2), self.modules)
        if found is not None and query.ndim == 4:
            self.add(found, query, key, mask)

    def add(self, found: int, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        if self.over:
            return
        if self.calls.count != self.forward:  # modules that have no hook of their own
            self.forward = self.calls.count
            self.places.clear()
        name, module = self.modules[found]
        place = self.places[found]
        self.places[found] += 1
        order = self.orders.get(found, [])
        place = order[place] if place < len(order) else place
        row = AttentionCall(name, place, query.shape[1], key.shape[1], query.shape[2], key.shape[2], query.shape[0], mask is not None,
                            max(0, self.calls.count - 1), self.calls.active)  # fmt: skip
        self.rows.append(self.ruled(row, name, module, self.images.get(found, {}).get(place)))

    def ruled(self, row: AttentionCall, name: str, module: Any, image: str | None) -> AttentionCall:
        """The row with what the rule finds, or why there is nothing."""
        finder = self.finder
        if not attends(name, module):
            return replace(row, why="unknown: no module that the tracer knows as attention")
        if finder.reference == "auto" and finder.family is None and not finder.is_unet and not ldm.is_ldm(module):
            return replace(row, why=f"unknown: no family knows {type(finder.denoiser).__name__}")
        if not finder.usable(name, module, self.words):
            return replace(row, why="left out: neither a reference nor a prompt that was asked for enters this layer")
        seen = Seen(name, module, row.index, row.queries, row.keys, self.calls.inputs, image, finder.denoiser, finder.pipe,
                    self.calls.ahead)  # fmt: skip
        try:
            tokens = self.placed(finder.rule(seen), seen)
        except Exception as error:  # a rule of the user's own may fail in any way
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            return replace(row, why=f"{self.whose_rule(name)} fails: {kind}{str(error).removeprefix('i2am: ')}")
        why = self.whose_rule(name) + ("" if tokens else " finds nothing here that could be recorded")
        return replace(row, tokens=tuple(tokens), why=why)

    def placed(self, found: Any, seen: Seen) -> list[Tokens]:
        """As a trace records them: without words unless asked, with the latent's grid."""
        tokens = several(found)
        if not self.words:
            tokens = [replace(one, words=None) for one in tokens if one.reference is not None]
        for one in tokens:
            for what, part, count in (
                ("keys", one.reference, seen.keys),
                ("keys", one.words, seen.keys),
                ("queries", one.generated, seen.queries),
            ):
                if part is not None and not 0 <= part[0] < part[1] <= count:
                    raise ValueError(f"i2am: {what} {part[0]}:{part[1]} do not lie in the call, which has {count}.")
        return [with_generated_grid(one, seen) for one in tokens]

    def whose_rule(self, name: str) -> str:
        """Who says what a call holds."""
        finder = self.finder
        if callable(finder.reference):
            return f"the rule {getattr(finder.reference, '__name__', type(finder.reference).__name__)}"
        if finder.reference != "auto":
            return f'reference="{finder.reference}"'
        return f"the family {finder.family.name}" if finder.family is not None else "what is known of UNets"

    # What is told

    def told(self, inputs: dict[str, str], error: Exception | None) -> Explanation:
        finder = self.finder
        family = finder.family
        known = (f"the family {family.name}; keys: {family.order}" if family is not None else
                 "a UNet" if finder.is_unet else "no family knows it, so the order of its tokens is not known")  # fmt: skip
        layout, guidance = self.layout()
        rows = [replace(row, conditional=self.conditional(row, layout)) for row in self.rows]
        heard = {row.layer for row in rows}
        return Explanation(type(finder.owner).__name__, type(finder.denoiser).__name__, known, self.verdict(), rows, inputs, self.done,
                           self.count, guidance, tuple(name for name in self.entered if name not in heard), error)  # fmt: skip

    def verdict(self) -> str:
        refused = self.finder.refusal()
        if refused is not None:
            return f"a trace refuses it: {refused.replace(EXPLAIN, 'Write a rule: reference=lambda seen: i2am.Tokens(...).')}"
        if callable(self.finder.reference):
            return "its tokens are what your rule says"
        known = self.finder.known
        if self.finder.reference != "auto" or known is None:
            return f'traced with reference="{self.finder.reference}"'
        return f"{pipelines.VERDICTS[known.kind]}: {known.how}"

    def layout(self) -> tuple[Layout | None, str]:
        """Which rows a trace would take, as far as this call shows, and in words."""
        calls = self.calls
        if calls.trouble is not None:
            return None, f"conditional rows are not known: {calls.trouble}"
        if self.count is None or not self.rows:
            return None, "no step was counted, so conditional rows are not known"
        recorded = {row.rows for row in self.rows if row.active and row.tokens} or {row.rows for row in self.rows if row.active}
        if len(recorded) != 1:
            return None, f"conditional rows are not known: layers were called with batches of {sorted(recorded)} rows"
        total = recorded.pop()
        try:
            layout = final_layout(calls.layout, self.finder.owner, total, self.count, self.done, calls.named)
        except ValueError as error:
            return None, f"conditional rows are not known: {str(error).removeprefix('i2am: ')}"
        first, last = layout.rows(total)
        which = (
            " in the calls that the pipeline names conditional" if calls.named else f" of call {layout.call + 1}" if self.done > 1 else ""
        )
        return layout, f"conditional: rows {first}:{last} of {total}{which}"

    def conditional(self, row: AttentionCall, layout: Layout | None) -> tuple[int, int] | None:
        return layout.rows(row.rows) if layout is not None and row.active and row.rows % layout.blocks == 0 else None


class CallsThrough(Calls):
    """Counts the first step's calls, and lets those pass whose layout is not known."""

    trouble: str | None = None
    over = False

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.over:
            return
        try:
            super().before(module, args, kwargs)
        except ValueError as error:
            self.trouble = str(error).removeprefix("i2am: ")


class Look(sdpa.Tap):
    """An LDM layer, whose attention is told and computed as it is."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, causal: bool,
               scale: float | None, grouped: bool) -> Tensor:  # fmt: skip
        watch: Any = self.trace
        watch.add(id(self.module), query, key, mask)
        return sdpa.SDPA(query, key, value, mask, dropout, causal, scale=scale, enable_gqa=grouped)


def few_steps(pipe: Any, call: dict[str, Any]) -> dict[str, Any]:
    """The call with as few steps as it takes, unless it says how many."""
    known = inspect.signature(pipe.__call__).parameters
    said: Sequence[str] = ("num_inference_steps", "timesteps", "sigmas")
    if "num_inference_steps" not in known or any(call.get(name) is not None for name in said):
        return call
    strength = call.get("strength", known["strength"].default if "strength" in known else 1.0)  # of the steps, so much is run
    small = isinstance(strength, (int, float)) and 0 < strength < 1
    return {**call, "num_inference_steps": math.ceil(1 / strength) if small else 1}
