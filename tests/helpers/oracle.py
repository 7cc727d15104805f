"""The truth about a run: every attention call is stored whole, in float64, and the maps are made from it with plain softmaxes.

It knows nothing of i2am. A module with a processor is a layer; its calls are seen where they pass through torch's
scaled_dot_product_attention (a key head that serves several query heads is stored once for each), or, for LDM-style modules
without a processor, as what their `to_q` and `to_k` return.

    with recorded(pipe.unet, pipe.scheduler) as calls:
        pipe(...)
    r2g, g2r = truth(of(calls, "mid_block.attentions.0.transformer_blocks.0.attn2"), rows=slice(1, 2), groups=5)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = -(2.0**24)  # a mask's value at or below this hides a key
PROJECTED = ("to_q", "to_k", "to_v")
Range = tuple[int, int]


@dataclass
class Call:
    """One attention call. `number` counts the layer's calls within one of its forwards, `pass_` the denoiser's within a step."""

    layer: str
    number: int
    pass_: int
    step: int
    query: Tensor  # [B, H, G, D], float64
    key: Tensor  # [B, H, R, D], float64
    mask: Tensor | None  # additive, broadcast over [B, H, G, R], float64
    scale: float
    dtype: torch.dtype  # the query's own
    value: Tensor | None = None  # [B, H, R, D], float64

    @property
    def scores(self) -> Tensor:
        scores = self.query @ self.key.mT * self.scale
        return scores if self.mask is None else scores + self.mask


class Watch:
    """Where the model is while it runs."""

    def __init__(self, keep: Callable[[str], bool]) -> None:
        self.keep, self.calls = keep, list[Call]()
        self.step, self.pass_ = 0, -1
        self.within: list[list[Any]] = []  # [layer, calls so far] of the modules that are running, outermost first
        self.projected: dict[str, Tensor] = {}

    def add(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> None:
        layer, number = self.within[-1]
        self.within[-1][1] += 1
        if not self.keep(layer):
            return
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=torch.float64, device=mask.device).masked_fill(~mask, -torch.inf)
        elif mask is not None:
            mask = mask.double().clone()
            mask = mask.masked_fill(mask <= HIDDEN, -torch.inf)
        scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
        query64, key64, value64 = (states.detach().double().clone() for states in (query, key, value))
        self.calls.append(Call(layer, number, self.pass_, self.step, query64, key64, mask, scale, query.dtype, value64))

    def enter(self, name: str, *_: Any) -> None:
        self.within.append([name, 0])

    def leave(self, *_: Any) -> None:
        self.within.pop()

    def project(self, what: str, module: nn.Module, args: Any, output: Tensor) -> None:
        self.projected[what] = output

    def leave_ldm(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """An LDM-style module is done: its one call is what it projected."""
        query, key, value = (self.projected[what].unflatten(-1, (module.heads, -1)).transpose(1, 2) for what in PROJECTED)
        mask = kwargs.get("mask", args[2] if len(args) > 2 else None)
        if mask is not None:
            mask = mask.flatten(1).bool()[:, None, None]
        self.add(query, key, value, mask, getattr(module, "scale", None))
        self.leave()

    def denoiser(self, *_: Any) -> None:
        self.pass_ += 1


@contextmanager
def recorded(denoiser: nn.Module, scheduler: Any, keep: Callable[[str], bool] = lambda name: True) -> Iterator[list[Call]]:
    """Record the attention calls of the denoiser's layers that `keep` wants.

    `scheduler` is whatever ends a step: it has `step`, or is an LDM sampler with `p_sample_ddim`.
    """
    watch = Watch(keep)
    original = F.scaled_dot_product_attention

    @wraps(original)
    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **rest: Any,
    ) -> Tensor:
        if watch.within:
            assert not dropout_p, "a map of dropped-out attention has no meaning"
            assert not is_causal, "no denoiser attends causally"
            each = query.shape[1] // key.shape[1] if rest.get("enable_gqa") else 1
            watch.add(query, *(states.repeat_interleave(each, 1) for states in (key, value)), attn_mask, scale)
        return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rest)

    with ExitStack() as undo:
        undo.callback(setattr, F, "scaled_dot_product_attention", original)
        F.scaled_dot_product_attention = attention
        end_of_step(scheduler, watch, undo)
        undo.callback(denoiser.register_forward_pre_hook(watch.denoiser).remove)
        for name, module in denoiser.named_modules():
            if not (callable(getattr(module, "processor", None)) or all(hasattr(module, what) for what in PROJECTED)):
                continue
            hooks = [module.register_forward_pre_hook(partial(watch.enter, name))]
            if hasattr(module, "processor"):
                hooks.append(module.register_forward_hook(watch.leave))
            else:
                hooks += [getattr(module, what).register_forward_hook(partial(watch.project, what)) for what in PROJECTED]
                hooks.append(module.register_forward_hook(watch.leave_ldm, with_kwargs=True))
            for hook in hooks:
                undo.callback(hook.remove)
        yield watch.calls


def end_of_step(scheduler: Any, watch: Watch, undo: ExitStack) -> None:
    """Count steps: on the instance, as pipelines look at the signature."""
    name = "step" if hasattr(scheduler, "step") else "p_sample_ddim"
    original = getattr(scheduler, name)

    @wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        watch.step, watch.pass_ = watch.step + 1, -1
        return out

    if name in vars(scheduler):
        undo.callback(setattr, scheduler, name, original)
    else:
        undo.callback(delattr, scheduler, name)
    setattr(scheduler, name, counted)


def of(calls: Sequence[Call], layer: str, number: int = 0, pass_: int = 0) -> list[Call]:
    """One layer's calls, one a step; `pass_` is the denoiser's call within the step (the conditional one, where it is called twice)."""
    found = [call for call in calls if (call.layer, call.number, call.pass_) == (layer, number, pass_)]
    assert found, f"no call {number} of {layer} in pass {pass_}; seen: {sorted({call.layer for call in calls})}"
    assert [call.step for call in found] == list(range(len(found))), "a step without a call, or with two"
    return found


def layers(calls: Sequence[Call], ending: str = "") -> list[str]:
    """The names of the layers that were called, in their order."""
    return list(dict.fromkeys(call.layer for call in calls if call.layer.endswith(ending)))


def probabilities(call: Call, generated: Range | None = None, reference: Range | None = None) -> tuple[Tensor, Tensor]:
    """P: softmax over all keys, then the ranges. C: the ranges' scores, then softmax over the generated range. [B, H, G, R]"""
    scores = call.scores
    rows, columns = slice(*(generated or (None,))), slice(*(reference or (None,)))
    seen = scores[..., rows, columns]
    # a line of hidden scores alone spreads nothing
    return scores.softmax(-1).nan_to_num(0.0)[..., rows, columns], seen.softmax(-2).nan_to_num(0.0)


