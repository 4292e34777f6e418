"""Checksums of rows, so that bits which flipped on the disk are noticed.

Triggers note each row that is added, changed or deleted in `unchecked`, whatever statement did it.
The writer stores the checksums of these rows in `row_checksums` before it commits (`seal`). A row
whose checksum is another one, or is not there, is damaged. The tables are made in schema.py; checks
are in integrity.py. Left out: `metrics` (charts only), and indexes, which SQLite checks itself.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database


@dataclass(frozen=True)
class CheckedTable:
    name: str
    key: str  # the columns whose values, with char(31) between, are `row_key`
    found: str  # SQL: the row of table t whose key is `row_key`
    is_cache: bool = False  # its rows can be computed again

    def key_of(self, row: str) -> str:
        return " || char(31) || ".join(f"{row}.{column}" for column in self.key.split())


def _by(column: str) -> tuple[str, str]:
    return column, f"t.{column} = row_key"


def _cached(column: str) -> tuple[str, str]:
    first, rest = "substr(row_key, 1, instr(row_key, char(31)) - 1)", "instr(row_key, char(31)) + 1"
    found = f"t.{column} = {first} AND t.feature_key = substr(row_key, {rest})"
    return f"{column} feature_key", found


CHECKED = {
    table.name: table
    for table in (
        CheckedTable("conversations", *_by("id")),
        CheckedTable("messages", *_by("number")),
        CheckedTable("ratings", *_by("number")),
        CheckedTable("preferences", *_by("number")),
        CheckedTable("scores", *_by("number")),
        CheckedTable("rankings", *_by("number")),
        CheckedTable("edits", *_by("number")),
        CheckedTable("imports", *_by("id")),
        CheckedTable("rounds", *_by("id")),
        CheckedTable("adapter_versions", *_by("version")),
        CheckedTable("live_versions", *_by("base_hash")),
        CheckedTable("settings", *_by("key")),
        CheckedTable("counters", *_by("name")),
        CheckedTable("events", *_by("id")),
        CheckedTable("features", *_cached("content_key"), is_cache=True),
        CheckedTable("reference_responses", *_cached("prompt_key"), is_cache=True),
    )
}


def checksum(values: Iterable[Any]) -> bytes:
    """Of the values of a row: bytes, numbers and None."""
    told = bytearray()
    for value in values:
        if isinstance(value, bytes):
            told += b"b%d:" % len(value)
            told += value
        else:
            told += b"%a;" % (value,)
    return hashlib.blake2b(told, digest_size=8).digest()


def has_checksums(db: Database) -> bool:
    """False for a file of an older version of the app."""
    return bool(db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'unchecked'").fetchone())


def seal(db: Database) -> None:
    """Stores the checksums of what was changed since the last time, in the open transaction."""
    if not has_checksums(db):
        return
    named = db.execute("SELECT DISTINCT table_name FROM unchecked").fetchall()
    for (name,) in named:
        db.execute(
            """DELETE FROM row_checksums WHERE table_name = ?1 AND row_key IN
            (SELECT row_key FROM unchecked WHERE table_name = ?1)""",
            [name],
        )
        rows = f"unchecked u CROSS JOIN {name} t ON u.table_name = ? AND {CHECKED[name].found}"
        _store(db, CHECKED[name], "u.row_key", f"FROM {rows}", [name])
    if named:
        db.execute("DELETE FROM unchecked")


def seal_all(db: Database) -> None:
    """Stores the checksums of all rows: a migration changed their columns."""
    if not has_checksums(db):
        return
    db.execute("DELETE FROM row_checksums")
    here = {row[0] for row in db.execute("SELECT name FROM sqlite_schema").fetchall()}
    for table in CHECKED.values():
        if table.name in here:  # a later migration may add it
            _store(db, table, table.key_of("t"), f"FROM {table.name} t")
    db.execute("DELETE FROM unchecked")


def _store(
    db: Database, table: CheckedTable, key: str, rest: str, values: Sequence[Any] = ()
) -> None:
    found = db.execute(f"SELECT {key}, {_columns(db, table)} {rest}", values)
    told = ((table.name, row[0], checksum(row[1:])) for row in found)
    db.conn.executemany("INSERT INTO row_checksums VALUES (?, ?, ?)", told)


def _columns(db: Database, table: CheckedTable) -> str:
    """Its stored columns; a text as bytes, since a damaged one need not be UTF-8."""
    found = db.execute("SELECT name, type FROM pragma_table_info(?) ORDER BY cid", [table.name])
    quoted = ((f't."{name}"', type) for name, type in found.fetchall())
    return ", ".join(f"CAST({q} AS BLOB)" if type == "TEXT" else q for q, type in quoted)


def _checked(
    db: Database, table: CheckedTable, where: str, values: Sequence[Any]
) -> Iterator[tuple[bool, Any]]:
    """Of each of the rows t `where`: whether it is sound, and its key and columns."""
    key = table.key_of("t")  # with a +, or its affinity would keep SQLite from the index
    found = db.execute(
        f"""SELECT checksum, iif(typeof({key}) = 'text', CAST({key} AS BLOB), {key}),
        {_columns(db, table)} FROM {table.name} t LEFT JOIN row_checksums
        ON table_name = '{table.name}' AND row_key = +({key}) WHERE {where}""",
        values,
    )
    return ((checksum(row[2:]) == row[0], row[1:]) for row in found)


def sound_rows(
    db: Database, table: CheckedTable, where: str, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """The columns of those rows t `where` that are not damaged; texts as bytes."""
    return [row[1:] for sound, row in _checked(db, table, where, values) if sound]


def damaged_rows(
    db: Database, table: CheckedTable, where: str = "1", values: Sequence[Any] = ()
) -> list[Any]:
    """Keys of the damaged ones among the rows t `where`."""
    bad = [_readable(row[0]) for sound, row in _checked(db, table, where, values) if not sound]
    # What another program changed is not damaged: the writer has not seen it yet.
    return [key for key in bad if key not in _unchecked(db, table)] if bad else bad


def lost_rows(db: Database, table: CheckedTable) -> list[Any]:
    """Keys of rows that have a checksum and are not there."""
    found = db.execute(
        f"""SELECT CAST(row_key AS BLOB) FROM row_checksums WHERE table_name = '{table.name}'
        AND NOT EXISTS (SELECT 1 FROM {table.name} t WHERE {table.found})"""
    )
    bad = [_readable(row[0]) for row in found]
    return [key for key in bad if key not in _unchecked(db, table)] if bad else bad


def _unchecked(db: Database, table: CheckedTable) -> set[Any]:
    sql = "SELECT row_key FROM unchecked WHERE table_name = ?"
    return {row[0] for row in db.execute(sql, [table.name])}


def _readable(key: Any) -> Any:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key


def is_whole(db: Database) -> bool:
    """Whether no part of the file is damaged, as far as SQLite and the checksums can tell."""
    if db.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
        return False
    tables = CHECKED.values() if has_checksums(db) else ()
    return not any(damaged_rows(db, table) or lost_rows(db, table) for table in tables)
