"""The viewer inside of a notebook: a frame that carries its own page, small enough to be kept with the notebook's cells."""

from __future__ import annotations

from i2am.maps.levels import AttributionMaps
from i2am.viewer.html import page

MEGABYTES = 0.9  # of the page; in the frame it is a little larger
IMAGES = 4  # of a batch, that are shown at most
HEIGHT = 780  # pixels


def framed(maps: AttributionMaps) -> str:
    """An HTML frame with the viewer of the first images; of as many as fit."""
    for count in (IMAGES, 2, 1):
        shown = maps[:count] if len(maps) > count else maps
        try:
            found = page(shown, max_megabytes=MEGABYTES)
            break
        except ValueError as error:
            if count == 1 or "max_megabytes" not in str(error):
                raise
    document = found.replace("&", "&amp;").replace('"', "&quot;")
    frame = f"display:block;width:100%;height:{HEIGHT}px;border:1px solid #8884;border-radius:8px"
    few = f"<small>The first {len(shown)} of {len(maps)} images; i2am.view(maps) writes a page of all.</small>"
    return (f'<iframe srcdoc="{document}" sandbox="allow-scripts" title="Attribution maps" loading="lazy" style="{frame}"></iframe>'
            + (few if len(shown) < len(maps) else ""))  # fmt: skip
