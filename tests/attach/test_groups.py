"""How many time groups a run has where nobody said: five, or as many as it has steps where it has fewer."""

from __future__ import annotations

import pipelines
import pytest
import torch
from torch import Tensor

import i2am

COUNTS = {1: [1], 2: [1, 1], 3: [1, 1, 1], 4: [1, 1, 1, 1], 5: [1, 1, 1, 1, 1], 7: [2, 1, 2, 1, 1]}  # steps -> steps of each group


def lengths(maps: i2am.AttributionMaps) -> list[int]:
    """Steps of each group: every step spreads one over the canvas."""
    sums = maps.tokens("r2g", maps.layers[0]).sum(-1)  # [B, groups, heads]
    torch.testing.assert_close(sums, sums[:1, :, :1].round().expand_as(sums), rtol=1e-4, atol=0)
    return sums[0, :, 0].round().int().tolist()


@pytest.fixture(scope="module")
def case() -> pipelines.Case:
    return pipelines.paint_by_example()


@pytest.mark.parametrize("steps", COUNTS)
def test_a_trace_takes_a_run_of_any_length(case: pipelines.Case, steps: int) -> None:
    with i2am.trace(case.pipe) as run:
        case(steps=steps)
    assert lengths(run.maps) == COUNTS[steps]
    assert run.maps.time("r2g").shape[1] == run.maps.groups == len(COUNTS[steps])


def test_every_call_of_one_trace_has_its_own_number(case: pipelines.Case) -> None:
    with i2am.trace(case.pipe) as run:
        for steps in (4, 7, 1):
            case(steps=steps)
            assert lengths(run.maps) == COUNTS[steps]


def test_an_lcm_run() -> None:
    from diffusers import LCMScheduler

    case = pipelines.sd15(LCMScheduler(steps_offset=1))
    with i2am.trace(case.pipe, words=True) as run:
        case(steps=2, guided=False)
    assert run.maps.groups == 2


def attend(recorder: i2am.Recorder) -> Tensor:
    token = torch.randn(1, 1, 2, 4)
    return recorder.attend("a", token, token, token)


@pytest.mark.parametrize("steps", COUNTS)
def test_a_recorder_takes_a_run_of_any_length(steps: int) -> None:
    recorder = i2am.Recorder(steps=steps)
    for _ in range(steps):
        attend(recorder)
        recorder.step()
    assert lengths(recorder.maps) == COUNTS[steps]


def test_a_recorder_that_knows_no_steps_keeps_time_in_one_piece() -> None:
    recorder = i2am.Recorder()
    for _ in range(3):
        attend(recorder)
        recorder.step()
    assert lengths(recorder.maps) == [3]


@pytest.mark.parametrize(("groups", "steps"), [(5, 4), (2, 1), (3, 2)])
def test_a_number_that_was_asked_for_is_refused_where_it_cannot_be_met(case: pipelines.Case, groups: int, steps: int) -> None:
    message = rf"groups must be at most the {steps} denoising steps, got {groups}\. Pass groups={steps} or fewer"
    with pytest.raises(ValueError, match=message):
        attend(i2am.Recorder(groups=groups, steps=steps))
    with pytest.raises(ValueError, match=message), i2am.trace(case.pipe, groups=groups):
        case(steps=steps)
