"""SSIM, LPIPS, FID and KID against their formulas in numpy, with networks of the real shape and random weights, read from files as the
published ones are; and what is said where something is missing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchmetrics")
pytest.importorskip("scipy")

from qualities import alone, batched, pictures, written_fid, written_kid

from i2am.score import quality
from i2am.score.quality import INCEPTION, METRICS, Quality, frechet, kernel, repaint

__all__ = ["alone"]

pytestmark = pytest.mark.usefixtures("on_the_cpu")


def stub() -> torch.nn.Module:
    """A network that is quick: few and random features of the bytes of a 4 x 4 thumbnail."""
    matrix = torch.randn(48, 32, generator=torch.Generator().manual_seed(5)) / 7

    class Thumbnail(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.uint8
            assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == (False, True)
            return torch.nn.functional.adaptive_avg_pool2d(x.float() / 64, 4).flatten(1) @ matrix

    return Thumbnail()


def of(*names: str, **options: Any) -> Quality:
    """With the quick network in place of Inception."""
    found = Quality(names, **options)
    found.networks[INCEPTION] = stub()
    return found


# The formulas


def written_ssim(a: np.ndarray, b: np.ndarray) -> float:
    line = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for x, y in zip(a, b):
        x, y = (np.pad(z, 5, mode="reflect") for z in (x, y))
        x, y = (np.lib.stride_tricks.sliding_window_view(z, (11, 11)) for z in (x, y))
        mx, my, xx, yy, xy = ((z * window).sum((-2, -1)) for z in (x, y, x * x, y * y, x * y))
        values.append((2 * mx * my + 1e-4) * (2 * (xy - mx * my) + 9e-4) / ((mx**2 + my**2 + 1e-4) * (xx - mx**2 + yy - my**2 + 9e-4)))
    return float(np.mean(values))


def test_ssim_is_the_formula_and_torchmetrics():
    from torchmetrics.image import StructuralSimilarityIndexMeasure

    made, real = pictures(3), (pictures(3) + 0.3 * pictures(3, seed=1)).clamp(0, 1)
    found = Quality(["ssim"]).per_image(made, real)
    assert found.keys() == {"ssim"}
    expected = [written_ssim(a, b) for a, b in zip(made.double().numpy(), real.double().numpy())]
    assert found["ssim"].tolist() == pytest.approx(expected, abs=2e-5)
    torch.testing.assert_close(found["ssim"], StructuralSimilarityIndexMeasure(data_range=1.0, reduction="none")(made, real))
    assert Quality(["ssim"]).per_image(real, real)["ssim"].tolist() == pytest.approx([1, 1, 1])
    whole = (made * 255).round()
    bytes_ = Quality(["ssim"]).per_image(whole.byte(), real)
    torch.testing.assert_close(bytes_, Quality(["ssim"]).per_image(whole / 255, real))


def test_fid_is_the_distance_of_two_gaussians():
    from scipy.linalg import sqrtm
    from torchmetrics.image.fid import FrechetInceptionDistance

    random = np.random.default_rng(0)
    for n, m in ((60, 50), (60, 20), (9, 12), (2, 2)):  # more images than features, and fewer
        x, y = random.normal(size=(n, 32)), random.normal(size=(m, 32)) @ random.normal(size=(32, 32)) / 6 + 0.5
        found = frechet(torch.from_numpy(x), torch.from_numpy(y))
        assert found == pytest.approx(written_fid(x, y), rel=1e-6)
        identity = torch.nn.Identity()
        identity.num_features = 32
        library = FrechetInceptionDistance(identity)
        library.update(torch.from_numpy(x), real=True)
        library.update(torch.from_numpy(y), real=False)
        assert found == pytest.approx(library.compute().item(), rel=1e-6)
        if min(n, m) > 32:
            s, t = np.cov(x.T), np.cov(y.T)
            right = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
            assert found == pytest.approx(right, rel=1e-9)
        assert frechet(torch.from_numpy(x), torch.from_numpy(x)) == pytest.approx(0, abs=1e-9)


def test_kid_is_the_unbiased_distance_of_its_subsets(monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 32)), random.normal(size=(40, 32)) * 1.1 + 0.1
    before = torch.get_rng_state()
    mean, spread = kernel(torch.from_numpy(x), torch.from_numpy(y))
    assert torch.equal(before, torch.get_rng_state())
    assert mean == pytest.approx(written_kid(x, y), rel=1e-9)
    assert spread == pytest.approx(0, abs=1e-9)  # every subset is the whole set

    monkeypatch.setattr(quality, "SUBSET_SIZE", 15)
    mean, spread = kernel(torch.from_numpy(x), torch.from_numpy(y))
    drawn = torch.Generator().manual_seed(quality.SEED)
    order = lambda: torch.randperm(40, generator=drawn).numpy()[:15]  # noqa: E731
    values = [written_kid(y[order()], x[order()]) for _ in range(quality.SUBSETS)]
    assert (mean, spread) == pytest.approx((np.mean(values), np.std(values)), rel=1e-9)
    torch.manual_seed(77)
    assert kernel(torch.from_numpy(x), torch.from_numpy(y)) == (mean, spread)


# Sets


def test_sets_are_the_same_in_any_batches_and_bytes_are_rounded():
    made, real = ((pictures(9, seed=s) * 255).byte() for s in (0, 1))
    whole = of("fid", "kid", paired=False)
    found = whole.of_sets(batched(made, real, 9), total=9)
    assert found.keys() == {"fid", "kid", "kid_std"}
    net = stub()
    with quality.exact():
        x, y = (net(z).double().numpy() for z in (made, real))
    assert found["fid"] == pytest.approx(written_fid(x, y), rel=1e-4)
    assert found["kid"] == pytest.approx(written_kid(x, y), rel=1e-9)
    made, real = ((z - 0.4).clamp(min=0) / 255 for z in (made, real))  # as a PNG would keep them
    again = of("kid", "fid").of_sets(batched(made, real, 1, 5, 3))
    assert again == pytest.approx(found, rel=1e-5, abs=1e-9)
    assert of("kid").of_sets(batched(made, real, 9)).keys() == {"kid", "kid_std"}
    assert Quality(["ssim"]).of_sets(iter([(made, real)])) == {}
    uneven = of("kid")
    uneven.of_sets([(made, real), (made, real[:2])])
    assert uneven.settings()["kid"] | {"images": 18, "truth": 11, "subset_size": 11} == uneven.settings()["kid"]


def test_sets_that_are_too_small_are_noted():
    made, real = pictures(3), pictures(3, seed=1)
    for batches, count in (([], 0), ([(made[:1], real[:1])], 1)):
        few = of("fid", "kid")
        assert few.of_sets(batches) == {"fid": None, "kid": None, "kid_std": None}
        assert few.notes == [f"FID and KID do not exist for sets of fewer than two images; the smaller one has {count}."]
    few = of("fid", "kid")
    found = few.of_sets([(made, real)])
    assert all(np.isfinite(x) for x in found.values())
    assert [note[:20] for note in few.notes] == ["FID of 3 images is b", "The smaller set has "]
    assert [len(list(quality.caveats(n, METRICS))) for n in (1000, 1001, 2048, 2049)] == [2, 1, 1, 0]


def test_one_process_alone_compares_the_sets(monkeypatch):
    """In a run of several processes torchmetrics would wait for features that only this one has."""
    import torchmetrics.metric

    monkeypatch.setattr(torchmetrics.metric, "jit_distributed_available", lambda: True)
    monkeypatch.setattr("torchmetrics.metric.gather_all_tensors", lambda *_, **__: pytest.fail("waits for the others"))
    assert of("kid").of_sets([(pictures(3), pictures(3, seed=1))])["kid"] is not None


# Repainting


def test_repainting_keeps_the_true_picture_outside_the_mask():
    made, real = pictures(2), pictures(2, seed=1)
    mask = torch.zeros(2, 40, 36)
    mask[0, :20] = mask[1, :, 10:] = 1
    found = repaint(made, real, mask)
    inside = mask[:, None].bool().expand_as(made)
    assert torch.equal(found[inside], made[inside])
    assert torch.equal(found[~inside], real[~inside])
    assert torch.equal(repaint(made, real, mask[:1]), repaint(made, real, mask[:1].expand(2, 40, 36)))
    torch.testing.assert_close(repaint(made, real, mask * 0.25), torch.lerp(real, made, mask[:, None] * 0.25))

    scored = of("ssim", "kid", repaint=True)
    assert torch.equal(scored.per_image(made, real, mask)["ssim"], Quality(["ssim"]).per_image(found, real)["ssim"])
    assert scored.of_sets([(made, real, mask)]) == of("kid").of_sets([(found, real)])
    assert of("kid").of_sets([(made, real, mask)]) == of("kid").of_sets([(made, real)]) != scored.of_sets([(made, real, mask)])
    assert scored.settings()["repaint"] is True


# The networks, read from files


# What is missing


REFUSED: dict[str, tuple[Any, str]] = {
    "name": (lambda: Quality(["ssim", "psnr"]), r"metrics must be a list of some of ssim, lpips, fid, kid, got \['ssim', 'psnr'\]"),
    "string": (lambda: Quality("ssim"), r"metrics must be a list of .*got 'ssim'"),
    "unpaired": (lambda: Quality(METRICS, paired=False), r"metrics of an unpaired run must be fid or kid.*got ssim, lpips\. No picture"),
    "folder": (lambda: Quality([], weights="nowhere"), r"metrics' weights must be in a folder that is there, got nowhere"),
    "shape": (lambda: Quality(["ssim"]).per_image(torch.rand(3, 40, 36), pictures(1)), r"images must be .*\[3, 40, 36\]"),
    "integers": (lambda: Quality(["ssim"]).per_image(pictures(1).long(), pictures(1)), r"images must be .*int64 \[1, 3, 40, 36\]"),
    "array": (lambda: Quality(["ssim"]).per_image(pictures(1).numpy(), pictures(1)), r"images must be uint8 or floating"),
    "range": (lambda: of("kid").of_sets([(pictures(2), 2 * pictures(2))]), r"truth must be in \[0, 1\], got values from .* to 1\.9"),
    "nan": (lambda: of("kid").of_sets([(pictures(2) * torch.nan, pictures(2))]), r"images must be in \[0, 1\], got values from nan"),
    "no mask": (lambda: of("kid", repaint=True).of_sets([(pictures(2), pictures(2))]), r"mask must be there, to repaint, got none"),
    "mask size": (lambda: repaint(pictures(2), pictures(2), torch.ones(9, 9)), r"images, truth and mask must be of one size.*9, 9\]"),
    "mask count": (lambda: repaint(pictures(3), pictures(3), torch.ones(2, 40, 36)), r"mask must be one mask, or one per image.*2 masks"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said(name):
    ask, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"i2am: (the )?{message}"):
        ask()
