"""The command line, `i2am COMMAND ...`: each command parses, calls the library and prints.

A command is a function that adds its parser and says what runs; what it needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from i2am.cli.convert import add_convert
from i2am.cli.demo import add_demo
from i2am.cli.detect import add_detect
from i2am.cli.entangle import add_entangle
from i2am.cli.evaluate import add_evaluate
from i2am.cli.explain import add_explain
from i2am.cli.failures import line
from i2am.cli.families import add_families
from i2am.cli.imacs import add_imacs
from i2am.cli.parsers import Paragraphs, Version
from i2am.cli.prompts import add_prompts
from i2am.cli.syntax import add_syntax
from i2am.cli.train_scenes import add_train_scenes
from i2am.cli.train_small import add_train_small
from i2am.cli.view import add_view
from i2am.cli.words import add_words

COMMANDS = (
    add_view,
    add_demo,
    add_evaluate,
    add_imacs,
    add_detect,
    add_words,
    add_syntax,
    add_entangle,
    add_prompts,
    add_convert,
    add_train_small,
    add_train_scenes,
    add_explain,
    add_families,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 2 where something was refused, 130 after Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be Unicode, nor the terminal know all of it
    try:
        try:
            return carried_out(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `i2am ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def carried_out(arguments: Sequence[str] | None) -> int:
    everything = parser()
    parsed = everything.parse_args(arguments)
    if parsed.run is None:
        everything.print_help(sys.stderr)
        return 2
    try:
        parsed.run(parsed)
    except KeyboardInterrupt:
        print(f"i2am: stopped. {parsed.stopped.format(**vars(parsed))}", file=sys.stderr)
        return 130
    except Exception as error:
        said = None if isinstance(error, BrokenPipeError) else line(error, getattr(parsed, "out", None))
        if said is None:
            raise
        print(said, file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="i2am", description="See which part of a reference image made which part of a generated image.",
        epilog="example:\n\n  i2am demo\n\n`i2am COMMAND --help` says what a command takes.", formatter_class=Paragraphs,
    )  # fmt: skip
    whole.add_argument("--version", action=Version, nargs=0, help="print the version, and stop")
    whole.set_defaults(run=None)
    commands = whole.add_subparsers(metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return whole
