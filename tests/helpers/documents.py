"""The blocks of README and docs: where each stands, in which language, and what is said of how it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report.tables import ROOT, pages

MARK = re.compile(r"<!-- (given|not run): (.+?) -->$")
FENCE = re.compile(r"^(\s*)```(\w*)$")


@dataclass
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    given: str | None = None  # a name in `given.GIVEN`
    not_run: str | None = None  # the reason

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    found: list[Block] = []
    mark: tuple[str, str] | None = None
    open_at: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if open_at is None and fence:
            open_at = (number, fence[2], [])
        elif open_at is not None and fence and not fence[2]:
            begin, language, lines = open_at
            said = {mark[0].replace(" ", "_"): mark[1]} if mark else {}
            found.append(Block(page, begin, language, "\n".join(lines) + "\n", **said))
            open_at = mark = None
        elif open_at is not None:
            open_at[2].append(line)
        elif line.strip():
            comment = MARK.match(line)
            mark = (comment[1], comment[2]) if comment else None
    assert open_at is None, f"{page}: a block is not closed"
    return found


def commands(block: Block) -> list[str]:
    """The lines of a block of bash, without comments."""
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in block.text.splitlines())
    return [line for line in lines if line]


PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
BLOCKS = [block for page in PAGES.values() for block in blocks_of(page)]
