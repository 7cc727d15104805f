"""Sentences: how their words hang together, by a parser or from a file, and new sentences made of old ones.

Imports: common.
Begin with: `sentences.py`, what a parsed sentence is; `parsed.py`, what is known of a list of prompts.
"""

__all__ = ["conllu", "making", "pairs", "parsed", "parser", "relations", "sentences", "swapped"]
