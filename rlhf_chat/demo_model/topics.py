"""The facts the demo model knows, read from the table `topics.txt`.

One line is one topic: `name | fact | fact | fact | fact | example`. A fact is a predicate without
its subject and full stop; an example completes "For example, ...". A star after the name means
plural ("They"), otherwise "It". Nothing in it changes with time, place or opinion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("topics.txt")


@dataclass(frozen=True)
class Topic:
    """One subject with its facts: predicates, and the example that completes "For example, ..."."""

    name: str
    plural: bool
    facts: tuple[str, ...]
    example: str

    @property
    def subject(self) -> str:
        """The name as it stands at the start of a sentence."""
        return self.name[0].upper() + self.name[1:]

    @property
    def pronoun(self) -> str:
        """What later sentences of the same reply call it."""
        return "They" if self.plural else "It"


def _parse(line: str) -> Topic:
    name, *facts, example = (part.strip() for part in line.split("|"))
    return Topic(name.rstrip("*"), name.endswith("*"), tuple(facts), example)


TOPICS: dict[str, Topic] = {
    topic.name: topic for topic in map(_parse, TABLE.read_text(encoding="utf-8").splitlines())
}
