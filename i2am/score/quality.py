"""How good generated images are, beside IMACS: SSIM and LPIPS for each image, FID and KID for the whole set.

    FID = |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))                                  means and covariances of Inception's 2048 features
    KID = the mean over random subsets of the unbiased MMD^2, with the kernel k(x, y) = (x . y / 2048 + 1)^3

Networks, SSIM, LPIPS and KID are torchmetrics'. Nothing is ever downloaded: weights lie in a folder, or in torch's own cache.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from i2am.common.checks import refuse
from i2am.maps.regions import as_mask, per_image
from i2am.score.quality_networks import ALEXNET, FEATURES, INCEPTION, Weights
from i2am.score.similarity import ssim

METRICS = ("ssim", "lpips", "fid", "kid")
PACKAGES = {"torchvision": ("lpips", "fid", "kid"), "torch-fidelity": ("fid", "kid"), "torchmetrics": METRICS}  # in the order they load
SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 0  # of KID
SMALLEST = 31  # pixels: a smaller picture vanishes inside AlexNet
exact = partial(torch.backends.cudnn.flags, enabled=True, deterministic=True, allow_tf32=False)  # TF32 keeps ten bits of a product


class Quality:
    """Scores of generated images against ground truth.

        quality = Quality(["ssim", "fid"], weights="weights")
        quality.check()                                           # before anything is generated
        quality.per_image(images, truth)                          # {"ssim": [B]}
        quality.of_sets((images, truth) for ... in ...)           # {"fid": ...}
        quality.settings()                                        # what all of it depends on

    weights: a folder that is searched before torch's cache. paired: there is a true picture for each image; without it SSIM and LPIPS
    have no meaning, and FID and KID compare the two sets. repaint: images are scored after `repaint`. Images are uint8, or floating
    in [0, 1], [B, 3, H, W].
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        weights: str | Path | None = None,
        device: torch.device | str = "cpu",
        paired: bool = True,
        repaint: bool = False,
    ) -> None:
        unknown = [name for name in names if name not in METRICS]
        if isinstance(names, str) or unknown:
            refuse("metrics", f"a list of some of {', '.join(METRICS)}", repr(names), "IMACS is always there.")
        self.names = tuple(name for name in METRICS if name in names)
        self.files = [file for file in (ALEXNET, INCEPTION) if self._uses(file.metrics)]
        alone = [name for name in ("ssim", "lpips") if name in self.names]
        if alone and not paired:
            refuse("the metrics of an unpaired run", "fid or kid, which compare sets", ", ".join(alone),
                   "No picture shows the person in that garment: leave them out, or score the paired setting.")  # fmt: skip
        self.folders = [Path(torch.hub.get_dir()) / "checkpoints"]
        if weights is not None:
            if not Path(weights).is_dir():
                refuse("the metrics' weights", "in a folder that is there", weights, "Leave it out to look in torch's cache alone.")
            self.folders.insert(0, Path(weights))
        self.device, self.paired, self.repaint = torch.device(device), paired, repaint
        self.networks: dict[Weights, torch.nn.Module] = {}
        self.counts: tuple[int, int] | None = None  # images and true pictures that of_sets has seen
        self.notes: list[str] = []  # what a reader of its scores should know

    def check(self) -> None:
        """Refuse whatever is missing, all at once, and load the networks."""
        found = {file: path for file in self.files if (path := file.find(self.folders))}
        missing = [f"{file.names[0]} ({file.url})" for file in self.files if file not in found]
        where = f"Put what is missing into {' or '.join(map(str, self.folders))}; nothing is downloaded by itself."
        packages = [name for name, metrics in PACKAGES.items() if self._uses(metrics)]
        if absent := [name for name in packages if installed(name) is None]:
            also = f" They also need {', '.join(missing)}. {where}" if missing else ""
            asked = f"i2am: the metrics {', '.join(self.names)} need {', '.join(absent)}"
            raise ImportError(f"{asked}. pip install 'i2am[metrics,quality]'.{also}")
        for name in packages:
            try:
                importlib.import_module(name.replace("-", "_"))
            except Exception as error:  # what a build for another torch raises is a RuntimeError
                builds = f"{name} {installed(name)} does not load beside torch {torch.__version__}: {error}"
                raise ImportError(f"i2am: {builds}. Install torch and torchvision from one index, pytorch.org/get-started.") from error
        if missing:
            refuse(f"the metrics {', '.join(self.names)}", "given the weights of their networks", f"no {', no '.join(missing)}", where)
        self.networks = {file: file.load(path).to(self.device) for file, path in found.items()}

    def per_image(self, images: Tensor, truth: Tensor, mask: Any = None) -> dict[str, Tensor]:
        """SSIM and LPIPS, those that were asked for, [B] each. mask: where each image was inpainted, needed to repaint."""
        if not self._uses(("ssim", "lpips")):
            return {}
        scores = {}
        images, truth = self._scored(images, truth, mask)
        if "ssim" in self.names:
            with exact():
                scores["ssim"] = ssim(images, truth)
        if "lpips" in self.names:
            if images.shape != truth.shape or min(images.shape[-2:]) < SMALLEST:
                got = f"{list(images.shape)} and {list(truth.shape)}"
                refuse("images and truth", f"of one size, at least {SMALLEST} x {SMALLEST} for LPIPS", got, "Resize one of them first.")
            with torch.no_grad(), exact():
                scores["lpips"] = self._network(ALEXNET)(images, truth, normalize=True).reshape(-1)
        return scores

    def of_sets(self, batches: Iterable[tuple[Any, ...]], total: int | None = None) -> dict[str, float | None]:
        """FID, KID and its spread, those that were asked for, of batches (images, truth) or (images, truth, mask).

        total: how many images will come, for the progress bar. None is a score that does not exist: one of fewer than two images.
        """
        if INCEPTION not in self.files:
            return {}
        from tqdm.auto import tqdm

        found: list[tuple[Tensor, Tensor]] = []
        with tqdm(total=total, unit="image", desc="FID and KID") as bar:
            for batch in batches:
                images, truth = self._scored(*batch)
                found.append((self._features(images), self._features(truth)))
                bar.update(len(images))
        made, real = (torch.cat(part) for part in zip(*found)) if found else (torch.empty(0, device="cpu"),) * 2
        self.counts = (len(made), len(real))
        self.notes = list(caveats(min(self.counts), self.names))
        enough = min(self.counts) >= 2
        scores: dict[str, float | None] = {}
        if "fid" in self.names:
            scores["fid"] = frechet(made, real) if enough else None
        if "kid" in self.names:
            scores["kid"], scores["kid_std"] = kernel(made, real) if enough else (None, None)
        return scores

    def settings(self) -> dict[str, Any]:
        """For each metric what it depends on; what depends on the number of images is None until of_sets has seen them."""
        made, real = self.counts or (None, None)
        size = self.counts and min(SUBSET_SIZE, *self.counts)
        sets = {"network": f"Inception v3 of torch-fidelity {installed('torch-fidelity')}, {FEATURES} features, float32",
                "input": "uint8, resized to 299 x 299, bilinear with antialiasing, then (x - 128) / 128",
                "images": made, "truth": real}  # fmt: skip
        backbone = f"AlexNet of torchvision {installed('torchvision')}, linear heads of torchmetrics"
        settings: dict[str, Any] = {
            "ssim": {"window": "Gaussian, 11 x 11, sigma 1.5, reflected at borders", "input": "RGB in [0, 1], not resized"},
            "lpips": {"network": backbone, "input": "RGB in [-1, 1], not resized"},
            "fid": sets | {"distance": "float64, from singular values"},
            "kid": sets | {"distance": "float64", "subsets": SUBSETS, "subset_size": size, "seed": SEED},
        }
        weights = {name: file.about(path) for file in self.files if (path := file.find(self.folders)) for name in file.metrics}
        library = {"library": f"torchmetrics {installed('torchmetrics')}"}
        return {"paired": self.paired, "repaint": self.repaint} | {
            name: library | settings[name] | weights.get(name, {}) for name in self.names
        }

    def _uses(self, metrics: Sequence[str]) -> bool:
        return not set(metrics).isdisjoint(self.names)

    def _scored(self, images: Tensor, truth: Tensor, mask: Any = None) -> tuple[Tensor, Tensor]:
        """Both in float32 in [0, 1] on this device, repainted if that was asked for."""
        images, truth = in_unit_range(images, "images").to(self.device), in_unit_range(truth, "truth").to(self.device)
        if self.repaint and mask is None:
            refuse("mask", "there, to repaint", "none", "Pass where each image was inpainted, or leave repaint out.")
        return (repaint(images, truth, mask), truth) if self.repaint else (images, truth)

    def _features(self, images: Tensor) -> Tensor:
        """[B, 2048] float64 on the CPU."""
        with torch.no_grad(), exact():
            return self._network(INCEPTION)((images * 255).round().byte()).cpu().double()  # torchmetrics itself would cut, not round

    def _network(self, file: Weights) -> torch.nn.Module:
        if file not in self.networks:
            self.check()
        return self.networks[file]


