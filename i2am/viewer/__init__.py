"""The viewer: any saved maps as one HTML file that follows the mouse.

Imports: maps, common.
Begin with: `html.py` writes the file; `contents.py` says what it holds, `size_limit.py` what is given up where it would be too large,
and `notebook.py` puts it into a notebook.
"""

__all__ = ["html", "notebook"]
