"""What maps are held against: IMACS, detection, a known truth, what happens when a region is hidden, and the quality of pictures.

Imports: data, maps, door.
Begin with: `imacs.py`, a score of maps and masks; `pointing.py`, a score against the truth.
"""

__all__ = ["correlation", "detection", "faithfulness", "imacs", "imacs_metric", "intervals", "pointing", "quality", "similarity"]
