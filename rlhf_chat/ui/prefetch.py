"""Prefetched answers for Compare: the next sets are written while the user reads this one.

One thread per job keeps its newest state, and the page that shows it follows along. The jobs of a
tab are written one after another, each from the moment the one before is whole; a vote stops none.
They are for one key, such as a prompt source and a version, and dropped when another is asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rlhf_chat.chat.compare import Candidates
from rlhf_chat.ui.handlers import close

AHEAD = 2  # sets of drafts that a tab may have ahead of the one it shows
TABS = 16  # tabs that may have drafts ahead; the oldest gives way

# What writes a set of drafts, given the events that stop and hurry it.
Start = Callable[[threading.Event, threading.Event], Iterator[Candidates]]


class PrefetchJob:
    """One set of drafts, written in a thread of its own as soon as the job `after` is over."""

    def __init__(self, start: Start, after: PrefetchJob | None = None) -> None:
        self.stop, self.hurry, self.over = threading.Event(), threading.Event(), threading.Event()
        self._changed = threading.Condition()
        self._drafts: Candidates | None = None
        self._touched = 0  # how often `touch` was called
        self._error: Exception | None = None
        threading.Thread(
            target=self._write, args=[start, after], name="drafts", daemon=True
        ).start()

    def _write(self, start: Start, after: PrefetchJob | None) -> None:
        sets: Iterator[Candidates] | None = None
        try:
            if after is not None:
                after.over.wait()
            if self.stop.is_set():
                return
            sets = start(self.stop, self.hurry)
            for drafts in sets:
                with self._changed:
                    self._drafts = drafts
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
        finally:
            close(sets)
            with self._changed:
                self.over.set()
                self._changed.notify_all()

    @property
    def failed(self) -> bool:
        """Whether it is over and there is nothing to vote on."""
        return self.over.is_set() and not (self._drafts and self._drafts.votable)

    def touch(self) -> None:
        """Whoever follows gets the newest state once more, unless it is the last one."""
        with self._changed:
            self._touched += 1
            self._changed.notify_all()

    def follow(self) -> Iterator[Candidates]:
        """The newest state each time it changes or is touched, the last one included once; raises
        what went wrong."""
        shown: Candidates | None = None
        seen = self._touched
        while True:
            with self._changed:
                while not self.over.is_set() and self._drafts is shown and self._touched == seen:
                    self._changed.wait()
                drafts, over = self._drafts, self.over.is_set()
                touched, seen = self._touched > seen, self._touched
            if drafts is not None and (drafts is not shown or (touched and not over)):
                shown = drafts
                yield drafts
            elif over:
                break
        if self._error is not None:
            raise self._error


@dataclass
class _Tab:
    """The jobs of a tab, the next one first, and what they are for."""

    key: Any
    jobs: deque[PrefetchJob] = field(default_factory=deque)

    def drop(self) -> None:
        for job in self.jobs:
            job.stop.set()


class Prefetcher:
    """The drafts ahead of each tab."""

    def __init__(self) -> None:
        self._by_tab: OrderedDict[str, _Tab] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, tab: str, key: Any) -> PrefetchJob | None:
        """The next drafts made for exactly this, if there are any that can be voted on. Those made
        for anything else are dropped."""
        with self._lock:
            jobs = self._of(tab, key).jobs
            while jobs:
                job = jobs.popleft()
                if not job.failed:
                    return job
        return None

    def fill(self, tab: str, key: Any, after: PrefetchJob, start: Start) -> None:
        """Puts as many jobs ahead as a tab may have, behind those that wait already, else behind
        the one that is shown."""
        with self._lock:
            jobs = self._of(tab, key).jobs
            while len(jobs) < AHEAD:
                jobs.append(PrefetchJob(start, jobs[-1] if jobs else after))

    def put_back(self, tab: str, key: Any, job: PrefetchJob) -> None:
        """What was shown comes next again: an earlier set took its place."""
        with self._lock:
            self._of(tab, key).jobs.appendleft(job)

    def drop(self, tab: str) -> None:
        with self._lock:
            if old := self._by_tab.pop(tab, None):
                old.drop()

    def _of(self, tab: str, key: Any) -> _Tab:
        """The jobs of this tab for this key; the lock is held."""
        found = self._by_tab.get(tab)
        if found is None or found.key != key:
            if found is not None:
                found.drop()
            found = self._by_tab[tab] = _Tab(key)
        self._by_tab.move_to_end(tab)
        while len(self._by_tab) > TABS:
            self._by_tab.popitem(last=False)[1].drop()
        return found
