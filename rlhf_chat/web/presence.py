"""Who is looking at what, and which replies are being written: what several tabs must agree on.

One reply at a time in a conversation, drawn only where that conversation is on the screen. Leaves
out making replies and drawing them (chat.py).
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

CLICKS = 256  # newest clicks on Send that are remembered: the same click twice is one
TABS = 1000


@dataclass
class Reply:
    """A reply under way: how to stop it, which tab asked for it, and what it says so far."""

    tab: str
    stop: threading.Event = field(default_factory=threading.Event)
    text: str = ""
    note: str = ""


class Presence:
    def __init__(self) -> None:
        self._under_way: dict[str, Reply] = {}  # by conversation
        self._shown: dict[str, str] = {}  # the conversation each tab shows, the oldest tab first
        self._clicks: deque[str] = deque(maxlen=CLICKS)
        self._lock = threading.Lock()

    def heard(self, event_id: str) -> bool:
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
        """Notes which conversation a tab shows, forgetting the oldest tabs."""
        with self._lock:
            self._shown.pop(tab, None)
            self._shown[tab] = conversation_id
            while len(self._shown) > TABS:
                del self._shown[next(iter(self._shown))]

    def shows(self, tab: str, conversation_id: str) -> bool:
        """Whether this tab shows it. A tab nobody knows is one that asked before a restart."""
        return self._shown.get(tab, conversation_id) == conversation_id
