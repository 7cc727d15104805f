"""What is known of each prompt of a list: its sentences as one list of words, and the relations among them. By spaCy, or from a file.

All of a prompt's sentences count. A prompt without a parse, and a parse of another text than the prompt's, are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from i2am.common.checks import cited, counted, refuse, said
from i2am.common.extras import need
from i2am.language.parser import parser
from i2am.language.relations import edges
from i2am.language.sentences import Edge, Sentence, Token


@dataclass(frozen=True)
class Parsed:
    """A prompt. edges: its relations, by the places of `words`, from 0; lost: relations with words that nobody wrote."""

    sentences: tuple[Sentence, ...]
    words: tuple[Token, ...]
    edges: tuple[Edge, ...]
    lost: int = 0

    @classmethod
    def of(cls, sentences: Sequence[Sentence]) -> Parsed:
        words, found = list[Token](), list[Edge]()
        for sentence in sentences:
            found += [Edge(len(words) + head - 1, len(words) + dependent - 1, name) for head, dependent, name in edges(sentence)]
            words += sentence.tokens
        return cls(tuple(sentences), tuple(words), tuple(found), sum(sentence.lost for sentence in sentences))


def by_spacy(texts: Mapping[str, str], name: str | None = None) -> Iterator[tuple[str, list[Sentence]]]:
    """Each prompt's id and sentences. Space between words is no word."""
    nlp = parser(name)
    for key, document in zip(texts, nlp.pipe(" ".join(text.split()) for text in texts.values())):
        sentences = list[Sentence]()
        for at, found in enumerate(document.sents, 1):
            tokens = tuple(
                Token(
                    one.i - found.start + 1,
                    one.text,
                    one.lemma_,
                    one.pos_,
                    0 if one.head == one else one.head.i - found.start + 1,
                    one.dep_,
                )
                for one in found
            )
            sentences.append(Sentence(found.text, tokens, f"{key}-{at}", key))
        yield key, sentences if len(sentences) > 1 else [replace(sentences[0], id=key)]


def parsed(texts: Mapping[str, str], name: str | None = None) -> dict[str, Parsed]:
    """By spaCy's model of this name, or the best that is installed."""
    need("a list's parsing", "tqdm")
    from tqdm.auto import tqdm

    found = by_spacy(texts, name)
    return {key: Parsed.of(sentences) for key, sentences in tqdm(found, total=len(texts), desc="parsing", unit="prompt", delay=1)}


def matched(sentences: Iterable[Sentence], texts: Mapping[str, str], name: str = "the file") -> dict[str, Parsed]:
    """From a file's sentences: those of the document that is named as the prompt is, or else the one that is; or else those of the text."""
    by_document, by_id, by_text = dict[str, list[Sentence]](), dict[str, Sentence](), dict[str, list[Sentence]]()
    for sentence in sentences:
        if sentence.id in by_id:
            refuse(name, "sentences with names of their own", f"sent_id {said(sentence.id)} twice", "Rename one.")
        by_id |= {sentence.id: sentence} if sentence.id else {}
        by_document.setdefault(sentence.document, []).append(sentence)
        by_text.setdefault(bare([sentence.text]), [sentence])
    by_document.pop("", None)
    for several in by_document.values():
        by_text.setdefault(bare(one.text for one in several), several)
    found, without, others = dict[str, Parsed](), list[str](), list[str]()
    for key, text in texts.items():
        own = by_document.get(key) or ([by_id[key]] if key in by_id else None)
        if own is not None and bare(one.text for one in own) != bare([text]):
            others.append(f"{key}: {said(' '.join(one.text for one in own))} for {said(text)}")
        own = own or by_text.get(bare([text]))
        if own is None:
            without.append(f"{key}: {said(text)}")
        else:
            found[key] = Parsed.of(own)
    if without:
        refuse(name, "a parse of every prompt", f"none for {counted(len(without), 'prompt')} ({cited(without, 5)})",
               "Name their sentences by `# sent_id = ID`, or `# newdoc id = ID` above several.")  # fmt: skip
    if others:
        refuse(name, "parses of the prompts' own texts", cited(others, 5), "Parse the list as it is now, or correct the names.")
    return found


def bare(texts: Iterable[str]) -> str:
    """What must be alike: letters and signs, without space and case."""
    return re.sub(r"\s+", "", "".join(texts)).casefold()
