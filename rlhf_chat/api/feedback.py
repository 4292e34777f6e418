"""`/v1/feedback`: ratings of replies by their response ids, listed and withdrawn."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlhf_chat.api import fields
from rlhf_chat.api.errors import Refusal, bad
from rlhf_chat.api.fields import Body
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.chat.rating_entry import KINDS, RatingEntry, give
from rlhf_chat.db import Feedback
from rlhf_chat.training.worker import TrainingWorker

MOST_RANKED = 8
PAGE, LONGEST_PAGE = 20, 100


class FeedbackRoutes:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker

    async def add(self, request: Request) -> Response:
        body = await fields.read_body(request)
        entry = entry_of(body)
        given = await asyncio.to_thread(give, self.chat.store, self.chat.ratings, entry)
        self.worker.wake()
        return JSONResponse(given)

    async def remove(self, request: Request) -> Response:
        feedback_id = request.path_params["feedback_id"]
        await asyncio.to_thread(self.chat.ratings.withdraw, feedback_id)
        self.worker.wake()
        return JSONResponse({"id": feedback_id, "object": "feedback", "deleted": True})

    async def list(self, request: Request) -> Response:
        """Newest first; the next page begins `after` the last id of this one."""
        query = request.query_params
        limit = _limit(query.get("limit", ""))
        kind = fields.choice(dict(query), "kind", KINDS)
        rows = await asyncio.to_thread(self.chat.ratings.all, "", kind)
        if after := query.get("after", ""):
            places = [i for i, row in enumerate(rows) if row.id == after]
            if not places:
                raise Refusal(404, "db.answer_gone", field="after")
            rows = rows[places[0] + 1 :]
        page = [as_json(row) for row in rows[:limit]]
        ends = {"first_id": page[0]["id"] if page else None}
        ends |= {"last_id": page[-1]["id"] if page else None}
        more = len(rows) > limit
        return JSONResponse({"object": "list", "data": page, **ends, "has_more": more})


def entry_of(body: Body) -> RatingEntry:
    """One answer, from the body of a request. Raises Refusal."""
    ranking = body.get("ranking")
    if ranking is not None and not isinstance(ranking, list):
        raise bad("ranking", "api.not_texts")
    entry = RatingEntry(
        response_id=fields.text(body, "response_id"),
        thumb=fields.choice(body, "thumb", ("up", "down")),
        stars=fields.whole(body, "stars", 1, 5) or 0,
        correction=fields.text(body, "correction"),
        better=fields.text(body, "better"),
        worse=fields.text(body, "worse"),
        strength=fields.choice(body, "strength", ("slightly", "much")),
        ranking=fields.texts(body, "ranking", MOST_RANKED),
        note=fields.text(body, "note"),
        reason=fields.text(body, "reason"),
        rater=checked_name(fields.text(body, "rater")),
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


def _limit(text: str) -> int:
    if not text:
        return PAGE
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= LONGEST_PAGE:
        raise bad("limit", "api.not_whole", low=1, high=LONGEST_PAGE)
    return int(text)
