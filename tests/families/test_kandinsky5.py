"""Kandinsky 5's pictures: words equal the stored attention; a given picture is on the channels."""

from __future__ import annotations

import kandinsky5
import oracle
import pytest
import torch
from families import Family, hold_words, runs

import i2am
from i2am.attach.projection import output_weight


def every(call: oracle.Call) -> tuple[int, int]:
    """All keys are the prompt's."""
    return 0, call.key.shape[2]


FAMILIES = {
    "text-to-image": Family(kandinsky5.text_to_image, layers="visual.*cross_attention", two_calls=True, words=every),
    "image-to-image": Family(kandinsky5.image_to_image, layers="visual.*cross_attention", two_calls=True, words=every),
}


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(FAMILIES))
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    maps = hold_words(FAMILIES[name], batch, size, guided)
    prompt = maps.prompts[0]
    assert [prompt.tokens[at] for found in prompt.find("shirt") for at in found] == ["Ġshirt"]
    assert {sums.generated_grid for sums in maps.sums} == {(4, 4) if size == 0 else (6, 4)}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_first_call_of_a_step_is_the_conditional_one(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of the other call."""
    case, maps = FAMILIES[name].build(), {}
    for guidance, guided in (("auto", True), ("auto", False), ("uncond|cond", True)):
        with i2am.trace(case.pipe, groups=1, words=True, guidance=guidance) as run:
            case(steps=1, guided=guided)
        maps[guidance, guided] = torch.cat([sums.words[..., :1, :].flatten() for sums in run.maps.sums if sums.words is not None])
    plain = maps["auto", False]
    torch.testing.assert_close(maps["auto", True], plain, rtol=1e-4, atol=1e-6)
    assert (maps["uncond|cond", True] - plain).abs().max() > 1e-3 * plain.max()


def test_a_picture_on_the_channels_is_no_reference() -> None:
    case = kandinsky5.image_to_image()
    with pytest.raises(ValueError, match="stacked on the channels and seen by the text encoder"), i2am.trace(case.pipe):
        case()


def test_the_output_projection_goes_by_its_own_name() -> None:
    """For weigh="values"."""
    module = kandinsky5.text_to_image().denoiser.visual_transformer_blocks[0].cross_attention
    assert output_weight(module, 32, torch.zeros(1)) is module.out_layer.weight
