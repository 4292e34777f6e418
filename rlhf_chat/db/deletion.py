"""Deleting conversations with everything derived from their texts: caches, WAL and backups."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat.db.codec import as_json, fetch
from rlhf_chat.db.connection import DatabaseConnection
from rlhf_chat.db.database_file import apply_migrations, connect, is_corrupt
from rlhf_chat.db.db_errors import backups_of, unfinished_backups_of
from rlhf_chat.db.events import add_event
from rlhf_chat.db.withdrawn_words import ERASED, erase_words, forget_erased
from rlhf_chat.errors import StoreError

log = logging.getLogger(__name__)


def delete_conversations(
    connection: DatabaseConnection, chosen: Callable[[Database], list[str]]
) -> int:
    """Delete the conversations whose ids `chosen` returns, from the file, its WAL and the
    automatic backups; how many there were."""

    def change(db: Database) -> list[str]:
        ids = chosen(db)
        erase(db, ids)
        for id in ids:
            add_event(db, "conversation_deleted", id, {})
        return ids

    ids = connection.write_feedback(change)
    # What was in the way of an earlier deletion may be gone.
    earlier = _deleted(connection) if connection.unerased else []
    answers = _deleted(connection, ERASED) if connection.unerased else []
    try:
        with connection.copying:
            connection.unerased = erase_from_backups(connection.path, [*earlier, *ids], answers)
    finally:  # a backup that cannot be cleaned must not keep the texts in the WAL
        connection.empty_wal()
    return len(ids)


def finish_erasing_words(connection: DatabaseConnection, answer_ids: Sequence[str]) -> None:
    """After the words of withdrawn or replaced answers were erased from the file: from its WAL and
    the backups. What is in the way is tried again at the next start."""
    with suppress(StoreError):
        try:
            with connection.copying:
                left = erase_from_backups(connection.path, [], answer_ids)
                connection.unerased = sorted({*connection.unerased, *left})
        finally:
            connection.empty_wal()
        if not left:
            connection.write(lambda db: forget_erased(db, answer_ids))


def finish_deleting(connection: DatabaseConnection) -> None:
    """At start: a kill may have come between a deletion and the backups or the WAL."""
    deleted, answers = _deleted(connection), _deleted(connection, ERASED)
    with suppress(StoreError):  # no reason not to start; the next start tries again
        try:
            connection.unerased = erase_from_backups(connection.path, deleted, answers)
        finally:  # a backup that cannot be cleaned must not keep the texts in the WAL
            if deleted or answers:
                connection.empty_wal()
        if answers and not connection.unerased:
            connection.write(lambda db: forget_erased(db, answers))


def _deleted(connection: DatabaseConnection, kind: str = "conversation_deleted") -> list[str]:
    """Ids of all conversations that were ever deleted, or of answers whose words were."""
    with connection.read() as db:
        return [row[0] for row in fetch(db, "SELECT ref FROM events WHERE kind = ?", [kind])]


def erase(db: Database, conversation_ids: Sequence[str]) -> None:
    """The conversations with all rows that depend on them, and every cache entry derived from
    their texts."""
    named = json.dumps(list(conversation_ids))
    these = "IN (SELECT value FROM json_each(?))"
    _erase_prompts(db, named)
    # Let go of one another first: SQLite follows a cascade only a thousand messages deep.
    db.execute(f"UPDATE messages SET parent_id = NULL WHERE conversation_id {these}", [named])
    db.execute(f"DELETE FROM conversations WHERE id {these}", [named])
    for round_id, told in fetch(db, "SELECT id, verdict FROM rounds WHERE verdict IS NOT NULL"):
        if told != (kept := without_lost_words(db, told)):
            db.execute("UPDATE rounds SET verdict = ? WHERE id = ?", [kept, round_id])
    drop_orphans(db)


def without_lost_words(db: Database, verdict: str) -> str:
    """A round's verdict (JSON) whose card quotes only conversations that are still there."""
    told = json.loads(verdict)
    card = told.get("card") or {}
    quoted = card.get("moved", [])
    here = [q for q in quoted if len(q) > 2 and _is_here(db, q[2])]  # [text, number, conversation]
    if len(here) == len(quoted):
        return verdict
    return as_json(told | {"card": card | {"moved": here}})


