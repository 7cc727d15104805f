"""Pages from recorded rows: the results page, the tables of README and docs, and the targets.

Imports: world, pipeline, operator, measuring, i2am.
Begin with: `page.py`, then `targets.py`; `census.py` is about diffusers' pipelines.
"""
