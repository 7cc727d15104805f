"""The try-on world: the truth is the picture's own, a pair is the same wherever it is drawn, and files hold what was drawn."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, grid_sample, max_pool2d

from i2am.synthetic import Pairs, draw, numbers, read_truth, write_vitonhd
from i2am.synthetic.disk import BATCH, GREY, whole
from i2am.synthetic.numbers import COUNT, Numbers
from i2am.synthetic.pairs import trimmed
from i2am.synthetic.shapes import Cut
from i2am.synthetic.textures import GLYPHS, KINDS, RICH, Texture

SIZE = (128, 96)
COUNT_DRAWN = 12


pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    with torch.device("cpu"):
        return draw(COUNT_DRAWN, size=SIZE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pairs on disk, at a size that is no multiple of 8."""
    with torch.device("cpu"):
        return write_vitonhd(tmp_path_factory.mktemp("world"), 3, seed=3, size=(252, 189))


def same(one: Pairs, other: Pairs) -> bool:
    return all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Pairs))


def looked_up(pictures: Tensor, source: Tensor) -> Tensor:
    """[B, C, h, w] at source [B, 2, H, W]."""
    return grid_sample(pictures, source.flip(1).movedim(1, -1) * 2 - 1, padding_mode="border", align_corners=False)


def inner(worn: Tensor, source: Tensor, pixels: int = 2) -> Tensor:
    """Worn pixels away from the edges of both the garment and the reference."""
    deep = max_pool2d(1.0 - worn.float()[:, None], 2 * pixels + 1, 1, pixels)[:, 0] == 0
    return deep & ((source > 0.02) & (source < 0.98)).all(1)


def warped(garment: Tensor, source: Tensor, shade: Tensor) -> Tensor:
    return ((looked_up(garment, source) + 1) * shade[:, None] - 1).clamp(-1, 1)


def share_near(one: Tensor, other: Tensor, where: Tensor, within: float) -> float:
    return ((one - other).abs().amax(1)[where] <= within).float().mean().item()


# What a pair says of itself


def test_the_garment_at_its_source_is_the_garment_that_is_worn() -> None:
    """The reference is drawn four times as fine, so that little but the steepest edges of its pattern is left of resampling."""
    near, fine = draw(4, size=SIZE, rich=0.5), draw(4, size=(512, 384), rich=0.5).garment
    where = inner(near.worn, near.source)
    assert where.float().mean() > 0.05
    assert share_near(warped(fine, near.source, near.shade), near.person, where, 1 / 255) > 0.93
    assert share_near(warped(fine, near.source + 1 / 64, near.shade), near.person, where, 1 / 255) < 0.7
    assert share_near(warped(fine, near.source, torch.ones_like(near.shade)), near.person, where, 1 / 255) < 0.7


def test_files_say_what_the_tensors_say(tree: Path) -> None:
    """Read back as anybody would, from pictures and truth alone; within what JPEG leaves of them."""
    names = ["00000_00", "00001_00", "00002_00"]
    truth, drawn = read_truth(tree, [f"{name}.jpg" for name in names]), draw(3, seed=3, size=(252, 189))
    assert torch.equal(truth.source, drawn.source)
    assert torch.equal(truth.inside, drawn.worn)
    folders = [
        [np.asarray(Image.open(tree / "test" / f / f"{n}.jpg")) for n in names]
        for f in ("image", "cloth", "agnostic-v3.2", "image-densepose")
    ]
    person, garment, agnostic, body = torch.from_numpy(np.array(folders)).movedim(-1, 2) / 127.5 - 1
    for read, made in ((person, drawn.person), (garment, drawn.garment), (agnostic, drawn.agnostic), (body, drawn.densepose)):
        assert (read - made).abs().mean() < 2 / 255
    shade = torch.stack([load_file(tree / "test" / "truth" / f"{name}.safetensors")["shade"].float() for name in names])
    where = inner(truth.inside, truth.source)
    assert share_near(warped(garment, truth.source, shade), person, where, 20 / 255) > 0.9
    assert share_near(warped(garment.flip(0), truth.source, shade), person, where, 20 / 255) < 0.5


