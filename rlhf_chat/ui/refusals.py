"""How a guard reads a request's headers and answers it in one sentence."""

from __future__ import annotations

from typing import Any

from rlhf_chat import locale


def headers_of(scope: dict[str, Any]) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


async def refuse(send: Any, status: int, key: str, language: str = "en") -> None:
    body = locale.render(key, {}, language).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
