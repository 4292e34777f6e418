"""One answer about replies that are named by their response ids, as programs give it: checked, and
stored by its kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rlhf_chat.chat import outside_comparisons
from rlhf_chat.chat.message_feedback import Ratings
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.db import Store
from rlhf_chat.errors import AppError, NotFound
from rlhf_chat.feedback.kinds import kinds

KINDS = tuple(kind.code for kind in kinds())
WITH_NOTE = ("thumb", "comparison", "ranking")
LAST = "last"  # stands for the id of the reply that was written last
PREFIXES = ("chatcmpl-", "cmpl-")  # of ids as clients know them
THUMBS = {"up": 1, "down": -1}


@dataclass(frozen=True)
class RatingEntry:
    """Exactly one of thumb, stars, correction, better with worse, and ranking; "" and 0 are absent.
    A note alone goes with the thumb that is there already."""

    response_id: str = ""
    response_text: str = ""  # instead of the id: the newest reply with these words
    thumb: str = ""  # up or down
    stars: int = 0
    correction: str = ""
    better: str = ""
    worse: str = ""
    strength: str = ""  # of a comparison: slightly or much
    ranking: tuple[str, ...] = ()  # the best first
    note: str = ""
    reason: str = ""  # of a thumb
    rater: str = "me"
    event_id: str | None = None

    @property
    def kind(self) -> str:
        """Raises AppError unless it is one."""
        given = {
            "thumb": bool(self.thumb),
            "stars": bool(self.stars),
            "correction": bool(self.correction),
            "comparison": bool(self.better or self.worse),
            "ranking": bool(self.ranking),
        }
        found = [kind for kind, there in given.items() if there]
        if not found and self.note:
            return "note"
        if len(found) != 1:
            raise AppError("api.one_answer")
        if self.note and found[0] not in WITH_NOTE:
            raise AppError("api.no_note_here")
        return found[0]


def give(store: Store, ratings: Ratings, entry: RatingEntry) -> dict[str, Any]:
    """Stores the answer; what was stored, as JSON. Returns after COMMIT. Raises AppError."""
    entry = replace(entry, rater=checked_name(entry.rater))
    kind = entry.kind
    if kind == "comparison":
        return _comparison(store, entry)
    if kind == "ranking":
        return _ranking(store, entry)
    reply = _reply(store, entry)
    by: dict[str, Any] = {"rater": entry.rater, "event_id": entry.event_id}
    if kind == "stars":
        return _given(entry, kind, ratings.score(reply, entry.stars, **by), reply)
    if kind == "correction":
        edited = ratings.correct(reply, entry.correction, **by)
        made = store.feedback.edit_to(edited)
        return _given(entry, kind, made.id, reply) | {"corrected_id": edited}
    return _thumb(ratings, entry, reply, by)


def _reply(store: Store, entry: RatingEntry) -> str:
    if entry.response_id:
        return reply_id(store, entry.response_id)
    if not entry.response_text:
        raise AppError("api.missing", name="response_id")
    found = store.messages.newest_reply(entry.response_text)
    if found is None:
        raise NotFound("api.unknown_text")
    return found.id


def _thumb(ratings: Ratings, entry: RatingEntry, reply: str, by: dict[str, Any]) -> dict[str, Any]:
    """A note alone, or a reason alone, keeps the thumb that is there."""
    before = ratings.of(reply, entry.rater)
    value = THUMBS.get(entry.thumb, before.value)
    if not value:
        raise AppError("api.note_needs_thumb")
    same = value == before.value
    made = ratings.rate(
        reply,
        value,
        reason=entry.reason or (before.reason if same else ""),
        comment=entry.note or (before.comment if same else ""),
        **by,
    )
    return _given(entry, "thumb", made, reply)


def _comparison(store: Store, entry: RatingEntry) -> dict[str, Any]:
    for name in ("better", "worse"):
        if not getattr(entry, name):
            raise AppError("api.missing", name=name)
    better, worse = (reply_id(store, one) for one in (entry.better, entry.worse))
    made = outside_comparisons.prefer(
        store,
        better,
        worse,
        strength=entry.strength,
        note=entry.note,
        rater=entry.rater,
        event_id=entry.event_id,
    )
    ids = {"better": better, "worse": worse}
    return {"id": made, "object": "feedback", "kind": "comparison", **ids, "rater": entry.rater}


def _ranking(store: Store, entry: RatingEntry) -> dict[str, Any]:
    replies = [reply_id(store, one) for one in entry.ranking]
    if len(set(replies)) < len(replies):
        raise AppError("db.same_reply")
    made = outside_comparisons.order(
        store, replies, note=entry.note, rater=entry.rater, event_id=entry.event_id
    )
    ids = {"ranking": replies}
    return {"id": made, "object": "feedback", "kind": "ranking", **ids, "rater": entry.rater}


def _given(entry: RatingEntry, kind: str, made: str, reply: str) -> dict[str, Any]:
    about = {"response_id": reply, "rater": entry.rater}
    return {"id": made, "object": "feedback", "kind": kind, **about}


def reply_id(store: Store, response_id: str) -> str:
    """The id of a reply as the database has it. Raises NotFound if no such reply was kept."""
    if response_id == LAST:
        newest = store.messages.newest_reply()
        if newest is None:
            raise NotFound("api.nothing_to_rate")
        return newest.id
    for prefix in PREFIXES:
        response_id = response_id.removeprefix(prefix)
    found = store.messages.get_many([response_id]).get(response_id)
    if found is None or found.role != "assistant":
        raise NotFound("api.unknown_response")
    return found.id
