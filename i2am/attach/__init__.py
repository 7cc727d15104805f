"""The tracer: how maps get out of a running model.

Imports: maps, common.
Begin with: `trace.py` and `run.py`; `learning.py` and `steering.py` are for gradients; `families.py` says where each family keeps its reference, `guidance.py` which rows are conditional.
"""

__all__ = ["families", "finder", "guidance", "ldm", "learning", "run", "sdpa", "steering", "steps", "trace", "under_gradient"]
