"""SSIM, LPIPS, FID and KID against their formulas in numpy, with networks of the real shape and random weights, read from files as the
published ones are; and what is said where something is missing."""

import builtins
import hashlib
import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchmetrics")
pytest.importorskip("scipy")

from i2am import quality
from i2am.quality import ALEXNET, INCEPTION, METRICS, Quality, frechet, kernel, repaint

pytestmark = pytest.mark.usefixtures("on_the_cpu")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No weights but the test's own, and no net to have them from."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))


def stub() -> torch.nn.Module:
    """A network that is quick: few and random features of the bytes of a 4 x 4 thumbnail."""
    matrix = torch.randn(48, 32, generator=torch.Generator().manual_seed(5)) / 7

    class Thumbnail(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.uint8
            assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == (False, True)
            return torch.nn.functional.adaptive_avg_pool2d(x.float() / 64, 4).flatten(1) @ matrix

    return Thumbnail()


def pictures(count: int, height: int = 40, width: int = 36, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def batched(made: Tensor, real: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(made.split(list(sizes)), real.split(list(sizes))))


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


def written_fid(x: np.ndarray, y: np.ndarray) -> float:
    """With the square root of S first, which is symmetric: tr (S S')^(1/2) = tr (S^(1/2) S' S^(1/2))^(1/2)."""
    s, t = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(s)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * both)


def written_kid(x: np.ndarray, y: np.ndarray) -> float:
    """Over whole sets of one size: of all pairs but those of a picture with itself."""
    n = len(x)
    k = {name: (p @ q.T / p.shape[1] + 1) ** 3 for name, p, q in (("xx", x, x), ("yy", y, y), ("xy", x, y))}
    within = sum((k[name].sum() - np.trace(k[name])) / (n * (n - 1)) for name in ("xx", "yy"))
    return float(within - 2 * k["xy"].mean())


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


@pytest.fixture(scope="module")
def weights(tmp_path_factory, on_the_cpu):
    """A folder with both files, in the shape of the published ones but random; no classifier of AlexNet's 4096 units is needed."""
    how = "needs the torchvision that was built for this torch, and torch-fidelity: pip install -e '.[quality]'"
    torchvision = pytest.importorskip("torchvision", reason=how)
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason=how)
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = {f"features.{name}": x for name, x in torchvision.models.alexnet(weights=None).features.state_dict().items()}
    torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, folder / ALEXNET.names[0])
    with pytest.MonkeyPatch.context() as patch:  # its constructor would download
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = fidelity.FeatureExtractorInceptionV3("random", ["2048"])
    for part in net.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    torch.save({name: x.half() if x.is_floating_point() else x for name, x in net.state_dict().items()}, folder / INCEPTION.names[0])
    yield folder
    for path in folder.iterdir():
        path.unlink()


def test_lpips_is_the_formula_with_the_weights_of_the_file(weights):
    import torchmetrics.functional.image.lpips as library

    measure = Quality(["ssim", "lpips"], weights=weights)
    measure.check()
    made, real = pictures(3, 70, 64), pictures(3, 70, 64, seed=1)
    found = measure.per_image(made, real)
    assert found.keys() == {"ssim", "lpips"}

    state = torch.load(weights / ALEXNET.names[0])
    heads = torch.load(Path(library.__file__).parent / "lpips_models" / "alex.pth", map_location="cpu")

    def levels(x: Tensor) -> list[Tensor]:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x, out = ((2 * x.double() - 1).movedim(1, -1) - shift).div(scale).movedim(-1, 1), []
        for i, (layer, stride, padding) in enumerate(((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))):
            x = torch.nn.functional.max_pool2d(x, 3, 2) if i in (1, 2) else x
            kernels, bias = (state[f"features.{layer}.{name}"].double() for name in ("weight", "bias"))
            x = torch.nn.functional.conv2d(x, kernels, bias, stride, padding).relu()
            out.append(x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt())
        return out

    pairs = enumerate(zip(levels(made), levels(real)))
    right = sum(((a - b).square() * heads[f"lin{i}.model.1.weight"].double()).sum(1).mean((1, 2)) for i, (a, b) in pairs)
    torch.testing.assert_close(found["lpips"].double(), right, rtol=1e-4, atol=1e-8)
    assert (found["lpips"] > 0).all()
    alone = torch.cat([measure.per_image(a[None], b[None])["lpips"] for a, b in zip(made, real)])
    torch.testing.assert_close(alone, found["lpips"])
    assert measure.per_image(real, real)["lpips"].tolist() == [0, 0, 0]
    least = quality.SMALLEST
    assert measure.per_image(made[..., :least, :least], real[..., :least, :least])["lpips"].isfinite().all()
    for a, b in ((made[..., : least - 1], real[..., : least - 1]), (made, real[..., :60])):
        with pytest.raises(ValueError, match="images and truth must be of one size, at least 31 x 31 for LPIPS"):
            Quality(["lpips"], weights=weights).per_image(a, b)


