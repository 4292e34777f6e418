"""Prefetched answers for Compare: the next ones are written while the user reads the last.

One thread per job keeps its newest state, and the page that shows it follows along. One job per
tab, dropped when another version became live meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from rlhf_chat.chat.compare import Candidates
from rlhf_chat.ui.handlers import close

TABS = 16  # tabs that may have drafts ahead; the oldest gives way

Start = Callable[[threading.Event], Iterator[Candidates]]


class PrefetchJob:
    """One set of drafts being written in a thread of its own."""

    def __init__(self, key: Any, start: Start) -> None:
        self.key = key
        self.stop = threading.Event()
        self._changed = threading.Condition()
        self._drafts: Candidates | None = None
        self._error: Exception | None = None
        self._over = False
        threading.Thread(target=self._write, args=[start], name="drafts", daemon=True).start()

    def _write(self, start: Start) -> None:
        sets: Iterator[Candidates] | None = None
        try:
            sets = start(self.stop)
            for drafts in sets:
                with self._changed:
                    self._drafts = drafts
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
        finally:
            close(sets)
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def follow(self) -> Iterator[Candidates]:
        """The newest state each time it changes, the last one included; raises what went wrong."""
        shown: Candidates | None = None
        while True:
            with self._changed:
                while not self._over and self._drafts is shown:
                    self._changed.wait()
                drafts, over = self._drafts, self._over
            if drafts is not None and drafts is not shown:
                shown = drafts
                yield drafts
            elif over:
                break
        if self._error is not None:
            raise self._error


class Prefetcher:
    """The drafts ahead of each tab."""

    def __init__(self) -> None:
        self._by_tab: OrderedDict[str, PrefetchJob] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, tab: str, key: Any, start: Start) -> None:
        with self._lock:
            old = self._by_tab.get(tab)
            if old is not None and old.key == key:
                return
            if old is not None:
                old.stop.set()
            self._by_tab[tab] = PrefetchJob(key, start)
            self._by_tab.move_to_end(tab)
            while len(self._by_tab) > TABS:
                self._by_tab.popitem(last=False)[1].stop.set()

    def take(self, tab: str, key: Any) -> PrefetchJob | None:
        """The drafts made for exactly this, if they were; others are dropped."""
        with self._lock:
            coming = self._by_tab.pop(tab, None)
        if coming is None or coming.key == key:
            return coming
        coming.stop.set()
        return None
