"""Other tracers of attention beside ours, their own code, in one process.

Imports: pipeline, measuring, i2am.
Begin with: `tracers.py`, a run beside theirs; `studies.py`, a list of prompts.
"""
