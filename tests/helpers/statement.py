"""The recorder's sums written out: full attention matrices, one image and one head at a time, in any precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from tolerance import exponents
from torch import Tensor

from i2am import Recorder, cells

Grid = tuple[int, int]
KINDS = ("r2g", "g2r", "specific", "words")


class Layer(NamedTuple):
    grid: Grid
    reference: Grid
    special: int
    heads: int
    size: int
    before: tuple[int, int] = (0, 0)  # queries and keys ahead of the recorded ones
    words: tuple[int, int] | None = None
    after: int = 0  # queries and keys behind

    @property
    def generated(self) -> tuple[int, int]:
        return self.before[0], self.before[0] + self.grid[0] * self.grid[1]

    @property
    def keys(self) -> tuple[int, int]:
        return self.before[1], self.before[1] + self.special + self.reference[0] * self.reference[1]


PLAIN = {
    "down.0": Layer((6, 4), (5, 3), 1, 2, 8),
    "mid": Layer((3, 2), (5, 3), 1, 3, 40),
    "up.0": Layer((12, 7), (9, 7), 0, 2, 16),
    "pooled": Layer((6, 4), (1, 1), 0, 2, 8),  # a reference of one token
}
JOINT = {  # words before and behind the reference; other tokens between and around them
    "joint": Layer((6, 4), (5, 3), 2, 2, 8, before=(5, 12), words=(2, 9), after=4),
    "behind": Layer((3, 5), (4, 2), 0, 3, 16, before=(0, 2), words=(11, 14), after=6),
}


@dataclass
class Run:
    """What a run is made of; `how` holds keywords of attend that are the same for every call."""

    layers: dict[str, Layer]
    options: dict[str, Any]
    how: dict[str, Any] = field(default_factory=dict)
    blocks: int = 1  # of guidance; the last one is recorded
    hidden: bool = False


class Call(NamedTuple):
    layer: str
    group: int
    query: Tensor
    key: Tensor
    how: dict[str, Any]


def play(run: Run, batch: int, dtype: torch.dtype) -> tuple[Recorder, list[Call]]:
    """Random calls: the recorder, and what it saw."""
    recorder, calls = Recorder(**run.options), list[Call]()
    steps, total = run.options.get("steps", 2), batch * run.blocks
    for step in range(steps):
        for name, layer in run.layers.items():
            queries, keys = layer.generated[1] + layer.after, layer.keys[1] + layer.after
            query = (torch.randn(total, layer.heads, queries, layer.size) * 2).to(dtype)
            key, value = (torch.randn(total, layer.heads, keys, layer.size).to(dtype) for _ in range(2))
            how: dict[str, Any] = {**run.how, "rows": (total - batch, total)}
            if layer.after:
                how.update(generated=layer.generated, reference=layer.keys, words=layer.words)
            if run.hidden:
                how["attn_mask"] = torch.rand(total, 1, queries, keys) > 0.2
            recorder.attend(name, query, key, value, generated_grid=layer.grid, reference_grid=layer.reference,
                            special=layer.special, **how)  # fmt: skip
            calls.append(Call(name, step * run.options["groups"] // steps, query.cpu(), key.cpu(), how))
        recorder.step()
    return recorder, calls


def nearest(mask: Tensor, grid: Grid) -> Tensor:
    rows, columns = ([i * size // count for i in range(count)] for size, count in zip(mask.shape, grid))
    return torch.tensor([[float(mask[i, j]) for j in columns] for i in rows], dtype=torch.float64, device="cpu").flatten()


def weighting(region: Any, grid: Grid, image: int, images: int) -> Tensor:
    """One region on one image's grid."""
    if isinstance(region, Tensor):
        masks = region if region.ndim == 3 else region[None]
        return nearest(masks[image * len(masks) // images], grid)
    height, width = grid
    inside = torch.zeros(grid, dtype=torch.float64, device="cpu")
    for i in range(height if len(region) == 4 else 0):
        for j in range(width):
            y, x = (i + 0.5) / height, (j + 0.5) / width
            inside[i, j] = region[0] <= y < region[2] and region[1] <= x < region[3]
    if not inside.any():
        y, x = region if len(region) == 2 else ((region[0] + region[2]) / 2, (region[1] + region[3]) / 2)
        inside[min(int(y * height), height - 1), min(int(x * width), width - 1)] = 1
    return inside.flatten()


def weights(run: Run, layer: Layer, image: int, images: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """wq, wk and the regions' rows of one image."""
    canvas, count = layer.grid[0] * layer.grid[1], layer.keys[1] - layer.keys[0]
    mask, reference, regions = (run.options.get(name) for name in ("generated_mask", "reference_mask", "specific"))
    wq, wk = (torch.ones(size, dtype=torch.float64, device="cpu") for size in (canvas, count))
    if mask is not None:
        wq = weighting(mask, layer.grid, image, images)
    if reference is not None and count > 1:
        wk[: layer.special] = 0
        wk[layer.special :] = weighting(reference, layer.reference, image, images)
    regions = cells(8, 5) if regions == "grid" else regions or []  # 6 x 4: eight along the longer side
    return wq / canvas, wk / count, [weighting(region, layer.grid, image, images) for region in regions]


def statement(run: Run, calls: list[Call], dtype: torch.dtype) -> tuple[dict[tuple[str, str], Tensor], float]:
    """{(layer, map): [B, groups, heads, (n,) tokens]}, and the largest exponent of the weights in log2 units."""
    sums, largest, known = dict[tuple[str, str], Tensor](), 0.0, dict[tuple[str, int], Any]()
    for name, group, query, key, how in calls:
        layer, (first, last) = run.layers[name], how["rows"]
        (g0, g1), (r0, r1) = layer.generated, layer.keys
        for image in range(last - first):
            if (name, image) not in known:
                known[name, image] = weights(run, layer, image, last - first)
            wq, wk, picked = known[name, image]
            for head in range(layer.heads):
                scores = query[first + image, head].to(dtype) @ key[first + image, head].to(dtype).T * how.get("scale", layer.size**-0.5)
                if "attn_mask" in how:
                    scores = scores.masked_fill(~how["attn_mask"][first + image, 0].cpu(), -torch.inf)
                forward, backward = scores.softmax(-1)[g0:g1], scores[g0:g1, r0:r1].softmax(0)
                largest = max(largest, exponents(scores, scores[g0:g1]))
                parts = {"r2g": backward @ wk.to(dtype)}
                if r1 - r0 > 1:
                    parts["g2r"] = wq.to(dtype) @ forward[:, r0:r1]
                if r1 - r0 > 1 and picked:
                    parts["specific"] = torch.stack([weight.to(dtype) @ forward[:, r0:r1] for weight in picked])
                if layer.words:
                    parts["words"] = forward[:, slice(*layer.words)].T
                for kind, part in parts.items():
                    shape = (last - first, run.options["groups"], layer.heads, *part.shape)
                    total = sums.setdefault((name, kind), torch.zeros(shape, dtype=dtype, device="cpu"))
                    total[image, group, head] += part
    return sums, largest
