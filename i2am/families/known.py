"""What is said of one pipeline: whether attention sees its picture, and how the picture enters."""

from __future__ import annotations

from dataclasses import dataclass

WORKS, ADAPTER, NONE, REFUSED = "works", "adapter", "none", "refused"
VERDICTS = {
    WORKS: "works",
    ADAPTER: "works with an IP-Adapter loaded",
    NONE: "no reference in attention",
    REFUSED: "refused",
}


@dataclass(frozen=True)
class Known:
    """How a pipeline's pictures enter."""

    # "works": attention sees them and a rule knows where; "adapter": that of an IP-Adapter, and none without; "none": attention does not;
    # "refused": it does, or may, and no rule knows where
    kind: str
    how: str  # where the reference is, why there is none, or why it is refused and what to write instead
    write: str = "trace(pipe)"  # the line that works


Group = tuple[Known, tuple[str, ...]]  # pipelines of which the same is to be said


def by_name(groups: tuple[Group, ...]) -> dict[str, Known]:
    """Each pipeline's entry; a name that stands in two groups is our own mistake."""
    found: dict[str, Known] = {}
    for known, names in groups:
        for name in names:
            assert name not in found, name
            found[name] = known
    return found
