"""Two drafts made ahead, while a person still reads the last two: the next pair is there at once.

A draft under way is one thread that keeps its newest state; whoever shows it follows along. One
pair ahead for each tab, and a pair ahead is dropped when another version became live meanwhile.
Leaves out choosing prompts (compare.py) and making drafts (rlhf_chat.chat).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from rlhf_chat.chat import Pair
from rlhf_chat.web.quick import close

TABS = 16  # tabs that may have a pair ahead; the oldest gives way

Start = Callable[[threading.Event], Iterator[Pair]]


class Drafts:
    """One pair being written in a thread of its own."""

    def __init__(self, key: Any, start: Start) -> None:
        self.key = key
        self.stop = threading.Event()
        self._changed = threading.Condition()
        self._pair: Pair | None = None
        self._error: Exception | None = None
        self._over = False
        threading.Thread(target=self._write, args=[start], name="drafts", daemon=True).start()

    def _write(self, start: Start) -> None:
        pairs: Iterator[Pair] | None = None
        try:
            pairs = start(self.stop)
            for pair in pairs:
                with self._changed:
                    self._pair = pair
                    self._changed.notify_all()
        except Exception as error:
            self._error = error
        finally:
            close(pairs)
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def follow(self) -> Iterator[Pair]:
        """The newest state each time it changes, the last one included; raises what went wrong."""
        shown: Pair | None = None
        while True:
            with self._changed:
                while not self._over and self._pair is shown:
                    self._changed.wait()
                pair, over = self._pair, self._over
            if pair is not None and pair is not shown:
                shown = pair
                yield pair
            elif over:
                break
        if self._error is not None:
            raise self._error


class Ahead:
    """The pair ahead of each tab."""

    def __init__(self) -> None:
        self._by_tab: OrderedDict[str, Drafts] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, tab: str, key: Any, start: Start) -> None:
        with self._lock:
            old = self._by_tab.get(tab)
            if old is not None and old.key == key:
                return
            if old is not None:
                old.stop.set()
            self._by_tab[tab] = Drafts(key, start)
            self._by_tab.move_to_end(tab)
            while len(self._by_tab) > TABS:
                self._by_tab.popitem(last=False)[1].stop.set()

    def take(self, tab: str, key: Any) -> Drafts | None:
        """The drafts made for exactly this, if they were; others are dropped."""
        with self._lock:
            drafts = self._by_tab.pop(tab, None)
        if drafts is None or drafts.key == key:
            return drafts
        drafts.stop.set()
        return None
