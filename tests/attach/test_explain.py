"""`i2am.explain`: every attention call of the denoiser, in order, with what a trace finds in it; nothing refused, everything restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attentions
import joint
import ldm
import oracle
import pipelines
import pytest
import torch
from tracing import footprint

import i2am
from i2am.attach.explained import AttentionCall
from i2am.families import registry


def explained(case: Any, options: dict[str, Any] | None = None, **explain: Any) -> Any:
    call = {**case.kwargs(**{"batch": 2, "size": case.sizes[1], **(options or {})})}
    call.pop("num_inference_steps")
    return i2am.explain(case.pipe, **explain, **call)


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "paint-by-example": (pipelines.paint_by_example, {}),
    "two adapters": (lambda: pipelines.ip_adapter("plain", "full"), {}),
    "masked adapter": (lambda: pipelines.ip_adapter("full", images=2, masked=True), {}),
    "kontext": (lambda: joint.flux_kontext(distilled=False), {}),
    "sd3": (lambda: joint.sd3(dual=True), {}),
    "idm-vton": (attentions.idm_vton, {"reference": "self", "guidance": "uncond-cond"}),
}


@pytest.mark.parametrize("name", CASES)
def test_it_tells_what_a_trace_records_of_the_calls_that_ran(name: str) -> None:
    build, asked = CASES[name]
    case = build()
    case(batch=2, size=case.sizes[1], steps=1)  # stand-ins keep their garment's features
    before = footprint(case.pipe)
    told = explained(case, **asked)
    assert footprint(case.pipe) == before
    assert told.error is None
    with oracle.recorded(case.denoiser, case.pipe.scheduler) as calls:
        case(batch=2, size=case.sizes[1], steps=1)
    shapes = [(c.layer, *c.query.shape[:3], c.key.shape[2], c.mask is not None, c.pass_) for c in calls]
    assert [(r.layer, r.rows, r.heads, r.queries, r.keys, r.masked, r.call) for r in told.rows] == shapes
    reads = any(one.words for row in told.rows for one in row.tokens)
    assert reads == ("reference" not in asked and name != "paint-by-example")
    with i2am.trace(case.pipe, groups=1, words=reads or None, **asked) as run:
        case(batch=2, size=case.sizes[1], steps=1)
    recorded = [(s.layer, s.source, s.generated_grid, s.reference_grid, s.words is not None) for s in run.maps.sums]
    seen = [(row.layer, one.source, one.generated_grid, one.reference_grid, one.words is not None)
            for row in told.rows if row.active for one in row.tokens]  # fmt: skip
    assert seen == recorded
    guided = {row.rows == 4 for row in told.rows if row.active}
    assert {row.conditional for row in told.rows if row.active} == {(2, 4) if guided == {True} else (0, 2)}
    assert all(row.conditional is None for row in told.rows if not row.active)


def test_layers_of_one_layout_are_told_once() -> None:
    text = repr(explained(joint.flux_kontext()))
    assert "  4 layers: transformer_blocks.0.attn ... single_transformer_blocks.1.attn\n" in text
    assert "reference: keys 57:92 on 5 x 7; words: keys 0:9; generated: queries 9:57 on 8 x 6" in text
    assert "the family Flux; keys: text, generated, references" in text
    assert "img_ids                 float32 [83, 3]" in text
    assert "words" not in repr(explained(joint.flux_kontext(), words=False)).partition("call 1 of the denoiser")[2]


def test_what_a_trace_refuses_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown transformer and a refused pipeline run; the numbers for a rule are there, and a rule's answer is."""
    case = joint.flux_kontext()
    monkeypatch.setattr(registry, "FAMILIES", ())
    with pytest.raises(ValueError, match=r"FluxTransformer2DModel is none of the denoisers.*explain"):
        i2am.trace(case.pipe)
    told = explained(case, {"guided": False})
    assert "a trace refuses it: FluxTransformer2DModel is none" in repr(told)
    assert "FluxTransformer2DModel: no family knows it" in repr(told)
    assert [(row.queries, row.keys, row.tokens, row.why) for row in told.rows] == [
        (92, 92, (), "unknown: no family knows FluxTransformer2DModel")
    ] * 4
    assert told.inputs["hidden_states"] == "float32 [2, 83, 16]"

    def rule(seen: i2am.Seen) -> Any:
        return i2am.Tokens(reference=(57, 92), generated=(9, 57), reference_grid=(5, 7), generated_grid=(8, 6))

    assert {row.why for row in explained(case, reference=rule).rows} == {"the rule rule"}
    case.pipe.__class__ = type("VisualClozeGenerationPipeline", (type(case.pipe),), {})
    told = explained(case, {"guided": False})
    assert told.verdict.startswith("a trace refuses it: VisualClozeGenerationPipeline cannot be traced by itself: the pictures of a row")
    assert len(told.rows) == 4


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (lambda seen: i2am.Tokens(reference=(0, 93)), "fails: keys 0:93 do not lie in the call, which has 92"),
        (lambda seen: seen.inputs["nothing"], "fails: KeyError: 'nothing'"),
        (lambda seen: (0, 5), "must be i2am.Tokens"),
        (lambda seen: None, "finds nothing here"),
    ],
)
def test_a_rule_that_is_wrong_says_where(rule: Any, why: str) -> None:
    told = explained(joint.flux_kontext(), {"guided": False}, reference=rule)
    assert len(told.rows) == 4
    assert all(why in row.why and not row.tokens for row in told.rows)


