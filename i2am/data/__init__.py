"""Data sets: VITON-HD, COCO, lists of prompts and masks of words from disk, and two drawn worlds whose truth is known.

Imports: maps, language, common.
Begin with: `vitonhd.py`; `prompts.py` reads lists, `word_masks.py` masks; `synthetic/pairs.py` draws, `truth.py` is what it
knows; `scenes/grammar.py` says what can be drawn of words.
"""

__all__ = ["coco", "coco80", "prompts", "scenes", "synthetic", "truth", "vitonhd", "word_masks"]
