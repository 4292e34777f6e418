"""A rating as JSON: read from the body of a request, and written for the list."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rlhf_chat.api import fields
from rlhf_chat.api.errors import bad
from rlhf_chat.api.fields import Body
from rlhf_chat.chat.rating_entry import RatingEntry
from rlhf_chat.db import Feedback

MOST_RANKED = 8


def entry_of(body: Body) -> RatingEntry:
    """One answer, from the body of a request. Raises Refusal."""
    ranking = body.get("ranking")
    if ranking is not None and not isinstance(ranking, list):
        raise bad("ranking", "api.not_texts")
    entry = RatingEntry(
        response_id=fields.text(body, "response_id"),
        response_text=fields.text(body, "response_text"),
        thumb=fields.choice(body, "thumb", ("up", "down")),
        stars=fields.whole(body, "stars", 1, 5) or 0,
        correction=fields.text(body, "correction"),
        better=fields.text(body, "better"),
        worse=fields.text(body, "worse"),
        strength=fields.choice(body, "strength", ("slightly", "much")),
        ranking=fields.texts(body, "ranking", MOST_RANKED),
        note=fields.text(body, "note"),
        reason=fields.text(body, "reason"),
        rater=fields.text(body, "rater"),
        event_id=fields.text(body, "event_id") or None,
    )
    return entry


def as_json(row: Feedback) -> dict[str, Any]:
    kept = {name: value for name, value in asdict(row).items() if name not in ("message_id",)}
    return {
        **kept,
        "object": "feedback",
        "response_id": row.message_id,
        "other_id": row.other_id or None,
    }
