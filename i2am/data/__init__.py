"""Data sets: VITON-HD, COCO and lists of prompts from disk, and a drawn world whose correspondence is known.

Imports: maps, common.
Begin with: `vitonhd.py`; `prompts.py` reads lists; `synthetic/pairs.py` draws, `truth.py` is what it knows.
"""

__all__ = ["coco", "coco80", "prompts", "synthetic", "truth", "vitonhd"]
