"""A noun and the adjectives that describe it: the prompts of a template, and which picture is of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from i2am.data.prompts import Asked
from i2am.language import making
from i2am.studies.painted import Painted


class Described:
    """The prompts of a template: `adjectives`, the `noun`, and which prompt has which adjective."""

    def __init__(self, template: str, *, noun: str | None = None, seed: int = 0, seeds: int = 1) -> None:
        made = making.adjectives(template, noun=noun, seed=seed, seeds=seeds)
        self.template, self.noun = template, made[0].group
        self.adjectives = list(dict.fromkeys(word.strip() for word in making.CHOICE.findall(template)[0].split(",")))
        self.prompts = [Asked(one.id, one.prompt, one.seed, group=one.group) for one in made]
        self.adjective = {one.id: self.adjectives[place % len(self.adjectives)] for place, one in enumerate(made)}

    def of_seeds(self) -> list[Asked]:
        """The same with a group a seed: what is painted together."""
        return [replace(one, group=f"{self.noun}, seed {one.seed}") for one in self.prompts]

    @property
    def words(self) -> dict[str, tuple[str, str]]:
        """What each prompt must have."""
        return {name: (adjective, self.noun) for name, adjective in self.adjective.items()}

    def seeds(self, painted: Sequence[Painted]) -> dict[int, list[Painted]]:
        """The pictures by seed, each in the adjectives' order."""
        found: dict[int, list[Painted]] = {}
        for one in painted:
            found.setdefault(int(one.asked.seed or 0), []).append(one)
        return {seed: sorted(some, key=lambda one: self.adjectives.index(self.adjective[one.asked.id])) for seed, some in found.items()}
