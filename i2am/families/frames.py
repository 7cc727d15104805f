"""Video: the generated picture has frames, and frames that were given stand among its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from i2am.common.checks import refuse
from i2am.families.family import EXPLAIN, Block, cells, generated, total
from i2am.maps.tokens import Seen


def patch_size(seen: Seen) -> tuple[int, int, int]:
    """How many latent frames, rows and columns make a token."""
    config: Any = seen.denoiser.config
    size = config.patch_size
    if isinstance(size, int):
        return getattr(config, "patch_size_t", None) or 1, size, size
    frames, height, width = size
    return frames, height, width


def video_grid(seen: Seen, name: str = "hidden_states", axes: tuple[int, int, int] = (2, 3, 4)) -> tuple[int, int, int]:
    """(frames, height, width) in tokens of one of the denoiser's inputs, whose frames, rows and columns are these axes."""
    shape, patch = seen.inputs[name].shape, patch_size(seen)
    frames, height, width = (shape[axis] // patch[i] for i, axis in enumerate(axes))
    return frames, height, width


def still(count: int, size: Sequence[int], source: str = "") -> Block:
    """Given frames of this (height, width): one is a picture, several a video."""
    grid = (size[0], size[1]) if count == 1 else (count, size[0], size[1])
    return Block("reference", cells(grid), grid, source=source)


def behind(blocks: Sequence[Block], grid: tuple[int, int, int]) -> list[Block]:
    """The video's tokens: frames that were given, then the rest of its frames, which are generated."""
    frames, height, width = grid
    given = total(blocks) // (height * width)
    return [*blocks, generated((frames - given, height, width))]


def asking(blocks: Sequence[Block]) -> list[Block]:
    """The same blocks as queries of a call whose keys lie elsewhere."""
    return [replace(block, kind="given") if block.kind == "reference" else block for block in blocks]


def leading(seen: Seen, given: Tensor) -> int:
    """How many frames were given, from [rows, frames]: they must be the first ones, and the same in every row."""
    same = bool((given == given[:1]).all())
    count = int(given[0].long().cumprod(0).sum())
    if not same or count != int(given[0].sum()) or count == given.shape[1]:
        refuse(f"the given frames of {seen.layer}", "the first ones, with others behind them, in every row of the batch",
               given.long().tolist(), EXPLAIN)  # fmt: skip
    return count


def held_back(times: Tensor, frames: int) -> Tensor:
    """[rows, frames]: where every token of a frame is at an earlier time than the noisiest of its row, it is given and not generated.
    times: [rows, frames * tokens of a frame]."""
    times = times.flatten(1)
    return (times < times.amax(1, keepdim=True)).unflatten(1, (frames, -1)).all(2)


def features(count: int, source: str = "") -> Block:
    """An image encoder's tokens: CLIP's square grid behind a CLS token, SigLIP's square grid, or no grid."""
    for special in (1, 0):
        side = round((count - special) ** 0.5)
        if count > special and side * side == count - special:
            return Block("reference", count, (side, side), special, source)
    return Block("reference", count, source=source)


def given(seen: Seen, name: str) -> bool:
    """Whether the denoiser was called with these frames."""
    return isinstance(seen.inputs.get(name), Tensor) and seen.inputs.get(f"indices_{name}") is not None


def history(seen: Seen, shrunk: dict[str, tuple[int, int, int]]) -> list[Block]:
    """The frames of the history that were given, padded to whole tokens of so many latent cells, in this order."""
    return [
        Block("history", cells(tuple(-(-side // each) for side, each in zip(seen.inputs[name].shape[2:], cell))))
        for name, cell in shrunk.items()
        if given(seen, name)
    ]