def test_masks_cover_what_is_worn_and_are_grey_in_the_agnostic_picture(pairs: Pairs) -> None:
    assert not (pairs.worn & ~pairs.mask).any()
    shown = pairs.worn.flatten(1).float().mean(1)
    painted = pairs.mask.flatten(1).float().mean(1)
    assert (shown > 0.02).all()
    assert (painted > 1.2 * shown).all()  # its outline does not give the garment away
    assert (painted < 0.9).all()
    assert torch.equal(pairs.agnostic == 0, pairs.mask[:, None].expand_as(pairs.person))  # nothing else is grey to the bit
    assert torch.equal(torch.where(pairs.mask[:, None], pairs.person, pairs.agnostic), pairs.person)


def test_nearly_every_worn_pixel_comes_from_the_reference(pairs: Pairs) -> None:
    on = ((pairs.source >= 0) & (pairs.source <= 1)).all(1)
    assert on[pairs.worn].float().mean() > 0.98
    cloth = looked_up(pairs.garment_mask.float()[:, None], pairs.source)[:, 0]
    assert (cloth[inner(pairs.worn, pairs.source)] > 0.5).float().mean() > 0.99
    assert (cloth[~pairs.mask & on] > 0.5).float().mean() < 0.1


def test_pictures_are_finite_and_within_their_range(pairs: Pairs) -> None:
    for picture in (pairs.garment, pairs.person, pairs.densepose):
        assert picture.shape == (COUNT_DRAWN, 3, *SIZE)
        assert picture.abs().max() <= 1
    assert pairs.source.isfinite().all()
    assert ((pairs.shade > 0.5) & (pairs.shade < 1.1))[pairs.worn].all()
    assert not torch.equal(pairs.densepose, draw(COUNT_DRAWN, seed=1, size=SIZE).densepose)


# The same pair everywhere


def test_a_pair_is_the_same_bits_in_any_batch(pairs: Pairs) -> None:
    """And so is a batch of rows that were drawn before, and a second draw."""
    assert same(draw(5, first=3, size=SIZE), pairs[3:8])
    assert same(draw(1, first=7, size=SIZE), pairs[7:8])
    assert same(draw(numbers(2, 0, 4), size=SIZE), pairs[4:6])


@pytest.mark.parametrize("tile", [500, 10**6], ids=["strips", "batches"])
def test_a_pair_is_the_same_bits_however_it_is_cut_into_tiles(monkeypatch: pytest.MonkeyPatch, pairs: Pairs, tile: int) -> None:
    """Strips of 5 rows, the last of 3, and all pairs in one."""
    monkeypatch.setattr("i2am.synthetic.pairs.TILE", tile)
    assert same(draw(4, size=SIZE), pairs[:4])
    monkeypatch.undo()
    odd = draw(3, size=(67, 91), rich=0.6)
    monkeypatch.setattr("i2am.synthetic.pairs.TILE", tile)
    assert same(draw(3, size=(67, 91), rich=0.6), odd)


def test_drawing_only_what_is_seen_changes_nothing(monkeypatch: pytest.MonkeyPatch, pairs: Pairs) -> None:
    """As a GPU draws: every colour of the batch, also where it is covered."""
    monkeypatch.setattr("i2am.synthetic.pairs.dressed", lambda texture, cut, x, y, seen: trimmed(texture, cut, x, y))
    monkeypatch.setattr("i2am.synthetic.pairs.TILE", 10**6)
    assert same(draw(COUNT_DRAWN, size=SIZE), pairs)


def test_pair_7_is_what_it_was(pairs: Pairs) -> None:
    """The red of 4 x 3 fields, 0 ... 255: the shipped model was trained on these pictures and its recorded rows measured on them."""
    was = {
        "garment": [[255, 252, 255], [78, 49, 174], [135, 43, 239], [230, 207, 253]],
        "person": [[143, 143, 143], [135, 127, 121], [126, 53, 100], [120, 91, 85]],
        "densepose": [[0, 0, 0], [0, 56, 14], [13, 72, 56], [0, 23, 21]],
    }
    for name, fields_ in was.items():
        now = (adaptive_avg_pool2d(getattr(pairs, name)[7], (4, 3))[0] + 1) * 127.5
        assert (now - torch.tensor(fields_)).abs().max() <= 1, name


def test_pairs_may_be_learned_from() -> None:
    """They are drawn in inference mode, whose tensors autograd would refuse."""
    scale = torch.ones((), requires_grad=True)
    (draw(1, size=(16, 16)).person * scale).mean().backward()
    assert scale.grad is not None


