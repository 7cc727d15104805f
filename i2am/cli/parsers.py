"""How a command's parser is made: its paragraphs wrapped, its examples as they are typed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from i2am.common.machine import version


class Paragraphs(argparse.HelpFormatter):
    """Wraps each paragraph by itself; indented ones, which are commands, stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        parts = text.split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else super(Paragraphs, self)._fill_text(part, width, indent) for part in parts)


def name_or_number(text: str) -> str | int:
    """Of a reference."""
    return int(text) if text.isdecimal() else text


class Version(argparse.Action):
    """Prints the version, which is looked for when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"i2am {version()}")
        parser.exit()


def command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], *, help: str, about: str, stopped: str, examples: Sequence[str],
    of: str = "",
) -> argparse.ArgumentParser:  # fmt: skip
    """The parser of a command, and what runs it. help: a line among the others; about: what it does; stopped: what is said after Ctrl-C,
    of what is kept and how to go on, with {options} in braces; of: the command that this is a kind of."""
    shown = "\n".join(f"  i2am {f'{of} {name}'.strip()} {example}".rstrip() for example in examples)
    parser = commands.add_parser(
        name, help=help, description=about, epilog=f"example{'s' * (len(examples) > 1)}:\n\n{shown}", formatter_class=Paragraphs
    )
    parser.set_defaults(run=run, stopped=stopped)
    return parser
