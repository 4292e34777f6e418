"""Inter-rater agreement on items that more than one person answered.

Rows of (item, rater, answer) in, numbers out: one for all raters together, and one for each rater
against the others. It is shown, not acted on: with few shared items an agreement of a third cannot
be distinguished from one of a half. Detecting raters who invert: reward/adversarial_raters.py.

Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability" (nominal data).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

Answer = tuple[str, str, str]  # item, rater, answer


@dataclass(frozen=True)
class Agreement:
    """One rater against each of the others. Not against their majority: where the others are
    split, a rater who inverts every answer would decide it, and honest raters would look bad."""

    rater: str
    items: int  # answered by another rater too
    compared: int  # pairs of answers to the same item
    agreed: int

    @property
    def share(self) -> float:
        return self.agreed / self.compared


def krippendorff_alpha(answers: Iterable[Answer]) -> float | None:
    """1 is perfect, 0 is chance, below 0 is systematic disagreement; None without shared items."""
    items = [list(by.values()) for by in _by_item(answers).values() if len(by) > 1]
    if not items:
        return None
    total = Counter(answer for item in items for answer in item)
    count = sum(total.values())
    observed = sum(
        sum(a != b for i, a in enumerate(item) for j, b in enumerate(item) if i != j)
        / (len(item) - 1)
        for item in items
    )
    expected = sum(n * (count - n) for n in total.values()) / (count - 1)
    return 1.0 if expected == 0 else 1 - observed / expected


def agreements(answers: Iterable[Answer]) -> list[Agreement]:
    """Each rater against the others, the least agreeing first."""
    items, compared, agreed = Counter[str](), Counter[str](), Counter[str]()
    for by in _by_item(answers).values():
        for rater, answer in by.items():
            others = [a for r, a in by.items() if r != rater]
            items[rater] += bool(others)
            compared[rater] += len(others)
            agreed[rater] += others.count(answer)
    found = [Agreement(r, items[r], n, agreed[r]) for r, n in compared.items() if n]
    return sorted(found, key=lambda a: (a.share, a.rater))


def _by_item(answers: Iterable[Answer]) -> dict[str, dict[str, str]]:
    items: dict[str, dict[str, str]] = defaultdict(dict)
    for item, rater, answer in answers:
        items[item][rater] = answer
    return items
