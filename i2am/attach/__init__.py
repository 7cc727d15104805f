"""The tracer: how maps get out of a running model.

Imports: maps, common.
Begin with: `trace.py`; `families.py` says where each family keeps its reference, `guidance.py` which rows are conditional.
"""

__all__ = ["families", "finder", "guidance", "ldm", "sdpa", "steering", "steps", "trace"]
