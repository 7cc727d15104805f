"""Scores of maps and pictures: IMACS, detection, segmentation, pointing at a known truth, hiding what a map points at, picture quality.

Imports: data, maps, common.
Begin with: `imacs.py`, a score of maps and masks; `correspondence.py`, of the field; `pointing.py`, a score against the truth;
`segmentation.py`, of words' maps and masks.
"""

__all__ = [
    "correlation",
    "correspondence",
    "correspondence_metric",
    "detection",
    "end_points",
    "entanglement",
    "faithfulness",
    "imacs",
    "imacs_metric",
    "intervals",
    "pointing",
    "quality",
    "relations",
    "segmentation",
    "segmentation_rivals",
    "similarity",
]
