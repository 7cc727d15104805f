"""A real Chromium for the viewer's tests: pages opened, hovered and read."""

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import i2am
from i2am import AttributionMaps

playwright = pytest.importorskip("playwright.sync_api", reason="needs the PyPI package playwright: pip install -e '.[dev]'")
CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
             "--disable-sync", "--disable-default-apps", "--disable-extensions", "--force-color-profile=srgb"]  # fmt: skip
Open = Callable[..., Any]


def started() -> Iterator[Any]:
    """A browser, for a fixture of its own in each module."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def windows(browser: Any, folder: Path) -> Iterator[Open]:
    """Open maps in a window; at the end nothing may have been complained about or asked of a network."""
    complaints: list[str] = []
    contexts: list[Any] = []

    def open_page(maps: AttributionMaps, width: int = 1280, height: int = 860, **options: Any) -> Any:
        file = i2am.view(maps, folder / "run.html", max_megabytes=options.pop("max_megabytes", 5.0))
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(60_000)  # a busy machine is no failure
        tab.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))
        tab.goto(file.as_uri())
        tab.evaluate("i2am.ready")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def settled(tab: Any) -> None:
    """Two frames: what was asked for is drawn."""
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shows(tab: Any, image: int) -> None:
    """Wait until this image is shown; playwright's own waiting evaluates text, which the page's policy forbids."""
    for _ in range(200):
        if tab.evaluate("i2am.state.image") == image:
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"image {image} is not shown")


def spot(tab: Any, side: str, y: float, x: float) -> tuple[float, float]:
    box = tab.locator(f"figure[data-side={side}] .canvas").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def hover(tab: Any, side: str, y: float, x: float) -> None:
    tab.mouse.move(*spot(tab, side, y, x))
    settled(tab)


def middle(grid: tuple[int, int], place: tuple[int, int]) -> tuple[float, float]:
    return (place[0] + 0.5) / grid[0], (place[1] + 0.5) / grid[1]


def painted(tab: Any, side: str) -> Any:
    return tab.evaluate("side => i2am.painted(side)", side)


def values(shown: dict[str, Any]) -> torch.Tensor:
    return torch.tensor(shown["values"], device="cpu").view(shown["height"], shown["width"])


def pixels(tab: Any, side: str) -> np.ndarray:
    """[h, w, 4], what the canvas really shows."""
    url = tab.evaluate("side => document.querySelector(`figure[data-side=${side}] canvas`).toDataURL()", side)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def text(tab: Any, where: str) -> str:
    return tab.locator(where).text_content()


def set_display(tab: Any, **chosen: Any) -> None:
    """Opacity, patches and fade."""
    tab.locator("#opacity").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", chosen["opacity"])
    for name in ("patches", "fade"):
        tab.locator(f"input[name={name}]").set_checked(chosen[name])
    settled(tab)
