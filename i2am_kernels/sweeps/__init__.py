"""The Triton kernels: each visits the scores once, in the order its file name says.

Begin with: `queries.py`, the shortest; `pieces.py` is what they share, and `../triton_backend.py` launches them.
"""
