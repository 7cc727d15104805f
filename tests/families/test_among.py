"""UNets whose pictures are tokens among others: every map equals the attention of the same run, stored whole in float64."""

from __future__ import annotations

import among
import joint
import oracle
import pytest
import torch
from among import ADAPTER, BOXES, IMAGE, SUBJECT
from families import GROUPS, STEPS, Cut, Family, close, hold, hold_words, observed, runs, single

import i2am

TEXT = 77


def part(first: int, count: int) -> Cut:
    return lambda call: (first, first + count)


def behind(first: int, count: int) -> Cut:
    """`count` keys from `first` on behind the layer's own."""
    return lambda call: (call.query.shape[2] + first, call.query.shape[2] + first + count)


def last(first: int, count: int) -> Cut:
    """`count` keys, `first` of them from the end."""
    return lambda call: (call.key.shape[2] - first, call.key.shape[2] - first + count)


def pixels(call: oracle.Call) -> tuple[int, int]:
    """GLIGEN: the layer's own."""
    return 0, call.query.shape[2] - 2 * BOXES


def until_text(call: oracle.Call) -> tuple[int, int]:
    return 0, call.query.shape[2] - joint.TEXT


def everything(call: oracle.Call) -> tuple[int, int]:
    return 0, call.key.shape[2]


CASCADE = {"layers": ".*attention", "conditional_first": True, "words": behind(0, TEXT)}
FAMILIES = {
    "kandinsky": Family(among.kandinsky21, layers=".*", reference=part(0, IMAGE), words=part(IMAGE, TEXT)),
    "blip": Family(among.blip, reference=part(2, SUBJECT)),
    "cascade": Family(among.cascade, reference=last(4, 4), **CASCADE),
    "cascade-two": Family(lambda: among.cascade(2), parts={"image 1": last(8, 4), "image 2": last(4, 4)}, **CASCADE),
    "gligen": Family(among.gligen, layers=".*fuser.attn", generated=pixels,
                     parts={"image 1": last(BOXES, 1), "image 2": last(BOXES - 1, 1)}),
    "sd3-adapter": Family(among.sd3_adapter, layers=".*attn", number=1, reference=last(ADAPTER, ADAPTER)),
    "sd3-adapter-image": Family(lambda: among.sd3_adapter(True), layers=".*attn", number=1, reference=last(ADAPTER, ADAPTER)),
}  # fmt: skip
PROMPTED = {
    **{name: FAMILIES[name] for name in ("kandinsky", "cascade", "cascade-two")},
    "cascade-none": Family(lambda: among.cascade(0), **CASCADE),
    "gligen": Family(among.gligen, words=everything),
    "sd3-adapter": Family(among.sd3_adapter, layers=".*attn", generated=until_text, words=last(joint.TEXT, joint.TEXT)),
}


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(FAMILIES))
def test_pictures_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    maps = hold(FAMILIES[name], batch, size, guided)
    assert all(sums.generated_grid[1] * 4 == sums.generated_grid[0] * (4 - size) for sums in maps.sums)


@pytest.mark.parametrize(("name", "batch", "size", "guided"), runs(PROMPTED))
def test_their_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    maps = hold_words(PROMPTED[name], batch, size, guided)
    assert len(maps.prompts) == (0 if name == "sd3-adapter" else batch)  # its prompt is given as embeddings


@pytest.mark.parametrize("guided", [False, True])
def test_words_around_a_subject(guided: bool) -> None:
    """BLIP-Diffusion: the subject stands behind the second of the prompt's tokens, and words are counted without it."""
    maps, calls, _ = observed(FAMILIES["blip"], 2, 1, guided, words=True)
    assert [prompt.text for prompt in maps.prompts]
    places = [column if column < 2 else column + SUBJECT for column in maps.columns]
    for sums in maps.sums:
        run = oracle.of(calls, sums.layer)
        where = {"rows": slice(run[0].query.shape[0] - 2, None), "words": None, "tokens": places}
        words, words32 = (oracle.word_maps(these, **where, groups=GROUPS, steps=STEPS) for these in (run, [single(c) for c in run]))
        close(sums.words, words, words32, run, f"words of {sums.layer}")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_conditional_row_of_a_picture_is_the_one(name: str) -> None:
    """One step: the maps of a guided run are the unguided run's, and not those of other rows."""
    case, wrong = FAMILIES[name].build(), "uncond-cond" if FAMILIES[name].conditional_first else "cond-uncond"
    wrong = "cond-uncond|plain-plain" if name == "gligen" else wrong
    found = []
    for guided, guidance in ((True, "auto"), (False, "auto"), (True, wrong)):
        with i2am.trace(case.pipe, groups=1, guidance=guidance) as run:
            case(steps=1, guided=guided)
        found.append(torch.cat([sums.r2g.flatten() for sums in run.maps.sums]))
    ours, plain, other = found
    assert (ours - plain).abs().max() <= 1e-5 * plain.max()
    assert (other - plain).abs().max() > 1e-3 * plain.max()


def test_without_an_image_the_prior_has_no_reference() -> None:
    case = among.cascade(0)
    with pytest.raises(ValueError, match="without reference tokens"), i2am.trace(case.pipe):
        case()


def test_boxes_that_are_not_there_are_no_reference() -> None:
    """Thirty places, of which one is taken."""
    case = among.gligen(1)
    with i2am.trace(case.pipe, groups=1) as run:
        case(steps=1)
    assert {sums.source for sums in run.maps.sums} == {"reference"}
    assert all(sums.g2r is None for sums in run.maps.sums)
