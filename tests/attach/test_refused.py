"""What the tracer refuses: by name, with the reason, and with nothing left behind."""

from __future__ import annotations

from typing import Any

import joint
import pipelines
import pytest
import torch
from torch import Tensor, nn
from tracing import footprint, traced

import i2am


def test_a_second_trace_is_refused() -> None:
    one, two = pipelines.paint_by_example(), pipelines.sd15()
    with i2am.trace(one.pipe, groups=2) as run:
        with pytest.raises(RuntimeError, match="another trace is running"), i2am.trace(two.pipe, words=True):
            pass
        one()
    assert len(run.maps) == 1
    traced(two, words=True)


def test_models_without_reference_tokens_are_refused_with_the_reason() -> None:
    reasons = {
        pipelines.instruct_pix2pix: "no IP-Adapter is loaded, and its picture is stacked on the latent's channels",
        pipelines.upscaler: ": its picture is stacked on the latent's channels",
        pipelines.sd15: "no IP-Adapter is loaded, and no other picture is taken",
    }
    for build, reason in reasons.items():
        case = build()
        before = footprint(case.pipe)
        with pytest.raises(ValueError, match=rf"no reference tokens exist in .*{reason}.*words=True"), i2am.trace(case.pipe):
            pass
        assert footprint(case.pipe) == before


def test_attention_slicing_is_refused_by_name() -> None:
    case = pipelines.paint_by_example()
    case.pipe.enable_attention_slicing(1)
    with pytest.raises(ValueError, match=r"attn2 uses SlicedAttnProcessor.*disable_attention_slicing"), i2am.trace(case.pipe):
        pass
    case.pipe.disable_attention_slicing()


def test_wrong_guidance_is_noticed() -> None:
    case = pipelines.paint_by_example()
    for guidance, guided in (("none", True), ("uncond-cond", False), ("cond-image-uncond", True)):
        with pytest.raises(ValueError, match="guidance must be"):
            traced(case, {"guided": guided}, guidance=guidance)
    with pytest.raises(ValueError, match=r"guidance must be.*cond-cond"):
        i2am.trace(case.pipe, guidance="cond-cond")


def test_no_guidance_cannot_hide_a_second_call() -> None:
    case = joint.flux_kontext(distilled=False)
    with pytest.raises(ValueError, match=r"a layout of the 2 calls a step"):
        traced(case, {"guided": True}, guidance="none")


def test_a_step_without_its_conditional_call_is_noticed() -> None:
    """A loop of one's own that leaves the unconditional call out in its last steps: the call that is left would not be recorded."""
    model, scheduler = joint.flux_transformer(False), joint.flow()
    text, pooled = torch.randn(2, 1, 5, 32), torch.randn(1, 32)
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(2.0), torch.arange(3.0))
    latents = torch.randn(1, 6, 16)
    refused = pytest.raises(ValueError, match=r"must be 2, as guidance says, got 1.*switched off on the way")
    with refused, torch.no_grad(), i2am.trace(model, scheduler=scheduler, words=True, guidance="uncond|cond"):
        scheduler.set_timesteps(3)
        for number, step in enumerate(scheduler.timesteps):
            for states in text if number < 2 else text[1:]:
                made = model(latents, states, pooled, step[None] / 1000, places, torch.zeros(5, 3), return_dict=False)[0]
            latents = scheduler.step(made, step, latents)[0]


def test_nothing_recorded_says_so() -> None:
    case = pipelines.paint_by_example()
    with i2am.trace(case.pipe) as run:
        pass
    with pytest.raises(ValueError, match="nothing was recorded"):
        _ = run.maps
    with pytest.raises(ValueError, match=r"groups must be at most the 2 denoising steps"):
        traced(case, groups=5)


def test_a_scheduler_that_was_replaced_is_noticed() -> None:
    case = pipelines.paint_by_example()

    def replaced(steps: int) -> None:
        case.pipe.scheduler = type(case.pipe.scheduler).from_config(case.pipe.scheduler.config)
        case(steps=steps)

    with pytest.warns(UserWarning, match="no denoising step was counted"), i2am.trace(case.pipe) as run:
        replaced(1)
    with pytest.raises(ValueError, match="nothing was recorded"):
        _ = run.maps
    with pytest.raises(ValueError, match=r"2 calls a step .or steps with another scheduler"), i2am.trace(case.pipe):
        replaced(2)


def test_training_mode_dropout_is_refused() -> None:
    case = pipelines.paint_by_example()
    module = next(m for name, m in case.pipe.unet.named_modules() if name.endswith("attn2"))

    class Dropping(type(module.processor)):  # type: ignore[misc]
        def __call__(self, attn: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            states = hidden_states.unflatten(-1, (2, -1)).transpose(1, 2)
            torch.nn.functional.scaled_dot_product_attention(states, states, states, dropout_p=0.5)
            return hidden_states

    module.processor = Dropping()
    with pytest.raises(ValueError, match="dropout"):
        traced(case)


def test_copied_schedulers_are_refused() -> None:
    """A copy of a watched scheduler would advance the original."""
    case = pipelines.sd15()
    case.pipe.__class__ = type("LTX2Pipeline", (type(case.pipe),), {"__module__": "diffusers.pipelines.ltx2.pipeline_ltx2"})
    with pytest.raises(ValueError, match=r"LTX2Pipeline steps with copies of its scheduler.*Recorder"):
        i2am.trace(case.pipe, words=True)
