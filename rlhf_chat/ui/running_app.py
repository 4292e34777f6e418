"""The app that runs on a data folder: where it is and how to get in, so that a second start opens
it instead of failing.

A running app keeps this in `instance.json` in its data folder, for its owner alone. The file may be
left over from an app that was killed, and its port may be another program's by now, so whoever
answers there must prove that it knows the token; the token itself is never sent.
"""

from __future__ import annotations

import hmac
import http.client
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from rlhf_chat.ui.entry import PROOF_PATH, Entry

log = logging.getLogger(__name__)

FILE = "instance.json"
HOST = "127.0.0.1"
LONGEST = 4096  # bytes of the file
ANSWER_SECONDS = 2.0


def tell(data: Path, entry: Entry) -> None:
    """Writes the file, whole. An app whose folder cannot be written runs all the same."""
    kept = {"port": entry.port, "token": entry.token, "token_required": entry.required}
    try:
        handle, name = tempfile.mkstemp(prefix=FILE, suffix=".part", dir=data)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file)
        os.replace(name, data / FILE)
    except OSError as error:
        log.warning("a second start will not find this app: %s", error)


def forget(data: Path, entry: Entry) -> None:
    """Removes the file, unless it is another start's."""
    if (kept := _read(data)) and kept.token == entry.token:
        (data / FILE).unlink(missing_ok=True)


@contextmanager
def told(data: Path, entry: Entry) -> Iterator[None]:
    tell(data, entry)
    try:
        yield
    finally:
        forget(data, entry)


def find(data: Path, wait: float = 0.0) -> Entry | None:
    """How to enter the app that runs on this folder, if one does; looks for it for `wait` seconds,
    as another start may be writing the file at this moment."""
    until = time.monotonic() + wait
    while True:
        kept = _read(data)
        if kept and _proves(kept):
            return kept
        if time.monotonic() >= until:
            return None
        time.sleep(0.1)


def _read(data: Path) -> Entry | None:
    try:
        with (data / FILE).open("rb") as file:
            kept = json.loads(file.read(LONGEST))
        port, token = kept["port"], kept["token"]
        if isinstance(token, str) and token and type(port) is int and 0 < port < 65536:
            return Entry(port, required=kept["token_required"] is not False, token=token)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass  # there is none, or it is of no use
    return None


def _proves(kept: Entry) -> bool:
    nonce = secrets.token_urlsafe(16)
    connection = http.client.HTTPConnection(HOST, kept.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", f"{PROOF_PATH}?{urlencode({'nonce': nonce})}")
        proof = connection.getresponse().read(LONGEST)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return hmac.compare_digest(proof, kept.proof(nonce).encode())
