"""Bytes as text, in the encoding that they name themselves: by a byte order mark, or by the zeros
of UTF-16 and UTF-32. Anything else is UTF-8."""

from __future__ import annotations

import codecs
import io
from typing import Any, TextIO

# What stands where bytes are no text. JSON cannot hold it unescaped, so no file has it.
BAD = "\udc80"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Which of the first four bytes are zero in text that begins with ASCII.
ZEROS: dict[tuple[bool, ...], str] = {
    (True, True, True, False): "utf-32-be",
    (False, True, True, True): "utf-32-le",
    (True, False, True, False): "utf-16-be",
    (False, True, False, True): "utf-16-le",
}

codecs.register_error("rlhf_chat.bad_bytes", lambda error: (BAD, getattr(error, "end", 0)))


def encoding_of(start: bytes) -> str:
    named = next((name for mark, name in MARKS if start.startswith(mark)), "")
    return named or ZEROS.get(tuple(not byte for byte in start[:4]), "utf-8")


def as_text(stream: Any) -> TextIO:
    """The text of a buffered reader. A line ends at a line feed alone: others may be in texts."""
    encoding = encoding_of(stream.peek(4)[:4])
    return io.TextIOWrapper(stream, encoding, "rlhf_chat.bad_bytes", newline="\n")