def test_seeds_and_places_give_different_pairs(pairs: Pairs) -> None:
    drawn = torch.cat([numbers(50, seed) for seed in (0, 1, 2, 20_261_121)])
    assert len({row.numpy().tobytes() for row in drawn}) == 200
    assert drawn.shape == (200, COUNT)
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    other = draw(4, seed=1, size=SIZE)
    for name in ("garment", "person", "source"):
        found = torch.cat([getattr(pairs, name), getattr(other, name)]).flatten(1)
        assert torch.cdist(found, found).fill_diagonal_(math.inf).min() > 1, name


def test_a_world_is_the_same_at_any_size(pairs: Pairs) -> None:
    """Four pixels for every one: their mean place is that pixel's, and what all four wear it wears."""
    fine = draw(4, size=(256, 192))
    assert (avg_pool2d(fine.source, 2) - pairs.source[:4]).abs().max() < 0.1 / 128
    for name in ("worn", "mask", "garment_mask"):
        share = avg_pool2d(getattr(fine, name).float()[:, None], 2)[:, 0]
        sure = (share == 0) | (share == 1)
        assert sure.float().mean() > 0.9
        assert ((share == 1) == getattr(pairs, name)[:4])[sure].float().mean() > 0.999, name
    for name in ("person", "garment", "densepose"):
        assert (avg_pool2d(getattr(fine, name), 2) - getattr(pairs, name)[:4]).abs().mean() < 0.03, name


# What there is to see


def glyph(mark: Tensor) -> str:
    """The sign of a print [28, 28] (alpha) that has no badge behind it, as it stands in GLYPHS."""
    return "".join(str(int(bit)) for bit in mark[5:24:4, 5:24:4].flatten())


def textures(count: int, rich: float) -> Texture:
    of = Numbers(numbers(count))
    Cut.drawn(of)
    return Texture.drawn(of, rich)


def test_every_texture_and_every_print_occurs() -> None:
    found = textures(600, 0.2)
    kinds = found.kind.flatten().bincount(minlength=len(KINDS))
    assert len(kinds) == len(KINDS)
    assert (kinds > 20).all()
    assert kinds[-RICH:].sum().item() == pytest.approx(120, abs=35)
    alphas = torch.cat([mark[:, 3] for mark in found.prints])
    bare = alphas[(alphas[:, 0] == 0).all(1) & (alphas.flatten(1).any(1))]  # a sign has a margin, a badge has none at its middle
    signs = {glyph(mark) for mark in bare if not mark[0, 14]}
    assert signs - {"1" * 25} == set(GLYPHS)
    badges = (alphas[:, 0, 0] == 1).sum(), ((alphas[:, 0, 0] == 0) & (alphas[:, 0, 14] == 1)).sum()  # square, round
    assert min(badges) > 20


@pytest.mark.parametrize("rich", [0.0, 1.0])
def test_rich_is_the_share_of_garments_that_only_copying_gets_right(rich: float) -> None:
    assert ((textures(50, rich).kind >= len(KINDS) - RICH) == bool(rich)).all()


# Files


def test_the_tree_is_laid_out_as_viton_hd(tree: Path) -> None:
    """Folders, names, sizes, white for what is painted anew and for the garment, and every person with somebody else's garment."""
    names = [f"{i:05d}_00" for i in range(3)]
    endings = dict.fromkeys(("image", "cloth", "cloth-mask", "agnostic-v3.2", "image-densepose"), ".jpg")
    endings |= {"agnostic-mask": "_mask.png", "truth": ".safetensors"}
    found = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    expected = {f"test/{folder}/{name}{ending}" for folder, ending in endings.items() for name in names}
    assert found == expected | {"test_pairs.txt", "test/world.json"}
    drawn = draw(3, seed=3, size=(252, 189))
    for i, name in enumerate(names):
        for folder, ending in list(endings.items())[:-1]:
            with Image.open(tree / "test" / folder / f"{name}{ending}") as image:
                assert image.size == (189, 252)
                assert image.mode == ("L" if "mask" in folder else "RGB")
        masks = (("cloth-mask", ".jpg", drawn.garment_mask), ("agnostic-mask", "_mask.png", drawn.mask))
        for folder, ending, mask in masks:
            white = np.asarray(Image.open(tree / "test" / folder / f"{name}{ending}")) > 127
            assert np.array_equal(white, mask[i].numpy()), folder


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 0), (2, 7), (3, 5)])
def test_pairs_name_another_garment(tmp_path: Path, count: int, seed: int) -> None:
    write_vitonhd(tmp_path, count, seed, (16, 16), split="train")
    lines = [line.split() for line in (tmp_path / "train_pairs.txt").read_text().splitlines()]
    names = [f"{i:05d}_00.jpg" for i in range(count)]
    assert [person for person, _ in lines] == names
    assert sorted(garment for _, garment in lines) == names
    assert all(person != garment for person, garment in lines) or count == 1


