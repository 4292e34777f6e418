"""Raters: how much each rates, how consistently, and in agreement with whom.

One person may use several names and several people one app; each browser stores the name it rates
under. A rater who contradicts the others, or themselves, is shown as such and can be excluded: the
ratings are kept and do not count.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_chat.db import Feedback, Store, clean_text
from rlhf_chat.errors import Notice
from rlhf_chat.feedback import agreement
from rlhf_chat.feedback.agreement import Agreement, Answer
from rlhf_chat.feedback.kinds import kind_of

if TYPE_CHECKING:
    from rlhf_chat.reward.scorer import RewardModelCache

ME = "me"  # the default name
LONGEST_NAME = 40


@dataclass(frozen=True)
class Rater:
    name: str
    answers: int
    counts: bool  # not set aside
    asked_again: int  # pairs seen a second time, sides swapped
    said_same: int
    with_others: Agreement | None  # None: no other rater answered the same questions
    suspect: bool = False  # clearly means the opposite of all others


class Raters:
    def __init__(self, store: Store, scorer: RewardModelCache | None = None) -> None:
        self.store = store
        self.scorer = scorer  # without it no rater is called adversarial
        self._read: tuple[int, list[Feedback]] = (-1, [])  # revision, what counts

    def table(self) -> list[Rater]:
        """Every rater but simulated ones, those with most ratings first."""
        answered = Counter(told.rater for told in self._feedback())
        shared = {a.rater: a for a in agreement.agreements(self._answers())}
        aside = self.store.feedback.quarantined()
        asked, same = self._steadiness()
        doubted = self.scorer.adversarial_rater() if self.scorer else None
        found = [
            Rater(
                name,
                count,
                name not in aside,
                asked[name],
                same[name],
                shared.get(name),
                suspect=name == doubted,
            )
            for name, count in answered.items()
        ]
        return sorted(found, key=lambda r: (-r.answers, r.name))

    def alpha(self) -> float | None:
        """Krippendorff's alpha over whatever several people answered; None if nothing is shared."""
        return agreement.krippendorff_alpha(self._answers())

    def set_aside(self, name: str, aside: bool = True) -> Notice:
        """Whether a rater's ratings count (quarantine). They are kept either way."""
        names = self.store.feedback.quarantined()
        names = names | {name} if aside else names - {name}
        self.store.feedback.set_quarantined(names)
        return Notice("raters.excluded" if aside else "raters.included", {"name": name})

    def _answers(self) -> list[Answer]:
        """Current answers as (what was asked, rater, answer), of the kinds that are compared."""
        asked = [(kind_of(f.kind).shared_question(f), f) for f in self._feedback()]
        return [(question, f.rater, f.answer) for question, f in asked if question]

    def _feedback(self) -> list[Feedback]:
        """What counts now, without texts; read again only after a change."""
        revision = self.store.feedback.revision
        if self._read[0] != revision:
            self._read = revision, self.store.feedback.without_texts()
        return self._read[1]

    def _steadiness(self) -> tuple[Counter[str], Counter[str]]:
        """Of each rater: pairs that were asked again, and how many got the same answer."""
        first = {
            (p.message_a, p.message_b, p.rater): p.outcome
            for p in self.store.feedback.preferences()
        }
        asked, same = Counter[str](), Counter[str]()
        for p in self.store.feedback.asked_again():
            before = first.get((p.message_a, p.message_b, p.rater))
            if before is not None:
                asked[p.rater] += 1
                same[p.rater] += before == p.outcome
        return asked, same


def checked_name(name: str) -> str:
    """A name as it is stored: short, on one line, `ME` when there is none, never a simulated one's
    ("simulated:..." belongs to those who are only watched)."""
    name = " ".join(clean_text(name).split())[:LONGEST_NAME].replace(":", " ").strip()
    return name or ME
