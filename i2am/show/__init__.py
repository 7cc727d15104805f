"""Pictures of plain tensors: overlays, animations, labelled sheets. Knows no runs and no models.

Imports: common.
Begin with: `pictures.py`; colours are in `drawing.py`.
"""

__all__ = ["drawing", "pictures", "sheets"]
