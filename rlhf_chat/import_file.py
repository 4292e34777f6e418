"""`rlhf-chat import`: reads a rating file of any length and stores it in the data folder.

The data folder must not be in use by a running app. What is stored is learned from once it is
accepted on the Data screen. Ctrl+C stops between two parts; the same command again goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from rlhf_chat import importers
from rlhf_chat.db import Store, make_private
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.importers import ImportReport, Options, Row
from rlhf_chat.json_output import print_json

SHOWN = 20  # entries that could not be read, unless JSON is asked for


@dataclass
class Reading:
    """A file as it is read; `stopped` ends it."""

    file: Path
    options: Options
    stopped: bool = False
    share: float = field(default=0.0, init=False)

    def rows(self) -> Iterator[Row]:
        """Those that hold ratings, or cannot be read."""
        for row in importers.rows(self.file, self.options, report=self._told, stop=self.is_stopped):
            if row.items or row.problems:
                yield row

    def is_stopped(self) -> bool:
        return self.stopped

    def _told(self, share: float) -> None:
        shown = sys.stderr.isatty() and int(100 * share) > int(100 * self.share)
        self.share = share
        if shown:
            print(f"\r{share:.0%} ", end="", file=sys.stderr, flush=True)


def run(
    file: Path,
    data: Path,
    *,
    options: Options,
    rater: str,
    model_name: str,
    quantization: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Prints what was read; 0 if anything was. Raises AppError, for one where an app is running on
    the data folder, and OSError; then nothing has been written."""
    if not file.exists():
        raise AppError("imports.no_file", file=str(file))
    reading = Reading(file, options)
    if dry_run:
        report = _dry(reading.rows())
    else:
        report = _stored(reading, data, rater, model_name, quantization)
    _print(report, dry_run=dry_run, stopped=reading.stopped, as_json=as_json)
    return 0 if report.read else 1


def _dry(rows: Iterator[Row]) -> ImportReport:
    report = ImportReport()
    for row in rows:
        report.read += len(row.items)
        report.unread += [(row, why) for why in row.problems]
    return report


def _stored(
    reading: Reading, data: Path, rater: str, model_name: str, quantization: str
) -> ImportReport:
    rows = reading.rows()
    seen: list[Row] = []  # up to the first rating: without one nothing is opened or loaded
    for row in rows:
        seen.append(row)
        if row.items:
            break
    if not seen or not seen[-1].items:
        return _dry(iter(seen))
    data.mkdir(parents=True, exist_ok=True)
    with closing(Store(data.resolve() / "feedback.db")) as store:  # Busy while an app has it
        make_private(data.resolve())
        # They take seconds, so whether the folder is free is found out first.
        from rlhf_chat.chat.imports import Imports
        from rlhf_chat.chat.raters import checked_name
        from rlhf_chat.inference.model import Model
        from rlhf_chat.serve import choose_model

        name, _ = choose_model(model_name, quantization)
        imports = Imports(store, Model.load(name, quantization=quantization))
        os.umask(0o077)
        # Ctrl+C lets the part be finished that is being stored.
        before = signal.signal(signal.SIGINT, lambda *_: setattr(reading, "stopped", True))
        try:
            return imports.import_rows(chain(seen, rows), checked_name(rater), reading.is_stopped)
        finally:
            signal.signal(signal.SIGINT, before)


def _print(report: ImportReport, *, dry_run: bool, stopped: bool, as_json: bool) -> None:
    if as_json:
        told: dict[str, object] = {"read": report.read}
        if not dry_run:
            told |= {"new": report.new, "stopped": stopped}
        told["unread"] = [_entry(row, why) for row, why in report.unread]
        print_json(told)
        return
    print(f"Ratings read: {report.read}." + ("" if dry_run else f" New: {report.new}."))
    if report.new:
        print("They are learned from once you accept them on the Data screen.")
    if stopped:
        print("Stopped. The same command goes on from here.")
    if report.unread:
        print(f"Entries that cannot be used: {len(report.unread)}.")
    for row, why in report.unread[:SHOWN]:
        where = f"{row.file} {row.line}".strip()
        print(f"  {where}: {why}")


def _entry(row: Row, why: Notice) -> dict[str, object]:
    told: dict[str, object] = {"line": row.line, "reason": str(why)}
    return told | ({"file": row.file} if row.file else {})
