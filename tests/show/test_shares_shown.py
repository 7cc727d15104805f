"""Shares as a picture: the colours, the names, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from i2am.show.shares import SHADES, shares


def test_a_pixel_mixes_the_references_colours() -> None:
    grey = torch.full((1, 3, 8, 8), 0.4)
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, :, :4], maps[0, 1, :, 4:] = 1.0, 0.5
    found = np.asarray(shares(grey, maps, ["shirt", "hat"], alpha=0.5)[0]).astype(float)
    first, second = (np.array(shade, dtype=float) for shade in SHADES[:2])
    np.testing.assert_allclose(found[2, 1], 0.5 * 102 + 0.5 * first, atol=1)
    np.testing.assert_allclose(found[2, 6], 0.5 * 102 + 0.5 * (0.5 * second + 0.5 * 255), atol=1)


def test_the_names_stand_below_in_their_colours() -> None:
    picture = shares(torch.zeros(2, 3, 60, 80), torch.full((2, 2, 6, 8), 0.5), ["shirt", "hat"])[1]
    assert picture.width == 80
    below = np.asarray(picture)[60:].reshape(-1, 3)
    for shade in SHADES[:2]:
        assert (below == np.array(shade)).all(1).any()
    assert (np.asarray(picture)[60:].min(-1) < 128).any(), "letters"


def test_what_is_no_share_is_refused() -> None:
    image = torch.zeros(3, 8, 8)
    with pytest.raises(ValueError, match="maps must be shares, whose sum over the references is at most 1"):
        shares(image, torch.ones(1, 2, 4, 4), ["one", "two"])
    with pytest.raises(ValueError, match="maps must be of at most 8 references"):
        shares(image, torch.zeros(1, 9, 4, 4), list("123456789"))
    with pytest.raises(ValueError, match="names must be 2 texts"):
        shares(image, torch.zeros(1, 2, 4, 4), ["one"])
    with pytest.raises(ValueError, match="alpha must be"):
        shares(image, torch.zeros(1, 2, 4, 4), ["one", "two"], alpha=2.0)
