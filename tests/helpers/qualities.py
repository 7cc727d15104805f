"""Sets of pictures, and scores of quality without a network."""

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """No weights but the test's own, and no net to have them from."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))


def pictures(count: int, height: int = 40, width: int = 36, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def batched(made: Tensor, real: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(made.split(list(sizes)), real.split(list(sizes))))


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