@pytest.mark.parametrize("size", [(67, 91), (16, 40), [24, np.int64(16)]], ids=str)
def test_any_size_is_written(tmp_path: Path, size: Any) -> None:
    """Wide and odd, the narrowest, and as a list or numpy's numbers, which JSON would not take."""
    write_vitonhd(tmp_path, 1, size=size)
    with Image.open(tmp_path / "test" / "image" / "00000_00.jpg") as image:
        assert image.size == (size[1], size[0])
    assert read_truth(tmp_path, "00000_00").source.shape == (1, 2, *size)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_writing_again_adds_pairs_and_changes_none(tmp_path: Path) -> None:
    write_vitonhd(tmp_path, 2, size=(32, 24))
    before = contents(tmp_path)
    write_vitonhd(tmp_path, 3, size=(32, 24))
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"test_pairs.txt"}
    assert len(after) == len(before) + 7
    assert len(read_truth(tmp_path, ["00002_00"])) == 1


def test_threads_write_what_one_would_and_leave_torch_its_own(tmp_path: Path) -> None:
    """More than two batches, of which the last is not full; the grey of the agnostic picture is the one that 0 rounds to."""
    count, threads = 2 * BATCH + 1, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        write_vitonhd(tmp_path / "many", count, size=(32, 24))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    drawn = draw(count, size=(32, 24))
    truth = read_truth(tmp_path / "many", [f"{i:05d}_00" for i in range(count)])
    assert torch.equal(truth.source, drawn.source)
    write_vitonhd(tmp_path / "few", 3, size=(32, 24))
    many = contents(tmp_path / "many")
    assert all(many[name] == data for name, data in contents(tmp_path / "few").items() if name != "test_pairs.txt")
    assert torch.equal(whole(drawn.person[:1]).masked_fill(drawn.mask[:1], GREY), whole(drawn.agnostic[:1]))


@pytest.mark.parametrize("other", [{"seed": 1}, {"size": (24, 32)}, {"rich": 0.5}], ids=str)
def test_pairs_of_other_settings_are_not_written_over(tmp_path: Path, other: dict[str, Any]) -> None:
    write_vitonhd(tmp_path, 1, size=(32, 24))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"i2am: .*must be new, or pairs of .*Choose another root"):
        write_vitonhd(tmp_path, 2, **{"size": (32, 24), **other})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("theirs", ["test/image/00000_00.jpg", "test/world.json", "test_pairs.txt"])
def test_somebody_elses_data_is_not_written_over(tmp_path: Path, theirs: str) -> None:
    (tmp_path / theirs).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / theirs).write_text("[1]")
    with pytest.raises(ValueError, match=r"i2am: .*got another data set"):
        write_vitonhd(tmp_path, 1, size=(32, 24))
    assert contents(tmp_path) == {theirs: b"[1]"}


BAD = {
    "count": [0, 2.0, True],
    "size": [(0, 5), (8, 8), (15, 64), (64.0, 48), 64, "256"],
    "seed": [-1, 1.5],
    "rich": [-0.1, 1.5, math.nan],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_what_makes_no_pairs_is_refused_before_anything_is_written(tmp_path: Path, name: str, value: Any) -> None:
    wanted = {"count": 1, "size": (32, 24), **{name: value}}
    with pytest.raises(ValueError, match=rf"^i2am: {name} must be"):
        write_vitonhd(tmp_path / "new", **wanted)
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=rf"^i2am: {name} must be"):
        draw(**wanted)


def test_rows_of_another_kind_and_names_without_a_truth_are_refused(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"^i2am: count must be .*\[B, 560\], got float32 \[2, 559\]"):
        draw(torch.rand(2, 559))
    with pytest.raises(ValueError, match=r"^i2am: first must be"):
        draw(1, first=-1)
    with pytest.raises(ValueError, match=r"^i2am: truth must be .*no such file"):
        read_truth(tree, ["00003_00"])
    with pytest.raises(ValueError, match=r"^i2am: names must be at least one"):
        read_truth(tree, [])
