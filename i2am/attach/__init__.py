"""The tracer: how maps get out of a running model.

Imports: families, maps, common.
Begin with: `trace.py` and `run.py`; `finder.py` asks the families where a reference is, `guidance.py` which rows are conditional;
`explain.py` shows both; `learning.py` and `steering.py` are for gradients;
`held.py` gives all pictures of a batch the first one's attention.
"""

__all__ = [
    "encoding",
    "explain",
    "explained",
    "finder",
    "guidance",
    "held",
    "ldm",
    "learning",
    "prompts",
    "run",
    "sdpa",
    "steering",
    "steps",
    "trace",
    "under_gradient",
]
