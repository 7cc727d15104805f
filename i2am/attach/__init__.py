"""The tracer: how maps get out of a running model.

Imports: maps, common.
Begin with: `trace.py` and `run.py`; `families.py` says where each family keeps its reference, `guidance.py` which rows are conditional;
`learning.py` and `steering.py` are for gradients.
"""

__all__ = ["families", "finder", "guidance", "ldm", "learning", "run", "sdpa", "steering", "steps", "trace", "under_gradient"]
