"""What the benchmarks' command lines share: options and their checks, and rows that are on disk before they are printed."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring.rows import RESULTS, Row, Writer, environment, installed, slug


def command(name: str, about: str | None, kind: str) -> argparse.ArgumentParser:
    """The parser of benchmarks.<name>, whose rows go to results/<device><kind>.jsonl."""
    parser = argparse.ArgumentParser(f"python -m benchmarks.{name}", description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help=f"default benchmarks/results/<device>{kind}.jsonl")
    return parser


def adjustable(parser: argparse.ArgumentParser, sections: Mapping[str, Any], options: Mapping[str, str]) -> None:
    """Options that replace a field of every section, each with what it is."""
    for option, what in options.items():
        usual = ", ".join(f"{getattr(section, option)} ({name})" for name, section in sections.items())
        parser.add_argument(f"--{option}", type=int, help=f"{what}; default {usual}")


def adjusted(given: argparse.Namespace, sections: Mapping[str, Any], options: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The sections asked for by --only, a name or its beginning, with the given fields in them."""
    fields = {option: value for option in options if (value := getattr(given, option)) is not None}
    return ((name, section._replace(**fields)) for name, section in sections.items() if name.startswith(given.only or ""))


def positive(given: argparse.Namespace, *options: str) -> None:
    for option in (*options, "threads"):
        if getattr(given, option) is not None and getattr(given, option) < 1:
            raise ValueError(f"--{option} must be 1 or more, got {getattr(given, option)}. Raise it.")


def record(rows: Iterable[Row], line: Callable[[Row], str], given: argparse.Namespace, kind: str, *packages: str) -> int:
    """Write and print each row as it comes; 1 where one is red. Rows also name the versions of these packages."""
    torch.set_num_threads(given.threads)
    place = {**environment(torch.device(given.device)), **{package: installed(package) for package in packages}}
    path = given.out or RESULTS / f"{slug(place['device'])}{kind}.jsonl"
    writer, failed, begin = Writer(path, place), False, time.perf_counter()
    for row in rows:
        writer.write(row)
        print(f"{time.perf_counter() - begin:5.0f} s  {line(row)}", flush=True)
        failed |= row.get("red", False)
    print(f"rows in {path}")
    return int(failed)
