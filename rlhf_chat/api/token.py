"""The token that a program shows to be let in: a file in the data folder, readable by its owner."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

NAME = "api-token"


def read(data: Path) -> str:
    """The token of this data folder; "" if none was made yet."""
    try:
        return (data / NAME).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def make(data: Path, *, new: bool = False) -> str:
    """The token of this data folder, made where there is none. `new`: another one; the old one is
    refused from then on, also by an app that is running."""
    if not new and (known := read(data)):
        return known
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    part = data / f"{NAME}.part"
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token + "\n")
    os.replace(part, data / NAME)  # whole under its name or not there at all
    return token


def matches(data: Path, header: str) -> bool:
    """Whether an Authorization header carries the token; the comparison takes the same time however
    much of it is right."""
    scheme, _, given = header.partition(" ")
    known = read(data)
    same = hmac.compare_digest(given.strip().encode(), known.encode())
    return bool(known) and scheme.lower() == "bearer" and same
