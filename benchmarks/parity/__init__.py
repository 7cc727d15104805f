"""Does our StableVITON say what the original says? `python -m benchmarks.parity`.

Imports: i2am.
Begin with: `__main__.py`.
"""
