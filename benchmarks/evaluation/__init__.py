"""A test set: images a second, ours and the release's way.

Imports: pipeline, measuring, i2am.
Begin with: `throughput.py`, then `release_hook.py`.
"""
