"""Reads a file row by row: which format each row has, and what it says.

A row's own fields tell its format, so one file may mix them; the order of FORMATS decides where
several fit. A few formats spread over rows (COLLECTORS) or files (ChatGPT's ratings).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from rlhf_chat.db import ImportedFeedback
from rlhf_chat.errors import Notice
from rlhf_chat.importers import (
    arena,
    argilla,
    chatgpt,
    claude,
    demonstrations,
    helpsteer,
    labelled,
    open_assistant,
    open_webui,
    own,
    pairs,
    prism,
    safe_rlhf,
    scored,
    sillytavern,
    ultrafeedback,
)
from rlhf_chat.importers.decoding import as_text
from rlhf_chat.importers.problems import SHAPE_ERRORS, Entry, Options, StreamError, UnreadableError
from rlhf_chat.importers.records import Numbered, records
from rlhf_chat.importers.row import Row, row_of
from rlhf_chat.importers.source import DAMAGED, Report, Source, no_report, opened

# Each has `recognises(entry)` and `read(entry, options)`.
FORMATS: tuple[ModuleType, ...] = (
    own,
    chatgpt,
    claude,
    open_webui,
    open_assistant,
    prism,
    arena,
    safe_rlhf,
    argilla,
    ultrafeedback,
    helpsteer,
    pairs,
    labelled,
    scored,
    demonstrations,
)

NO_ASPECT = "\0"  # which no format has
PEEKED = 100  # entries


class Collector(Protocol):
    """A format whose ratings need several rows."""

    def __init__(self, options: Options) -> None: ...
    @staticmethod
    def accepts(entry: Entry) -> bool: ...
    def add(self, line: int, entry: Entry) -> Iterator[Row]: ...
    def close(self) -> Iterator[Row]: ...


COLLECTORS: tuple[type[Collector], ...] = (
    open_webui.Feedback,
    open_assistant.FlatMessages,
    sillytavern.Chat,
)


def rows(
    source: Source,
    options: Options = Options(),
    *,
    name: str = "",
    report: Report = no_report,
    stop: Callable[[], bool] = lambda: False,
    after: int = 0,
) -> Iterator[Row]:
    """The rows of a file, a folder, bytes or text. Never raises for what they hold.

    `report` is told the share of the file that has been read. `stop` is asked at each row; whoever
    stops may go on later with `after`, the number of rows seen.
    """
    reader = _Reader(options)
    for number, row in enumerate(reader.all(source, name, report), 1):
        if number > after:
            yield row
        if stop():
            return


def aspects(source: Source, *, name: str = "") -> tuple[str, ...]:
    """Which scores the replies of a file have, where they have several, by its first entries. The
    first is the one that is read by default."""
    for row in islice(rows(source, Options(aspect=NO_ASPECT), name=name), PEEKED):
        for why in row.problems:
            if why.code == "imports.no_aspect":
                return tuple(str(why.params["known"]).split(", "))
    return ()


@dataclass
class Found:
    """What a file holds."""

    items: list[tuple[int, ImportedFeedback]] = field(default_factory=list)  # (line, answer)
    unread: list[tuple[int, Notice]] = field(default_factory=list)  # (line, why)


def read(source: Source, options: Options = Options(), *, name: str = "") -> Found:
    """A whole file at once. Never raises for what it holds."""
    found = Found()
    for row in rows(source, options, name=name):
        found.items += [(row.line, one) for one in row.items]
        found.unread += [(row.line, why) for why in row.problems]
    return found


class _Reader:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.ratings = chatgpt.Ratings()  # read ahead of the conversations they are about

    def all(self, source: Source, name: str, report: Report) -> Iterator[Row]:
        if isinstance(source, str):
            yield from self._rows(records(io.StringIO(source), name))
        else:
            name = name or (source.name if isinstance(source, Path) else "")
            try:
                yield from self._members(source, name, report)
            except UnreadableError as error:
                yield Row(0, problems=(error.notice,))
            except DAMAGED:
                yield Row(0, problems=(Notice("imports.archive_damaged"),))
        if left := self.ratings.left():
            yield Row(0, problems=(Notice("imports.other_conversation", {"count": left}),))

    def _members(self, source: bytes | Path, name: str, report: Report) -> Iterator[Row]:
        with opened(source, name, report) as members:
            for member in members:
                named = member.name if member.name != name else ""
                last = 0
                try:
                    for row in self._rows(records(as_text(member.open()), member.name)):
                        last = row.line
                        yield replace(row, file=named)
                except (UnreadableError, StreamError) as error:
                    yield Row(last, problems=(error.notice,), file=named)
                except (*DAMAGED, OSError):
                    yield Row(last, problems=(Notice("imports.damaged_here"),), file=named)

    def _rows(self, entries: Iterator[Numbered]) -> Iterator[Row]:
        collector: Collector | None = None
        for line, entry in entries:
            fits = next((one for one in COLLECTORS if _accepts(one, entry)), None)
            if collector and not isinstance(collector, fits or ()):
                yield from _kept(collector.close(), line)
                collector = None
            if fits:
                collector = collector or fits(self.options)
                yield from _kept(collector.add(line, entry), line)
            else:
                yield self._row(line, entry)
        if collector:
            yield from _kept(collector.close(), 0)

    def _row(self, line: int, entry: Any) -> Row:
        if isinstance(entry, UnreadableError):
            return Row(line, problems=(entry.notice,))
        if not isinstance(entry, dict):
            return Row(line, problems=(Notice("imports.not_a_rating"),))
        with suppress(TypeError, KeyError, AttributeError):
            if self.ratings.add(entry):
                return Row(line)
        found = next((one for one in FORMATS if one.recognises(entry)), None)
        if found is None:
            return Row(line, problems=(Notice("imports.unknown_format"),))
        reads = partial(found.read, ratings=self.ratings) if found is chatgpt else found.read
        return row_of(line, reads(entry, self.options))


def _accepts(collector: type[Collector], entry: Any) -> bool:
    return isinstance(entry, dict) and collector.accepts(entry)


def _kept(made: Iterator[Row], line: int) -> Iterator[Row]:
    """What a collector makes of its rows; what it raises belongs to the row it was given."""
    try:
        yield from made
    except UnreadableError as error:
        yield Row(line, problems=(error.notice,))
    except SHAPE_ERRORS:
        yield Row(line, problems=(Notice("imports.wrong_shape"),))
