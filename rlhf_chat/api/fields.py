"""Reading the JSON body of a request: each field of the right type, or one sentence that says which
is not. Fields that nobody asks for are ignored, and null is the same as absent.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from rlhf_chat.api.errors import Refusal, bad

Body = Mapping[str, Any]

BODY_LIMIT = 8 * 1024 * 1024  # bytes
BODY_SECONDS = 60.0  # for a request to arrive


async def read_body(request: Request) -> Body:
    """The JSON object that was sent. Raises Refusal."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > BODY_LIMIT:
                    raise Refusal(413, "security.too_long")
                parts.append(part)
    except (TimeoutError, ClientDisconnect):
        raise Refusal(408, "security.too_slow") from None
    try:
        found = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        raise Refusal(400, "api.no_json") from None
    if not isinstance(found, dict):
        raise Refusal(400, "api.no_json")
    return found


def text(body: Body, name: str, default: str = "") -> str:
    found = body.get(name)
    if found is None:
        return default
    if not isinstance(found, str):
        raise bad(name, "api.not_text")
    return found


def flag(body: Body, name: str, default: bool = False) -> bool:
    found = body.get(name)
    if found is None:
        return default
    if not isinstance(found, bool):
        raise bad(name, "api.not_flag")
    return found


def whole(body: Body, name: str, low: int, high: int) -> int | None:
    """None if it is absent."""
    found = body.get(name)
    if found is None:
        return None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
        raise bad(name, "api.not_whole", low=low, high=high)
    return found


def number(body: Body, name: str, low: float, high: float) -> float | None:
    """None if it is absent."""
    found = body.get(name)
    if found is None:
        return None
    fits = isinstance(found, int | float) and not isinstance(found, bool)
    if not fits or not math.isfinite(found) or not low <= found <= high:
        raise bad(name, "api.not_number", low=low, high=high)
    return float(found)


def choice(body: Body, name: str, choices: Collection[str]) -> str:
    """One of the choices; "" if it is absent."""
    found = text(body, name)
    if found and found not in choices:
        raise bad(name, "api.not_choice", choices=", ".join(choices))
    return found


def texts(body: Body, name: str, most: int) -> tuple[str, ...]:
    """A text or a list of texts; empty ones are left out."""
    found = body.get(name)
    given = [] if found is None else [found] if isinstance(found, str) else found
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise bad(name, "api.not_texts")
    if len(given) > most:
        raise bad(name, "api.too_many", limit=most)
    return tuple(one for one in given if one)


def part(body: Body, name: str) -> Body:
    """An object inside the body; an empty one if it is absent."""
    found = body.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise bad(name, "api.not_object")
    return found
