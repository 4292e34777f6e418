"""A client that has entered the app, as the page that was opened with the token has."""

from __future__ import annotations

from typing import Any

import httpx


def base_of(url: str) -> str:
    """The address without the token."""
    return str(httpx.URL(url).copy_with(query=None))


def entered(url: str, **more: Any) -> httpx.Client:
    """`url` is what `launch` returns: with the token. The client has the cookie, and asks for paths
    relative to the window."""
    answer = httpx.get(url, timeout=60)
    assert answer.status_code == 200, answer.text
    settings = {"base_url": base_of(url), "timeout": 60, "cookies": answer.cookies}
    return httpx.Client(**{**settings, **more})
