"""Rows and facts of an evaluation that never was, and a strict reader of its page."""

import json
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from i2am.score.imacs import convention

VOID = {"meta", "img", "input"}


def row(index: int, name: str | None = None, **scores: float | None) -> dict[str, Any]:
    name = name or f"{index:05d}_00.jpg"
    return {"index": index, "name": name, "cloth": name, "seed": 1000 + index, "scores": scores}


def drawn(count: int = 40) -> list[dict[str, Any]]:
    """Scores that hang together, every ninth pair without IMACS_r."""
    rng = np.random.default_rng(0)
    rows = []
    for i, q in enumerate(rng.normal(size=count)):
        r = None if i % 9 == 4 else float(rng.normal(0.1, 0.3))
        rows.append(row(i, imacs_g=float(0.3 + 0.1 * q), imacs_r=r, ssim=float(0.86 + 0.02 * q + rng.normal(0, 0.01))))
    return rows


def facts(rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": "A model on a set", "options": {"model": "small", "data": "/somewhere/else/tree", "paired": True, "size": (512, 384)},
        "convention": asdict(convention("stableviton")), "versions": {"i2am": "0.1.0"}, "hardware": {"devices": ["cpu"]},
        "time": {"seconds": 100.0, "images": len(rows), "images_per_second": 0.4, "share_scoring": 0.1},
        "sets": {}, "settings": {}, "pairs": {"asked": len(rows), "scored": len(rows), "failed": 0}, "failed": [], "notes": [],
    }  # fmt: skip
    return found | more


class Page(HTMLParser):
    """What a page holds: every tag closed, its texts, and its elements in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def strict(path: Path) -> dict[str, Any]:
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)
