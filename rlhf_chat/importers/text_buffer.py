"""Text that is read in pieces: lines, and JSON values of any length, with bounded memory."""

from __future__ import annotations

import json
import re
from typing import Any, TextIO

from rlhf_chat.importers.decoding import BAD
from rlhf_chat.importers.problems import UnreadableError

PIECE = 1 << 16  # characters
MOST_AT_ONCE = 1 << 20
MOST_CHARACTERS = 8 * 1024**2  # of one entry

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class TextBuffer:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.text = ""
        self.at = 0  # what is before it has been used
        self.line = 1  # of `at`
        self.ended = False

    def fill(self) -> bool:
        """Reads on, more the more is waiting, so that a long value is not tried too often.
        False at the end. Raises UnreadableError where one entry grows too long."""
        waiting = len(self.text) - self.at
        if waiting > MOST_CHARACTERS:
            raise UnreadableError("imports.entry_too_long", limit=MOST_CHARACTERS // 1024**2)
        piece = "" if self.ended else self._stream.read(min(max(PIECE, waiting), MOST_AT_ONCE))
        self.ended = not piece
        self.text, self.at = self.text[self.at :] + piece, 0
        return bool(piece)

    def skip_space(self) -> str:
        """The next character that is no white space, still unread; "" at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found
            self.advance(found.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.fill():
                return ""

    def advance(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def next_line(self) -> str | None:
        """A line without its end; None after the last one. Raises UnreadableError, and is then
        behind that line."""
        start = self.at
        while (end := self.text.find("\n", start)) < 0:
            start = len(self.text) - self.at
            try:
                if not self.fill():
                    return self._rest()
            except UnreadableError:
                self.skip_to("\n")
                raise
        found = self.text[self.at : end]
        self.advance(end + 1)
        return found.removesuffix("\r")

    def _rest(self) -> str | None:
        found = self.text[self.at :]
        self.advance(len(self.text))
        return found or None

    def skip_to(self, pattern: str) -> bool:
        """To behind the next match of a pattern, which is at most a piece long; False if there is
        none: then nothing is left."""
        wanted = re.compile(pattern)
        while True:
            if found := wanted.search(self.text, self.at):
                self.advance(found.end())
                return True
            self.advance(max(self.at, len(self.text) - PIECE // 2))
            if not self.fill():
                self.advance(len(self.text))
                return False

    def value(self) -> Any:
        """The JSON value that begins here. Raises UnreadableError, and is then where it was."""
        while True:
            try:
                found, end = _DECODER.raw_decode(self.text, self.at)
                if end < len(self.text) or self.ended or not self.fill():
                    self._check(end)
                    self.advance(end)
                    return found
            except json.JSONDecodeError as error:
                if not self._may_go_on(error):
                    raise UnreadableError(self._why(error.pos)) from error
                if not self.fill():
                    raise UnreadableError("imports.cut_off") from error
            except (ValueError, RecursionError) as error:
                raise UnreadableError("imports.not_json") from error

    def _check(self, end: int) -> None:
        if BAD in self.text[self.at : end]:
            raise UnreadableError("imports.not_text_bytes")

    def _why(self, at: int) -> str:
        return (
            "imports.not_text_bytes" if BAD in self.text[self.at : at + 1] else "imports.not_json"
        )

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the value only ends too early for what has been read of it."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - 8
