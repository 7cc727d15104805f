"""weigh="gradient" of a loop of one's own: the definition in float64 with the attention stored, and what a recorder says is missing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tolerance import alike

from i2am import Recorder
from i2am_kernels import moments

TERMS, LOGITS = 256, 40
GRID, REFERENCE = (4, 3), (2, 5)
KEYS = 1 + REFERENCE[0] * REFERENCE[1]
PLACES: dict[str, Any] = {"generated_grid": GRID, "reference_grid": REFERENCE, "special": 1}


def test_a_recorder_s_sums_are_the_definition_s() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 12, 8), torch.randn(3, 2, KEYS, 8), torch.randn(3, 2, KEYS, 8)
    onward, target = torch.randn(16, 5), torch.randn(3, 12, 5)
    recorder = Recorder(groups=1, weigh="gradient", field=True)
    for _ in range(2):
        out = recorder.attend("a", query, key, value, **PLACES)
        recorder.weigh_by((out.transpose(1, 2).flatten(2) @ onward - target).square().sum())
        recorder.step()
    p = (query.double() @ key.double().mT * 8**-0.5).softmax(-1).requires_grad_()
    predicted = (p @ value.double()).transpose(1, 2).flatten(2) @ onward.double()
    (asked,) = torch.autograd.grad((predicted - target.double()).square().sum(), p)
    m = (2 * p * asked.clamp(min=0)).detach()
    there, back = moments(REFERENCE, 1).double().mT, moments(GRID).double()
    right = {"g2r": m.mean(-2), "r2g": m.mean(-1), "field_g2r": (m @ there).mT, "field_r2g": back @ m}
    for name, truth in right.items():
        alike(getattr(recorder.maps.sums[0], name).double(), truth[:, None], TERMS, LOGITS, size=truth.abs().max())


def test_a_recorder_says_what_is_missing() -> None:
    query, key, value = torch.randn(1, 2, 12, 8), torch.randn(1, 2, KEYS, 8), torch.randn(1, 2, KEYS, 8)
    recorder = Recorder(groups=1, weigh="gradient")
    with torch.no_grad(), pytest.raises(ValueError, match=r"the call of a must be made with gradient .*enable_grad"):
        recorder.attend("a", query, key, value)
    with pytest.raises(ValueError, match="weigh_by must be called after attention was recorded"):
        recorder.weigh_by(torch.ones(()))
    out = recorder.attend("a", query, key, value)
    with pytest.raises(ValueError, match=r"the step must be over after weigh_by\(scalar\)"):
        recorder.step()
    for wrong, said in ((out, "one number, or one a row"), (3.0, "a floating tensor"), (out.detach().sum(), "with its gradient"),
                        (torch.ones((), requires_grad=True) * 2, "made of the output of a")):  # fmt: skip
        with pytest.raises(ValueError, match=f"the scalar must be .*{said}"):
            recorder.weigh_by(wrong)
        if not recorder.pending:
            out = recorder.attend("a", query, key, value)
    with pytest.raises(ValueError, match="weigh must be \"gradient\" for weigh_by, got 'weights'"):
        Recorder(groups=1).weigh_by(torch.ones(()))
    with pytest.raises(ValueError, match='differentiable must be left out with weigh="gradient"'):
        Recorder(groups=1, weigh="gradient", differentiable=True)