def test_a_call_that_fails_says_so_after_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    case = joint.flux_kontext()
    before = footprint(case.pipe)

    def decode(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no room")

    monkeypatch.setattr(case.pipe.vae, "decode", decode)
    told = i2am.explain(case.pipe, **{**case.kwargs(guided=False), "num_inference_steps": 1, "output_type": "pil"})
    assert len(told.rows) == 4
    assert repr(told).splitlines()[-1] == "then the call failed: RuntimeError: no room"
    assert footprint(case.pipe) == before
    told = i2am.explain(case.pipe)
    assert not told.rows
    assert "no attention was seen in the denoiser" in repr(told)
    assert isinstance(told.error, Exception)


def test_attention_of_no_kind_that_is_known_counts_too() -> None:
    case = pipelines.sd15()
    block = case.pipe.unet.down_blocks[0]
    inner = block.resnets[0].forward

    class Strange(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            states = x.flatten(2).mT[:, None]
            return torch.nn.functional.scaled_dot_product_attention(states, states, states)

    block.strange = Strange()
    block.resnets[0].forward = lambda x, *rest: (block.strange(x), inner(x, *rest))[1]
    told = explained(case)
    row = told.rows[0]
    assert (row.layer, row.index, row.heads) == ("down_blocks.0.strange", 0, 1)
    assert row.why == "unknown: no module that the tracer knows as attention"
    case.pipe.enable_attention_slicing(1)
    told = explained(case)
    assert len(told.silent) == 14
    assert "ran without calling scaled_dot_product_attention: 14 layers: down_blocks.0" in repr(told)


def test_rows_that_are_not_known_say_what_to_pass() -> None:
    case = attentions.ootdiffusion()
    told = explained(case, reference="self")
    assert "conditional rows are not known: guidance must be stated" in told.guidance
    assert {row.conditional for row in told.rows} == {None}
    told = explained(case, reference="self", guidance="cond-uncond")
    assert {row.conditional for row in told.rows} == {(0, 2)}


def test_one_at_a_time() -> None:
    case = pipelines.sd15()
    with i2am.trace(case.pipe, words=True) as run, pytest.raises(RuntimeError, match="another trace is running"):
        explained(case)
    with i2am.trace(case.pipe, words=True, groups=1) as run:
        case()
    assert len(run.maps) == 1
    assert len(explained(case).rows) == 14


def test_a_module_alone_is_called_once() -> None:
    """LDM layers compute attention without torch's call; what they project is told."""
    case = ldm.stable_viton()
    kept: list[Any] = []
    hook = case.denoiser.register_forward_pre_hook(lambda module, args, kwargs: kept.append((args, kwargs)), with_kwargs=True)
    case(batch=1, steps=1)
    hook.remove()
    args, kwargs = kept[0]
    names = dict(zip(("x", "timesteps", "context"), args)) | kwargs
    told = i2am.explain(case.denoiser, **names)
    assert told.error is None
    layers = [row.layer for row in told.rows]
    with i2am.trace(case.denoiser, scheduler=case.sampler, guidance="cond|uncond", groups=1) as run:
        case(batch=1, steps=1)
    assert layers == run.maps.layers
    assert all(row.tokens[0].reference == (0, row.keys) for row in told.rows)
    assert "no step was counted" in told.guidance


def test_few_steps_are_as_few_as_the_pipeline_takes() -> None:
    from i2am.attach.explain import few_steps

    class Img2Img:
        def __call__(self, image: Any, strength: float = 0.3, num_inference_steps: int = 50) -> None: ...

    assert few_steps(Img2Img(), {"image": 1}) == {"image": 1, "num_inference_steps": 4}
    assert few_steps(Img2Img(), {"strength": 1.0})["num_inference_steps"] == 1
    assert few_steps(Img2Img(), {"num_inference_steps": 7}) == {"num_inference_steps": 7}
    assert few_steps(lambda prompt: None, {"prompt": "a"}) == {"prompt": "a"}


def test_calls_before_the_first_step_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a pipeline that fills a cache of keys first: what is told of the steps is the same, and the rule hears of it."""
    case = joint.flux_kontext()
    plain = explained(case, {"guided": False})
    check, run = case.pipe.check_inputs, case.pipe.transformer.forward
    heard: list[int] = []

    def cached(*args: Any, **kwargs: Any) -> None:
        small = joint.each(1, 4, 16)
        case.pipe.transformer(
            hidden_states=small, encoder_hidden_states=joint.each(1, 3, 32), pooled_projections=joint.each(1, 32), timestep=torch.ones(1),
            img_ids=torch.cartesian_prod(torch.zeros(1), torch.arange(2.0), torch.arange(2.0)), txt_ids=torch.zeros(3, 3),
            guidance=torch.ones(1),
        )  # fmt: skip
        check(*args, **kwargs)

    monkeypatch.setattr(case.pipe, "check_inputs", cached)
    told = explained(case, {"guided": False})
    assert case.pipe.transformer.forward == run
    assert [(row.call, row.keys, row.active, row.tokens) for row in told.rows[:4]] == [(-1, 7, False, ())] * 4
    assert told.rows[4:] == plain.rows
    assert (told.calls, told.inputs) == (1, plain.inputs)
    assert "\nbefore the first step\n" in repr(told)
    explained(case, {"guided": False}, reference=lambda seen: heard.append(len(seen.ahead)))
    assert heard[-4:] == [1] * 4


def test_rows_are_plain_data() -> None:
    row = explained(pipelines.paint_by_example()).rows[1]
    assert isinstance(row, AttentionCall)
    assert (row.layer.rpartition(".")[2], row.queries, row.keys, row.tokens[0].reference) == ("attn2", 192, 1, (0, 1))
