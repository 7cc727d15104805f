"""Whole denoising runs: what a trace costs, and where the time of a traced run goes.

Imports: parity, operator, measuring, i2am.
Begin with: `traced.py`.
"""
