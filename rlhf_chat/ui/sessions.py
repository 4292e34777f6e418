"""Open tabs and running replies: what several tabs must agree on.

One reply at a time in a conversation, drawn only where that conversation is on the screen.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from rlhf_chat.chat.raters import ME
from rlhf_chat.errors import Notice

CLICKS = 256  # newest clicks on Send that are remembered: the same click twice is one
TABS = 1000


@dataclass
class Reply:
    """A reply under way: how to stop it, which tab asked for it, and what it says so far."""

    tab: str
    stop: threading.Event = field(default_factory=threading.Event)
    text: str = ""
    note: Notice | None = None


class Sessions:
    def __init__(self) -> None:
        self._under_way: dict[str, Reply] = {}  # by conversation
        self._shown: dict[str, str] = {}  # the conversation each tab shows, the oldest tab first
        self._names: dict[str, str] = {}  # whom each tab rates as, likewise
        self._clicks: deque[str] = deque(maxlen=CLICKS)
        self._lock = threading.Lock()

    def seen_click(self, event_id: str) -> bool:
        """Whether this click came before; from now on it did."""
        with self._lock:
            before = bool(event_id) and event_id in self._clicks
            self._clicks.append(event_id)
            return before

    def begin(self, conversation_id: str, tab: str) -> Reply | None:
        """A reply that may now be written; None while another one is."""
        reply = Reply(tab)
        with self._lock:
            return reply if self._under_way.setdefault(conversation_id, reply) is reply else None

    def end(self, conversation_id: str) -> None:
        with self._lock:
            del self._under_way[conversation_id]

    def reply(self, conversation_id: str) -> Reply | None:
        return self._under_way.get(conversation_id)

    def show(self, tab: str, conversation_id: str) -> None:
        """Notes which conversation a tab shows."""
        self._note(self._shown, tab, conversation_id)

    def name(self, tab: str, rater: str) -> None:
        """Notes whom a tab rates as."""
        self._note(self._names, tab, rater)

    def named(self, tab: str, otherwise: str = ME) -> str:
        return self._names.get(tab, otherwise)

    def _note(self, of_tabs: dict[str, str], tab: str, what: str) -> None:
        """The oldest tabs are forgotten."""
        with self._lock:
            of_tabs.pop(tab, None)
            of_tabs[tab] = what
            while len(of_tabs) > TABS:
                del of_tabs[next(iter(of_tabs))]

    def shows(self, tab: str, conversation_id: str) -> bool:
        """Whether this tab shows it. An unknown tab is one from before a restart."""
        return self._shown.get(tab, conversation_id) == conversation_id
