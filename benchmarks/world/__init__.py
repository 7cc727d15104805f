"""The small try-on world: do maps point at the truth, and does what they show matter?

Imports: measuring, i2am.
Begin with: `pointing.py` measures, `tables.py` tells.
"""
