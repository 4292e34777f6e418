"""The routes of the API composed, behind their guard: whoever shows no token gets 401 and nothing
else."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from rlhf_chat.api import errors, running, token
from rlhf_chat.api.control import ControlRoutes
from rlhf_chat.api.errors import Refusal
from rlhf_chat.api.feedback import FeedbackRoutes
from rlhf_chat.api.places import AT_ONCE, Places
from rlhf_chat.api.replies import ReplyRoutes
from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import AppError
from rlhf_chat.training.worker import TrainingWorker


class ApiServer:
    """`app` is what the server of the window hands requests below /v1 to."""

    def __init__(
        self, chat: Chat, worker: TrainingWorker, data: Path, port: int, *, at_once: int = AT_ONCE
    ) -> None:
        self.data, self.places = data, Places(at_once)
        token.make(data)
        self.app = Bearer(routes(chat, worker, self.places), data)
        running.write(data, f"http://127.0.0.1:{port}/v1")

    def close(self) -> None:
        running.remove(self.data)
        self.places.close()


def routes(chat: Chat, worker: TrainingWorker, places: Places) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    replies = ReplyRoutes(chat, worker.versions, places)
    feedback, control = FeedbackRoutes(chat, worker), ControlRoutes(chat, worker)
    for method, path, handler in (
        ("GET", "/v1/models", control.models),
        ("GET", "/v1/models/{name}", control.model),
        ("POST", "/v1/chat/completions", replies.chat_completions),
        ("POST", "/v1/completions", replies.prompt_completions),
        ("POST", "/v1/feedback", feedback.add),
        ("GET", "/v1/feedback", feedback.list),
        ("DELETE", "/v1/feedback/{feedback_id}", feedback.remove),
        ("GET", "/v1/versions", control.versions),
        ("POST", "/v1/versions/live", control.make_live),
        ("POST", "/v1/training", control.train),
        ("GET", "/v1/training", control.training),
        ("GET", "/v1/export", control.export),
    ):
        app.router.add_route(path, handler, methods=[method])
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(AppError, _failed)
    app.add_exception_handler(Exception, _failed)
    return app


async def _unknown(request: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    return errors.response(Refusal(status, "api.no_route"))


async def _failed(request: Request, error: Exception) -> Response:
    return errors.response(error)


class Bearer:
    """Lets in who sends the token of the data folder, which is read anew for each request: a new
    one counts at once."""

    def __init__(self, app: Any, data: Path) -> None:
        self.app, self.data = app, data

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        header = Request(scope).headers.get("authorization", "")
        if not token.matches(self.data, header):
            await errors.response(Refusal(401, "api.no_token"))(scope, receive, send)
            return
        with contextlib.suppress(Exception):  # it was answered and logged, and is raised again
            await self.app(scope, receive, send)
