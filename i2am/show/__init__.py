"""Pictures of plain tensors: overlays, animations, labelled sheets. Knows no runs and no models.

Imports: common.
Begin with: `pictures.py`, and `fields.py` for correspondences; colours are in `drawing.py`.
"""

__all__ = ["drawing", "field_marks", "field_sheets", "fields", "pictures", "shares", "sheets", "videos"]