def repaint(images: Tensor, truth: Tensor, mask: Any) -> Tensor:
    """images * mask + truth * (1 - mask): what a model was not asked to paint is the true picture's. mask: 1 where it painted."""
    m = per_image(as_mask(mask, "mask"), len(images), "mask")[:, None].to(images)
    if images.shape != truth.shape or m.shape[-2:] != images.shape[-2:]:
        got = f"{list(images.shape)}, {list(truth.shape)} and {list(m.shape)}"
        refuse("images, truth and mask", "of one size", got, "Resize them to the images' size first.")
    return images * m + truth.to(images) * (1 - m)


def in_unit_range(x: Tensor, name: str) -> Tensor:
    """float32 in [0, 1]."""
    if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != 3 or 0 in x.shape or not (x.dtype == torch.uint8 or x.is_floating_point()):
        got = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else repr(x)
        refuse(name, "uint8 or floating pictures [B, 3, H, W]", got, "Stack RGB pictures of one size.")
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not ((x >= 0) & (x <= 1)).all():
        refuse(name, "in [0, 1]", f"values from {x.min():g} to {x.max():g}", "(x + 1) / 2 for [-1, 1], then clamp(0, 1).")
    return x.float()


def frechet(made: Tensor, real: Tensor) -> float:
    """FID of float64 features [n, d] and [m, d].

    With S = A^T A and S' = B^T B, tr (S S')^(1/2) is the sum of the singular values of A B^T: exact and quick where fewer images than
    features make S singular, on which a square root is slow and inexact. QR keeps A and B at d rows or fewer.
    """
    a, b = (torch.linalg.qr((x - x.mean(0)) / math.sqrt(len(x) - 1), mode="r").R for x in (made, real))
    apart = (made.mean(0) - real.mean(0)).square().sum()
    return float(apart + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum())


def kernel(made: Tensor, real: Tensor) -> tuple[float, float]:
    """KID of features [n, d] and [m, d]: mean and standard deviation over subsets that are always the same."""
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(SUBSET_SIZE, len(made), len(real))
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")
        torch.default_generator.manual_seed(SEED)
        # given features; one process has them all, so torchmetrics must not wait for others
        metric = KernelInceptionDistance(torch.nn.Identity(), subsets=SUBSETS, subset_size=size, sync_on_compute=False)
        metric.update(real, real=True)
        metric.update(made, real=False)
        mean, spread = metric.compute()
    return float(mean), float(spread)


def caveats(count: int, names: Sequence[str]) -> Iterable[str]:
    """What a reader should know of scores of sets of which the smaller one has `count` images."""
    if count < 2:
        yield f"FID and KID do not exist for sets of fewer than two images; the smaller one has {count}."
        return
    if "fid" in names and count <= FEATURES:
        yield f"FID of {count:,} images is biased, as {FEATURES:,} features need more: compare it with FID of as many images alone."
    if "kid" in names and count <= SUBSET_SIZE:
        yield f"The smaller set has {count:,} images: every subset of KID's is all of it, so kid_std says little."


def installed(package: str) -> str | None:
    """Its version."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
