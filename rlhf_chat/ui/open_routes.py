"""What the app answers: the paths that its page uses, by these methods. Everything else gets 404
here, before Gradio does any work for it.

Gradio has routes for uploads, a proxy, icons of any size, editing its own source and more. A list
of what is open stays right when a new version of Gradio adds another.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from rlhf_chat.ui import changes
from rlhf_chat.ui.refusals import refuse

BODY_SECONDS = 60.0  # for a request to arrive
ANSWER_SECONDS = 300.0  # for an answer that is no stream
STREAM_SECONDS = 7200.0  # for one that is
LONGEST_QUERY = 4096  # bytes; the page's own are below a hundred
MOST_AT_ONCE = 256  # requests, streams included; a tab has at most six

STATIC = Path(__file__).parent / "static"
ICONS = {192: STATIC / "icon-192.png", 512: STATIC / "icon.png"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    method: str
    path: str  # a regular expression for the whole path
    stream: bool = False  # its answer lasts as long as a reply is written


FILE = "[A-Za-z0-9_-][A-Za-z0-9_.-]*"  # a name, never . or ..
ICON = re.compile(r"/pwa_icon/(\d+)")
OPEN = (
    Route("GET", "/"),
    Route("HEAD", "/"),  # Gradio asks at start whether it is there
    Route("GET", "/gradio_api/startup-events"),  # also Gradio, at start
    Route("GET", f"/assets/{FILE}"),
    Route("GET", re.escape("/static/js/iframeResizer.contentWindow.min.js")),
    Route("GET", re.escape("/theme.css")),
    Route("GET", re.escape("/favicon.ico")),
    Route("GET", re.escape("/manifest.json")),
    *(Route("GET", f"/pwa_icon/{size}") for size in ICONS),
    Route("GET", changes.PATH),  # answered by us
    Route("GET", "/gradio_api/app_id"),  # a page asks whether the app was started again
    Route("POST", "/gradio_api/run/predict"),
    Route("POST", "/gradio_api/queue/join"),
    Route("GET", "/gradio_api/queue/data", stream=True),
)
_OPEN = [(route, re.compile(route.path)) for route in OPEN]


def open_route(method: str, path: str) -> Route | None:
    return next((r for r, paths in _OPEN if r.method == method and paths.fullmatch(path)), None)


class OpenRoutes:
    """Answers 404 to everything that is not OPEN, and bounds what is: how many at once, how long a
    request may take to arrive and to be answered. What fails inside is one line in the log."""

    def __init__(
        self,
        app: Any,
        body_seconds: float = BODY_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        stream_seconds: float = STREAM_SECONDS,
        most: int = MOST_AT_ONCE,
    ) -> None:
        self.app, self.most, self.running = app, most, 0
        self.body_seconds, self.answer_seconds = body_seconds, answer_seconds
        self.stream_seconds = stream_seconds

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        route = open_route(scope["method"], scope["path"])
        if route is None:
            return await refuse(send, 404, "security.not_here")
        if len(scope.get("query_string", b"")) > LONGEST_QUERY:
            return await refuse(send, 414, "security.too_long")
        if found := ICON.fullmatch(scope["path"]):
            return await _send_icon(send, ICONS[int(found[1])])
        if self.running >= self.most:
            return await refuse(send, 503, "security.too_many")
        self.running += 1
        try:
            await self._answer(route, scope, receive, send)
        finally:
            self.running -= 1

    async def _answer(self, route: Route, scope: dict[str, Any], receive: Any, send: Any) -> None:
        started = False

        async def noted(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            seconds = self.stream_seconds if route.stream else self.answer_seconds
            async with asyncio.timeout(seconds):
                await self.app(scope, _bounded(scope, receive, self.body_seconds), noted)
        except Exception as error:
            status, key = _outcome(error)
            if status == 500:
                log.error("%s %s: %s", route.method, route.path, describe(error))
            if not started:
                await refuse(send, status, key)
            else:  # the page sees the end of it
                await send({"type": "http.response.body", "body": b""})


def _bounded(scope: dict[str, Any], receive: Any, seconds: float) -> Any:
    """`receive` that waits for the whole body no longer than `seconds`, in total."""
    until = asyncio.get_running_loop().time() + seconds
    arrived = scope["method"] != "POST"

    async def within() -> Any:
        nonlocal arrived
        if arrived:
            return await receive()
        async with asyncio.timeout_at(until):
            message = await receive()
        arrived = not message.get("more_body")
        return message

    return within


def _outcome(error: Exception) -> tuple[int, str]:
    """Status and text for what failed inside. In Gradio an unknown handler number is a KeyError,
    and an unknown session an HTTPException after the answer has begun."""
    if isinstance(error, TimeoutError):
        return 408, "security.too_slow"
    unknown = isinstance(error, KeyError) or isinstance(error.__cause__, HTTPException)
    if unknown or type(error).__name__ == "FnIndexInferError":
        return 404, "security.not_here"
    if isinstance(error, ValueError):  # bytes that are no text, numbers that JSON cannot hold
        return 400, "security.failed"
    return 500, "security.failed"


def describe(error: BaseException) -> str:
    """An error in one line, with the place where it was raised."""
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    where = f" ({Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno})" if at else ""
    return f"{type(error).__name__}: {str(error)[:200]!r}{where}"


async def _send_icon(send: Any, path: Path) -> None:
    image = path.read_bytes()
    kind = [(b"content-type", b"image/png"), (b"content-length", str(len(image)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": kind})
    await send({"type": "http.response.body", "body": image})