def longest(calls: Sequence[Call]) -> int:
    """The terms of the longest sum on the way to a map: of a score, over the keys, the queries, or the steps."""
    return max(len(calls), *(max(*call.query.shape[2:], call.key.shape[2]) for call in calls))


def group(step: int, groups: int, steps: int) -> int:
    return step * groups // steps


def weights(given: Tensor | None, count: int, batch: int) -> Tensor:
    """[B, n, count]; the default is one line of 1 / count. Given: [count], [n, count] or [B, n, count]."""
    if given is None:
        return torch.full((batch, 1, count), 1 / count, dtype=torch.float64)
    given = given.double()
    given = given[None] if given.ndim == 1 else given
    return given.expand(batch, *given.shape[-2:])


def truth(
    calls: Sequence[Call],
    rows: slice = slice(None),
    generated: Range | None = None,
    reference: Range | None = None,
    generated_weight: Tensor | None = None,
    reference_weight: Tensor | None = None,
    groups: int = 1,
    steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer's maps (`calls` from `of`), added up by time group: r2g [B, groups, H, G] and g2r [B, groups, H, n, R]."""
    steps = steps or len(calls)
    r2g: list[Any] = [0.0] * groups
    g2r: list[Any] = [0.0] * groups
    for call in calls:
        p, c = (values[rows] for values in probabilities(call, generated, reference))
        batch, place = p.shape[0], group(call.step, groups, steps)
        across = weights(generated_weight, p.shape[-2], batch)[:, None].to(p)  # [B, 1, n, G]
        down = weights(reference_weight, p.shape[-1], batch)[:, None].to(p)  # [B, 1, 1, R]
        assert down.shape[2] == 1, "one weighting of the reference"
        g2r[place] = g2r[place] + across @ p
        r2g[place] = r2g[place] + (c @ down.mT).squeeze(-1)
    empty = 0 * next(value for value in r2g if isinstance(value, Tensor)), 0 * next(value for value in g2r if isinstance(value, Tensor))
    return torch.stack([empty[0] + value for value in r2g], 1), torch.stack([empty[1] + value for value in g2r], 1)


def word_maps(
    calls: Sequence[Call],
    rows: slice = slice(None),
    generated: Range | None = None,
    words: Range | None = None,
    tokens: Sequence[int] | None = None,
    groups: int = 1,
    steps: int | None = None,
) -> Tensor:
    """P's columns of one layer, [B, groups, H, tokens, G]; `tokens` count from the start of the range `words`."""
    steps = steps or len(calls)
    out: list[Any] = [0.0] * groups
    for call in calls:
        p, _ = probabilities(call, generated, words)
        columns = p[rows].mT if tokens is None else p[rows].mT[..., list(tokens), :]
        out[group(call.step, groups, steps)] = out[group(call.step, groups, steps)] + columns
    empty = 0 * next(value for value in out if isinstance(value, Tensor))
    return torch.stack([empty + value for value in out], 1)


def moments(grid: Range, special: int = 0) -> Tensor:
    """[special + h * w, 6] float64: 1, y, x, y^2, yx, x^2 of each cell's centre in cells; nothing of special tokens."""
    places = [[row + 0.5, column + 0.5] for row in range(grid[0]) for column in range(grid[1])]
    lines = [[0.0] * 6] * special + [[1.0, y, x, y * y, y * x, x * x] for y, x in places]
    return torch.tensor(lines, dtype=torch.float64)


def fields(
    calls: Sequence[Call],
    generated_grid: Range,
    reference_grid: Range,
    special: int = 0,
    rows: slice = slice(None),
    generated: Range | None = None,
    reference: Range | None = None,
    groups: int = 1,
    steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer's moments: of P on the reference, [B, groups, H, 6, G], and of C on the generated image, [B, groups, H, 6, R]."""
    steps = steps or len(calls)
    landing: list[Any] = [0.0] * groups
    leaving: list[Any] = [0.0] * groups
    there, back = moments(reference_grid, special), moments(generated_grid)
    for call in calls:
        p, c = (values[rows] for values in probabilities(call, generated, reference))
        place = group(call.step, groups, steps)
        landing[place] = landing[place] + (p @ there.to(p)).mT
        leaving[place] = leaving[place] + back.mT.to(c) @ c
    return torch.stack(landing, 1), torch.stack(leaving, 1)


def level(name: str, buffers: Sequence[Tensor], size: Range) -> Tensor:
    """`buffers`: [B, groups, H, h, w] of each layer. Sum over the steps, resize each (layer, head), clamp, mean.

    unified [B, *size], time [B, groups, *size], head [B, H, *size], layer [B, layers, *size]. The mean is over (layer, head)
    pairs, so a layer with more heads counts for more.
    """
    resized = [resize(buffer if name == "time" else buffer.sum(1, keepdim=True), size) for buffer in buffers]
    if name == "layer":
        return torch.stack([maps[:, 0].mean(1) for maps in resized], 1)
    if name == "head":
        return torch.stack([maps[:, 0] for maps in resized]).mean(0)
    together = torch.cat(resized, 2).mean(2)
    return together if name == "time" else together[:, 0]


def resize(maps: Tensor, size: Range) -> Tensor:
    """Each map by itself, [..., h, w] to [..., *size]: bicubic, then nothing below 0."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    flat = F.interpolate(flat, size=size, mode="bicubic", align_corners=False, antialias=False).clamp(min=0)
    return flat.reshape(*maps.shape[:-2], *size)
