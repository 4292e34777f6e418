"""`/v1/feedback`: ratings of replies by their response ids, listed and withdrawn."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlhf_chat.api import fields
from rlhf_chat.api.errors import Refusal, bad
from rlhf_chat.api.rating_body import as_json, entry_of
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.rating_entry import KINDS, give
from rlhf_chat.training.worker import TrainingWorker

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


def _limit(text: str) -> int:
    if not text:
        return PAGE
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= LONGEST_PAGE:
        raise bad("limit", "api.not_whole", low=1, high=LONGEST_PAGE)
    return int(text)
