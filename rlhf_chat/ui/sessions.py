"""Open tabs and running replies: what several tabs must agree on.

One reply at a time in a conversation, drawn only where that conversation is on the screen. Each is
written on a thread of its own, so that it goes on when its page is reloaded; one that nobody has
drawn for a while is ended, so that a closed tab frees the model.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import ReplyChunk
from rlhf_chat.chat.raters import ME
from rlhf_chat.ui.handlers import close

CLICKS = 256  # newest clicks on Send that are remembered: the same click twice is one
TABS = 1000
GRACE = 10.0  # seconds that a reply goes on without a page: a reload takes less


def tab_of(request: gr.Request | None) -> str:
    """The id of the page that asks; "" if it is none of Gradio's."""
    return (request.session_hash or "") if request else ""


Start = Callable[[threading.Event], Iterator[ReplyChunk]]  # given the event that stops it


@dataclass
class Reply:
    """A reply under way: how to stop it, which tab asked for it, and what there is of it so far."""

    tab: str
    before: list[dict[str, Any]] = field(default_factory=list)  # bubbles above it
    stop: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)  # accepted, or refused
    ended: threading.Event = field(default_factory=threading.Event)
    chunk: ReplyChunk | None = None  # the newest; None where it was refused
    error: Exception | None = None
    pages: int = 0  # that draw it
    left_at: float = field(default_factory=time.monotonic)  # when the last of them left


class Sessions:
    def __init__(self, grace: float = GRACE) -> None:
        self.grace = grace
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

    def begin(
        self, conversation_id: str, tab: str, before: list[dict[str, Any]], start: Start
    ) -> Reply | None:
        """Has a reply written, and returns once it is accepted or refused; None while another one
        is being written."""
        reply = Reply(tab, before)
        with self._lock:
            if self._under_way.setdefault(conversation_id, reply) is not reply:
                return None
        args = (conversation_id, reply, start)
        threading.Thread(target=self._write, args=args, name="reply", daemon=True).start()
        reply.begun.wait()
        return reply

    def _write(self, conversation_id: str, reply: Reply, start: Start) -> None:
        try:
            chunks = start(reply.stop)
            try:
                for reply.chunk in chunks:
                    reply.begun.set()
                    if not reply.pages and time.monotonic() - reply.left_at > self.grace:
                        reply.stop.set()
            finally:
                close(chunks)  # stores the partial text
        except Exception as error:  # told by the handlers that show the reply
            reply.error = error
        finally:
            with self._lock:
                del self._under_way[conversation_id]
            reply.ended.set()
            reply.begun.set()

    @contextmanager
    def drawn(self, reply: Reply) -> Iterator[None]:
        """While a page draws this reply."""
        with self._lock:
            reply.pages += 1
        try:
            yield
        finally:
            with self._lock:
                reply.pages -= 1
                reply.left_at = time.monotonic()

    def stop_all(self, seconds: float = 5.0) -> None:
        """Ends every reply, and waits until what there is of it is stored."""
        with self._lock:
            replies = list(self._under_way.values())
        for reply in replies:
            reply.stop.set()
        for reply in replies:
            reply.ended.wait(seconds)

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
