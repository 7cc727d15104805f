"""Which prompt is heard: that of the pipeline's call which runs, whoever else reads one, and whatever the pipeline's methods are."""

from __future__ import annotations

from typing import Any

import joint
import pytest
import streams
import torch
import zimages
from ask import Case

import i2am

CASES = {"z-image": zimages.plain, "ernie": streams.ernie, "sd3": lambda: joint.sd3(words=True)}  # the first two check no inputs
READ = {
    "z-image": {"do_classifier_free_guidance": False},
    "ernie": {"device": "cpu"},
    "sd3": {"prompt_2": None, "prompt_3": None, "do_classifier_free_guidance": False},
}


def asked(case: Case, **more: Any) -> dict[str, Any]:
    return {**case.kwargs(guided=False), "prompt": ["the blue dog"], **more}


def heard(run: i2am.Trace) -> list[tuple[str, ...]]:
    return [prompt.words for prompt in run.maps.prompts]


@pytest.mark.parametrize("name", CASES)
def test_a_prompt_that_was_read_ahead_is_another_one(name: str) -> None:
    """By the pipeline's method, or by its encoder."""
    case = CASES[name]()
    with i2am.trace(case.pipe, words=True) as run:
        case.pipe.encode_prompt(prompt=["a red cat"], **READ[name])
        case.pipe(**asked(case))
        assert heard(run) == [("the", "blue", "dog")]
        case.pipe.text_encoder(case.pipe.tokenizer(["a red cat"], return_tensors="pt").input_ids)
        case.pipe(**asked(case))
        assert heard(run) == [("the", "blue", "dog")]


@pytest.mark.parametrize("name", ["z-image", "ernie"])
def test_a_prompt_of_a_call_that_failed_is_another_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was encoded, and no step was made."""
    case = CASES[name]()

    def fails(*args: Any, **kwargs: Any) -> None:
        raise ValueError("no timesteps")

    with i2am.trace(case.pipe, words=True) as run:
        with monkeypatch.context() as patch:
            patch.setattr(case.pipe.scheduler, "set_timesteps", fails)
            with pytest.raises(ValueError, match="timesteps"):
                case.pipe(**asked(case, prompt=["a red cat"]))
        case.pipe(**asked(case))
        assert heard(run) == [("the", "blue", "dog")]


@pytest.mark.parametrize("name", ["z-image", "ernie"])
def test_embeddings_are_of_no_prompt_that_was_heard(name: str) -> None:
    """Neither of one that was read ahead, nor of the negative one, which is all that the call reads."""
    case = CASES[name]()
    with torch.no_grad():
        made = case.pipe.encode_prompt(prompt=["the blue dog"], **READ[name])
    given = {"prompt": None, "prompt_embeds": made[0] if name == "z-image" else made}
    guided = {} if name == "z-image" else {"negative_prompt": ["a red cat"], "guidance_scale": 4.0}
    with i2am.trace(case.pipe, words=True) as run:
        with torch.no_grad():
            case.pipe.encode_prompt(prompt=["a red cat"], **READ[name])
        case.pipe(**asked(case, **given, **guided))
        assert heard(run) == []


def test_a_loop_of_ones_own_reads_its_prompt_by_itself() -> None:
    """There is no call of the pipeline, and what was read is the prompt."""
    case = CASES["ernie"]()
    pipe = case.pipe
    with i2am.trace(pipe, words=True) as run, torch.no_grad():
        (text,) = pipe.encode_prompt(["the blue dog"], "cpu")
        pipe.scheduler.set_timesteps(1)
        latents = torch.randn(1, pipe.transformer.config.in_channels, 4, 6)
        for step in pipe.scheduler.timesteps:
            made = pipe.transformer(latents, step[None], text[None], torch.tensor([len(text)]), return_dict=False)[0]
            latents = pipe.scheduler.step(made, step, latents)[0]
    assert heard(run) == [("the", "blue", "dog")]
