"""The drop-in for the release's hook gives the numbers that the release's own code gave on these models.

`compat_numbers.npz` was made with the authors' hook.py and get_attention_score / get_attention_map run on these very modules, one
image at a time, StableVITON's unguided and Paint-by-Example's guided, at torch 2.13 on a CPU. The release writes its sizes into
the code; for the small latents they were divided by 4 there (16x12 for 64x48), its 50 steps by 5, and "full" is the release as it is.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import ldm
import numpy as np
import pytest
import torch
from ldm_blocks import CrossAttention
from torch import Tensor

from i2am import imacs
from i2am.compat.i2am_release import CrossAttentionHook, Patch
from i2am.compat.release_pictures import heated

pytestmark = pytest.mark.usefixtures("on_the_cpu")

STEPS, IMAGES, HEADS = 10, 4, 8
JET = [[128, 0, 0], [255, 0, 0], [255, 128, 0], [254, 255, 2], [126, 255, 130], [0, 252, 255], [0, 124, 255], [0, 0, 252], [0, 0, 128]]
FULL = {"batch": 1, "size": (64, 48), "guided": False, "steps": 1}


def seeded(case: ldm.LdmCase) -> ldm.LdmCase:
    """Weights that depend on their names alone, and the release's eight heads."""
    with torch.no_grad():
        for name, parameter in case.model.named_parameters():
            if parameter.ndim > 1:
                draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
                parameter.copy_(draw * (3.0 if "to_q" in name else 0.7) * parameter[0].numel() ** -0.5)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    for name, module in case.model.named_modules():
        if isinstance(module, CrossAttention) and name.endswith("attn2"):
            module.heads, module.scale = HEADS, (module.to_q.out_features // HEADS) ** -0.5
    return case


def stable_viton() -> ldm.LdmCase:
    return seeded(ldm.stable_viton())


def paint_by_example() -> ldm.LdmCase:
    return seeded(ldm.ldm_paint_by_example())


def alone(given: dict[str, Any], image: int) -> dict[str, Any]:
    """The sampler's keywords for one image of a batch."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: [tensor[image : image + 1] for tensor in part] for name, part in value.items()}
        return value[image : image + 1] if isinstance(value, Tensor) else value

    return {**{name: cut(value) for name, value in given.items()}, "batch_size": 1}


def masks(batch: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """agn_mask (0 where painted anew) and cloth_mask (1 on the garment), [B, H, W, 1]; both move with the image."""
    agnostic, cloth = torch.ones(batch, *size, 1), torch.zeros(batch, *size, 1)
    high, wide = size[0] // 8, size[1] // 6
    for i in range(batch):
        agnostic[i, (1 + i % 3) * high : (4 + i % 3) * high, wide : 3 * wide] = 0
        cloth[i, high : 6 * high, (i % 2) * wide : (3 + i % 2) * wide] = 1
    return agnostic, cloth


@pytest.fixture(scope="module")
def numbers():
    with np.load(Path(__file__).parents[1] / "helpers" / "compat_numbers.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def batch(on_the_cpu):
    """One run of four images, hooked, and its masks."""
    case = stable_viton()
    with CrossAttentionHook(True, False, False, False, False) as hook:
        hook.take_module(case.denoiser)
        case(batch=IMAGES, size=(16, 12), guided=False, steps=STEPS)
        hook.make_attention_maps(masks(IMAGES, (128, 96))[0])
    return hook


def ask(hook: CrossAttentionHook, direction: str, level: str) -> CrossAttentionHook:
    """The flags that the release wants at the constructor: here they only choose what is read."""
    hook.generated_image, hook.controlnet = "r2g" in direction, direction != "r2g"
    hook.per_time_step, hook.per_attention_head = level == "time", level == "head"
    return hook


def stacked(found: Any) -> Tensor:
    """[images, (groups or heads,) h, w] of whatever a level returns."""
    if isinstance(found, dict):
        assert list(found) == list(range(5))
        found = list(found.values())
    return torch.stack(found, -3) if isinstance(found, list) else found


def same(got: Tensor, theirs: np.ndarray) -> None:
    """Within 1e-5 of the largest value, which other images' and other places' maps are not."""
    assert got.shape == theirs.shape
    assert got.dtype == torch.float32
    error, top = np.abs(got.numpy() - theirs), np.abs(theirs).max()
    assert error.max() <= 1e-5 * top
    assert np.abs(np.flip(theirs, -1) - theirs).max() > 1e-2 * top


@pytest.mark.parametrize("level", ["unified", "time", "head"])
@pytest.mark.parametrize("direction", ["r2g", "g2r", "warp_r2g"])
def test_one_run_of_a_batch_has_the_release_s_numbers_of_each_image(numbers, batch, direction, level):
    if (direction, level) not in (("warp_r2g", "time"), ("warp_r2g", "head")):
        same(stacked(ask(batch, direction, level).make_attention_maps(None)), numbers[f"small {direction} {level}"])


def test_scores_are_the_release_s(numbers, batch):
    agnostic, cloth = masks(IMAGES, (128, 96))
    batch.cal_IMACS_scores = True
    try:
        for direction in ("r2g", "g2r"):
            maps = ask(batch, direction, "unified").make_attention_maps(agnostic)
            got = batch.make_images(None, None, maps, "nowhere", 0, agnostic, cloth)
            np.testing.assert_allclose(got, numbers[f"small {direction} imacs"], rtol=0, atol=1e-5)
            way = {"invert": True} if direction == "r2g" else {"force_mask": True}
            right = imacs(maps, (1 - agnostic if direction == "r2g" else cloth)[..., 0], **way)
            np.testing.assert_allclose(got, right.numpy(), rtol=0, atol=1e-5)
            one = batch.make_images(None, None, maps[2], "nowhere", 0, agnostic[2:3], cloth[2:3])
            assert isinstance(one, np.float32)
            assert one == pytest.approx(got[2], abs=1e-6)
        maps = ask(batch, "r2g", "unified").make_attention_maps(agnostic)
        assert np.isnan(batch.make_images(None, None, maps, "nowhere", 0, torch.ones_like(agnostic), cloth)).all()
    finally:
        batch.cal_IMACS_scores = False


def test_one_image_is_returned_as_the_release_returns_it(numbers):
    case = stable_viton()
    given = alone(case.kwargs(batch=IMAGES, size=(16, 12), guided=False, steps=STEPS), 2)
    agnostic = masks(IMAGES, (128, 96))[0][2:3]
    with CrossAttentionHook(False, False, False, True, True) as hook:
        hook.take_module(case.model)  # what holds the network will do
        for _ in range(2):  # the second run's maps are its own
            case.sampler.sample(**given)
            patches = hook.make_attention_maps(agnostic)
    assert [place for _, place in patches] == [tuple(place) for place in numbers["small places"][2].tolist()]
    same(torch.stack([map for map, _ in patches]), numbers["small g2r specific"][2])
    assert (hook.height, hook.width) == (8, 6)
    assert hook.maps.groups == 1
    hook.new_attention_map = False
    same(hook.make_attention_maps(agnostic), numbers["small g2r unified"][2])


def test_patches_of_a_batch_know_their_image(numbers):
    case = stable_viton()
    agnostic, _ = masks(2, (128, 96))
    with CrossAttentionHook(False, False, False, True, True) as hook:
        hook.take_module(case.denoiser)
        case(batch=2, size=(16, 12), guided=False, steps=STEPS)
        patches = hook.make_attention_maps(agnostic)
    assert [patch.image for patch in patches] == [0] * 6 + [1] * 6
    same(torch.stack([map for map, _ in patches]), numbers["small g2r specific"][:2].reshape(12, 8, 6))


def test_the_release_s_own_sizes(numbers):
    case = stable_viton()
    agnostic, cloth = masks(1, (512, 384))
    with CrossAttentionHook(True, False, False, False, False) as hook:
        hook.take_module(case.denoiser)
        case(**FULL)
        for direction in ("r2g", "g2r"):
            map = ask(hook, direction, "unified").make_attention_maps(agnostic)
            same(map, numbers[f"full {direction} unified"][0])
            hook.cal_IMACS_scores = True
            score = hook.make_images(None, None, map, "nowhere", 0, agnostic, cloth)
            assert score == pytest.approx(float(numbers[f"full {direction} imacs"][0]), abs=1e-4)  # pixels at the cut-off


def test_paint_by_example_s_flavour(numbers, tmp_path):
    case, hook, time = paint_by_example(), CrossAttentionHook(), numbers["example r2g time"]
    for divisions in (STEPS, 5):
        hook.time_division = divisions
        hook.take_module(case.model.model)
        case(batch=2, size=(16, 16), guided=True, steps=STEPS)  # [uncond, cond]: four rows
        for level in ("unified", "head"):
            same(stacked(ask(hook, "r2g", level).make_attention_maps()), numbers[f"example r2g {level}"])
        found = list(ask(hook, "r2g", "time").make_attention_maps().values())
        if divisions == STEPS:  # the release clamps each step by itself before their mean
            same(torch.stack([torch.stack(found[i : i + 2]).mean(0) for i in range(0, STEPS, 2)], 1), time)
    assert (
        np.abs(stacked(dict(enumerate(found))).numpy() - time).max() <= 0.04 * time.max()
    )  # noise, enlarged four times: the worst there is
    maps = ask(hook, "r2g", "unified").make_attention_maps()
    hook.make_images(torch.zeros(2, 3, 32, 32), torch.zeros(2, 3, 28, 28), maps, tmp_path, "5")
    assert names_in(tmp_path) == {f"idx-5-{i}_{kind}_generated_image-True.png" for i in (0, 1) for kind in ("attention_map", "heatmap")}


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


# Files


def test_files_have_the_release_s_names_and_every_image_its_own(tmp_path, batch):
    photos, cloth = torch.linspace(-1, 1, IMAGES)[:, None, None, None].expand(IMAGES, 3, 32, 24), torch.zeros(IMAGES, 32, 24, 3)
    masked = masks(IMAGES, (32, 24))[1]
    for direction, flags in (("r2g", "True_controlNet-False"), ("g2r", "False_controlNet-True")):
        maps = ask(batch, direction, "unified").make_attention_maps(None)
        one, every = tmp_path / direction / "one", tmp_path / direction / "every"
        assert batch.make_images(photos[1:2], cloth[1:2], maps[1], one, "0-time-1", cloth_mask=masked[1:2]) is None
        assert names_in(one) == {f"idx-0-time-1_{kind}_generated_image-{flags}.png" for kind in ("attention_map", "heatmap")}
        batch.make_images(photos, cloth, maps, every, 7, cloth_mask=masked)
        assert len(names_in(every)) == 2 * IMAGES
        for kind in ("attention_map", "heatmap"):
            name = f"{kind}_generated_image-{flags}.png"
            assert (every / f"idx-7-1_{name}").read_bytes() == (one / f"idx-0-time-1_{name}").read_bytes()
            assert (every / f"idx-7-2_{name}").read_bytes() != (every / f"idx-7-1_{name}").read_bytes()


def test_a_patch_s_files(tmp_path):
    from PIL import Image

    hook = CrossAttentionHook(False, False, False, True, True)
    map = torch.zeros(8, 6)
    map[2, 3] = 1
    photos = torch.full((2, 3, 32, 24), -1.0)
    photos[1] = -0.5
    hook.new_make_images(photos, torch.zeros(2, 32, 24, 3), Patch(map, (5, 1), 1), tmp_path, "3-0")
    generated = "new/idx-3-0_attention_map_generated_image_controlNet-True.png"
    assert names_in(tmp_path) == {
        "idx-3-0_attention_map_generated_image-False_controlNet-True.png", generated, "new/idx-3-0_cloth.png"
    }  # fmt: skip
    pixels = np.asarray(Image.open(tmp_path / generated).convert("RGB")).astype(int)
    assert abs(pixels[10, 10] - 63).max() <= 2  # image 1's dark grey, which the release would have clamped to 127
    red = np.argwhere((pixels - [255, 0, 0]).__abs__().max(-1) < 60)
    top, left = red.min(0) / pixels.shape[:2]
    assert (round(top * 8), round(left * 6)) == (5, 1)


def test_colours_are_opencv_s():
    """applyColorMap(COLORMAP_JET) of 0, 32 ... 255, and addWeighted with grey 100 at 0.7 and 0.5."""
    jet = np.array(JET)
    got = heated(np.full((1, 9, 3), 100, np.uint8), torch.tensor([[0, 32, 64, 96, 128, 160, 192, 224, 255]]) / 255 + 1e-4)
    assert np.abs(got[0].astype(int) - np.rint(70 + 0.5 * jet)).max() <= 2
