"""What is wrong with a list, found before anything is painted: prompts that the model would cut, words that are not there, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from i2am.attach.prompts import ENCODERS
from i2am.common.checks import counted
from i2am.data.prompts import Asked
from i2am.families.family import tokenizer_of
from i2am.maps.prompt import Prompt
from i2am.studies.calls import Calls, read_picture

Words = Mapping[str, Sequence[str]] | Sequence[str] | None  # by id, or for every prompt
QUOTED = 5
LARGEST_SEED = 2**64 - 1


def problems(asked: Sequence[Asked], calls: Calls, words: Words = None, progress: bool = False) -> dict[int, str]:
    """What is wrong, by place in the list."""
    readers, found = readers_of(calls), dict[int, str]()
    for place, one in enumerate(tqdm(asked, desc="checking", unit="prompt", delay=2, disable=not progress)):
        wrong = [*seed_wrong(one), *picture_wrong(one, calls), *text_wrong(one, readers, wanted(words, one)), *own_wrong(one, calls.pipe)]
        if wrong:
            found[place] = "; ".join(wrong)
    return found


def wanted(words: Words, one: Asked) -> Sequence[str]:
    """The words that are asked for of a prompt."""
    if isinstance(words, Mapping):
        return words.get(one.id, ())
    return words or ()


def in_words(asked: Sequence[Asked], found: Mapping[int, str]) -> str:
    """The first problems, and how many there are."""
    lines = [f"  {asked[place].id}: {what}" for place, what in list(found.items())[:QUOTED]]
    more = [f"  and {len(found) - QUOTED:,} more"] if len(found) > QUOTED else []
    return "\n".join([*lines, *more])


def refuse_all(asked: Sequence[Asked], found: Mapping[int, str]) -> None:
    """One error that names them."""
    if found:
        raise ValueError(f"i2am: {counted(len(found), 'prompt')} of {len(asked):,} cannot be painted, and nothing was painted.\n"
                         f"{in_words(asked, found)}\nMend the list, or leave them out with --keep-going.")  # fmt: skip


def seed_wrong(one: Asked) -> list[str]:
    return [f"its seed must be at most 2^64 - 1, got {one.seed}"] if (one.seed or 0) > LARGEST_SEED else []


def own_wrong(one: Asked, pipe: Any) -> list[str]:
    """What the pipeline itself says against a prompt, where it has a `check_prompt`: ours of few words know no others."""
    if not hasattr(pipe, "check_prompt"):
        return []
    try:
        pipe.check_prompt(one.prompt)
    except ValueError as error:
        return [str(error).removeprefix("i2am: ")]
    return []


def picture_wrong(one: Asked, calls: Calls) -> list[str]:
    """A picture that cannot be read, or that the pipeline has no use for."""
    if one.image is None:
        return []
    if calls.picture is None:
        return [f"{type(calls.pipe).__name__} takes no picture, and the list names {one.image}"]
    try:
        read_picture(one)
    except Exception as error:  # Pillow's readers fail in any way
        return [f"{one.image} cannot be read ({error})"]
    return []


def readers_of(calls: Calls) -> list[tuple[Any, int]]:
    """The pipeline's tokenizers, and how many tokens of each the model reads.

    CLIP's reads as many as it was made for; that of a language model as many as the call's `max_sequence_length` says.
    """
    parameter = (calls.takes or {}).get("max_sequence_length")
    most = calls.fixed.get("max_sequence_length", None if parameter is None else parameter.default)
    found = []
    for name in ENCODERS:
        tokenizer = tokenizer_of(calls.pipe, name)
        if tokenizer is None or not callable(tokenizer):
            continue
        length = tokenizer.model_max_length
        if isinstance(most, int) and "CLIP" not in type(tokenizer).__name__:
            length = most
        if isinstance(length, int) and 0 < length < 1 << 20:  # transformers writes 1e30 for "no limit"
            found.append((tokenizer, length))
    return found


def text_wrong(one: Asked, readers: Sequence[tuple[Any, int]], words: Sequence[str]) -> list[str]:
    """The words that no encoder would read, and those that were asked for and are not there."""
    read, cut = [], []
    for tokenizer, length in readers:
        ids = list(tokenizer(one.prompt, truncation=False, verbose=False)["input_ids"])
        if len(ids) > length or words:
            read.append(Prompt.from_ids(tokenizer(one.prompt, truncation=True, max_length=length)["input_ids"], tokenizer, one.prompt))
        if len(ids) > length:
            whole = Prompt.from_ids(ids, tokenizer, one.prompt)
            cut.append([word for word in whole.words if len(read[-1].find(word)) < len(whole.find(word))])
    wrong = []
    if readers and len(cut) == len(readers):  # what one of them still reads is not lost
        lost = [word for word in cut[0] if all(word in other for other in cut)]
        limit = max(length for _, length in readers)
        wrong.append(f"it has more than the {limit} tokens that the model reads; lost: {', '.join(lost) or 'a piece of a word'}")
    if absent := [word for word in words if read and not any(word in prompt for prompt in read)]:
        wrong.append(f"it has no {', '.join(map(repr, absent))}: {one.prompt!r}")
    return wrong
