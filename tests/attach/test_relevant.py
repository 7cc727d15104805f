"""weigh="gradient" of every kind of layer: the maps equal those of stored attention and torch's own gradient in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import joint
import oracle
import pipelines
import pytest
import torch
from families import FAMILIES, GROUPS, STEPS, layout, rows
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import i2am
from i2am.maps.layer_sums import SUMS

SDPA = torch.nn.functional.scaled_dot_product_attention


def scalar(prediction: Tensor) -> Tensor:
    """One number a row, that differs from place to place."""
    weight = torch.linspace(0.2, 1, prediction[0].numel()).view_as(prediction[0])
    return (prediction.square() * weight).flatten(1).sum(1)


def pipeline_maps(case: Any, batch: int = 2, steps: int = 2, options: dict[str, Any] | None = None, **trace: Any) -> i2am.AttributionMaps:
    with i2am.trace(case.pipe, **{"groups": 2, "weigh": "gradient", "scalar": scalar, **trace}) as run:
        case(batch=batch, steps=steps, **(options or {}))
    return run.maps


@dataclass
class Pairs:
    """One attention call of a layer, and what its pairs of tokens add to the scalar."""

    layer: str
    number: int  # within the layer's forward
    query: Tensor
    key: Tensor
    p: Tensor  # [B, H, G, R], in the graph
    m: Tensor | None = None


class Stored:
    """Attention that stores P of every call of a denoiser, in the graph, while a pipeline runs: the truth of the maps."""

    def __init__(self) -> None:
        self.within: list[list[Any]] = []  # layer, calls so far
        self.calls: list[Pairs] = []  # of this call of the denoiser
        self.passes: list[list[Pairs]] = []

    def attention(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
                  is_causal: bool = False, scale: float | None = None, **rest: Any) -> Tensor:  # fmt: skip
        if not self.within:  # a text encoder's
            return SDPA(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **rest)
        scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if attn_mask is not None:
            scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
        p = scores.softmax(-1)
        p = p if p.requires_grad else p.requires_grad_()
        self.calls.append(Pairs(*self.within[-1], query, key, p))
        self.within[-1][1] += 1
        return p @ value

    def before(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """In float64, whatever the pipeline's other parts are."""
        self.calls = []
        self.mode = torch.enable_grad()
        self.mode.__enter__()
        module.double()
        return tree_map(lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, (args, kwargs))

    def after(self, module: nn.Module, args: Any, output: Any) -> Any:
        found = torch.autograd.grad(scalar(output[0]).sum(), [call.p for call in self.calls])
        for call, asked in zip(self.calls, found):
            call.m = (call.p * asked.clamp(min=0)).detach()
        self.passes.append(self.calls)
        self.mode.__exit__(None, None, None)
        module.float()
        return tree_map(lambda x: x.detach().float() if isinstance(x, Tensor) else x, output)

    @contextmanager
    def watching(self, denoiser: nn.Module) -> Iterator[Stored]:
        with ExitStack() as undo:
            torch.nn.functional.scaled_dot_product_attention = self.attention
            undo.callback(setattr, torch.nn.functional, "scaled_dot_product_attention", SDPA)
            for name, module in denoiser.named_modules():
                if hasattr(module, "to_q"):
                    undo.callback(module.register_forward_pre_hook(lambda *_, name=name: self.within.append([name, 0])).remove)
                    undo.callback(module.register_forward_hook(lambda *_: self.within.pop() and None).remove)
            undo.callback(denoiser.register_forward_pre_hook(self.before, with_kwargs=True).remove)
            undo.callback(denoiser.register_forward_hook(self.after).remove)
            yield self


RUNS = [("paint-by-example", True), ("ip-adapter-full", True), ("ip-adapter-second-of-two", False), ("kandinsky", True),
        ("catvton", True), ("ootdiffusion", True), ("flux-kontext", True)]  # fmt: skip


