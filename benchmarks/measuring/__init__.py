"""What every benchmark shares: its command line, clocks and memory, rows on disk, tables made from rows.

Imports: i2am_kernels.
Begin with: `measure.py`, then `rows.py`.
"""
