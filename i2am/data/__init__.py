"""Data sets: VITON-HD, COCO, lists of prompts and masks of words from disk, and a drawn world whose correspondence is known.

Imports: maps, common.
Begin with: `vitonhd.py`; `prompts.py` reads lists, `word_masks.py` masks; `synthetic/pairs.py` draws, `truth.py` is what it knows.
"""

__all__ = ["coco", "coco80", "prompts", "synthetic", "truth", "vitonhd", "word_masks"]
