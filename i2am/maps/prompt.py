"""The prompt as the model reads it: which tokens are a word.

A word is found in the token strings alone, so that a loaded file needs no tokenizer: tokens become characters with
their positions, characters become atoms by CLIP's own rule (a run of letters, one digit, a run of punctuation, 's and
the like), and a word or phrase is a run of atoms. On CLIP's tokens that is DAAM's subsequence match, held to whole words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from i2am.common.checks import said

END, MARKS = "</w>", ("▁", "Ġ")  # where a word ends (CLIP), where it begins (SentencePiece, byte-level BPE)
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]  # the bytes that byte-level BPE writes as themselves
BYTES = {chr(b): b for b in PRINTABLE} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in PRINTABLE)}
NAMED = re.compile(r"<[^<>\s]+>")  # <unk>, and the placeholders of textual inversion: one atom, not words between brackets
SUFFIX = re.compile(r"(?<=[^\W_])'(?:s|t|re|ve|m|ll|d)|'(?:s|t|re|ve|m|ll|d)(?![^\W_])")  # after a word, or cut off from it
Characters = list[tuple[str, tuple[int, ...]]]


class WordError(ValueError, KeyError):
    """A word without a map. A KeyError too, as a Mapping promises, but printed as a sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


class Atom(NamedTuple):
    """The smallest thing that can be asked for; `joined` when it goes on with the number before it."""

    text: str
    positions: tuple[int, ...]
    joined: bool


def _normal(characters: Characters) -> Characters:
    return [(c, at) for character, at in characters for c in unicodedata.normalize("NFKC", character).lower()]


def _kind(character: str) -> str:
    kind = unicodedata.category(character)[0]
    return " " if character.isspace() else kind if kind in "LN" else "P"


def _atoms(characters: Characters) -> list[Atom]:
    """CLIP's pre-tokeniser, which needs Unicode classes that `re` lacks."""
    characters = _normal(characters)
    text, atoms, start = "".join(c for c, _ in characters), list[Atom](), 0
    while start < len(text):
        end, kind = start + 1, _kind(text[start])
        if kind == " ":
            start = end
            continue
        if found := NAMED.match(text, start) or SUFFIX.match(text, start):
            end = found.end()
        while not found and kind != "N" and end < len(text) and _kind(text[end]) == kind and not NAMED.match(text, end):
            end += 1
        joined = kind == "N" and start > 0 and _kind(text[start - 1]) == "N"
        atoms.append(Atom(text[start:end], tuple(sorted({p for _, at in characters[start:end] for p in at})), joined))
        start = end
    return atoms


def _query(text: str) -> list[str]:
    return [atom.text.casefold() for atom in _atoms([(c, ()) for c in unicodedata.normalize("NFC", text)])]


def _written_as_bytes(marked: str) -> bool:
    """Whether tokens without a mark, as a text without spaces has them, are byte-level BPE's: their bytes are UTF-8."""
    try:
        return bool(bytes(BYTES[c] for c in marked).decode())
    except (KeyError, UnicodeDecodeError):
        return False


def _raw(token: str, literal: bool) -> bytes:
    """The bytes of a token; a space stands where its mark says that a word begins or ends."""
    if literal:
        return bytes([int(token[3:5], 16)]) if re.fullmatch("<0x[0-9A-F]{2}>", token) else token.replace(MARKS[0], " ").encode()
    piece = token.removesuffix(END)
    return b"".join(bytes([BYTES[c]]) if c in BYTES else c.encode() for c in piece) + b" " * (piece != token)


def _characters(tokens: list[str], first: int) -> Characters:
    """The characters of a run of ordinary tokens, the first of them at position `first`, each with its positions."""
    clip = any(token.endswith(END) for token in tokens)
    while clip and not tokens[-1].endswith(END):
        tokens = tokens[:-1]  # truncation cut a word: its beginning is not a word, and asking for it is an error
    marked = "".join(tokens)
    literal = not clip and (MARKS[0] in marked or not (MARKS[1] in marked or _written_as_bytes(marked)))
    owners, raw = list[tuple[int, ...]](), b""
    for at, token in enumerate(tokens):
        piece, before = _raw(token, literal), _raw(tokens[at - 1], literal) if at else b""
        owners += [(first + at,)] * len(piece)
        if before == b" " and piece:  # a mark on its own is a piece of the word it begins
            owners[len(raw)] = (first + at - 1, first + at)
        raw += piece
    out, start = Characters(), 0
    for character in raw.decode("utf-8", "surrogateescape"):
        end = start + len(character.encode("utf-8", "surrogateescape"))
        position = tuple(sorted({p for at in owners[start:end] for p in at}))  # one character may be several tokens
        out.append((character, position))
        start = end
    return out


