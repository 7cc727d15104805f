"""The tracer around real pipelines: what it leaves alone, what it restores, what it refuses."""

from __future__ import annotations

import contextlib
from typing import Any

import joint
import pipelines
import pytest
import torch
from torch import Tensor
from tracing import footprint, traced

import i2am
from i2am.attach import sdpa
from i2am.attach.trace import Trace


@pytest.fixture
def library_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every forward is the library's: no layer is small enough for the one-tile sweep."""
    monkeypatch.setattr("i2am_kernels.streaming.TILE_BYTES", 0)


@pytest.mark.usefixtures("library_forward")
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("build", "words"), [("paint_by_example", False), ("sd15", True), ("sdxl", True), ("kandinsky22", False)])
def test_outputs_are_the_same_bits(build: str, words: bool, guided: bool) -> None:
    case = getattr(pipelines, build)()
    options = {"batch": 2, "size": (64, 48), "guided": guided}
    plain = case(**options)
    out, maps = traced(case, options, words=words)
    assert torch.equal(out, plain)
    assert len(maps) == 2
    assert torch.equal(case(**options), plain)


def test_one_tile_outputs_agree_to_rounding() -> None:
    """Small layers are computed in one sweep of our own, whose rounding differs from the library's."""
    case = pipelines.sd15()
    plain = case(batch=2)
    out, _ = traced(case, {"batch": 2}, words=True)
    assert not torch.equal(out, plain)
    torch.testing.assert_close(out, plain, rtol=0, atol=2e-6 * float(plain.abs().max()))


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("error", [None, Interrupted, KeyboardInterrupt])
@pytest.mark.parametrize("when", [0, 1])
def test_everything_is_restored(error: type[BaseException] | None, when: int) -> None:
    case = pipelines.sd15()
    before = footprint(case.pipe)

    def stop(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if error is not None and step == when:
            raise error
        return values

    with contextlib.suppress(Interrupted, KeyboardInterrupt), i2am.trace(case.pipe, groups=2, words=True):
        assert footprint(case.pipe) != before
        case.pipe(**case.kwargs(), callback_on_step_end=stop)
    assert footprint(case.pipe) == before
    assert sdpa.STATE.current is None
    assert Trace.running is None


def test_an_error_inside_attention_is_restored_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed call may be repeated inside the same block, as after running out of memory."""
    case = pipelines.paint_by_example()
    whole = traced(case)[1]
    with i2am.trace(case.pipe, groups=2) as run:
        with monkeypatch.context() as patch:
            patch.setattr("i2am.maps.buffers.bi_attention", fails)
            with pytest.raises(MemoryError):
                case()
        assert sdpa.STATE.current is None
        case()
    assert torch.equal(run.maps.unified("r2g"), whole.unified("r2g"))


def fails(*args: Any, **kwargs: Any) -> Tensor:
    raise MemoryError


def test_calls_follow_each_other_in_one_trace() -> None:
    case = pipelines.sd15()
    alone = [traced(case, {"batch": batch, "size": size}, words=True)[1] for batch, size in ((1, (64, 64)), (2, (64, 48)))]
    with i2am.trace(case.pipe, groups=2, words=True) as run:
        for (batch, size), expected in zip(((1, (64, 64)), (2, (64, 48))), alone):
            case(batch=batch, size=size)

            assert [p.text for p in run.maps.prompts] == [p.text for p in expected.prompts]
            for word in expected.words():
                assert torch.equal(run.maps.words()[word], expected.words()[word])


def test_maps_that_were_not_read_are_not_replaced() -> None:
    case = pipelines.paint_by_example()
    with i2am.trace(case.pipe, groups=2) as run:
        case(seed=1)
        with pytest.raises(RuntimeError, match="were not read"):
            case(seed=2)
        kept = run.maps
        case(seed=2)
    assert not torch.equal(kept.unified("r2g"), run.maps.unified("r2g"))


def test_a_run_that_stops_early_keeps_what_it_has() -> None:
    case = pipelines.sd15()

    def stop(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return values

    with pytest.warns(UserWarning, match="stopped after 2 of 4 steps"), i2am.trace(case.pipe, groups=4, words=True) as run:
        case.pipe(**case.kwargs(steps=4), callback_on_step_end=stop)
    assert run.maps.steps == 2
    assert run.maps.sums[0].words is not None
    assert run.maps.sums[0].words[:, 2:].abs().sum() == 0


def test_guidance_that_is_switched_off_on_the_way() -> None:
    """Dynamic guidance halves the batch during a run; the conditional rows are still found."""
    case = pipelines.sd15()

    def off(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if step == 0:
            pipe._guidance_scale = 0.0
            values["prompt_embeds"] = values["prompt_embeds"].chunk(2)[-1]
        return values

    with i2am.trace(case.pipe, groups=2, words=True) as run:
        case.pipe(**case.kwargs(batch=2), callback_on_step_end=off, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    first = traced(case, {"batch": 2}, words=True)[1]
    sums, expected = run.maps.sums[0].words, first.sums[0].words
    assert sums is not None
    assert expected is not None
    assert torch.equal(sums[:, 0], expected[:, 0])
    assert sums[:, 1].sum() > 0
    assert not torch.equal(sums[:, 1], expected[:, 1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    case = pipelines.paint_by_example()
    full = traced(case)[1].unified("r2g")
    case.pipe.to(dtype)
    half = traced(case)[1].unified("r2g")
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.05 * float(full.max()))


def test_layers_can_be_chosen() -> None:
    case = pipelines.paint_by_example()
    everything = traced(case)[1]
    some = traced(case, layers="up_blocks*")[1]
    assert some.layers == [name for name in everything.layers if name.startswith("up_blocks")]
    assert torch.equal(some.unified("r2g"), everything.unified("r2g", layers="up_blocks*"))
    assert any("mid_block" in name for name in everything.layers)
    with pytest.raises(ValueError, match=r"'\*attn7'.*There are: down_blocks"), i2am.trace(case.pipe, layers="*attn7"):
        pass


def test_a_rule_in_one_line() -> None:
    case = pipelines.paint_by_example()
    expected = traced(case)[1]
    rule = traced(case, reference=lambda seen: i2am.Tokens(reference=(0, 1)) if seen.keys == 1 else None)[1]
    assert torch.equal(rule.unified("r2g"), expected.unified("r2g"))
    with pytest.raises(ValueError, match="the rule's answer"):
        traced(case, reference=lambda seen: (0, 1))
    with pytest.raises(ValueError, match="ran without reference tokens"):
        traced(case, reference=lambda seen: None)


def test_a_denoiser_with_its_scheduler() -> None:
    case = pipelines.paint_by_example()
    expected = traced(case)[1]
    with i2am.trace(case.pipe.unet, scheduler=case.pipe.scheduler, guidance="uncond-cond", groups=2) as run:
        case()
    assert torch.equal(run.maps.unified("r2g"), expected.unified("r2g"))
    with pytest.raises(ValueError, match="scheduler must be given"):
        i2am.trace(case.pipe.unet)
    with (
        pytest.raises(ValueError, match="guidance must be stated for UNet2DConditionModel"),
        i2am.trace(case.pipe.unet, scheduler=case.pipe.scheduler, groups=2),
    ):
        case()


def test_nothing_of_a_run_stays_behind_once_it_is_read() -> None:
    case = pipelines.paint_by_example()
    with i2am.trace(case.pipe, groups=2) as run:
        case()
        _ = run.maps
        assert not run.recorder.slots
        assert not any(tap.plan for tap in run.taps.values())


def test_lora_keeps_working() -> None:
    peft = pytest.importorskip("peft")
    case = pipelines.sd15()
    plain = traced(case, words=True)[1]
    case.pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    before = footprint(case.pipe)
    maps = traced(case, words=True)[1]
    assert footprint(case.pipe) == before
    assert maps.layers == plain.layers
    assert not torch.equal(maps.sums[0].words, plain.sums[0].words)


def test_offloaded_weights_keep_working() -> None:
    """accelerate keeps the weights elsewhere and brings each module's for its forward, as pipelines' offloading does."""
    accelerate = pytest.importorskip("accelerate")
    case = pipelines.ip_adapter("full")
    expected = traced(case)[1]
    for block in case.pipe.unet.up_blocks:
        accelerate.cpu_offload(block, execution_device=torch.device("cpu"))
    maps = traced(case)[1]
    for direction in ("r2g", "g2r"):
        assert torch.equal(maps.unified(direction), expected.unified(direction))


@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
def test_attention_backends_are_native_while_a_trace_is_on(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = joint.flux_kontext()
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as Registry

    monkeypatch.setattr(Registry, "_active_backend", Registry._active_backend)  # diffusers sets one model's for the process as well
    expected = traced(case)[1]
    try:
        case.denoiser.set_attention_backend(backend)
    except (RuntimeError, ValueError, ImportError) as error:
        pytest.skip(f"this machine lacks the backend {backend}: {error}")
    processor = next(m.processor for m in case.denoiser.modules() if hasattr(m, "processor"))
    before = dict(vars(processor))
    maps = traced(case)[1]
    assert dict(vars(processor)) == before
    assert torch.equal(maps.unified("r2g"), expected.unified("r2g"))


def test_processors_replaced_on_the_way_are_tapped_again() -> None:
    case = pipelines.sd15()
    expected = traced(case, words=True)[1]
    with i2am.trace(case.pipe, groups=2, words=True) as run:
        from diffusers.models.attention_processor import AttnProcessor2_0

        case.pipe.unet.set_attn_processor(AttnProcessor2_0())  # one for all layers
        case()
    assert len(set(map(id, case.pipe.unet.attn_processors.values()))) == 1
    assert type(next(iter(case.pipe.unet.attn_processors.values()))) is AttnProcessor2_0
    assert torch.equal(run.maps.sums[0].words, expected.sums[0].words)
