"""Video models that hand over to a second transformer, guide in two calls, or make their video in sections."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import oracle
import pytest
import tolerance
import videos
import videos_joined as joined
from families import single

import i2am


def test_both_transformers_fill_the_same_layers() -> None:
    """Wan 2.2: of four steps two are the first transformer's, two the second's."""
    case = videos.wan(second=True)
    with ExitStack() as stack:
        run = stack.enter_context(i2am.trace(case.pipe, words=True, groups=2))
        models = (case.pipe.transformer, case.pipe.transformer_2)
        both = [stack.enter_context(oracle.recorded(model, case.pipe.scheduler)) for model in models]
        case(batch=2, steps=4)
    maps = run.maps
    assert [{call.step for call in calls} for calls in both] == [{0, 1}, {2, 3}]
    assert maps.layers == ["blocks.0.attn2", "blocks.1.attn2"]
    for sums in maps.sums:
        calls = oracle.of(both[0] + both[1], sums.layer)
        expected, eager = (
            oracle.word_maps(these, tokens=maps.columns, groups=2, steps=4) for these in (calls, [single(call) for call in calls])
        )
        tolerance.close(sums.words, expected, eager, oracle.longest(calls), sums.layer, 4.0)
    assert sums.generated_grid == (3, 2, 2)


def test_a_section_is_a_run() -> None:
    """FramePack makes a video in sections, each of which sets the scheduler: their maps are read at the last step of each."""
    case = joined.framepack()
    found = []

    def read(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            found.append(run.maps)
        return {}

    asked = {**case.kwargs(steps=2), "num_frames": 18}
    with i2am.trace(case.pipe, groups=1) as run:
        case.pipe(**asked, callback_on_step_end=read)
    assert [maps.steps for maps in found] == [2, 2]
    assert (found[0].unified("r2g", reference="picture") - found[1].unified("r2g", reference="picture")).abs().max() > 1e-4
    with pytest.raises(RuntimeError, match="in sections"), i2am.trace(case.pipe):
        case.pipe(**asked)


def test_a_run_that_sets_the_scheduler_once_more_at_its_end() -> None:
    """Wan-Animate does: the next section's steps, of which there are none."""
    case = videos.wan_animate()
    with i2am.trace(case.pipe, groups=1) as run:
        case(steps=1)
    assert set(run.maps.references) == {"image features", "reference frame"}
    assert run.maps.unified("r2g", reference="reference frame").shape == (1, 3, 2, 2)
    assert run.maps.unified("g2r", reference="reference frame").shape == (1, 2, 2)


def test_a_prompt_of_another_length_is_refused_by_name() -> None:
    """Wan's code takes the last 512 tokens for the prompt's, whatever they are."""
    case = videos.wan_image_to_video()
    asked = case.kwargs(steps=1, guided=False)
    asked["prompt_embeds"] = asked["prompt_embeds"][:, :500]
    with pytest.raises(ValueError, match="max_sequence_length=512"), i2am.trace(case.pipe):
        case.pipe(**asked)


def test_the_tokens_of_llava_are_refused_by_name() -> None:
    """Nothing that HunyuanVideo's transformer is called with says how many of the prompt's tokens are the picture's."""
    case = joined.hunyuan_video("latent_concat")
    with pytest.raises(ValueError, match="reference_grid"), i2am.trace(case.pipe):
        case(steps=1)


def test_a_video_without_pictures_has_no_reference() -> None:
    """VACE without reference images; Wan from a prompt alone."""
    for case, reason in ((videos.wan_vace(images=0), "without reference tokens"), (videos.wan(), "the prompt alone")):
        with pytest.raises(ValueError, match=reason), i2am.trace(case.pipe):
            case(steps=1, guided=False)
