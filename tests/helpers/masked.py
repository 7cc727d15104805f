"""Masks of words on disk, as castorini/daam writes them and as COCO does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_alpha(file: Path, mask: np.ndarray) -> None:
    """All four channels hold the mask, as castorini/daam saves it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(mask[..., None].astype(np.uint8) * 255, 4, -1)).save(file)


def box(size: tuple[int, int], y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def written_instances(file: Path, annotations: list[dict[str, Any]], images: list[dict[str, Any]], names: dict[int, str]) -> Path:
    """images: id, file_name, height, width; annotations: image_id, category_id, segmentation."""
    content = {"images": images, "annotations": annotations, "categories": [{"id": i, "name": name} for i, name in names.items()]}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
