"""Maps of a correspondence that is known: `python -m benchmarks.demo FOLDER` (`make demo`).

A striped reference is folded so that only its left two thirds are worn, bent onto an oval in a generated image, and both
are given smooth random features that agree where they show the same spot. No model is run: this shows what the operator
adds up, on 4:3 grids of 64x48 like a try-on UNet's finest layer, against the truth and against the eager way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

import i2am
from i2am.pictures import animate, levels
from i2am_kernels import bi_attention

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HEIGHT, WIDTH, HEADS, SIZE = 64, 48, 8, 64
SPOT = (26, 18)  # a generated patch whose source is asked for


def pixels() -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    return rows, columns


def correspondence() -> tuple[Tensor, Tensor]:
    """The reference position (row, column in 0..1) of each generated pixel [H, W, 2], and where the garment is [H, W]."""
    rows, columns = pixels()
    inside = ((rows - 0.55) / 0.36) ** 2 + ((columns - 0.5) / 0.34) ** 2 < 1
    source_row = 0.95 * (rows - 0.19) / 0.72 + 0.03 * torch.sin(3 * columns)
    source_column = 0.66 * (columns - 0.16) / 0.68 + 0.04 * torch.sin(5 * rows)
    return torch.stack([source_row, source_column], -1).clamp(0, 1), inside


def features(positions: Tensor, heads: int) -> Tensor:
    """Smooth random features [1, heads, ..., SIZE] whose products fall off with the distance between positions."""
    generator = torch.Generator().manual_seed(0)
    frequency = torch.randn(heads, 2, SIZE // 2, generator=generator) * 22
    angle = torch.einsum("nc,hcf->hnf", positions.reshape(-1, 2), frequency)
    return torch.cat([angle.sin(), angle.cos()], -1)[None] * (16 / SIZE) ** 0.5


def colours(positions: Tensor) -> np.ndarray:
    """The reference's stripes and patch at a position."""
    row, column = positions.unbind(-1)
    stripe = (torch.floor(row * 9) % 2)[..., None]
    picture = stripe * torch.tensor([0.13, 0.32, 0.55]) + (1 - stripe) * torch.tensor([0.93, 0.86, 0.72])
    badge = ((row - 0.35) ** 2 + (column - 0.28) ** 2 < 0.012)[..., None]
    return torch.where(badge, torch.tensor([0.80, 0.22, 0.20]), picture).numpy()


