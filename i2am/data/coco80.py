"""COCO's 80 classes by name, their groups, and the 27 kinds of COCO-Stuff that they belong to.

The groups are the leaves of the tree of fields in castorini/daam, from which it makes prompts of two nouns; the kinds are how it sorts the
classes when it scores "coco27".
"""

from __future__ import annotations

NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter,
bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee,
skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted
plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator,
book, clock, vase, scissors, teddy bear, hair drier, toothbrush"""
CLASSES = tuple(" ".join(name.split()) for name in NAMES.split(","))  # in COCO's order

GROUPS: dict[str, tuple[str, ...]] = {
    "two-wheeled vehicle": ("bicycle", "motorcycle"),
    "four-wheeled vehicle": ("bus", "truck", "car"),
    "livestock": ("cow", "horse", "sheep"),
    "pets": ("cat", "dog"),
    "wild animals": ("elephant", "bear", "zebra", "giraffe"),
    "bags": ("backpack", "handbag", "suitcase"),
    "sports boards": ("snowboard", "surfboard", "skateboard"),
    "utensils": ("fork", "knife", "spoon"),
    "receptacles": ("bowl", "cup"),
    "fruits": ("banana", "apple", "orange"),
    "meals": ("sandwich", "hot dog", "pizza"),
    "desserts": ("cake", "donut"),
    "furniture": ("chair", "couch", "bench"),
    "monitors": ("tv", "cell phone", "laptop"),
    "appliances": ("oven", "toaster", "refrigerator"),
}

# tableware is food, as there
KINDS: dict[str, tuple[str, ...]] = {
    "person": CLASSES[:1],
    "vehicle": CLASSES[1:9],
    "accessory": (*CLASSES[9:13], *CLASSES[24:29]),
    "animal": CLASSES[14:24],
    "sports": CLASSES[29:39],
    "food": CLASSES[39:56],
    "furniture": ("bench", "chair", "couch", "bed", "dining table", "toilet"),
    "plant": ("potted plant",),
    "electronic": CLASSES[62:68],
    "appliance": CLASSES[68:73],
    "indoor": CLASSES[73:],
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
STUFF = (
    *("electronic", "appliance", "food", "furniture", "indoor", "kitchen", "accessory", "animal", "outdoor", "person", "sports", "vehicle"),
    *("ceiling", "floor", "food", "furniture", "rawmaterial", "textile", "wall", "window"),
    *("building", "ground", "plant", "sky", "solid", "structural", "water"),
)  # COCO-Stuff's 27: things, stuff indoors, stuff outdoors; food and furniture stand there as both
