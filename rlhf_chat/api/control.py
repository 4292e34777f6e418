"""Routes for the command line beside an open app: `/v1/versions`, `/v1/training`, `/v1/export`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from rlhf_chat.api import fields
from rlhf_chat.api.errors import Refusal, bad
from rlhf_chat.api.versions import described, models, version_of
from rlhf_chat.chat import exporters
from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import Refused
from rlhf_chat.training.report_lines import last_round, progress
from rlhf_chat.training.worker import TrainingWorker

FORMS = ("answers", "pairs")


class ControlRoutes:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker, self.registry = chat, worker, worker.versions

    async def models(self, request: Request) -> Response:
        found = await asyncio.to_thread(models, self.registry)
        return JSONResponse({"object": "list", "data": found})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = await asyncio.to_thread(models, self.registry)
        for one in found:
            if name in (one["id"], one.get("name")):
                return JSONResponse(one)
        raise Refusal(404, "api.unknown_model", field="model", name=name)

    async def versions(self, request: Request) -> Response:
        found = await asyncio.to_thread(described, self.registry)
        return JSONResponse({"object": "list", "data": found})

    async def make_live(self, request: Request) -> Response:
        """The live version from the next reply on: `{"model": "v3"}`. 409 for one that belongs to a
        simulation."""
        body = await fields.read_body(request)
        name = fields.text(body, "model")
        if not name:
            raise bad("model", "api.missing")
        version = await asyncio.to_thread(version_of, self.registry, name)
        if version is not None:
            told = await asyncio.to_thread(self.registry.make_live, version)
            if isinstance(told, Refused):
                raise Refusal(409, told.code, **told.params)
        return await self.versions(request)

    async def train(self, request: Request) -> Response:
        """Starts a round. 409 if there will be none."""
        refused = await asyncio.to_thread(self.worker.train_now)
        if isinstance(refused, Refused):
            raise Refusal(409, refused.code, **refused.params)
        return await self.training(request)

    async def training(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._training))

    def _training(self) -> dict[str, Any]:
        # In this order, so that a round is in one of them at every moment.
        asked = self.worker.schedule.request is not None
        now = progress(self.worker.status())
        return {**now, "asked": asked, "last_round": last_round(self.worker.history)}

    async def export(self, request: Request) -> Response:
        """JSON lines: every answer with what is known of it, or preference pairs for TRL."""
        form = fields.choice(dict(request.query_params), "form", FORMS) or FORMS[0]
        ratings = self.chat.ratings
        rows = ratings.preference_pairs if form == "pairs" else ratings.answers
        found = await asyncio.to_thread(rows)

        def lines() -> Iterator[str]:
            for row in found:
                yield exporters.json_lines([row])

        return StreamingResponse(lines(), media_type="application/jsonl")
