"""COCO's classes under the names that DAAM gives them."""

from __future__ import annotations

from i2am.data.coco80 import CLASSES, GROUPS, KIND_OF

COCO80_LABELS: list[str] = list(CLASSES)
COCO80_INDICES: dict[str, int] = {name: index for index, name in enumerate(COCO80_LABELS)}

# COCO-Stuff's own order, things before stuff, which label pictures count by: food and furniture stand there twice
COCOSTUFF27_LABELS: list[str] = [
    "electronic", "appliance", "food", "furniture", "indoor", "kitchen", "accessory", "animal", "outdoor", "person", "sports", "vehicle",
    "ceiling", "floor", "food", "furniture", "rawmaterial", "textile", "wall", "window", "building", "ground", "plant", "sky", "solid",
    "structural", "water",
]  # fmt: skip
COCO80_TO_27: dict[str, str] = {name: KIND_OF[name] for name in COCO80_LABELS if KIND_OF[name] != name}  # person is its own kind
COCO80_ONTOLOGY: dict[str, list[str]] = {
    **{name: list(members) for name, members in GROUPS.items()},
    "vehicle": ["two-wheeled vehicle", "four-wheeled vehicle"],
    "four-legged animals": ["livestock", "pets", "wild animals"],
    "foods": ["fruits", "meals", "desserts"],
    "electronics": ["monitors", "appliances"],
}
UNUSED_LABELS: list[str] = [f"__unused_{number}__" for number in range(1, 200)]


def build_word_list_coco80() -> dict[str, list[str]]:
    """The groups whose members are classes: what prompts of two nouns are drawn from."""
    return {name: list(members) for name, members in GROUPS.items()}
