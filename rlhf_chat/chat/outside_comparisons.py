"""Votes and rankings of replies that were shown outside this app, in the terminal or by another
program, by their ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_chat.chat.message_text import checked_note
from rlhf_chat.db import Store


def prefer(
    store: Store,
    better: str,
    worse: str,
    *,
    strength: str = "",
    note: str = "",
    rater: str = "me",
    event_id: str | None = None,
) -> str:
    """A vote on two replies to one message that were shown outside this app, by their ids. Which
    was seen first is not known: the one that was written first is taken for it. Returns the id of
    the vote, after COMMIT."""
    a, b = _by_age(store, [better, worse])
    return store.feedback.add_preference(
        a,
        b,
        "a" if a == better else "b",
        shown_first="a",
        strength=strength,
        comment=checked_note(note),
        rater=rater,
        event_id=event_id,
    )


def order(
    store: Store,
    replies: Sequence[str],
    *,
    note: str = "",
    rater: str = "me",
    event_id: str | None = None,
) -> str:
    """A ranking of replies to one message, the best first, by their ids. Returns the id of the
    ranking, after COMMIT."""
    words = checked_note(note)
    asked = store.messages.get(replies[0]).parent_id or ""
    places = {reply: place for place, reply in enumerate(replies)}
    made = store.feedback.add_ranking(asked, places, rater=rater, event_id=event_id)
    if words:
        store.feedback.set_comment(made, words)
    return made


def _by_age(store: Store, replies: Sequence[str]) -> list[str]:
    """The oldest first, where they answer the same message."""
    found = store.messages.siblings(replies[0])
    return sorted(replies, key=lambda id: found.index(id) if id in found else len(found))
