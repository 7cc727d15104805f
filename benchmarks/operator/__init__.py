"""One call of the operator: how fast, how large, how exact, how it grows, where its time goes, what the compiler makes of it.

Imports: measuring, i2am, i2am_kernels.
Begin with: `one_call.py` with `shapes.py` and `baselines.py`; `judge.py` says what is right.
"""
