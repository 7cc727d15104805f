"""Sums and what is made of them: the recorder adds up, the levels are read.

Imports: show, common, i2am_kernels.
Begin with: `recorder.py` and `buffers.py` (attention in, sums out), then `levels.py` (sums in, maps out).
"""

__all__ = [
    "buffers",
    "canvas",
    "drawn",
    "field",
    "files",
    "kept_calls",
    "kept_pictures",
    "layer_sums",
    "layers",
    "learning",
    "levels",
    "logged",
    "orders",
    "prompt",
    "recorder",
    "regions",
    "relevant",
    "run_sums",
    "shares",
    "shown",
    "sides",
    "tokens",
    "wanted",
    "ways",
    "weighing",
    "word_files",
    "words",
]
