"""torch.compile and the tracer: whole graphs, no new graph for each step."""

from __future__ import annotations

from typing import Any

import joint
import pipelines
import pytest
import torch
from parts import unet
from torch import Tensor

import i2am


def traced(case: Any, options: dict[str, Any] | None = None, **trace: Any) -> tuple[Tensor, i2am.AttributionMaps]:
    with i2am.trace(case.pipe, **{"groups": 2, **trace}) as run:
        out = case(**(options or {}))
    return out, run.maps


def test_compiled_models_keep_their_graphs() -> None:
    """fullgraph, one more graph for the trace, none for the groups, and the old one again afterwards."""
    from torch._dynamo.testing import CompileCounterWithBackend

    case = pipelines.paint_by_example()
    options = {"batch": 2, "steps": 5}
    expected = traced(case, options, groups=5)[1]
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    case.pipe.unet.compile(fullgraph=True, backend=counter)
    plain = case(**options)
    assert counter.frame_count == 1
    for _ in range(2):
        out, maps = traced(case, options, groups=5)
        assert torch.equal(out, plain)
        assert torch.equal(maps.unified("r2g"), expected.unified("r2g"))
        assert counter.frame_count == 2
    assert torch.equal(case(**options), plain)
    assert counter.frame_count == 2
    torch._dynamo.reset()


def test_a_wrapped_compiled_module() -> None:
    case = pipelines.paint_by_example()
    expected = traced(case)[1]
    torch._dynamo.reset()
    case.pipe.unet = torch.compile(case.pipe.unet, backend="eager")
    maps = traced(case)[1]
    assert maps.layers == expected.layers
    assert torch.equal(maps.unified("r2g"), expected.unified("r2g"))
    torch._dynamo.reset()


@pytest.mark.parametrize("build", [lambda: pipelines.ip_adapter("full"), pipelines.sd15, lambda: joint.flux_kontext(distilled=False)])
def test_other_families_compile_in_one_graph(build: Any) -> None:
    case = build()
    words = {"words": True} if case.facts.get("layers") and "reference_tokens" not in case.facts else {}
    options = {"batch": 2, "steps": 4, "guided": True}
    out, expected = traced(case, options, groups=4, **words)
    torch._dynamo.reset()
    case.denoiser.compile(fullgraph=True, backend="eager")
    for _ in range(2):
        again, maps = traced(case, options, groups=4, **words)
        assert torch.equal(again, out)
        for ours, theirs in zip(maps.sums, expected.sums):
            for name in ("r2g", "g2r", "words"):
                one, other = getattr(ours, name), getattr(theirs, name)
                assert (one is None and other is None) or torch.equal(one, other)
    torch._dynamo.reset()


def two_grids() -> pipelines.Case:
    """Paint-by-Example with three of its layers."""
    case = pipelines.paint_by_example()
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    case.pipe.unet = unet(in_channels=9, mid_block_type=None, **blocks)
    return case


UPPER = ("CrossAttnUpBlock2D", "UpBlock2D")
SQUARE, UPRIGHT, TALL = (64, 64), (64, 48), (96, 64)


@pytest.mark.parametrize(
    ("build", "guided", "runs"),
    [
        (two_grids, True, [(1, SQUARE), (1, UPRIGHT), (2, SQUARE), (2, UPRIGHT)]),
        (joint.flux_kontext, False, [(1, SQUARE), (1, UPRIGHT), (1, TALL)]),
    ],
    ids=["cross-attention", "joint"],
)
def test_another_size_costs_a_trace_no_more_graphs_than_the_model(build: Any, guided: bool, runs: Any) -> None:
    """Images and sizes that change, several time groups: as many graphs as without the trace, and the uncompiled run's maps."""
    from torch._dynamo.testing import CompileCounterWithBackend

    case = build()
    runs = [{"batch": batch, "size": size, "steps": 3, "guided": guided} for batch, size in runs]
    expected = [traced(case, run, groups=3) for run in runs]
    graphs = []
    for trace in (False, True):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("eager")
        case.denoiser.compile(fullgraph=True, backend=counter)
        for run, (image, maps) in zip(runs, expected):
            if not trace:
                case(**run)
                continue
            out, found = traced(case, run, groups=3)
            assert torch.equal(out, image)
            for ours, theirs in zip(found.sums, maps.sums):
                assert torch.equal(ours.r2g, theirs.r2g)
                assert ours.g2r is None or torch.equal(ours.g2r, theirs.g2r)
        graphs.append(counter.frame_count)
    assert graphs[1] <= graphs[0] < len(runs)
    torch._dynamo.reset()


def test_guidance_that_is_switched_off_in_a_compiled_run() -> None:
    """The batch halves between two steps."""
    case = pipelines.sd15()
    case.pipe.unet = unet(mid_block_type=None, down_block_types=("DownBlock2D",) * 2, up_block_types=UPPER)

    def off(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        if step == 1:
            pipe._guidance_scale = 1.0
            given["prompt_embeds"] = given["prompt_embeds"].chunk(2)[1]
        return given

    def words() -> list[Tensor]:
        with i2am.trace(case.pipe, groups=2, words=True) as run:
            case.pipe(**case.kwargs(batch=2, steps=4), callback_on_step_end=off, callback_on_step_end_tensor_inputs=["prompt_embeds"])
        return [sums.words for sums in run.maps.sums]

    expected = words()
    torch._dynamo.reset()
    case.pipe.unet.compile(fullgraph=True, backend="eager")
    for ours, theirs in zip(words(), expected):
        assert torch.equal(ours, theirs)
    torch._dynamo.reset()


@pytest.mark.parametrize("whole", [True, False], ids=["fullgraph", "graph breaks"])
def test_a_refusal_names_the_layer(whole: bool) -> None:
    """In the compiled steps as in the first, which is not."""
    case = pipelines.paint_by_example()
    case.pipe.unet = unet(in_channels=9, mid_block_type=None, down_block_types=("DownBlock2D",) * 2, up_block_types=UPPER)
    layers = [name for name, module in case.pipe.unet.named_modules() if name.endswith("attn2")]
    module = case.pipe.unet.get_submodule(layers[-1])
    torch._dynamo.reset()
    case.pipe.unet.compile(fullgraph=whole, backend="eager")

    class Spoilt(type(module.processor)):  # type: ignore[misc]
        first = 0  # step in which the value does not belong to its key

        def __call__(self, attn: Any, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            tokens = states.unflatten(-1, (2, -1)).transpose(1, 2)
            wrong = 1 + (attn._i2am_tap.trace.recorder.done >= self.first)
            torch.nn.functional.scaled_dot_product_attention(tokens, tokens[:, :, :1], tokens[:, :, :wrong])
            return states

    for first in (0, 1):
        module.processor = Spoilt()
        module.processor.first = first
        kind = torch._dynamo.exc.Unsupported if whole and first else ValueError
        with pytest.raises(kind) as refused, i2am.trace(case.pipe, groups=1, layers=layers[-1]):
            case(steps=3)
        named = f"i2am: layer {layers[-1]}: value must be [" in str(refused.value)
        assert named or (kind is not ValueError and "xception" in str(refused.value))  # torch 2.6 does not say which
    torch._dynamo.reset()
