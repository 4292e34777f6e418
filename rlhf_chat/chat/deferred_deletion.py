"""Deleting a chat with a short time to undo it.

The chats that are to go are a setting in the database, so that they also go when the app ends
meanwhile: at its next start.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from rlhf_chat.db import Store
from rlhf_chat.errors import AppError, NotFound

SETTING = "chats_to_delete"
SECONDS = 10.0  # in which it can be undone


class DeferredDeletion:
    def __init__(self, store: Store, seconds: float = SECONDS) -> None:
        self.store, self.seconds = store, seconds
        self._timers: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def pending(self) -> dict[str, float]:
        """Chats that are to be deleted, and when (seconds since the epoch)."""
        return dict(self.store.settings.get(SETTING, {}))

    def add(self, conversation_id: str) -> None:
        """Deletes a chat in a while. Raises NotFound, or what the database says."""
        self.store.conversations.get(conversation_id)
        with self._lock:
            self._store({**self.pending(), conversation_id: time.time() + self.seconds})
            timer = threading.Timer(self.seconds, self._finish_quietly, [conversation_id])
            timer.daemon = True
            self._timers[conversation_id] = timer
            timer.start()

    def undo(self, conversation_id: str) -> None:
        """Keeps it after all. Raises NotFound if it is gone."""
        with self._lock:
            if conversation_id not in self.pending():
                raise NotFound("db.conversation_gone")
            if timer := self._timers.pop(conversation_id, None):
                timer.cancel()
            self._forget(conversation_id)

    def finish(self) -> None:
        """Deletes all that is still pending. For the start of the app, which what is in the way of
        erasing must not prevent: that is tried again."""
        if not self.store.read_only:
            for conversation_id in self.pending():
                self._finish_quietly(conversation_id)

    def _delete(self, conversation_id: str) -> None:
        with self._lock:
            self._timers.pop(conversation_id, None)
            if conversation_id not in self.pending():
                return
            with suppress(NotFound):
                self.store.conversations.delete(conversation_id)
            self._forget(conversation_id)

    def _finish_quietly(self, conversation_id: str) -> None:
        with suppress(AppError):  # tried again at the next start
            self._delete(conversation_id)

    def _forget(self, conversation_id: str) -> None:
        left = self.pending()
        left.pop(conversation_id, None)
        self._store(left)

    def _store(self, pending: dict[str, float]) -> None:
        self.store.settings.set(SETTING, pending)
