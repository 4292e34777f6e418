"""Text as entries: lines of JSON, one JSON list, one JSON value, or a table (CSV, TSV).

Each comes with its line, in a list with its place in it. What cannot be read is an UnreadableError
in the entry's stead, and reading goes on behind it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

from rlhf_chat.importers.decoding import BAD
from rlhf_chat.importers.problems import UnreadableError
from rlhf_chat.importers.text_buffer import MOST_CHARACTERS, TextBuffer

Numbered = tuple[int, Any]  # line, and entry or UnreadableError

csv.field_size_limit(MOST_CHARACTERS)

# Objects that only wrap a list of entries.
WRAPPERS = ("data", "rows", "feedbacks", "chats", "conversations", "examples", "records")
FIRST_KEY = re.compile(r'[\[{]\s*(?:"[^"\\]{1,40}"\s*:)?')


def records(stream: TextIO, name: str = "") -> Iterator[Numbered]:
    text = TextBuffer(stream)
    first = text.skip_space()
    if first == "[" or (first == "{" and not _line_is_json(text)):
        yield from _values(text)
    elif first and first not in '{["' and (delimiter := _delimiter(text, name)):
        yield from _table(text, delimiter)
    else:
        yield from _lines(text)


# ---- JSON ------------------------------------------------------------------------------------


def _line_is_json(text: TextBuffer) -> bool:
    """Whether these are lines of JSON: the first one is complete, or what is wrong with it is not
    that it goes on. Uses up nothing."""
    while True:
        end = text.text.find("\n", text.at)
        line = text.text[text.at : end if end >= 0 else len(text.text)]
        try:
            json.loads(line)
            return True
        except json.JSONDecodeError as error:
            if end >= 0:
                rest = text.text[end + 1 : end + 200].lstrip()
                return error.pos < len(line.rstrip()) or rest[:1] in ("{", "[")
        except (ValueError, RecursionError):
            return True
        try:
            if not text.fill():
                return False
        except UnreadableError:
            return True


def _lines(text: TextBuffer) -> Iterator[Numbered]:
    while True:
        number = text.line
        try:
            line = text.next_line()
            if line is None:
                return
            if line.strip():
                for entry in _unwrapped(_parsed(line)):
                    yield number, entry
        except UnreadableError as error:
            yield number, error


def _parsed(line: str) -> Any:
    if BAD in line:
        raise UnreadableError("imports.not_text_bytes")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("imports.not_json") from error


def _values(text: TextBuffer) -> Iterator[Numbered]:
    """A list, or values after each other, which may be wrapped."""
    count = 0
    while first := text.skip_space():
        if first == "[":
            text.advance(text.at + 1)
            for number, entry in _list(text):
                yield count + number, entry
            count += 1
            continue
        try:
            entries = _unwrapped(text.value())
        except UnreadableError as error:
            yield count + 1, error
            return
        for entry in entries:
            count += 1
            yield count, entry


def _unwrapped(value: Any) -> list[Any]:
    if isinstance(value, dict) and len(value) <= 8:
        for name in WRAPPERS:
            inner = value.get(name)
            if isinstance(inner, list) and inner and all(_is_entry(one) for one in inner):
                return [one.get("row", one) if set(one) <= _ROW else one for one in inner]
    return [value]


_ROW = {"row", "row_idx", "truncated_cells"}  # as the dataset viewer of the hub wraps rows


def _is_entry(value: Any) -> bool:
    return isinstance(value, dict) and not value.keys() & {"role", "from", "sender"}


def _list(text: TextBuffer) -> Iterator[Numbered]:
    """The entries up to the closing bracket. Behind a broken one it goes on where the next one
    begins as this one did."""
    number, start = 0, ""
    while first := text.skip_space():
        if first == "]":
            text.advance(text.at + 1)
            return
        if first == ",":
            text.advance(text.at + 1)
            continue
        number += 1
        begins = FIRST_KEY.match(text.text, text.at)
        start = begins[0] if begins and ":" in begins[0] else start
        try:
            yield number, text.value()
        except UnreadableError as error:
            yield number, error
            text.advance(text.at + 1)
            if not text.skip_to(rf",\s*(?={re.escape(start)})"):
                return
    yield number + 1, UnreadableError("imports.cut_off")


# ---- tables ----------------------------------------------------------------------------------

COLUMNS = {
    *("prompt", "chosen", "rejected", "completion", "label", "response", "instruction", "output"),
    *("question", "reply", "answer", "score", "rating", "response_a", "response_0", "response_1"),
}


def _delimiter(text: TextBuffer, name: str) -> str:
    """The delimiter of a table; "" for no table. The file is one by its name or by its columns."""
    text.fill()
    header = text.text[text.at :].split("\n", 1)[0]
    if name.lower().removesuffix(".gz").endswith(".tsv"):
        return "\t"
    best = max(",;\t", key=header.count)
    if name.lower().removesuffix(".gz").endswith(".csv"):
        return best if best in header else ","
    cells = {cell.strip(' "\r') for cell in header.split(best)}
    return best if len(cells & COLUMNS) > 1 else ""


def _table(text: TextBuffer, delimiter: str) -> Iterator[Numbered]:
    rows = csv.reader(_table_lines(text), delimiter=delimiter)
    header: list[str] = []
    before = 0
    while True:
        cells: list[str] | None = []
        try:
            cells = next(rows, None)
            if cells is None:
                return
            found: Any = _entry(header, cells) if header else None
        except csv.Error:
            found = UnreadableError("imports.not_a_table")
        except UnreadableError as error:
            found = error
        if not header:
            header = [cell.strip() for cell in cells or []]
        elif found != {}:
            yield before + 1, found
        before = rows.line_num


def _table_lines(text: TextBuffer) -> Iterator[str]:
    while (line := text.next_line()) is not None:
        yield line + "\n"


def _entry(header: list[str], cells: list[str]) -> dict[str, Any]:
    if not cells:
        return {}
    if len(cells) != len(header):
        raise UnreadableError("imports.cells", found=len(cells), wanted=len(header))
    if any(BAD in cell for cell in cells):
        raise UnreadableError("imports.not_text_bytes")
    return {name: _cell(cell) for name, cell in zip(header, cells, strict=True)}


def _cell(cell: str) -> Any:
    """Lists of messages stand in cells as JSON; all other JSON is somebody's text."""
    if cell.lstrip().startswith("[{"):
        try:
            found = json.loads(cell)
            if all(isinstance(one, dict) and one.keys() & {"role", "from"} for one in found):
                return found
        except (ValueError, RecursionError):
            pass
    return cell
