"""SillyTavern chats: JSON lines, the first one about the chat, then one message a line.

{"user_name", "character_name"}, then {"is_user", "mes", "swipes": [...], "swipe_id"}. Nobody rates
there; swipes are versions of a reply. The version that the chat went on from, or that somebody went
back to, is slightly better than the others. Greetings answer nothing and are left out, and so are
messages hidden from the model ("is_system"). What defines the character is not in a chat.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlhf_chat.importers.messages import Turns, moment, selected, text_of, without_thoughts, words
from rlhf_chat.importers.problems import SHAPE_ERRORS, Entry, Options, Outcome, UnreadableError
from rlhf_chat.importers.row import Row, row_of


class Chat:
    """One chat, message by message. A reply waits for the next message, which shows that the chat
    went on."""

    def __init__(self, options: Options) -> None:
        self.turns: Turns = ()
        self.waiting: tuple[int, Entry] | None = None

    @staticmethod
    def accepts(entry: Entry) -> bool:
        return "mes" in entry or ("user_name" in entry and "character_name" in entry)

    def add(self, line: int, entry: Entry) -> Iterator[Row]:
        if "mes" not in entry:  # a new chat
            yield from self.close()
            self.turns = ()
        elif not entry.get("is_system"):
            yield from self._finish(went_on=True)
            self.waiting = (line, entry)

    def close(self) -> Iterator[Row]:
        yield from self._finish(went_on=False)

    def _finish(self, went_on: bool) -> Iterator[Row]:
        if self.waiting is None:
            return
        line, entry = self.waiting
        self.waiting = None
        yield row_of(line, _selection(self.turns, entry, went_on))
        try:
            role = "user" if entry.get("is_user") else "assistant"
            text = text_of(entry["mes"])
            text = text if role == "user" else without_thoughts(text)
            self.turns = (*self.turns, (role, words(text)))
        except (UnreadableError, *SHAPE_ERRORS):
            pass  # an empty message says nothing to those after it


def _selection(turns: Turns, entry: Entry, went_on: bool) -> Iterator[Outcome]:
    swipes = entry.get("swipes") or []
    if entry.get("is_user") or len(swipes) < 2 or not any(role == "user" for role, _ in turns):
        return
    at = int(entry.get("swipe_id") or 0)
    if not went_on and at == len(swipes) - 1:
        return  # the newest version, which nobody chose
    versions = [without_thoughts(text_of(one)) for one in swipes]
    kept = versions.pop(at)
    when = moment(entry.get("send_date"))
    yield from selected(turns, words(kept), versions, created_at=when)
