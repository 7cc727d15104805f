"""Pipelines that diffusers lacks: the embedded model (`small`), StableVITON, and checkpoints of Paint-by-Example.

Imports: losses, data, attach, maps, common, i2am_kernels.
Begin with: `small/pipeline.py`, a whole pipeline; `stableviton/convert.py` for checkpoints.
"""

__all__ = ["folder", "inputs", "paint_by_example", "small", "stableviton"]
