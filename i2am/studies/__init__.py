"""DAAM's studies on any model: words segmented, syntax, entanglement.

Imports: evaluation.
Begin with: `run.py`.
"""
