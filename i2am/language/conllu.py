"""CoNLL-U, the format in which parsers and treebanks write sentences: read with every fault named by its line, and written.

`# newdoc id = 0007` begins the sentences of prompt 0007; without it `# sent_id = 0007` names one. `# text = ...` is the sentence as it is
written; else it is put together of the words, as SpaceAfter=No says. Words that share Coref=NAME in their last column name one thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from i2am.common.checks import as_path, refuse, said
from i2am.common.outputs import write_whole
from i2am.common.tables import read_text
from i2am.language.sentences import Edge, Sentence, Token

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
COMMENT = re.compile(r"#\s*(newdoc id|newdoc|sent_id|text)\s*(?:=\s*(.*))?")
REMEDY = "CoNLL-U has ten columns with tabs between them, and an empty line behind each sentence."
Line = tuple[int, list[str]]  # its number in the file, and its columns


def read_conllu(path: str | Path) -> list[Sentence]:
    """The sentences of a file, in its order."""
    path, text = read_text("the parsed sentences", path, "It is a file in CoNLL-U, .conllu.")
    return sentences(text, str(path))


def sentences(text: str, name: str = "the text") -> list[Sentence]:
    """The sentences of a text in CoNLL-U; `name` stands in errors."""
    found, comments, lines, document = list[Sentence](), dict[str, str](), list[Line](), ""
    for number, line in enumerate([*text.split("\n"), ""], 1):
        line = line.removesuffix("\r")
        if line.startswith("#"):
            if match := COMMENT.fullmatch(line.strip()):
                comments[match[1]] = (match[2] or "").strip()
        elif line.strip():
            columns = line.split("\t")
            if len(columns) != len(COLUMNS):
                fault(name, number, "ten columns", f"{len(columns)}", REMEDY)
            lines.append((number, columns))
        elif lines:
            if comments.keys() & {"newdoc", "newdoc id"}:
                document = comments.get("newdoc id", "")
            found.append(sentence(lines, comments, document, name))
            comments, lines = {}, []
    if not found:
        refuse(name, "CoNLL-U with at least one sentence", "none", REMEDY)
    return found


def sentence(lines: Sequence[Line], comments: dict[str, str], document: str, name: str) -> Sentence:
    """The words of one sentence; ranges only say how words are written together, empty nodes are counted in `lost`."""
    words = [(number, columns) for number, columns in lines if columns[0].isdecimal()]
    for place, (number, columns) in enumerate(words, 1):
        if int(columns[0]) != place:
            fault(name, number, f"the number {place}", said(columns[0]), "Words are numbered from 1 in every sentence.")
    tokens, enhanced, lost = list[Token](), list[Edge](), 0
    for number, columns in words:
        head = head_of(columns[6], len(words), number, name)
        if head == len(tokens) + 1:
            fault(name, number, "another word as the head", "the word itself", "The root's head is 0.")
        coreferent = next((one.partition("=")[2] for one in columns[9].split("|") if one.startswith("Coref=")), "")
        lemma = columns[1].lower() if columns[2] == "_" else columns[2]
        tokens.append(Token(len(tokens) + 1, columns[1], lemma, columns[3], head, columns[7], coreferent))
        for one in () if columns[8] == "_" else columns[8].split("|"):
            source, _, relation = one.partition(":")
            if re.fullmatch(r"\d+\.\d+", source):
                lost += 1
            elif not relation:
                fault(name, number, "relations such as 4:nmod:of, with | between them", said(columns[8]), "Write _ where there are none.")
            elif at := head_of(source, len(words), number, name):
                enhanced.append(Edge(at, len(tokens), relation))
    others = [columns[0] for _, columns in lines if not columns[0].isdecimal()]
    for number, columns in lines:
        if columns[0] in others and not re.fullmatch(r"\d+[-.]\d+", columns[0]):
            fault(name, number, "a word's number, a range such as 3-4, or an empty node such as 5.1", said(columns[0]), REMEDY)
    if not tokens:
        fault(name, lines[0][0], "at least one word in the sentence", "none", REMEDY)
    rooted(tokens, words, name)
    text = comments.get("text") or written(lines)
    return Sentence(text, tuple(tokens), comments.get("sent_id", ""), document, tuple(enhanced), lost)


def head_of(text: str, count: int, line: int, name: str) -> int:
    if not text.isdecimal() or int(text) > count:
        fault(name, line, f"a head from 0 to {count}", said(text), "A parsed sentence has a head for every word, and 0 for its root.")
    return int(text)


def rooted(tokens: Sequence[Token], words: Sequence[Line], name: str) -> None:
    """Every word hangs on the root: no circles."""
    for token, (line, _) in zip(tokens, words):
        at, steps = token, 0
        while at.head:
            at, steps = tokens[at.head - 1], steps + 1
            if steps > len(tokens):
                fault(name, line, "a tree", f"a circle at {said(token.text)}", "Following heads must end at 0.")


def written(lines: Sequence[Line]) -> str:
    """The sentence as it is written: a range stands for its words."""
    text, behind = "", 0
    for _, columns in lines:
        if "." in columns[0] and not columns[0].isdecimal():
            continue
        first, _, last = columns[0].partition("-")
        if last:
            behind = int(last)
        elif int(first) <= behind:
            continue
        text += columns[1] + ("" if "SpaceAfter=No" in columns[9].split("|") else " ")
    return text.strip()


def fault(name: str, line: int, expected: str, got: str, remedy: str) -> NoReturn:
    refuse(f"line {line} of {name}", expected, got, remedy)


def to_conllu(parsed: Iterable[Sentence]) -> str:
    """The text of a file; a document's name stands before its first sentence."""
    parts, document = list[str](), ""
    for one in parsed:
        if one.document != document:
            parts.append(f"# newdoc id = {one.document}".removesuffix(" id = "))
            document = one.document
        parts += [f"# sent_id = {one.id}"] if one.id else []
        parts.append(f"# text = {one.text}")
        rest = one.text
        for token in one.tokens:
            deps = "|".join(f"{edge.head}:{edge.name}" for edge in one.enhanced if edge.dependent == token.number) or "_"
            deps = f"0:{token.relation}" if one.enhanced and not token.head and deps == "_" else deps
            misc = [f"Coref={token.coreferent}"] if token.coreferent else []
            if rest.startswith(token.text):
                rest = rest[len(token.text) :]
                misc += ["SpaceAfter=No"] if rest and not rest[0].isspace() else []
                rest = rest.lstrip()
            columns = (str(token.number), token.text, token.lemma or "_", token.pos or "_", "_", "_", str(token.head), token.relation)
            parts.append("\t".join((*columns, deps, "|".join(misc) or "_")))
        parts.append("")
    return "\n".join([*parts, ""])


def write_conllu(path: str | Path, parsed: Sequence[Sentence]) -> Path:
    """A file that `read_conllu` reads."""
    path = as_path("path", path, "It is a file, .conllu.")
    text = to_conllu(parsed)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path
