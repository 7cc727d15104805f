"""Attention held fixed: the others look where the first picture looks, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import daam_held
import joint
import numpy as np
import pipelines
import pytest
import torch
from tolerance import EPS, alike
from torch import Tensor
from tracing import footprint

import i2am

pytestmark = pytest.mark.usefixtures("on_the_cpu")
PROMPTS = ["a blue cat on the shirt", "a red dog and the shirt", "a plain cat"]  # of different lengths, padded alike
STEPS, KEYS = 3, 77
SAME = {"rtol": 1e-9, "atol": 1e-9}  # in float64, which rounds at 1e-16; held and free pictures are apart by more than a hundredth


class Stored:
    """A plain processor that stores what it attends with, or loads it: the definition."""

    def __init__(self, kept: list[Tensor], load: bool) -> None:
        self.kept, self.load, self.at = kept, load, 0

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: Any = None, **_: Any) -> Tensor:
        query, key, value = (
            projection(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection, states in (
                (attn.to_q, hidden_states), (attn.to_k, encoder_hidden_states), (attn.to_v, encoder_hidden_states),
            )
        )  # fmt: skip
        weights = self.kept[self.at] if self.load else (query @ key.mT * attn.scale).softmax(-1)
        if not self.load:
            self.kept.append(weights)
        self.at += 1
        return attn.to_out[1](attn.to_out[0]((weights @ value).transpose(1, 2).flatten(2)))


@contextmanager
def processed(unet: Any, kept: dict[str, list[Tensor]], load: bool) -> Iterator[None]:
    before = unet.attn_processors
    unet.set_attn_processor({name: Stored(kept.setdefault(name, []), load) if ".attn2." in name else processor
                             for name, processor in before.items()})  # fmt: skip
    yield
    unet.set_attn_processor(before)


def asked(case: Any, prompts: list[str], guided: bool, of: int = 0, **more: Any) -> dict[str, Any]:
    """The keywords of a call, with the pictures that a pipeline of edits begins from."""
    own = case.kwargs(batch=len(prompts), guided=guided, steps=STEPS)
    noise = [torch.Generator().manual_seed(10 * seed) for seed in range(of, of + len(prompts))]
    own |= {"prompt": prompts, "generator": noise, **more}
    if "image" in own:
        own["image"] = case.kwargs(batch=3)["image"][of : of + len(prompts)]
    return own


def in_double(case: Any) -> Any:
    """float64 throughout: what is equal is equal to more digits than anything else here explains."""
    case.pipe.to(torch.float64)
    return case


CASES = [
    (pipelines.sd15, True), (pipelines.sd15, False), (pipelines.sdxl, True), (pipelines.instruct_pix2pix, True),
]  # fmt: skip


@pytest.mark.parametrize(("build", "guided"), CASES)
def test_held_is_the_first_picture_s_attention_stored_and_loaded(build: Any, guided: bool) -> None:
    case = in_double(build())
    kept: dict[str, list[Tensor]] = {}
    with processed(case.pipe.unet, kept, load=False):
        alone = [case.pipe(**asked(case, PROMPTS[:1], guided)).images]
    free = case.pipe(**asked(case, PROMPTS, guided)).images
    for i in (1, 2):
        with processed(case.pipe.unet, kept, load=True):
            alone.append(case.pipe(**asked(case, PROMPTS[i : i + 1], guided, of=i)).images)
    with i2am.hold(case.pipe) as held:
        found = case.pipe(**asked(case, PROMPTS, guided)).images
    assert len(held.layers) == len(kept)
    torch.testing.assert_close(found, torch.cat(alone), **SAME)
    torch.testing.assert_close(found[0], free[0], **SAME)
    assert ((found[1:] - free[1:]).abs().amax((1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize("guided", [True, False])
def test_held_pictures_are_castorini_daam_s(guided: bool) -> None:
    right = torch.from_numpy(np.load(daam_held.NUMBERS)["guided" if guided else "plain"])
    pipe = pipelines.sd15().pipe
    with i2am.hold(pipe):
        found = pipe(**daam_held.asked(list(daam_held.PROMPTS), guided)).images[1:]
    free = pipe(**daam_held.asked([daam_held.PROMPTS[1]], guided)).images
    assert (free - right).abs().max() > 0.01
    torch.testing.assert_close(found, right, rtol=0, atol=64 * EPS * right.abs().max().item())  # another loop of other kernels, rounded


@pytest.mark.parametrize("around", [True, False])
def test_the_word_maps_of_held_pictures_are_the_first_one_s(around: bool) -> None:
    case = pipelines.sd15()
    contexts = [lambda: i2am.hold(case.pipe), lambda: i2am.trace(case.pipe, groups=1, words=True)]
    with contexts[not around]() as one, contexts[around]() as other:
        case.pipe(**asked(case, PROMPTS, True))
    words = (other if around else one).maps.words()
    for i in (1, 2):
        alike(words.maps[i].flatten(1), words.maps[0].flatten(1), KEYS)
    alike(words.image(1)["red"].flatten(1), words.image(0)["blue"].flatten(1), KEYS)  # the second word of both


def test_layers_can_be_chosen_and_everything_is_restored() -> None:
    case = pipelines.sd15()
    projections = [module for name, module in case.pipe.unet.named_modules() if name.endswith(("to_q", "to_k"))]

    def left() -> Any:
        return footprint(case.pipe), [len(module._forward_hooks) for module in projections]

    before, free = left(), case.pipe(**asked(case, PROMPTS, True)).images
    with i2am.hold(case.pipe, layers="mid_block*") as held:
        middle = case.pipe(**asked(case, PROMPTS, True)).images
    assert held.layers == ["mid_block.attentions.0.transformer_blocks.0.attn2"]
    assert not torch.equal(middle[1], free[1])
    assert left() == before
    with pytest.raises(RuntimeError, match="on the way"), i2am.hold(case.pipe):
        case.pipe(**asked(case, PROMPTS, True), callback_on_step_end=stop)
    assert left() == before
    assert torch.equal(case.pipe(**asked(case, PROMPTS, True)).images, free)
    with pytest.raises(ValueError, match="layers must be names or patterns"):
        i2am.hold(case.pipe, layers="nowhere*")


def stop(*_: Any) -> dict[str, Any]:
    raise RuntimeError("on the way")


def test_guidance_may_end_on_the_way_and_runs_may_follow_each_other() -> None:
    case = in_double(pipelines.sd15())

    def unguided(pipe: Any, step: int, timestep: Any, states: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = 1.0
        return {"prompt_embeds": states["prompt_embeds"].chunk(2)[1]} if len(states["prompt_embeds"]) == 4 else {}

    ending = {"callback_on_step_end": unguided, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with i2am.hold(case.pipe):
        case.pipe(**asked(case, PROMPTS, True))
        found = case.pipe(**asked(case, [PROMPTS[0], PROMPTS[0]], True, **ending)).images
        case.pipe(**asked(case, PROMPTS[:2], False))
    same = [torch.Generator().manual_seed(10 * seed) for seed in range(2)]
    free = case.pipe(**asked(case, [PROMPTS[0], PROMPTS[0]], True, **{**ending, "generator": same})).images
    torch.testing.assert_close(found[0], free[0], **SAME)


def test_what_cannot_be_held_is_refused() -> None:
    case = pipelines.sd15()
    with pytest.raises(ValueError, match=r"at least two pictures.*got one"), i2am.hold(case.pipe):
        case.pipe(**asked(case, PROMPTS[:1], True))
    with pytest.raises(ValueError, match="a layout of the 3 rows"), i2am.hold(case.pipe, guidance="uncond-cond"):
        case.pipe(**asked(case, PROMPTS, False))
    with pytest.raises(ValueError, match="a layout of the 6 rows of 3 pictures"), i2am.hold(case.pipe, guidance="none"):
        case.pipe(**asked(case, PROMPTS, True))
    for pipe in (joint.flux().pipe, pipelines.kandinsky22().pipe):
        with pytest.raises(ValueError, match=f"reads the prompt by cross-attention, got {type(pipe).__name__}"):
            i2am.hold(pipe)
    with pytest.raises(ValueError, match="without an IP-Adapter"):
        i2am.hold(pipelines.ip_adapter().pipe)
    case.pipe.fuse_qkv_projections()
    with pytest.raises(ValueError, match=r"calls without them in .*attn2.*Undo pipe.fuse_qkv"), i2am.hold(case.pipe):
        case.pipe(**asked(case, PROMPTS, True))