def _last_of(text: str, within: str) -> int:
    """Where a text stands last, as whole words: "ant" is not in "assistant"; -1 if it does not."""
    place = within.rfind(text)
    while place >= 0:
        before, behind = within[:place][-1:] or " ", within[place + len(text) :][:1] or " "
        if not (before + text[0]).isalnum() and not (text[-1] + behind).isalnum():
            break
        place = within.rfind(text, 0, place + len(text) - 1)
    return place


def _mark(tokens: Iterable[str]) -> str | None:
    """How these tokens tell one word from the next; None if they do not."""
    tokens = [token for token in tokens if len(token) > 1]
    if any(len(token) > len(END) and token.endswith(END) for token in tokens):
        return END
    return next((mark for mark in MARKS if any(token.startswith(mark) for token in tokens)), None)


@dataclass(frozen=True)
class Prompt:
    """A text and its tokens as the model saw them: one string per position, special tokens and padding included.

    `special` marks the positions that are no part of the text: beginning, end, padding and everything after the end.
    """

    text: str
    tokens: tuple[str, ...]
    special: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.special):
            raise ValueError(f"prompt: tokens and special must be equally long, got {len(self.tokens)} and {len(self.special)}.")

    @classmethod
    def of(cls, text: str, tokenizer: Any, length: int | None = None) -> Prompt:
        """Tokenise as a diffusers pipeline does: padded and truncated to `length`, by default the tokenizer's own limit."""
        length = tokenizer.model_max_length if length is None else length
        if not 0 < length < 1 << 20:  # transformers writes 1e30 for "no limit"
            raise ValueError(f"prompt: length must be the model's number of text tokens, got {length}. Pass length=, for example 512.")
        ids = tokenizer(text, padding="max_length", max_length=length, truncation=True)["input_ids"]
        return cls.from_ids(ids, tokenizer, text)

    @classmethod
    def from_ids(cls, ids: Tensor | Sequence[int], tokenizer: Any, text: str | None = None) -> Prompt:
        """The prompt of one captured row of input_ids; its text is decoded unless given."""
        row: list[Any] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if not all(isinstance(i, int) for i in row):
            raise ValueError("prompt: ids must be one row of integers, got something else. Pass input_ids[i] of each image.")
        pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
        # a pad within the text is text ("!" pads SD2's and SDXL's second tokenizer), and an unknown word is a word
        named = set(tokenizer.all_special_ids) - {pad, tokenizer.unk_token_id}
        end = row.index(eos) if eos in row else len(row)
        first = next((at for at, i in enumerate(row) if i != pad), len(row))
        last = next((at + 1 for at in reversed(range(end)) if row[at] != pad), 0)
        special = tuple(not first <= at < last or i in named for at, i in enumerate(row))
        tokens = tokenizer.convert_ids_to_tokens(row)
        if None in tokens:
            raise ValueError(f"prompt: ids must be the tokenizer's, got {row[tokens.index(None)]}. Pass the tokenizer that made them.")
        ordinary = [i for i, skip in zip(row, special) if not skip]
        if ordinary:
            mark = _mark(t for t, skip in zip(tokens, special) if not skip) or _mark(tokenizer.get_vocab())
            if mark is None:
                raise ValueError(
                    f"prompt: tokens must mark where words begin or end (CLIP's </w>, SentencePiece's ▁, byte-level Ġ), got "
                    f"{tokenizer.convert_ids_to_tokens(ordinary)}. Write Prompt(text, tokens, special) with one of these marks."
                )
            added = set(tokenizer.get_added_vocab())  # placeholders of textual inversion carry no mark of their own
            write = {t: t + END if mark == END else mark + t for t in added if not t.endswith(END) and not t.startswith(MARKS)}
            tokens = [t if skip else write.get(t, t) for t, skip in zip(tokens, special)]
        return cls(tokenizer.decode(ordinary) if text is None else text, tuple(tokens), special)

    @classmethod
    def within(cls, ids: Tensor | Sequence[int], tokenizer: Any, text: str) -> Prompt:
        """As `from_ids`, where a chat's template may stand around the text: what is not the text's is special. The text must be there as it
        was written, or all of what was read is taken for the prompt."""
        row: list[Any] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if not text.strip() or not getattr(tokenizer, "chat_template", None):
            return cls.from_ids(row, tokenizer)
        tokens, named = tokenizer.convert_ids_to_tokens(row), set(tokenizer.all_special_ids)
        inside, start = set[int](), 0
        for at in range(len(row) + 1):
            if at == len(row) or row[at] in named:
                characters = _characters(tokens[start:at], start) if start < at else []
                place = _last_of(text.strip(), "".join(c for c, _ in characters))
                if place >= 0:  # the last one: a template may quote an example
                    inside = {p for _, several in characters[place : place + len(text.strip())] for p in several}
                start = at + 1
        if not inside:
            return cls.from_ids(row, tokenizer)
        return cls(text, tuple(tokens), tuple(at not in inside for at in range(len(row))))

    @classmethod
    def join(cls, prompts: Sequence[Prompt]) -> Prompt:
        """One text sequence made of several, as Stable Diffusion 3 sets T5's tokens behind CLIP's; the text is the first's."""
        return cls(prompts[0].text, tuple(t for p in prompts for t in p.tokens), tuple(s for p in prompts for s in p.special))

    def to_json(self) -> dict[str, Any]:
        """Plain lists and strings, for json.dumps."""
        return {"text": self.text, "tokens": list(self.tokens), "special": list(self.special)}

    @classmethod
    def from_json(cls, data: Any) -> Prompt:
        good = isinstance(data, dict) and isinstance(data.get("text"), str)
        for name, kind in (("tokens", str), ("special", bool)):
            good = good and isinstance(data.get(name), list) and all(isinstance(item, kind) for item in data[name])
        if not good:
            raise ValueError("prompt: data must be what to_json gave (text, tokens, special), got something else. Is the file damaged?")
        return cls(data["text"], tuple(data["tokens"]), tuple(data["special"]))

    @cached_property
    def _found(self) -> list[Atom]:
        """All atoms; an empty one stands between runs of ordinary tokens, so that no phrase crosses a special token."""
        atoms, start = list[Atom](), 0
        for at in range(len(self.tokens) + 1):
            if at == len(self.tokens) or self.special[at]:
                atoms += [*_atoms(_characters(list(self.tokens[start:at]), start)), Atom("", (), False)] if start < at else []
                start = at + 1
        return atoms

    @property
    def words(self) -> tuple[str, ...]:
        """The distinct words in order, lower-cased; punctuation is left out here but can be asked for."""
        words = list[str]()
        for atom in self._found:
            if atom.joined:
                words[-1] += atom.text
            elif any(_kind(c) != "P" for c in atom.text):
                words.append(atom.text)
        return tuple(dict.fromkeys(words))

    def find(self, word: str) -> list[list[int]]:
        """The positions of each occurrence of a word or phrase, upper or lower case; empty if there is none.

        The name of a special token ("<|startoftext|>", "</s>") finds the first of its kind, never the padding after it.
        """
        if not isinstance(word, str):
            return []
        wanted, keys = _query(word), [atom.text.casefold() for atom in self._found]
        count, out = len(wanted), list[list[int]]()
        for at in range(len(keys) - count if count else 0):  # the last atom is always an empty one
            if keys[at : at + count] == wanted and not (self._found[at].joined or self._found[at + count].joined):
                out.append(sorted({p for atom in self._found[at : at + count] for p in atom.positions}))
        if not out and any(c.isalnum() for c in word):
            out = [[at] for at, token in enumerate(self.tokens) if self.special[at] and token == word][:1]
        return out

    def __contains__(self, word: str) -> bool:
        return bool(self.find(word))

    def positions(self, word: str) -> list[list[int]]:
        """As `find`; a word that is not in the prompt is an error."""
        found = self.find(word)
        if not found:
            wanted, text = _query(word) if isinstance(word, str) else [], _query(self.text)
            cut = bool(wanted) and any(text[at : at + len(wanted)] == wanted for at in range(len(text)))
            why = f" The text has it, but not within the {len(self.tokens)} tokens that the model read." if cut else ""
            raise WordError(f"words: a word must be in the prompt, got {said(word)}.{why} Its words are: {', '.join(self.words)}.")
        return found


def columns(prompts: Sequence[Prompt], words: bool | Sequence[str] = True) -> list[int]:
    """The positions to trace: those of the words, or (True) every ordinary position and the first of each special token."""
    if isinstance(words, str):
        raise ValueError(f"words: words must be True or a list of words, got {words!r}. Write words=[{words!r}].")
    wanted = set[int]()
    for prompt in prompts if words is True else ():
        names = {token for token, special in zip(prompt.tokens, prompt.special) if special}
        wanted |= {at for at, special in enumerate(prompt.special) if not special}
        wanted |= {at for name in names for found in prompt.find(name) for at in found}
    for word in () if isinstance(words, bool) else words:
        found = {p for prompt in prompts for occurrence in prompt.find(word) for p in occurrence}
        wanted |= found or set(prompts[0].positions(word)[0])  # in no prompt at all: the first one's error
    return sorted(wanted)
