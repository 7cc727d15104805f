"""The names against a digest of the lists in castorini/daam's code."""

import hashlib

from i2am.data.coco80 import CLASSES, GROUPS, KIND_OF, KINDS, STUFF


def digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def test_the_lists_are_daams():
    assert digest(list(CLASSES)) == "b4b1d69fcc350629"
    assert digest({name: list(members) for name, members in GROUPS.items()}) == "7ff5e2afbe2c8038"
    assert digest(sorted((name, kind) for name, kind in KIND_OF.items() if name != "person")) == "831aa57896aa60cc"
    assert digest(list(STUFF)) == "89ca9339ac448973"
    assert set(KINDS) <= set(STUFF)


def test_every_class_has_one_kind_and_groups_are_of_classes():
    assert len(CLASSES) == len(set(CLASSES)) == 80 == len(KIND_OF)
    assert sum(map(len, KINDS.values())) == 80
    members = [name for group in GROUPS.values() for name in group]
    assert len(members) == len(set(members))
    assert set(members) <= set(CLASSES)