def _is_here(db: Database, conversation_id: str) -> bool:
    return bool(fetch(db, "SELECT 1 FROM conversations WHERE id = ?", [conversation_id]))


def drop_orphans(db: Database) -> None:
    """Delete cached vectors of deleted replies: losing a cache costs time, not data."""
    db.execute(
        """DELETE FROM features WHERE content_key NOT IN
        (SELECT content_key FROM messages WHERE content_key IS NOT NULL)"""
    )


def _erase_prompts(db: Database, named: str) -> None:
    """Cached prompts that hold text of the named conversations (JSON), unless another one has the
    same."""
    these = "IN (SELECT value FROM json_each(?1))"
    sql = f"""SELECT DISTINCT prompt_ids FROM messages
        WHERE conversation_id {these} AND prompt_ids <> x''"""
    own = {row[0] for row in fetch(db, sql, [named])}
    for (cached,) in fetch(db, "SELECT DISTINCT prompt_ids FROM reference_responses"):
        if cached in own or any(_is_part(cached, prompt) for prompt in own):
            db.execute(
                f"""DELETE FROM reference_responses WHERE prompt_ids = ?2 AND NOT EXISTS
                (SELECT 1 FROM messages WHERE prompt_ids = ?2 AND conversation_id NOT {these})""",
                [named, cached],
            )


def _is_part(cached: bytes, prompt: bytes) -> bool:
    """One contains the other, or `cached` is the start of `prompt` joined to its end.

    The second is what a chat template makes of the last turn alone: same preamble, same tail.
    """
    if cached in prompt or prompt in cached:
        return True
    a, b = np.frombuffer(cached, "<i4"), np.frombuffer(prompt, "<i4")
    n = min(len(a), len(b))
    same_start, same_end = a[:n] == b[:n], a[::-1][:n] == b[::-1][:n]
    runs = [int(np.argmin(np.append(same, False))) for same in (same_start, same_end)]
    return sum(runs) >= len(a)


def erase_from_backups(
    path: Path, conversation_ids: Sequence[str], answer_ids: Sequence[str] = ()
) -> list[Path]:
    """The same in every automatic copy of the file; a copy that was never finished is removed.
    Returns the copies that could not be erased now: kept, to be tried again at the next start."""
    for part in unfinished_backups_of(path):
        _remove(part)
    if not conversation_ids and not answer_ids:
        return []
    return [b for b in backups_of(path) if not _erased(b, conversation_ids, answer_ids)]


def _erased(backup: Path, conversation_ids: Sequence[str], answer_ids: Sequence[str]) -> bool:
    """A copy that is locked, unreadable or on a full disk is kept; one that is damaged is removed,
    since nothing can be deleted from it and nothing restored."""
    try:
        with closing(connect(backup, "rw")) as db:
            sql = "SELECT id FROM conversations WHERE id IN (SELECT value FROM json_each(?))"
            held = [row[0] for row in fetch(db, sql, [json.dumps(list(conversation_ids))])]
            if held:
                apply_migrations(db)  # the copy may be of an older version
                with db.atomic():
                    erase(db, held)
            if answer_ids:
                erase_words(db, answer_ids)
        return True
    except (sqlite3.Error, OSError) as error:
        if is_corrupt(backup):
            log.warning("%s is damaged and is removed: %s", backup, error)
            _remove(backup)
            return True
        log.warning("deleted text is still in %s: %s; tried again at the next start", backup, error)
        return False


def _remove(copy: Path) -> None:
    try:
        copy.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            "db.copy_not_removed", path=copy, error=error.strerror or str(error)
        ) from error
