"""Data sets: VITON-HD and COCO from disk, and a drawn world whose correspondence is known.

Imports: maps, common.
Begin with: `vitonhd.py`; `synthetic/pairs.py` draws, `truth.py` is what it knows.
"""

__all__ = ["coco", "synthetic", "truth", "vitonhd"]
