"""Whether a page that was written is opened as well."""

from __future__ import annotations

import argparse
import os
import sys


def add_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--open", action=argparse.BooleanOptionalAction, help="open the page in the browser (default: if the command was "
                        "typed at a terminal of this machine's screen)")  # fmt: skip


def opens(parsed: argparse.Namespace) -> bool:
    """As asked; else only where somebody looks at a screen that can show it: a browser of text would take the terminal."""
    if parsed.open is not None:
        return parsed.open
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(screen) and sys.stdout.isatty() and "SSH_CONNECTION" not in os.environ
