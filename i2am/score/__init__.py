"""Scores of maps and pictures: IMACS, detection, pointing at a known truth, hiding what a map points at, and picture quality.

Imports: data, maps, common.
Begin with: `imacs.py`, a score of maps and masks; `correspondence.py`, of the field; `pointing.py`, a score against the truth.
"""

__all__ = [
    "correlation",
    "correspondence",
    "correspondence_metric",
    "detection",
    "end_points",
    "faithfulness",
    "imacs",
    "imacs_metric",
    "intervals",
    "pointing",
    "quality",
    "similarity",
]
