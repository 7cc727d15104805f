"""torch.compile and the tracer: whole graphs, no new graph for each step."""

from __future__ import annotations

from typing import Any

import joint
import pipelines
import pytest
import torch
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
