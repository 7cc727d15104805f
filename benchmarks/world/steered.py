"""What does steering win, and what does it cost? The small try-on model on held-out pairs: `python -m benchmarks.world.steered --count 32`.

    g2r  the mass of the reference's map into the left half of the garment's picture, which nothing in the world asks for
    r2g  the mass of the generated map into the inpainting mask

Each picture is made from the same noise at every strength; strength 0 is the picture as it was. The share of the mass inside of the region
is the mean over the run's steps, that of the last step, and, as moves may please the next call of the denoiser alone, that of the finished
picture under noise that no gradient has touched. Rows go to benchmarks/results/small-world.jsonl, a picture to docs/steered.jpg.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

import i2am
from benchmarks.measuring.rows import SMALL_WORLD, Row, Writer, environment
from benchmarks.world.plots import plots
from benchmarks.world.pointing import HELD_OUT, noise, paint
from benchmarks.world.tables import ROOT
from i2am.data.synthetic import Pairs, draw, unit
from i2am.losses import mass_outside
from i2am.models.pixels import PATCH, patches
from i2am.models.small import WEIGHTS, SmallTryOnPipeline, load
from i2am.models.small.encoder import known
from i2am.score.similarity import ssim
from i2am.show.pictures import overlay

DIRECTIONS = ("g2r", "r2g")
STRENGTHS = (0.0, 0.1, 0.3, 1.0)
POINTS = "up_blocks.1.attentions.1*"  # the layer that points
AGAIN = 100  # the timestep whose noise the finished picture gets: half of what the denoiser sees, as in the last of 10 steps
SHARES = {"share": "of all steps", "share_last": "in the last", "share_again": "looked at again"}
DRAWN = 2  # pairs in the picture, for each direction


def region(pairs: Pairs, direction: str) -> Tensor:
    """[B, h, w]: where the mass is pushed."""
    if direction == "r2g":
        return pairs.mask.float()
    left = torch.zeros(pairs.mask.shape)
    left[..., : left.shape[-1] // 2] = 1
    return left


class Steered:
    """A batch at one strength: its pictures, the share of the mass inside at every step, and the maps."""

    def __init__(
        self, pipe: SmallTryOnPipeline, pairs: Pairs, first: int, direction: str, strength: float, layers: str, steps: int, guidance: float
    ) -> None:
        inside, maps = region(pairs, direction), []

        def loss(found: i2am.AttributionMaps) -> Tensor:
            maps.append(found.unified(direction).detach())
            return mass_outside(found, inside, direction)

        began = time.perf_counter()
        with i2am.steer(pipe, loss, strength=strength, layers=layers) as run:
            self.images = paint(pipe, pairs, unit(pairs.garment), first, steps, guidance)
        self.seconds = time.perf_counter() - began
        self.shares = 1 - torch.stack(run.losses)  # [steps, B]
        self.maps = torch.stack(maps).mean(0)  # [B, h, w]
        self.again = 1 - looked_again(pipe, pairs, self.images, first, direction, layers)  # [B]

    def row(self, pairs: Pairs, plain: Tensor) -> dict[str, Tensor]:
        """[B] of everything."""
        mask = pairs.mask.float()
        return {
            "share": self.shares.mean(0), "share_last": self.shares[-1], "share_again": self.again,
            "ssim_mask": ssim(self.images, unit(pairs.person), mask), "ssim_plain": ssim(self.images, plain, mask),
            "seconds": torch.full((len(pairs),), self.seconds / len(pairs)),
        }  # fmt: skip


def looked_again(pipe: SmallTryOnPipeline, pairs: Pairs, images: Tensor, first: int, direction: str, layers: str) -> Tensor:
    """[B] the mass outside when the denoiser sees the finished pictures under new noise."""
    clean = patches(images * 2 - 1)
    new = torch.cat([torch.randn(clean[:1].shape, generator=one) for one in noise(10_000 + first, len(pairs))])
    kept = pipe.scheduler.alphas_cumprod[AGAIN]
    inside = torch.nn.functional.avg_pool2d(pairs.mask[:, None].float(), PATCH)
    noisy = torch.cat([kept.sqrt() * clean + (1 - kept).sqrt() * new, known(pairs.agnostic, inside, pairs.densepose)], 1)
    grid, special = pipe.reference_tokens
    with i2am.trace(pipe.unet, differentiable=True, layers=layers, reference_grid=grid, special=special) as run:
        pipe.unet(noisy, torch.tensor(AGAIN), encoder_hidden_states=pipe.garment_encoder(pairs.garment))
    return mass_outside(run.maps, region(pairs, direction), direction).detach()


def drawn(pages: dict[str, dict[float, tuple[Tensor, list[object]]]], pairs: Pairs, path: Path) -> None:
    """The person and the garment, then the pictures and the maps at every strength, a row a pair and direction."""
    plt = plots()
    strengths = list(pages[DIRECTIONS[0]])
    rows = [(direction, i) for direction in pages for i in range(len(pages[direction][strengths[0]][0]))]
    figure, axes = plt.subplots(
        len(rows), 2 + 2 * len(strengths), figsize=(1.25 * (2 + 2 * len(strengths)), 1.85 * len(rows)), layout="constrained"
    )
    for line, (direction, i) in zip(axes, rows):
        found = [unit(pairs.person)[i], unit(pairs.garment)[i], *(pages[direction][s][0][i] for s in strengths)]
        shown = [picture.permute(1, 2, 0).numpy() for picture in found] + [pages[direction][s][1][i] for s in strengths]
        names = ["the truth", "garment", *(f"strength {s:g}" for s in strengths), *(f"{direction} map, {s:g}" for s in strengths)]
        for side, picture, name in zip(line, shown, names):
            side.imshow(picture)
            side.set_title(name, fontsize=8)
            side.axis("off")
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 85})
    plt.close(figure)


def overlaid(runs: Sequence[Steered], pairs: Pairs, direction: str) -> dict[int, list[object]]:
    """The maps of every run over their own canvas, each pair's on one scale."""
    pages: dict[int, list[object]] = {i: [] for i in range(len(runs))}
    for image in range(min(DRAWN, len(pairs))):
        canvas = [unit(pairs.garment)[image] if direction == "g2r" else run.images[image] for run in runs]
        maps = torch.stack([run.maps[image] for run in runs])
        for i, page in enumerate(overlay(torch.stack(canvas), maps, scale="shared")):
            pages[i].append(page)
    return pages


