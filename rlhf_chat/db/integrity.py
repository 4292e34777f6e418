"""Checks of the rows against their checksums: of all of them little by little, and of the feedback
that is about to be learned from. What is damaged is kept in `IntegrityRepository.damage`.
"""

import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import one_value
from rlhf_chat.db.connection import DatabaseConnection, Repository
from rlhf_chat.db.database_file import newest_whole_backup
from rlhf_chat.db.feedback_tables import TABLES
from rlhf_chat.db.row_checksums import CHECKED, CheckedTable, damaged_rows, lost_rows
from rlhf_chat.errors import DatabaseDamaged, Notice, StoreError

log = logging.getLogger(__name__)

AT_ONCE = 20_000  # rows in one step of a check


@dataclass(frozen=True)
class Damage:
    """What changed in the file without a statement."""

    rows: frozenset[tuple[str, Any]] = frozenset()  # (table, key)
    tables: frozenset[str] = frozenset()  # in which SQLite found something, as in an index
    backup: Path | None = field(default=None, compare=False)  # the newest copy without damage

    def __bool__(self) -> bool:
        return bool(self.rows or self.tables)


@dataclass(frozen=True)
class DamagedFeedback:
    answers: frozenset[str] = frozenset()  # ids
    messages: frozenset[str] = frozenset()


class IntegrityRepository(Repository):
    def __init__(self, connection: DatabaseConnection) -> None:
        super().__init__(connection)
        self.damage = Damage()
        self._steps: Iterator[None] | None = None
        self._checking = threading.Lock()

    def told(self) -> Notice | None:
        """The damage in words, with the copy to go back to."""
        if not self.damage:
            return None
        told = {"name": self._db.path.name, "count": len(self.damage.rows)}
        if self.damage.backup:
            return Notice("db.rows_damaged_backup", told | {"backup": str(self.damage.backup)})
        return Notice("db.rows_damaged", told)

    def check(self, seconds: float = 0.0) -> bool:
        """Goes on with the check of the whole file for so long, or to its end; whether it is at
        its end. The next call begins anew."""
        with self._checking:
            began = time.monotonic()
            self._steps = self._steps or self._check()
            for _ in self._steps:
                if seconds and time.monotonic() - began >= seconds:
                    return False
            self._steps = None
            return True

    def _check(self) -> Iterator[None]:
        for table in CHECKED.values():
            try:
                yield from self._check_rows(table)
                with self._db.read() as db:
                    bad = lost_rows(db, table)
                self._note(table, bad)
                self._check_indexes(table)
            except DatabaseDamaged:
                self._note(table, [], True)
            yield

    def _check_indexes(self, table: CheckedTable) -> None:
        """Where all rows are sound, its indexes are made anew from them."""
        wrong = f"PRAGMA integrity_check('{table.name}')"
        if self._db.value(wrong) == "ok":
            return
        if not self._db.read_only and all(name != table.name for name, _ in self.damage.rows):
            log.warning("%s: indexes of %s are made anew", self._db.path, table.name)
            with suppress(StoreError):
                self._db.write(lambda db: db.execute(f"REINDEX {table.name}"))
        self._note(table, [], self._db.value(wrong) != "ok")

    def _check_rows(self, table: CheckedTable) -> Iterator[None]:
        last = self._db.value(f"SELECT max(rowid) FROM {table.name}") or 0
        for first in range(0, last + 1, AT_ONCE):
            with self._db.read() as db:
                where = "t.rowid BETWEEN ? AND ?"
                bad = damaged_rows(db, table, where, [first, first + AT_ONCE - 1])
            self._note(table, bad)
            yield

    def damaged_feedback(self, message_ids: Iterable[str]) -> DamagedFeedback:
        """The damaged ones of all answers, and of these messages and what they reply to."""
        named = json.dumps(list(message_ids))
        answers: set[str] = set()
        with self._db.read() as db:
            for table in (CHECKED[t.name] for t in TABLES.values() if t.name in CHECKED):
                answers |= self._ids(db, table, damaged_rows(db, table))
            these = "(SELECT value FROM json_each(?1))"
            where = f"""t.id IN {these} OR t.id IN
                (SELECT parent_id FROM messages WHERE id IN {these})"""
            bad = damaged_rows(db, CHECKED["messages"], where, [named])
            messages = self._ids(db, CHECKED["messages"], bad)
        return DamagedFeedback(frozenset(answers), frozenset(messages))

    def _ids(self, db: Database, table: CheckedTable, numbers: list[Any]) -> set[str]:
        self._note(table, numbers)
        sql = f"SELECT CAST(id AS BLOB) FROM {table.name} WHERE number = ?"
        return {one_value(db, sql, [number]).decode("utf-8", "replace") for number in numbers}

    def _note(self, table: CheckedTable, keys: list[Any], whole_table: bool = False) -> None:
        """A damaged row of a cache is computed again; any other is told."""
        if table.is_cache:
            if keys:
                log.warning("%d damaged rows of %s are computed again", len(keys), table.name)
                self._drop(table, keys)
            return
        rows = self.damage.rows | {(table.name, key) for key in keys}
        tables = self.damage.tables | ({table.name} if whole_table else frozenset())
        if Damage(rows, tables) == self.damage:
            return
        log.error("%s: damaged rows of %s: %s", self._db.path, table.name, keys[:10])
        backup = self.damage.backup or newest_whole_backup(self._db.path)
        self.damage, self._db.kept_backup = Damage(rows, tables, backup), backup

    def _drop(self, table: CheckedTable, keys: list[Any]) -> None:
        def change(db: Database) -> None:
            sql = f"DELETE FROM {table.name} AS t WHERE {table.found.replace('row_key', '?1')}"
            db.conn.executemany(sql, [(key,) for key in keys])
            sql = "INSERT OR IGNORE INTO unchecked VALUES (?, ?)"  # of one that is not there either
            db.conn.executemany(sql, [(table.name, key) for key in keys])

        if not self._db.read_only:
            with suppress(StoreError):
                self._db.write(change)
