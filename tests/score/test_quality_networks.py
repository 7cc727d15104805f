"""Networks from files: LPIPS, FID and KID with the weights that are there, and files that are not the weights."""

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
from qualities import alone, batched, pictures, written_fid, written_kid
from torch import Tensor

from i2am.score import quality
from i2am.score.quality import ALEXNET, INCEPTION, METRICS, Quality

__all__ = ["alone"]
pytest.importorskip("torchmetrics")
pytest.importorskip("scipy")
pytestmark = pytest.mark.usefixtures("on_the_cpu")


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
