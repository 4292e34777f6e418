"""Values to rows and back: encodings, and the SQL helpers that the other files of db use."""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import numpy as np
from sqlite_utils import Database

from rlhf_chat.db.records import RankedReply
from rlhf_chat.errors import NotFound

T = TypeVar("T")

KNOWN_IDS = 1 << 18  # tokens of the largest vocabularies; 10 MB


def ids_blob(ids: Sequence[int] | None) -> bytes | None:
    return None if ids is None else np.asarray(ids, dtype="<i4").tobytes()


def ids_list(blob: bytes) -> list[int]:
    """Equal ids are one object: a hundred thousand prompts then take a quarter of the memory."""
    ids = np.frombuffer(blob, dtype="<i4")
    known = len(ids) and ids.min() >= 0 and ids.max() < KNOWN_IDS
    result: list[int] = (_known_ids()[ids] if known else ids).tolist()
    return result


@cache
def _known_ids() -> np.ndarray:
    return np.arange(KNOWN_IDS).astype(object)


def content_key(prompt_ids: Sequence[int], response_ids: Sequence[int] = ()) -> str:
    """The name of one text as the model saw it: equal token ids, equal key.

    Cache features under this key, so that deleting a conversation can find what belongs to it.
    """
    digest = hashlib.sha256(len(prompt_ids).to_bytes(8, "little"))
    digest.update(ids_blob(prompt_ids) or b"")
    digest.update(ids_blob(response_ids) or b"")
    return digest.hexdigest()


_DECODE: dict[str, Callable[[Any], Any]] = {
    "prompt_ids": ids_list,
    "response_ids": ids_list,
    "sampling": json.loads,
    "config": json.loads,
    "verdict": json.loads,
    "learned_from": json.loads,
    "data": json.loads,
    "places": json.loads,
    "order": lambda text: [RankedReply(*row) for row in json.loads(text)],
}


def as_json(value: Any) -> str:
    """JSON that SQLite's json_valid accepts: NaN and infinity become null."""
    try:
        return clean_text(json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain))
    except ValueError:
        return clean_text(json.dumps(finite(value), ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    """numpy values and paths as plain ones; the rest is for json to refuse."""
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON")


def finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def clean_text(text: str) -> str:
    """Half of a surrogate pair, which a browser can send, is not UTF-8: it becomes a "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def fresh_id() -> str:
    return uuid.uuid4().hex


def _columns(record: type) -> str:
    return ", ".join(f'"{field.name}"' for field in fields(record))


def fetch(db: Database, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    # fetchall at once: an unfinished cursor would pin its snapshot and block the checkpoint.
    return db.execute(sql, values).fetchall()


def select(db: Database, record: type[T], rest: str, values: Sequence[Any] = ()) -> list[T]:
    names = [field.name for field in fields(record)]  # type: ignore[arg-type]
    decode = [_DECODE.get(name) for name in names]
    return [
        record(*(d(v) if d and v is not None else v for d, v in zip(decode, row, strict=True)))
        for row in fetch(db, f"SELECT {_columns(record)} {rest}", values)
    ]


def insert(db: Database, table: str, **values: Any) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    cleaned = [clean_text(value) if isinstance(value, str) else value for value in values.values()]
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", cleaned)


def one_value(db: Database, sql: str, values: Sequence[Any] = ()) -> Any:
    """The first column of the first row, or None."""
    rows = fetch(db, sql, values)
    return rows[0][0] if rows else None


def next_number(db: Database, counter: str) -> int:
    """The next number of a named sequence. Only inside a transaction of the writer."""
    sql = "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value"
    result: int = one_value(db, sql, [counter])
    return result


def split(flat: list[int], lengths: list[int]) -> list[list[int]]:
    ends = np.cumsum(lengths).tolist()
    return [flat[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def message_row(
    db: Database, message_id: str, conversation_id: str | None = None
) -> tuple[Any, ...]:
    """(role, parent_id, conversation_id) of a message, which must be in the named conversation."""
    sql = "SELECT role, parent_id, conversation_id FROM messages WHERE id = ?"
    rows = fetch(db, sql, [message_id])
    if not rows or conversation_id not in (None, rows[0][2]):
        raise NotFound("db.message_gone")
    return rows[0]
