"""The tracer: how maps get out of a running model.

Imports: maps, door.
Begin with: `trace.py`; `families.py` says where each family keeps its reference, `guidance.py` which rows are conditional.
"""

__all__ = ["clock", "families", "finder", "guidance", "ldm", "seam", "trace"]
