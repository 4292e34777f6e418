"""`--json`: what a program reads on stdout is JSON in UTF-8, a document or one a line, and nothing
else. What is said to a person meanwhile goes to stderr.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from rlhf_chat.errors import as_plain

_stdout: TextIO | None = None  # while what is printed goes to stderr


@contextmanager
def json_alone(wanted: bool = True) -> Iterator[None]:
    """Only `print_json` reaches stdout, if that is wanted."""
    global _stdout
    if not wanted:
        yield
        return
    _stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _stdout = None


def print_json(value: Any) -> None:
    """On a line of its own; numbers that are not finite, which JSON does not have, as null."""
    out = _stdout or sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.encoding.lower() != "utf-8":
        out.reconfigure(encoding="utf-8", errors="replace")  # a pipe on Windows
    print(json.dumps(as_plain(value), ensure_ascii=False), file=out, flush=True)


def print_error(message: str, code: str) -> None:
    """Why it could not be done; the exit status says that it was not."""
    print_json({"error": {"message": message, "code": code}})
