"""Middleware between the browser and Gradio: who may ask, how much, and what a page may load.

Threat model: a web page that the person visits in another tab, and the text of the model itself. A
foreign page may point its own host name at 127.0.0.1 (DNS rebinding: Gradio alone answers it, with
credentials allowed), may post forms across origins, and a reply may hold an image whose address
carries the conversation away. Other accounts of the same machine can reach the port: they are kept
out by the token (entry.py), and from the files by their modes (db/private_files.py). Programs
running as the same person are not kept out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from rlhf_chat.ui.changes import Changes
from rlhf_chat.ui.entry import Entry, EntryGuard
from rlhf_chat.ui.open_routes import OpenRoutes
from rlhf_chat.ui.refusals import headers_of, refuse

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

# Scripts need 'unsafe-eval' and 'unsafe-inline': Gradio compiles its templates in the page. What
# keeps text from becoming script is components.py and the chat's sanitiser; this policy adds that
# nothing can connect to another host. Images are none at all: the page has none of its own, and a
# reply that held one would be drawn with a request.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}

# Bytes. A message of 100,000 characters is well below, so that a handler can refuse it in words,
# and so is a file of ratings that the page accepts (static/import_preview.js), in base64.
BODY_LIMIT = 32 * 1024 * 1024
BODIES_LIMIT = 2 * BODY_LIMIT  # of all requests at once


def guards(
    entry: Entry,
    *,
    body_limit: int = BODY_LIMIT,
    api: Any = None,
    state: Callable[[], Any] | None = None,
) -> list[Middleware]:
    """All guards, outermost first, for `launch(app_kwargs={"middleware": guards(...), "lifespan":
    outside})`. `api`: what answers /v1, which has a token and limits of its own. `state`: what a
    page is drawn from, see changes.py."""
    return [
        Middleware(SecurityHeaders),  # first, so that refusals carry the headers too
        Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK], www_redirect=False),
        Middleware(SameOrigin),
        *([Middleware(ApiPaths, api=api)] if api else []),
        Middleware(EntryGuard, entry=entry),
        Middleware(OpenRoutes),
        Middleware(BodyLimit, limit=body_limit),
        *([Middleware(Changes, read=state)] if state else []),
    ]


@asynccontextmanager
async def outside(app: Any) -> AsyncIterator[None]:
    """When the server starts, moves the guards to the outside. Gradio puts its own middleware
    there, which answers every preflight, whatever the path, and grants other local ports."""
    ours = {one.cls for one in guards(Entry(0), api=app, state=dict)}
    app.user_middleware.sort(key=lambda one: one.cls not in ours)
    app.middleware_stack = app.build_middleware_stack()
    yield


class SameOrigin:
    """Refuse requests that another site's page makes.

    A request with an Origin must name this very host and port. One without (a plain GET, or a
    program that is no browser) is judged by Sec-Fetch-Site, which pages cannot forge: from another
    site only following a link to the window itself is let in, because that only opens it.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self.allows(
            scope["method"], headers_of(scope), scope["path"]
        ):
            await refuse(send, 403, "security.other_site")
        elif scope["type"] == "websocket" and not self.allows("GET", headers_of(scope)):
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, send)

    @staticmethod
    def allows(method: str, headers: dict[str, str], path: str = "/") -> bool:
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return False
        if headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none"):
            return True
        opens_window = (
            headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        return method == "GET" and path == "/" and opens_window


class ApiPaths:
    """Hands what is below /v1 to the API, before the rules for the page."""

    def __init__(self, app: Any, api: Any) -> None:
        self.app, self.api = app, api

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        is_api = scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (self.api if is_api else self.app)(scope, receive, send)


class BodyLimit:
    """Refuse a body above the limit, by its announced length or, without one, as soon as it is
    exceeded; and one for which there is no room beside those that are held already.
    """

    def __init__(self, app: Any, limit: int, together: int = BODIES_LIMIT) -> None:
        self.app, self.limit, self.together = app, limit, together
        self.held = 0  # bytes of the requests that are being answered

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = headers_of(scope).get("content-length", "0")
        if not length.isdigit() or int(length) > self.limit:
            return await refuse(send, 413, "security.too_long")
        seen = 0
        answered = False
        refused: _Refused | None = None  # FastAPI would make another error of it

        async def counted() -> Any:
            nonlocal seen, refused
            message = await receive()
            size = len(message.get("body", b"")) if message["type"] == "http.request" else 0
            seen += size
            self.held += size
            if seen > self.limit:
                refused = _Refused(413, "security.too_long")
            elif self.held > self.together:
                refused = _Refused(503, "security.too_many")
            if refused:
                raise refused
            return message

        async def noted(message: Any) -> None:
            nonlocal answered
            if not refused:
                answered = True
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except _Refused:
            pass
        finally:
            self.held -= seen
        if refused and not answered:
            await refuse(send, refused.status, refused.key)


class _Refused(Exception):
    def __init__(self, status: int, key: str) -> None:
        super().__init__(key)
        self.status, self.key = status, key


class SecurityHeaders:
    """Put the headers above on every answer, in place of any that Gradio set."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {
                    **message,
                    "headers": [*_without(message["headers"], HEADERS), *_ENCODED],
                }
            await send(message)

        await self.app(scope, receive, with_headers)


_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def _without(
    headers: Iterable[tuple[bytes, bytes]], names: Iterable[str]
) -> list[tuple[bytes, bytes]]:
    drop = {name.encode() for name in names}
    return [pair for pair in headers if pair[0].lower() not in drop]
