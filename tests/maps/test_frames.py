"""A canvas that is a video, against plain torch: every frame as a picture of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from i2am import AttributionMaps, Recorder, load, losses
from i2am.maps.layer_sums import LayerSums
from i2am.maps.prompt import Prompt
from i2am.score.detection import boxes
from i2am.score.imacs import imacs, scores

FRAMES, GRIDS = 3, ((3, 4, 2), (3, 5, 3))  # of two layers
REFERENCE = (2, 3)
PROMPT = Prompt("a b", ("a</w>", "b</w>"), (False, False))


def draw(*shape: int) -> Tensor:
    return torch.rand(shape, device="cpu").pow(4)  # peaked, so that bicubic falls below 0


def sums_of(layer: str, grid: tuple[int, ...], reference: tuple[int, ...] = REFERENCE, heads: int = 2) -> LayerSums:
    g, r = (torch.Size(size).numel() for size in (grid, reference))
    parts = draw(2, 2, heads, g), draw(2, 2, heads, r + 1), draw(2, 2, heads, 2, r + 1), draw(2, 2, heads, 2, g)
    return LayerSums(layer, "reference", grid, reference, 1, *parts)


def run_of(reference: tuple[int, ...] = REFERENCE) -> AttributionMaps:
    sums = tuple(sums_of(f"layer{i}", grid, reference) for i, grid in enumerate(GRIDS))
    return AttributionMaps(sums, steps=2, regions=("point 0 0", "box 0 0 1 1"), prompts=(PROMPT,))


def frame_of(maps: AttributionMaps, frame: int, reference: bool) -> AttributionMaps:
    """The same run as one of pictures: one frame's tokens of the generated canvas, or of the reference's."""
    pictures = []
    for s in maps.sums:
        (_, h, w), lead = (s.reference_grid, s.special) if reference else (s.generated_grid, 0)
        start = lead + frame * h * w
        part = [*range(lead), *range(start, start + h * w)]
        own = {name: getattr(s, name)[..., part] for name in (("g2r", "specific") if reference else ("r2g", "words"))}
        grids = (None, (h, w)) if reference else ((h, w), None)
        rest = {"r2g": s.r2g} if reference else {}
        pictures.append(LayerSums(s.layer, s.source, *grids, lead, **own, **rest))
    return AttributionMaps(tuple(pictures), 2, maps.regions, prompts=maps.prompts)


@pytest.mark.parametrize("size", [None, (7, 6)])
@pytest.mark.parametrize("level", ["unified", "time", "head", "layer"])
def test_every_level_is_that_of_each_frame(level: str, size: tuple[int, int] | None) -> None:
    maps = run_of()
    for direction in ("r2g", "words"):
        found = maps.level(direction, level, size)
        for frame in range(FRAMES):
            assert torch.equal(found[..., frame, :, :], frame_of(maps, frame, False).level(direction, level, size))
    lead = {"unified": (), "time": (2,), "head": (2,), "layer": (2,)}[level]
    assert maps.level("r2g", level, size).shape == (2, *lead, FRAMES, *(size or (5, 3)))
    assert maps.level("g2r", level, size).shape == (2, *lead, *(size or REFERENCE))


@pytest.mark.parametrize("level", ["unified", "time", "head", "layer"])
def test_a_reference_may_be_a_video(level: str) -> None:
    maps = run_of((FRAMES, 2, 3))
    for frame in range(FRAMES):
        one = frame_of(maps, frame, True)
        assert torch.equal(maps.level("g2r", level, (4, 4))[..., frame, :, :], one.level("g2r", level, (4, 4)))
        assert torch.equal(maps.specific(1, level=level)[..., frame, :, :], one.specific(1, level=level))
    assert maps.buffer("g2r", "layer0").shape == (2, 2, 2, FRAMES, 2, 3)
    assert torch.equal(maps.words()["b"], maps.level("words")[:, 1])


def test_a_level_written_out() -> None:
    maps = run_of()
    each = []
    for s in maps.sums:
        canvas = s.r2g.sum(1).unflatten(-1, s.generated_grid)  # [B, heads, frames, h, w]
        big = F.interpolate(canvas.flatten(0, 2)[:, None], (9, 8), mode="bicubic", align_corners=False).clamp(min=0)
        each.append(big.view(2, 2, FRAMES, 9, 8).double().sum(1))
    torch.testing.assert_close(maps.unified("r2g", (9, 8)).double(), (each[0] + each[1]) / 4, rtol=1e-6, atol=0)
    s, balanced = maps.sums[0], maps.unified("r2g", balance=True, layers="layer0")
    torch.testing.assert_close(balanced, s.r2g.sum(1).mean(1).view(2, *s.generated_grid) * 24)


def test_layers_of_other_frames_are_not_added_up() -> None:
    run = run_of()
    for other, said in (((4, 5, 3), r"4 frames in odd"), ((5, 3), "a picture in odd")):
        mixed = AttributionMaps((*run.sums, sums_of("odd", other)), 2)
        with pytest.raises(ValueError, match=rf"generated canvases of one level must be of the same number of frames, got 3 frames in "
                                             rf"layer0, layer1, {said}\. Choose layers of one kind: layers="):  # fmt: skip
            mixed.unified("r2g")
        assert mixed.unified("g2r").shape == (2, *REFERENCE)
        assert mixed.unified("r2g", layers="layer*").shape == (2, FRAMES, 5, 3)


def test_what_there_is_is_said() -> None:
    run = run_of((FRAMES, 2, 3))
    assert repr(run).startswith("AttributionMaps of 2 videos of 3 frames: 2 steps in 2 time groups, 2 layers of 2 heads")
    assert (run.frames(), run.frames("reference"), run_of().frames("reference")) == (3, 3, None)


def test_what_a_recorder_saw_of_a_video_is_what_it_saw_of_its_tokens() -> None:
    query, key, value = torch.randn(2, 2, 24, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    recorder = Recorder()
    recorder.attend("a", query, key, value, generated_grid=(3, 4, 2), reference_grid=REFERENCE, special=1)
    recorder.step()
    scores = (query.double() @ key.double().mT) * 8**-0.5
    right = scores.softmax(-2).mean(-1).mean(1).view(2, 3, 4, 2)  # the mean over keys of the softmax over queries
    torch.testing.assert_close(recorder.maps.unified("r2g").double(), right, rtol=1e-5, atol=1e-7)
    with pytest.raises(
        ValueError,
        match=r"generated_grid must be .*\(frames, height, width\) of a video, with \(frames \*\) height \* width = 24 .*got \(5, 4, 2\)",
    ):
        recorder.maps.with_grid(generated=(5, 4, 2))
    assert recorder.maps.with_grid(generated=(2, 4, 3)).unified("r2g").shape == (2, 2, 4, 3)


def test_files_keep_frames(tmp_path: Path) -> None:
    run = run_of((FRAMES, 2, 3))
    back = load(run.save(tmp_path / "run.safetensors"))
    assert [(s.generated_grid, s.reference_grid) for s in back.sums] == [(s.generated_grid, s.reference_grid) for s in run.sums]
    for direction in ("r2g", "g2r", "specific", "words"):
        assert torch.equal(back.level(direction, "time"), run.level(direction, "time"))
        assert torch.equal(back[1].level(direction), run.level(direction)[1:])


def test_positions_and_losses_are_of_pictures() -> None:
    run = run_of()
    with pytest.raises(ValueError, match=r"no field_g2r maps\. Trace with field=True; layers of videos, .* have none"):
        run.field()
    moments = draw(2, 2, 2, 6, 24)
    with pytest.raises(ValueError, match=r"the field of a must be of pictures, got a grid of \(3, 4, 2\)\. Positions are \(y, x\)"):
        LayerSums("a", "reference", (3, 4, 2), REFERENCE, 0, field_g2r=moments)
    query, key = torch.randn(1, 2, 24, 8, requires_grad=True), torch.randn(1, 2, 6, 8)
    recorder = Recorder(differentiable=True)
    recorder.attend("a", query, key, key, generated_grid=(3, 4, 2), reference_grid=REFERENCE)
    maps = recorder.maps
    inside = torch.ones(4, 2, device="cpu")
    for loss in (lambda: losses.total(maps, inside), lambda: losses.cwg(maps, inside), lambda: losses.mass_outside(maps, inside, "r2g")):
        with pytest.raises(ValueError, match=r"the maps of a loss must be of pictures, got videos in a\. Make a loss of maps\.unified"):
            loss()
    maps.unified("r2g")[:, 1].sum().backward()  # frame 1
    right = query.detach().double().requires_grad_()
    (right @ key.double().mT * 8**-0.5).softmax(-2).mean((1, 3)).view(1, 3, 4, 2)[:, 1].sum().backward()
    torch.testing.assert_close(query.grad, right.grad.float(), rtol=1e-4, atol=1e-7)


def test_scores_are_of_frames() -> None:
    run, masks = run_of(), (draw(2, FRAMES, 10, 6) > 0.3).float()
    found = run.unified("r2g")
    with pytest.raises(ValueError, match=r"map must be .*got float32 \[2, 3, 5, 3\].* frames of a video as pictures: map\.flatten\(0, 1\)"):
        scores(run, masks)
    with pytest.raises(ValueError, match=r"map must be .*\[2, 3, 5, 3\]\. .* Frames of a video are pictures: map\.flatten"):
        boxes(found, size=(10, 6))
    each = imacs(found.flatten(0, 1), masks.flatten(0, 1)).view(2, FRAMES)
    for frame in range(FRAMES):
        one = frame_of(run, frame, False)
        assert torch.equal(scores(one, masks[:, frame])["imacs_g"], each[:, frame])
