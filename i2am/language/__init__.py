"""Sentences: how their words hang together, by a parser or from a file, and new sentences made of old ones.

Imports: common.
Begin with: `sentences.py`, what a parsed sentence is; `parser.py` makes one with spaCy.
"""

__all__ = ["parser", "sentences"]
