"""The tracer's door: schedulers under any name, words that no layer reads, numbers that are none, and what a trace says of itself."""

from __future__ import annotations

import warnings
from typing import Any

import attentions
import pipelines
import pytest
import torch
from given import image_tokens
from tracing import traced

import i2am
from i2am.common import checks as door


class Plain:
    """As CatVTON's own pipeline: an object of no pipeline class, whose scheduler has another name."""

    def __init__(self, case: Any, **schedulers: Any) -> None:
        self.unet, self.vae = case.pipe.unet, torch.nn.Identity()
        vars(self).update(schedulers)
        self.call = case

    def __call__(self, **options: Any) -> Any:
        return self.call(**options)


CATVTON: dict[str, Any] = {"reference": "self-below", "guidance": "uncond-cond", "groups": 2}


def test_a_scheduler_is_found_under_any_name() -> None:
    case = attentions.catvton()
    expected = traced(case, **CATVTON)[1]
    scheduler = case.scheduler
    for names in ({"noise_scheduler"}, {"noise_scheduler", "sampler"}):  # the same one twice is one
        plain = Plain(case, **dict.fromkeys(names, scheduler))
        with i2am.trace(plain, **CATVTON) as run:
            plain()
        assert torch.equal(run.maps.unified("g2r"), expected.unified("g2r"))
    assert "step" not in vars(scheduler)


def test_several_schedulers_are_named_and_one_may_be_passed() -> None:
    case = attentions.catvton()
    other = type(case.scheduler)()
    plain = Plain(case, noise_scheduler=case.scheduler, low_res_scheduler=other)
    with pytest.raises(ValueError, match=r"scheduler must be given .*got 2 in Plain: noise_scheduler, low_res_scheduler\. .*=pipe\.noise"):
        i2am.trace(plain, **CATVTON)
    with i2am.trace(plain, scheduler=plain.noise_scheduler, **CATVTON) as run:
        plain()
    assert len(run.maps.layers) == 7
    with pytest.raises(ValueError, match=r"scheduler must be given .*got none in Plain\. Pass scheduler="):
        i2am.trace(Plain(case), **CATVTON)


def test_components_may_hold_the_scheduler() -> None:
    case = attentions.catvton()
    assert i2am.trace(Plain(case, components={"noise": case.scheduler}), **CATVTON).scheduler is case.scheduler


@pytest.mark.parametrize("words", [True, ["shirt"]])
def test_words_of_a_model_without_text(words: Any) -> None:
    for build, options in ((pipelines.paint_by_example, {}), (pipelines.kandinsky22, {}), (attentions.catvton, CATVTON)):
        case = build()
        with pytest.raises(ValueError, match=r"words must be left out for \w+, got .*None of the traced layers reads a text"):
            traced(case, words=words, **options)
        assert len(traced(case, **options)[1]) == 1


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "empty word": ({"words": [""]}, r"words must be True or a list of words, none of them empty, got \[''\]\. Leave words= out"),
    "blank word": ({"words": ["cat", " "]}, r"words must be .*got \['cat', ' '\]"),
    "no words": ({"words": []}, r"words must be .*got \[\]"),
    "a number": ({"words": 3}, r"words must be .*got 3\."),
    "a text": ({"words": "cat"}, r"words must be .*got 'cat'\. Write \['cat'\]"),
    "nothing": ({"words": [None]}, r"words must be .*got \[None\]"),
    "scheduler's class": ({"scheduler": torch.nn.Linear}, r"scheduler must be a diffusers scheduler .*got the class Linear"),
    "grid": ({"reference_grid": 3}, r"reference_grid must be \(height, width\) in tokens, of a video \(frames, height, width\), got 3"),
    "special": ({"special": -1}, r"special must be a whole number of at least 0, got -1"),
    "reference": ({"reference": ["self"]}, r"reference must be .*got \['self'\]"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_quoted(name: str) -> None:
    options, message = ASKED[name]
    with pytest.raises(ValueError, match=message), i2am.trace(pipelines.sd15().pipe, **{"words": True, **options}):
        pass


@pytest.mark.parametrize("pipe", [None, "pipe", pipelines.Case, torch.ones(2, device="cpu")], ids=["none", "text", "class", "tensor"])
def test_what_is_no_pipeline(pipe: Any) -> None:
    with pytest.raises(ValueError, match=r"pipe must be a pipeline with a unet or a transformer, or a denoiser module, got .*Pass"):
        i2am.trace(pipe)


def test_words_may_come_from_any_iterable() -> None:
    case = pipelines.sd15()
    _, listed = traced(case, words=["cat"])
    _, made = traced(case, words=(word for word in ["cat"]))
    assert torch.equal(listed.words(["a red shirt and a blue cat"][0])["cat"], made.words()["cat"])


def test_a_trace_says_where_it_is() -> None:
    case = pipelines.paint_by_example()
    run = i2am.trace(case.pipe, groups=2)
    assert repr(run) == "Trace of PaintByExamplePipeline: nothing recorded"
    with run:
        assert repr(run) == "Trace of PaintByExamplePipeline: 7 layers under observation, 0 steps so far"
        case()
    assert repr(run).splitlines()[:2] == [
        "Trace of PaintByExamplePipeline, whose last call gave",
        "AttributionMaps of 1 image: 2 steps in 2 time groups, 7 layers of 2 heads, from PaintByExamplePipeline",
    ]
    assert len(repr(run)) < 400


def test_a_run_of_nan_warns_and_its_whole_layers_are_read() -> None:
    """NaN that enters at the last layer's queries, as an overflow in float16 would; there is no second step for it to go to."""
    case = pipelines.paint_by_example()
    one: dict[str, Any] = {"options": {"steps": 1}, "groups": 1}
    whole = traced(case, **one)[1]
    name = whole.layers[-1]
    module = case.denoiser.get_submodule(name)
    with torch.no_grad():
        module.to_q.weight[0, 0] = torch.nan
    with pytest.warns(UserWarning, match=rf"1 of 7 layers hold NaN or infinity: {name}\. Look for overflow .*layers=lambda"):
        maps = traced(case, **one)[1]
    assert maps.broken == [name]
    with pytest.raises(ValueError, match=rf"the r2g sums must be finite, got NaN or infinity in 1 of 7 layers, the first {name}\. Look"):
        maps.unified("r2g")
    rest = {"layers": lambda layer: layer not in maps.broken}
    assert maps.unified("r2g", **rest).isfinite().all()
    assert maps.tokens("r2g", name).isnan().any()  # the raw sums are there
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert traced(case, **one, **rest)[1].layers == whole.layers[:-1]


def test_time_groups_that_will_not_fit_are_refused_in_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    case = pipelines.ip_adapter("full")
    monkeypatch.setattr(door, "free_memory", lambda device: 10**6)
    monkeypatch.setattr(door, "SMALL", 10**5)
    assert len(traced(case)[1]) == 1
    with pytest.raises(ValueError, match=r"what is recorded of .* must be small enough for the 1 MB of memory .*specific|regions"):
        traced(case, specific=i2am.cells(16, 16))


def test_special_tokens_are_known_also_where_the_grid_is_declared_afterwards():
    names = image_tokens()
    with i2am.trace(names["pipe"], reference="context", special=1) as run:
        names["pipe"](**names["inputs"])
    assert run.maps.with_grid(reference=(37, 28)).unified("g2r").shape == (2, 37, 28)
