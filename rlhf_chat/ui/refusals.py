"""Reads a request's headers and answers it in one sentence."""

from __future__ import annotations

from typing import Any

from rlhf_chat import locale


def headers_of(scope: dict[str, Any]) -> dict[str, str]:
    """By lower-case name. A header that comes twice is joined, as for cookies and lists; of the
    rest a second one makes the first invalid, which is what it deserves."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        glue = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{glue}{value}" if name in found else value
    return found


async def refuse(send: Any, status: int, key: str, language: str = "en") -> None:
    await answer(send, status, "text/plain", locale.render(key, {}, language))


async def answer(send: Any, status: int, kind: str, text: str) -> None:
    body = text.encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", f"{kind}; charset=utf-8".encode()),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
