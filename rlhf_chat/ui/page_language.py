"""Middleware that tells the page its language, before any other script of it runs; it also takes
the token out of the page's address (entry.py) and ends what draws for nobody (static/frames.js).

The server chooses from the Accept-Language header. Gradio chooses by itself, from
navigator.language alone and among its own languages, so it is given the choice; else its labels
and our texts differ, as for zh-HK, which Gradio does not know.
"""

from __future__ import annotations

from typing import Any

from rlhf_chat import locale
from rlhf_chat.ui import entry
from rlhf_chat.ui.language import GRADIO_NAMES
from rlhf_chat.ui.scripts import script

HEAD = b"<head>"


class PageLanguage:
    """Adds `window.rlhfLanguage`, and navigator.language as Gradio knows it, to every HTML page."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        accepted = dict(scope["headers"]).get(b"accept-language", b"").decode("latin-1")
        start: dict[str, Any] = {}  # of an HTML page, held back until its length is known
        body = bytearray()

        async def with_language(message: Any) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                start.update(message)
            elif not start or message["type"] != "http.response.body":
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body"):
                    page = bytes(body).replace(HEAD, HEAD + _script(accepted), 1)
                    await send(_with_length(start, len(page)))
                    await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, with_language)


def _script(accepted: str) -> bytes:
    chosen = locale.best_language(accepted)
    wanted = accepted.partition(",")[0].strip()
    gradio = wanted if wanted in GRADIO_NAMES[chosen] else GRADIO_NAMES[chosen][0]
    return (
        f"<script>{entry.SCRIPT}window.rlhfLanguage = '{chosen}';"
        f"Object.defineProperty(navigator, 'language', {{get: () => '{gradio}'}});"
        f"\n{script('frames')}</script>"
    ).encode()


def _is_page(message: dict[str, Any]) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html")
        for name, value in message["headers"]
    )


def _with_length(start: dict[str, Any], length: int) -> dict[str, Any]:
    others = [(n, v) for n, v in start["headers"] if n.lower() != b"content-length"]
    return {**start, "headers": [*others, (b"content-length", str(length).encode())]}
