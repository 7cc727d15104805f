"""Words in text-to-image transformers: every text token's map equals the attention of the same run, stored whole in float64."""

from __future__ import annotations

import oracle
import prompted
import pytest
import torch
from families import Cut, Family, hold_words, runs
from prompted import SECOND, TEXT

import i2am


def all_keys(call: oracle.Call) -> tuple[int, int]:
    return 0, call.key.shape[2]


def from_(first: int, count: int = TEXT) -> Cut:
    """`count` tokens from the `first` on."""
    return lambda call: (first, first + count)


def behind(count: int) -> Cut:
    """All queries behind `count` of them."""
    return lambda call: (count, call.query.shape[2])


def before(count: int) -> Cut:
    """All queries but the last `count`."""
    return lambda call: (0, call.query.shape[2] - count)


def last(count: int) -> Cut:
    """The last keys."""
    return lambda call: (call.key.shape[2] - count, call.key.shape[2])


HIDREAM = TEXT + 2 * SECOND


def picture(call: oracle.Call) -> tuple[int, int]:
    """HiDream: squares are 16 tokens, and nothing is padded; 4:3 is 12 tokens, padded to 24."""
    return 0, 16 if call.query.shape[2] == 16 + HIDREAM else 12


REGISTERS = 8
GRIDS = ({(8, 8), (4, 4), (2, 2)}, {(16, 12), (8, 6), (4, 3)})  # of Kandinsky 3, whose first level reads no prompt
HUNYUAN_IMAGE = r"(single_)?transformer_blocks\.\d\.attn"
FAMILIES = {
    "sana": Family(prompted.sana, words=all_keys),
    "pixart": Family(prompted.pixart, words=all_keys),
    "lumina-next": Family(prompted.lumina_next, conditional_first=True, words=all_keys),
    "hunyuan-dit": Family(prompted.hunyuan_dit, words=all_keys),
    "kandinsky3": Family(prompted.kandinsky3, layers=r".*\.attentions\.[1-9].*", words=all_keys),
    "aura-flow": Family(prompted.aura_flow, layers=".*attn", generated=behind(REGISTERS + TEXT), words=from_(REGISTERS)),
    "cogview3": Family(prompted.cogview3, layers=".*attn1", generated=behind(TEXT), words=from_(0)),
    "cogview4": Family(prompted.cogview4, layers=".*attn1", generated=behind(TEXT), words=from_(0), two_calls=True),
    "prx": Family(prompted.prx, layers=".*attention", words=from_(0)),
    "nucleus": Family(prompted.nucleus, layers=".*attn", words=last(TEXT), two_calls=True),
    "hunyuan-image": Family(prompted.hunyuan_image, layers=HUNYUAN_IMAGE, generated=before(TEXT), words=last(TEXT), two_calls=True),
    "hunyuan-image-letters": Family(
        lambda: prompted.hunyuan_image(letters=True),
        layers=HUNYUAN_IMAGE,
        generated=before(2 * TEXT),
        words=last(2 * TEXT),
        two_calls=True,
    ),
    "hidream": Family(prompted.hidream, layers=".*attn1", generated=picture, words=last(HIDREAM)),
    "lumina2": Family(prompted.lumina2, layers="layers.*attn", generated=behind(TEXT - 2), words=from_(0, TEXT - 2), two_calls=True),
}


def all_runs() -> list[object]:
    """PRX's own pipeline guides one picture at a time."""
    several = {name: family for name, family in FAMILIES.items() if name != "prx"}
    return [*runs(several), *runs({"prx": FAMILIES["prx"]}, guided_batch=1)]


@pytest.mark.parametrize(("name", "batch", "size", "guided"), all_runs())
def test_words_equal_the_stored_attention(name: str, batch: int, size: int, guided: bool) -> None:
    maps = hold_words(FAMILIES[name], batch, size, guided)
    big = 2 if name.startswith("hunyuan-image") else 1  # its tokens are latent pixels
    grids = {sums.generated_grid for sums in maps.sums}
    assert grids == ({(4 * big, (4, 3)[size] * big)} if name != "kandinsky3" else GRIDS[size])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_conditional_row_of_a_prompt_is_the_one(name: str) -> None:
    """One step: the words' maps of a guided run are the unguided run's, and not those of the other rows or the other call."""
    family = FAMILIES[name]
    case = family.build()
    wrong = "uncond|cond" if family.two_calls else "uncond-cond" if family.conditional_first else "cond-uncond"
    maps = []
    for guided, guidance in ((True, "auto"), (False, "auto"), (True, wrong)):
        with i2am.trace(case.pipe, groups=1, words=True, guidance=guidance) as run:
            case(batch=1, steps=1, guided=guided, size=case.sizes[0])
        maps.append(torch.cat([sums.words.flatten() for sums in run.maps.sums]))
    ours, plain, other = maps
    assert (ours - plain).abs().max() <= 1e-4 * plain.max()  # a batch of two rounds otherwise: Kandinsky 3, the deepest, by 1.1e-5
    assert (other - plain).abs().max() > 1e-3 * plain.max()


@pytest.mark.parametrize("guided", [False, True])
def test_prompts_that_are_read_behind_negative_ones(guided: bool) -> None:
    """PRX: one call of its encoder reads two rows for one picture, of which the second is the prompt."""
    case = prompted.prx(text=True)
    with i2am.trace(case.pipe, words=["shirt", "cat"]) as run:
        case(guided=guided)
    assert [prompt.text for prompt in run.maps.prompts] == ["a red shirt and a blue cat"]
    assert run.maps.words()["cat"].shape[0] == 1
    with i2am.trace(case.pipe, words=["dog"]), pytest.raises(ValueError, match="a word must be in the prompt, got 'dog'"):
        case(guided=guided)


def test_prompts_of_unequal_lengths_in_one_call_are_refused() -> None:
    """Lumina 2: the picture of each row begins behind its own prompt."""
    case = prompted.lumina2((TEXT - 2, TEXT))
    with pytest.raises(ValueError, match="one by one"), i2am.trace(case.pipe, words=True):
        case(batch=2)


def test_a_prompt_alone_is_no_reference() -> None:
    for build in (prompted.sana, prompted.cogview3):
        case = build()
        with pytest.raises(ValueError, match="without reference tokens"), i2am.trace(case.pipe):
            case(size=case.sizes[0])
