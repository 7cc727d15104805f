"""Pipelines that diffusers lacks: the embedded models (try-on `small`, text-to-image `scenes`), StableVITON, Paint-by-Example.

Imports: losses, data, attach, maps, common, i2am_kernels.
Begin with: `small/pipeline.py`, a whole pipeline; `stableviton/convert.py` for checkpoints.
"""

__all__ = ["folder", "inputs", "paint_by_example", "pixels", "scenes", "small", "stableviton", "training"]