def run(source: Tensor, inside: Tensor) -> i2am.AttributionMaps:
    """Ten steps of three layers, coarse to fine; later steps and finer layers point more sharply, and heads differ."""
    recorder = i2am.Recorder(groups=5, steps=10, generated_mask=inside.float(), specific=[(SPOT[0] / HEIGHT, SPOT[1] / WIDTH)])
    places = torch.stack(pixels(), -1)
    heads = torch.linspace(0.55, 1.2, 4)[:, None, None]
    for step in range(10):
        for name, level in (("mid", 4), ("up_1", 2), ("up_2", 1)):
            part = (slice(level // 2, None, level), slice(level // 2, None, level))
            noise = torch.randn(1, 4, source[part].shape[0] * source[part].shape[1], SIZE, generator=torch.Generator().manual_seed(step))
            worn = inside[part].flatten()[None, None, :, None]
            query = torch.where(worn, features(source[part], 4), 0.1 * noise) * (0.35 + 0.06 * step) * heads * (SIZE / level) ** 0.5
            key = features(places[part], 4)
            canvas = (HEIGHT // level, WIDTH // level)
            recorder.attend(name, query, key, key, generated_grid=canvas, reference_grid=canvas)
        recorder.step()
    return recorder.maps


def eager(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """What a hook computes today: the whole matrix, twice."""
    scores = query @ key.transpose(-1, -2) * SIZE**-0.5
    rowwise = scores.softmax(-1)
    _ = rowwise @ value
    return scores.softmax(-2).mean(-1), rowwise.mean(-2)


def timed(function: Callable[[], object]) -> float:
    """Median seconds of five calls after one."""
    spent = []
    for _ in range(6):
        start = time.perf_counter()
        function()
        spent.append(time.perf_counter() - start)
    return sorted(spent[1:])[2]


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    source, inside = correspondence()
    reference_positions = torch.stack(pixels(), -1)
    outside = torch.randn(1, HEADS, HEIGHT * WIDTH, SIZE, generator=torch.Generator().manual_seed(1)) * 0.1
    query = torch.where(inside.flatten()[None, None, :, None], features(source, HEADS), outside) * SIZE**0.5
    key = features(reference_positions, HEADS)
    value = torch.randn(key.shape, generator=torch.Generator().manual_seed(2))

    tokens = HEIGHT * WIDTH
    weights = torch.zeros(1, 2, tokens)
    weights[0, 0] = inside.flatten() / tokens  # the inpainting mask
    weights[0, 1, SPOT[0] * WIDTH + SPOT[1]] = 1  # one patch
    r2g, g2r = torch.zeros(1, HEADS, tokens), torch.zeros(1, HEADS, 2, tokens)
    bi_attention(query, key, value, r2g=r2g, g2r=g2r, generated_weight=weights)

    generated = np.where(inside[..., None], colours(source), 0.82)
    used, specific = g2r.mean(1)[0].view(2, HEIGHT, WIDTH)
    found = divmod(int(specific.argmax()), WIDTH)
    truth = [round(float(x) * (n - 1)) for x, n in zip(source[SPOT], (HEIGHT, WIDTH))]
    worn = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    landed = (source[inside] * torch.tensor([HEIGHT - 1, WIDTH - 1])).round().long()
    worn[landed[:, 0], landed[:, 1]] = True
    acts = r2g.mean(1).view(HEIGHT, WIDTH)
    draw(folder / "maps.png", colours(reference_positions), generated, acts, used, specific, found)

    ours = timed(lambda: bi_attention(query, key, value, r2g=r2g, g2r=g2r[:, :, 0].contiguous()))
    plain = timed(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, value))
    whole = timed(lambda: eager(query, key, value))
    print(f"R2G: {acts[inside].sum() / acts.sum():.0%} of it lies on the garment, which covers {inside.float().mean():.0%} of the image")
    print(f"G2R: {used[worn].sum() / used.sum():.0%} of it lies on the worn part of the reference, {worn.float().mean():.0%} of it")
    print(f"patch {SPOT}: its map peaks at {found}, the truth is {tuple(truth)}")
    print(f"attention alone {plain * 1e3:.0f} ms, with both maps {ours * 1e3:.0f} ms, eager with both maps {whole * 1e3:.0f} ms")
    maps = run(source, inside)
    garment = torch.from_numpy(colours(reference_positions)).repeat_interleave(8, 0).repeat_interleave(8, 1).permute(2, 0, 1)
    levels(maps, "g2r", image=garment).save(folder / "levels.png")
    animate(garment, maps.time("g2r")[0], folder / "time.webp")
    print(f"the pictures: {', '.join(str(folder / name) for name in ('maps.png', 'levels.png', 'time.webp'))}")


def draw(
    path: Path, reference: np.ndarray, generated: np.ndarray, acts: Tensor, used: Tensor, specific: Tensor, found: tuple[int, int]
) -> None:
    figure, axes = plt.subplots(1, 5, figsize=(12.5, 4.1), layout="constrained")
    panels = (
        ("reference", reference, None), ("generated (warped reference)", generated, None),
        ("R2G: where the reference acts", generated, acts), ("G2R: what of it is used", reference, used),
        ("source of the marked patch", reference, specific),
    )  # fmt: skip
    for axis, (title, picture, overlay) in zip(axes, panels):
        axis.imshow(picture, interpolation="nearest")
        if overlay is not None:
            axis.imshow(overlay, cmap="inferno", alpha=0.75, interpolation="bicubic")
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[1].plot(SPOT[1], SPOT[0], "o", markersize=9, markerfacecolor="none", markeredgecolor="black", markeredgewidth=2)
    axes[4].plot(found[1], found[0], "o", markersize=9, markerfacecolor="none", markeredgecolor="cyan", markeredgewidth=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
