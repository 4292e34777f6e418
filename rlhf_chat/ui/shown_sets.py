"""The set of answers that each Compare page shows, and a vote that is given before it is whole.

An early vote waits here, with the page that shows the answers, and is stored when they end. If the
tab is closed before, it is lost with them: nobody was told that it was saved.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from rlhf_chat.chat.compare import Candidates
from rlhf_chat.ui.prefetch import TABS, PrefetchJob


@dataclass(frozen=True)
class EarlyVote:
    outcome: str
    rater: str
    event_id: str


class ShownSet:
    """One set on one page. `id` is that of the click that asked for it, `key` what it was for."""

    def __init__(self, tab: str, event_id: str, key: Any, job: PrefetchJob) -> None:
        self.tab, self.id, self.key, self.job = tab, event_id, key, job
        self.left = False  # the page shows another one
        self.drafts: Candidates | None = None
        self.early: EarlyVote | None = None
        self.withdrawn = False  # the last thing said of these answers was taken back
        self._lock = threading.Lock()

    @property
    def readable(self) -> bool:
        """Whether there is text in each answer."""
        return self.drafts is not None and all(text.strip() for text in self.drafts.texts)

    def now(self, drafts: Candidates) -> EarlyVote | None:
        """What the page shows now. Once it is whole, the vote that was given before, if any: from
        then on votes are stored at once."""
        with self._lock:
            self.drafts = drafts
            if not drafts.done:
                return None
            early, self.early = self.early, None
            return early

    def vote(self, early: EarlyVote) -> str | None:
        """Keeps a vote until the answers are whole; returns "" then. If they are whole by now, the
        id of the set that is to be voted on; None if there is nothing to vote on."""
        with self._lock:
            if self.drafts is not None and self.drafts.done:
                return self.drafts.set_id
            if not self.readable:
                return None
            self.early, self.withdrawn = early, False
        self.job.touch()  # the page draws it with the answers
        return ""

    def withdraw(self) -> bool:
        """Whether there was an early vote; there is none any more."""
        with self._lock:
            was, self.early = self.early, None
            self.withdrawn = self.withdrawn or was is not None
        if was is not None:
            self.job.touch()  # as in `vote`
        return was is not None


class PlacesGiven:
    """How far each ranking has come. The clicks of one ranking travel side by side, and what an
    earlier one would draw must not come after what a later one drew. For one thread."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, int] = OrderedDict()  # by the id of the ranking

    def note(self, ranking: str, given: int) -> None:
        self._given[ranking] = max(given, self._given.pop(ranking, 0))
        while len(self._given) > TABS:
            self._given.popitem(last=False)

    def overtaken(self, ranking: str, given: int) -> bool:
        return bool(ranking) and given < self._given.get(ranking, 0)


class ShownSets:
    """The newest set of each tab."""

    def __init__(self) -> None:
        self._by_tab: OrderedDict[str, ShownSet] = OrderedDict()
        self._lock = threading.Lock()

    def show(self, shown: ShownSet) -> None:
        """From now on this one; the one before is stopped if it is still being written."""
        with self._lock:
            before = self._by_tab.pop(shown.tab, None)
            self._by_tab[shown.tab] = shown
            while len(self._by_tab) > TABS:
                self._by_tab.popitem(last=False)
        if before is not None:
            before.left = True
            before.job.stop.set()

    def of(self, tab: str) -> ShownSet | None:
        return self._by_tab.get(tab)

    def get(self, event_id: str) -> ShownSet | None:
        """By its id; None if its page shows another one by now."""
        with self._lock:
            return next((one for one in self._by_tab.values() if one.id == event_id), None)

    def leave(self, shown: ShownSet) -> None:
        """The page shows an earlier set again; this one is written on."""
        shown.left = True
        with self._lock:
            if self._by_tab.get(shown.tab) is shown:
                del self._by_tab[shown.tab]
