"""DAAM's studies on any model: words segmented, syntax, entanglement.

Imports: nothing of this project.
Begin with: `run.py`.
"""