def test_fid_and_kid_are_of_the_features_of_the_file(weights):
    made, real = pictures(3, 64, 48), pictures(3, 64, 48, seed=1) ** 2
    measure = Quality(["fid", "kid"], weights=weights)
    measure.check()
    net, seen = measure.networks[INCEPTION], []
    state = torch.load(weights / INCEPTION.names[0])
    assert all(torch.equal(x, state[name].to(x.dtype)) for name, x in net.state_dict().items())
    net.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output.double().numpy())))
    found = measure.of_sets(batched(made, real, 1, 2))
    (a, b), (x, y) = ([part[i::2] for i in (0, 1)] for part in zip(*seen))  # images and truth in turn
    assert torch.equal(torch.cat(a), (made * 255).round().byte())
    assert torch.equal(torch.cat(b), (real * 255).round().byte())
    x, y = np.concatenate(x), np.concatenate(y)
    assert x.shape == y.shape == (3, 2048)
    assert np.linalg.norm(x - y) > 0.01 * np.linalg.norm(x)
    basis = np.linalg.qr(np.concatenate([x, y]).T)[0]  # nothing lies outside of these six directions
    assert found["fid"] == pytest.approx(written_fid(x @ basis, y @ basis), rel=1e-6)
    assert found["kid"] == pytest.approx(written_kid(x, y), rel=1e-6)


def test_settings_name_everything_that_scores_depend_on(weights):
    measure = Quality(METRICS[::-1], weights=weights)
    found = measure.settings()
    assert list(found) == ["paired", "repaint", *METRICS]
    for name, file in (("lpips", ALEXNET), ("fid", INCEPTION), ("kid", INCEPTION)):
        path = weights / file.names[0]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert (found[name]["weights"], found[name]["sha256"], found[name]["published"]) == (path.name, digest, False)
        assert importlib.import_module("torchmetrics").__version__ in found[name]["library"]
    assert "weights" not in found["ssim"]
    assert (found["kid"]["subset_size"], found["fid"]["images"]) == (None, None)
    assert "299 x 299" in found["fid"]["input"]


def test_weights_are_found_under_either_name_and_in_the_cache(weights, tmp_path):
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    other = cache / INCEPTION.names[1]
    other.symlink_to(weights / INCEPTION.names[0])
    measure = Quality(["fid"], weights=tmp_path)
    measure.check()
    assert measure.settings()["fid"]["weights"] == other.name
    assert Quality(["fid"], weights=weights).settings()["fid"]["weights"] == INCEPTION.names[0]  # the folder comes first


class Evil:
    def __reduce__(self) -> Any:
        return builtins.exec, ("import sys; sys.i2am_was_here = True",)


@pytest.mark.parametrize("file", [ALEXNET, INCEPTION], ids=["alexnet", "inception"])
def test_files_that_are_not_the_weights_are_refused(weights, tmp_path, file):
    path, whole = tmp_path / file.names[0], (weights / file.names[0]).read_bytes()
    state = torch.load(weights / file.names[0])
    name = next(iter(state))
    for content in (
        b"",
        b"<html>not found</html>",
        whole[: len(whole) // 2],
        pickle.dumps(Evil(), 2),
        [1, 2],
        {"a": torch.ones(1)},
        {n: x for n, x in state.items() if n != name},
        {**state, name: state[name][:1]},
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        with pytest.raises(ValueError, match=rf"i2am: {path} must be the weights {file.names[0]}, got something else \(.*https://"):
            Quality([file.metrics[0]], weights=tmp_path).check()
    assert not hasattr(sys, "i2am_was_here")


# What is missing


def test_missing_packages_and_files_are_named_together(tmp_path, monkeypatch):
    measure = Quality(METRICS, weights=tmp_path)
    monkeypatch.setattr(quality, "installed", lambda name: None if name != "torchmetrics" else "1.9")
    both = f"need torchvision, torch-fidelity.*quality.*They also need {ALEXNET.names[0]}.*, {INCEPTION.names[0]}.*{tmp_path} or"
    with pytest.raises(ImportError, match=f"^i2am: the metrics ssim, lpips, fid, kid {both}.*nothing is downloaded"):
        measure.check()
    Quality(["ssim"]).check()

    monkeypatch.setattr(quality, "installed", lambda name: "1.9")
    monkeypatch.setattr(quality.importlib, "import_module", lambda name: None)
    files = rf"got no {ALEXNET.names[0]} \({ALEXNET.url}\), no {INCEPTION.names[0]} \({INCEPTION.url}\)"
    for ask in (measure.check, lambda: measure.of_sets([(pictures(2), pictures(2))])):
        with pytest.raises(ValueError, match=rf"given the weights of their networks, {files}\. Put .*{tmp_path} or .*hub"):
            ask()

    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(quality.importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"i2am: torchvision 1\.9 does not load beside torch .*::nms does not exist\. Install torch and"):
        measure.check()


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