def main(words: Sequence[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks.world.steered", description=__doc__, formatter_class=raw)
    parser.add_argument("--weights", help="a pipeline's folder; default: the shipped model")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS, help="the first is what the others are compared with")
    parser.add_argument("--layers", default=POINTS, help="the layers whose maps are pushed; default: %(default)s")
    parser.add_argument("--out", type=Path, default=SMALL_WORLD)
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "steered.jpg")
    given = parser.parse_args(words)
    pipe = load(given.weights or WEIGHTS)
    pipe.set_progress_bar_config(disable=True)
    found: dict[tuple[str, float], list[dict[str, Tensor]]] = {}
    plain_seconds, shown = 0.0, {}
    for first in tqdm(range(0, given.count, given.batch), desc="steering", unit="batch"):
        pairs = draw(min(given.batch, given.count - first), seed=HELD_OUT, first=first, size=pipe.size)
        began = time.perf_counter()
        plain = paint(pipe, pairs, unit(pairs.garment), first, given.steps, given.guidance)
        plain_seconds += (time.perf_counter() - began) / given.count
        for direction in DIRECTIONS:
            runs = [Steered(pipe, pairs, first, direction, s, given.layers, given.steps, given.guidance) for s in given.strengths]
            for strength, run in zip(given.strengths, runs):
                found.setdefault((direction, strength), []).append(run.row(pairs, plain))
            if not first:
                maps = overlaid(runs, pairs, direction)
                shown[direction] = {s: (run.images[:DRAWN], maps[i]) for i, (s, run) in enumerate(zip(given.strengths, runs))}
                head = pairs
    rows = Writer(given.out, environment(torch.device("cpu")))
    for (direction, strength), parts in found.items():
        means: Row = {key: torch.cat([part[key] for part in parts]).mean().item() for key in parts[0]}
        rows.write({"benchmark": "steered", "pairs": given.count, "steps": given.steps, "guidance": given.guidance, "layers": given.layers,
                    "weights": given.weights or "shipped", "direction": direction, "strength": strength, "plain_seconds": plain_seconds,
                    **means})  # fmt: skip
        shares = ", ".join(f"{name} {means[key]:.1%}" for key, name in SHARES.items())
        print(f"{direction}, strength {strength:g}: mass inside {shares}; SSIM in the mask {means['ssim_mask']:.3f}; "
              f"{means['seconds']:.2f} s a picture, plain {plain_seconds:.2f} s")  # fmt: skip
    rows.close()
    drawn(shown, head, given.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
