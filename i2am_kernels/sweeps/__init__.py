"""The Triton kernels: a sweep visits the scores once, in the order that its docstring says.

Begin with: `queries.py`, the shortest; `pieces.py` is what they share, and `../triton_backend.py` launches them.
"""
