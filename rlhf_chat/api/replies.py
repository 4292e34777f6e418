"""Replies to requests: `/v1/chat/completions` and `/v1/completions`, whole or streamed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rlhf_chat.api import conversations, errors, fields
from rlhf_chat.api.conversations import Form
from rlhf_chat.api.places import Places, Written
from rlhf_chat.api.shapes import ChatShape, Json, Progress, PromptShape, Shape
from rlhf_chat.api.versions import version_of
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.completions import CompletionRequest, Completions
from rlhf_chat.inference.token_logprobs import token_logprobs
from rlhf_chat.versions.registry import VersionRegistry

KEEP_HEADER = "x-rlhf-chat-keep"
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class ReplyRoutes:
    def __init__(self, chat: Chat, registry: VersionRegistry, places: Places) -> None:
        self.chat, self.registry, self.places = chat, registry, places
        self.completions = Completions(chat)

    async def chat_completions(self, request: Request) -> Response:
        body = await fields.read_body(request)
        read = partial(conversations.chat_request, body, keep_header=_keep(request))
        asked, form = await asyncio.to_thread(self._read, read, body)
        return self._reply([asked], form, ChatShape(self.chat.model, form.logprobs))

    async def prompt_completions(self, request: Request) -> Response:
        body = await fields.read_body(request)
        read = partial(conversations.prompt_requests, body, keep_header=_keep(request))
        asked, form = await asyncio.to_thread(self._read, read, body)
        prompts = [one.turns[0]["content"] for one in asked for _ in range(one.count)]
        shape = PromptShape(self.chat.model, form.logprobs, prompts if form.echo else ())
        return self._reply(asked, form, shape)

    def _read(self, read: Any, body: fields.Body) -> Any:
        version = version_of(self.registry, fields.text(body, "model"))
        return read(version, self.chat.settings.default().sampling)

    def _reply(self, asked: list[CompletionRequest], form: Form, shape: Shape) -> Response:
        def begin(stop: threading.Event) -> Iterator[Progress]:
            return self._written(asked, form, stop)

        return Reply(self.places, begin, form, shape)

    def _written(
        self, asked: Sequence[CompletionRequest], form: Form, stop: threading.Event
    ) -> Iterator[Progress]:
        """In a thread: one prompt after the other, then the logprobs."""
        done: list[Any] = []
        for request in asked:
            latest = None
            for latest in self.completions.stream(request, stop):
                yield Progress((*done, latest))
            done.append(latest)
            if stop.is_set():
                return
        logprobs = {}
        for completion in done if form.logprobs else ():
            plan = completion.plan
            for draft in completion.drafts:
                logprobs[draft.reply_id] = token_logprobs(
                    self.chat.model, plan.view, plan.prompt_ids, draft.response_ids, form.top
                )
        yield Progress(tuple(done), True, logprobs)


def _keep(request: Request) -> str:
    return request.headers.get(KEEP_HEADER, "")


class Reply(Response):
    """An answer that is being written. It stops when the client goes away; its status is that of
    the first state, so what is refused is refused with a status of its own, streamed or not."""

    def __init__(self, places: Places, begin: Any, form: Form, shape: Shape) -> None:
        self.places, self.begin, self.form, self.shape = places, begin, form, shape
        self.background = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            async with self.places.writing(self.begin) as written:
                gone = asyncio.create_task(_gone(receive))
                answer = asyncio.create_task(self._answer(written, scope, receive, send))
                try:
                    await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in (gone, answer):
                        await _end(task)
        except Exception as error:
            await errors.response(error)(scope, receive, send)

    async def _answer(
        self, written: Written[Progress], scope: Any, receive: Any, send: Any
    ) -> None:
        if self.form.stream:
            await self._stream(written, scope, receive, send)
            return
        try:
            async for progress in written:
                if progress.ended:
                    await JSONResponse(self.shape.whole(progress))(scope, receive, send)
        except Exception as error:
            await errors.response(error)(scope, receive, send)

    async def _stream(
        self, written: Written[Progress], scope: Any, receive: Any, send: Any
    ) -> None:
        states = aiter(written)
        try:
            first = await anext(states)
        except Exception as error:
            await errors.response(error)(scope, receive, send)
            return
        kind = (b"content-type", b"text/event-stream; charset=utf-8")
        more = [(name.encode(), value.encode()) for name, value in STREAM_HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": [kind, *more]})
        try:
            async for piece in self._pieces(first, states):
                await send(_event(json.dumps(piece, ensure_ascii=False)))
        except Exception as error:
            await send(_event(json.dumps(errors.body(error))))
        await send(_event("[DONE]"))
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(
        self, first: Progress, states: AsyncIterator[Progress]
    ) -> AsyncIterator[Json]:
        shape, sent = self.shape, dict[str, int]()
        usage_so_far = {"usage": None} if self.form.with_usage else {}
        progress = first
        while True:
            for number, draft in enumerate(progress.drafts):
                if draft.reply_id not in sent:
                    sent[draft.reply_id] = 0
                    yield shape.chunk(progress, [shape.begin(number, draft)]) | usage_so_far
                if text := draft.text[sent[draft.reply_id] :]:
                    sent[draft.reply_id] += len(text)
                    yield shape.chunk(progress, [shape.delta(number, draft, text)]) | usage_so_far
                if progress.ended:
                    ends = [shape.end(number, draft, progress)]
                    yield shape.chunk(progress, ends) | usage_so_far
            if progress.ended:
                break
            progress = await anext(states)
        if self.form.with_usage:
            yield shape.chunk(progress, [], progress.usage)


async def _gone(receive: Any) -> None:
    """Returns when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Task[None]) -> None:
    """Its error, if it failed, is raised here."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _event(data: str) -> dict[str, Any]:
    return {
        "type": "http.response.body",
        "body": f"data: {data}\n\n".encode(),
        "more_body": True,
    }
