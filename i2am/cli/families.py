"""`i2am families`: the denoisers whose tokens are known, and what is known of diffusers' pipelines."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from i2am.cli.parsers import command
from i2am.common.checks import refuse, said


def add_families(commands: Any) -> None:
    parser = command(
        commands, "families", families, help="list the models whose tokens are known, and what is known of pipelines",
        about="Print the families of denoisers with the order of their keys, and diffusers' pipelines that take a picture: whether "
        "attention sees it, and how it enters.",
        stopped="Nothing was written.", examples=["", "--pipeline FluxKontextPipeline", "--kind works"],
    )  # fmt: skip
    parser.add_argument("--pipeline", metavar="NAME", help="one pipeline, by its class")
    parser.add_argument("--kind", choices=("works", "adapter", "none", "refused"), help="these pipelines alone")


def families(parsed: argparse.Namespace) -> None:
    from i2am.families.pipelines import KNOWN, VERDICTS
    from i2am.families.registry import FAMILIES

    if parsed.pipeline is not None:
        if parsed.pipeline not in KNOWN:
            refuse("NAME", "a pipeline of diffusers that takes a picture", said(parsed.pipeline), near(parsed.pipeline, list(KNOWN)))
        known = KNOWN[parsed.pipeline]
        line = f" Write {known.write}." if known.kind in ("works", "adapter") else ""
        print(wrapped(f"{parsed.pipeline}: {VERDICTS[known.kind]}. {known.how[0].upper()}{known.how[1:]}.{line}"))
        return
    if parsed.kind is None:
        print("Families of denoisers, and the order of their keys")
        for family in FAMILIES:
            print(wrapped(f"{family.name} ({', '.join(family.denoisers or family.pipelines)}): {family.order}", "  "))
        print(wrapped("UNets of any class: the keys of the cross-attention, an IP-Adapter's call of its own, added keys", "  "))
    for kind, verdict in VERDICTS.items():
        if parsed.kind not in (None, kind):
            continue
        alike: dict[tuple[str, str], list[str]] = {}
        for name, known in KNOWN.items():
            if known.kind == kind:
                alike.setdefault((known.how, known.write), []).append(name)
        print(f"\nPipelines: {verdict} ({sum(map(len, alike.values()))})")
        for (how, write), names in alike.items():
            print(wrapped(f"{write}: {how}" if kind in ("works", "adapter") else how, "  "))
            print(wrapped(", ".join(sorted(names)), "    "))


def near(name: str, names: list[str]) -> str:
    """What may have been meant."""
    import difflib

    found = difflib.get_close_matches(name, names, 3)
    return f"Did you mean {', '.join(found)}?" if found else "`i2am families` lists them."


def wrapped(text: str, indent: str = "") -> str:
    """Lines that fit a terminal."""
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