@pytest.mark.parametrize(("name", "guided"), RUNS)
def test_maps_equal_stored_attention_and_its_gradient(name: str, guided: bool) -> None:
    family, batch = FAMILIES[name], 2
    options = {"batch": batch, "steps": STEPS, "guided": guided, **family.options}
    case = family.build()
    settings = {"guidance": layout(family, guided), "weigh": "gradient", "scalar": scalar, **family.trace}
    with i2am.trace(case.pipe, groups=GROUPS, **settings) as run:
        case(**options)
    case = family.build()
    with Stored().watching(case.denoiser) as stored:
        case(**options)
    assert run.maps.about["weigh"] == "gradient"
    assert "weighed by gradient" in repr(run.maps)
    passes = stored.passes[:: len(stored.passes) // STEPS]  # a second call is the unconditional one
    recorded = [s for s in run.maps.sums if family.source is None or s.source == family.source]
    assert len(passes) == STEPS
    assert recorded
    for sums in recorded:
        right: dict[str, list[Any]] = {"r2g": [0.0] * GROUPS, "g2r": [0.0] * GROUPS}
        for step, calls in enumerate(passes):
            (call,) = (c for c in calls if c.layer == sums.layer and c.number == family.number)
            assert call.m is not None
            generated, reference = (slice(*(cut(call) or (None,))) for cut in (family.generated, family.reference))
            m, group = call.m[rows(family, call, batch), :, generated, reference], oracle.group(step, GROUPS, STEPS)
            right["r2g"][group] = right["r2g"][group] + m.mean(-1)
            right["g2r"][group] = right["g2r"][group] + m.mean(-2)
        for kind in ("r2g", "g2r") if sums.g2r is not None else ("r2g",):
            truth = torch.stack(right[kind], 1)
            assert truth.abs().max() > 0
            # the gradient has passed the whole network, and the samples all steps before, in float32
            torch.testing.assert_close(getattr(sums, kind).double(), truth, rtol=1e-3, atol=1e-4 * truth.max().item())


BUILDS = [pipelines.paint_by_example, lambda: pipelines.ip_adapter("full"), lambda: joint.flux_kontext(distilled=False)]


@pytest.mark.parametrize("build", BUILDS)
def test_the_picture_is_what_it_is_without_the_trace(build: Any) -> None:
    case = build()
    plain = case(batch=2, steps=2)
    with i2am.trace(case.pipe, groups=1, weigh="gradient", scalar=scalar):
        traced = case(batch=2, steps=2)
    assert torch.equal(plain, traced)
    assert not traced.requires_grad
    assert torch.equal(case(batch=2, steps=2), plain)


def test_time_groups_and_images_are_those_of_runs_by_themselves() -> None:
    """A batch's image is what it is alone, and groups add up to one."""
    case = pipelines.ip_adapter("full")
    both, one, whole = pipeline_maps(case, 2), pipeline_maps(case, 1), pipeline_maps(case, 2, groups=1)
    for ours, alone, together in zip(both.sums, one.sums, whole.sums):
        for kind in ("r2g", "g2r"):
            batch, single, group = (getattr(sums, kind) for sums in (ours, alone, together))
            torch.testing.assert_close(batch[:1], single, rtol=1e-3, atol=1e-4 * single.max().item())
            torch.testing.assert_close(batch.sum(1, keepdim=True), group, rtol=1e-4, atol=1e-6 * group.max().item())


def test_the_scalar_s_size_is_the_maps_and_none_of_it_is_none() -> None:
    case = pipelines.ip_adapter("full")
    one, three, none = (pipeline_maps(case, scalar=lambda x, k=k: k * scalar(x)) for k in (1.0, 3.0, 0.0))
    for ours, theirs, empty in zip(one.sums, three.sums, none.sums):
        for kind in ("r2g", "g2r"):
            torch.testing.assert_close(getattr(theirs, kind), 3 * getattr(ours, kind), rtol=1e-4, atol=1e-8)
            assert getattr(ours, kind).max() > 0
            assert (getattr(empty, kind) == 0).all()


def test_everything_else_is_recorded_by_gradient_as_well(tmp_path: Any) -> None:
    """Words, regions and the field, of several references in one call; files remember how they were weighed."""
    case = pipelines.ip_adapter("full", "full")
    maps = pipeline_maps(case, field=True, specific=[(0.4, 0.5)], words=True)
    assert {len([s for s in maps.sums if s.layer == layer]) for layer in maps.layers} == {3}  # the words, and two references
    for sums in maps.sums:
        for name in SUMS:
            found = getattr(sums, name)
            assert found is None or (found.isfinite().all() and found.abs().max() > 0)
    reference = next(s for s in maps.sums if s.field_g2r is not None)
    assert reference.specific is not None
    # the field's first moment is the relevance that lies on the grid; special tokens are left out
    assert (reference.field_g2r[..., 0, :] <= reference.r2g * reference.field_r2g.shape[-1] * (1 + 1e-4)).all()
    maps.save(tmp_path / "run.safetensors")
    loaded = i2am.load(tmp_path / "run.safetensors")
    assert loaded.about["weigh"] == "gradient"
    assert torch.equal(loaded.unified("g2r", reference=reference.source), maps.unified("g2r", reference=reference.source))


def test_the_scalar_is_asked_for_by_name() -> None:
    case = pipelines.paint_by_example()
    with pytest.raises(ValueError, match=r"scalar must be a function of the prediction, got None. For example scalar=lambda prediction"):
        i2am.trace(case.pipe, weigh="gradient")
    with pytest.raises(ValueError, match="scalar must be a function of the prediction, got 3"):
        i2am.trace(case.pipe, weigh="gradient", scalar=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='scalar must be left out without weigh="gradient"'):
        i2am.trace(case.pipe, scalar=scalar)
    before = torch.nn.functional.scaled_dot_product_attention
    with pytest.raises(ValueError, match="the scalar must be made of the denoiser's output"):
        pipeline_maps(case, scalar=lambda prediction: prediction.detach().sum())
    assert torch.nn.functional.scaled_dot_product_attention is before
    assert pipeline_maps(case).about["weigh"] == "gradient"


def test_a_compiled_denoiser_runs_uncompiled() -> None:
    case = pipelines.ip_adapter("full")
    right = pipeline_maps(case)
    torch._dynamo.reset()
    case.denoiser.compile(backend="eager")
    for ours, theirs in zip(pipeline_maps(case).sums, right.sums):
        assert torch.equal(ours.g2r, theirs.g2r)
    torch._dynamo.reset()


def test_a_forward_that_is_made_again_counts_once() -> None:
    """Gradient checkpointing: the backward runs the layers once more."""
    case, calls = pipelines.ip_adapter("full"), []
    right = pipeline_maps(case)
    case.denoiser.train()  # else older versions make nothing again; it has no dropout
    case.denoiser.enable_gradient_checkpointing()
    with count_calls(case.denoiser.get_submodule(right.layers[0]), calls):
        maps = pipeline_maps(case)
    assert len(calls) == 4  # of two steps
    for ours, theirs in zip(maps.sums, right.sums):
        for kind in ("r2g", "g2r"):
            one, other = getattr(ours, kind), getattr(theirs, kind)
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * other.max().item())


@contextmanager
def count_calls(module: nn.Module, calls: list[int]) -> Iterator[None]:
    hook = module.register_forward_pre_hook(lambda *_: calls.append(1))
    yield
    hook.remove()


def test_an_ldm_sampler_s_model_and_calls_that_are_not_recorded() -> None:
    """No pipeline, and guidance in a call of its own, which runs without gradient and asks for no scalar."""
    case, asked = FAMILIES["stable-viton"].build(), []
    plain = case(batch=2, steps=STEPS)

    def counting(prediction: Tensor) -> Tensor:
        asked.append(prediction.shape[0])
        return scalar(prediction)

    settings: dict[str, Any] = {"scheduler": case.sampler, "guidance": "cond|uncond", "weigh": "gradient", "scalar": counting}
    with i2am.trace(case.denoiser, groups=GROUPS, **settings) as run:
        torch.testing.assert_close(case(batch=2, steps=STEPS), plain)  # its own attention is none of torch's
    assert asked == [2] * STEPS
    for sums in run.maps.sums:
        assert sums.r2g.shape[:2] == (2, GROUPS)
        assert sums.r2g.max() > 0
