"""What a page asks every few seconds, and soon after a click or key: whether anything changed since
it asked last.

Asking is one small request outside of Gradio. To have Gradio draw the page costs the browser a
seventh of a second for each time, even if nothing on it changes: with a clock that does it every
three seconds, an open page took 25 % of a core beside the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from rlhf_chat.ui.handlers import quick

PATH = "/changes"


class Changes:
    """Answers PATH with a word that is another one after each change of what `read` returns."""

    def __init__(self, app: Any, read: Callable[[], Any]) -> None:
        self.app, self.read = app, read

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
            return
        word = hashlib.sha256(repr(await quick(self.read)).encode()).hexdigest()[:16].encode()
        headers = [
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(word)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": word})
