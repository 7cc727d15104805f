"""The viewer: any saved maps as one HTML file that follows the mouse.

Imports: maps, door.
Begin with: `html.py` writes the file; `contents.py` says what it holds, `budget.py` what is given up where it would be too large.
"""

__all__ = ["html"]
