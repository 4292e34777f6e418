"""Deleting conversations with everything derived from their texts: caches, WAL and backups."""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat import faults
from rlhf_chat.db.codec import as_json, fetch
from rlhf_chat.db.connection import DatabaseConnection
from rlhf_chat.db.database_file import apply_migrations, connect, is_corrupt
from rlhf_chat.db.db_errors import backups_of, unfinished_backups_of
from rlhf_chat.db.events import add_event
from rlhf_chat.db.feature_cache import drop_orphans, forget_prompts
from rlhf_chat.db.feedback_tables import TABLES
from rlhf_chat.db.row_checksums import seal
from rlhf_chat.db.withdrawn_corrections import (
    CORRECTION_ERASED,
    erase_corrections,
    held_corrections,
)
from rlhf_chat.db.withdrawn_words import ERASED, erase_words, forget_erased
from rlhf_chat.errors import StoreError

log = logging.getLogger(__name__)


class Erased(NamedTuple):
    """Ids of what was deleted, or whose words were, in the file."""

    conversations: Sequence[str] = ()
    answers: Sequence[str] = ()
    corrections: Sequence[str] = ()  # of the messages


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
    _finish(connection, Erased(conversations=ids))
    return len(ids)


def finish_erasing_words(connection: DatabaseConnection, erased: Erased) -> None:
    """After the words of withdrawn or replaced answers were erased from the file: from its WAL and
    the backups. What is in the way is tried again, see `finish_erasing`."""
    with suppress(StoreError):
        _finish(connection, erased)


def finish_erasing(connection: DatabaseConnection) -> None:
    """At start, and as long as something is in the way: a kill may have come between a deletion
    and the backups or the WAL."""
    erased = _ever_erased(connection)
    with suppress(StoreError):  # no reason not to start; the next start tries again
        _finish(connection, erased)


def _finish(connection: DatabaseConnection, erased: Erased) -> None:
    """Raises StoreError; `connection.unerased` names what still holds erased words."""
    if connection.unerased:  # what was in the way of an earlier deletion may be gone
        erased = _ever_erased(connection)
    left = connection.unerased
    faults.point("delete.before_backups")
    try:
        with connection.copying:
            left = erase_from_backups(connection.path, erased)
    finally:  # a backup that cannot be cleaned must not keep the texts in the WAL
        connection.unerased = left
        if any(erased):
            _empty_wal(connection)
    if not connection.unerased and (erased.answers or erased.corrections):
        done = [*erased.answers, *erased.corrections]
        connection.write(lambda db: forget_erased(db, done))


def _empty_wal(connection: DatabaseConnection) -> None:
    wal = Path(f"{connection.path}-wal")
    connection.unerased = [path for path in connection.unerased if path != wal]
    try:
        faults.point("delete.before_wal")
        connection.empty_wal()
    except BaseException:
        connection.unerased.append(wal)
        raise


def _ever_erased(connection: DatabaseConnection) -> Erased:
    """All conversations that were ever deleted, and answers whose words may still be somewhere."""
    sql = "SELECT ref FROM events WHERE kind = ?"
    kinds = ("conversation_deleted", ERASED, CORRECTION_ERASED)
    return Erased(*(connection.ids(sql, kind) for kind in kinds))


def erase(db: Database, conversation_ids: Sequence[str]) -> None:
    """The conversations with all rows that depend on them, and every cache entry derived from
    their texts."""
    named = json.dumps(list(conversation_ids))
    these = "IN (SELECT value FROM json_each(?))"
    sql = f"""SELECT DISTINCT prompt_ids FROM messages
        WHERE conversation_id {these} AND prompt_ids <> x''"""
    prompts = [row[0] for row in fetch(db, sql, [named])]
    # Let go of one another first: SQLite follows a cascade only a thousand messages deep.
    db.execute(f"UPDATE messages SET parent_id = NULL WHERE conversation_id {these}", [named])
    db.execute(f"DELETE FROM conversations WHERE id {these}", [named])
    forget_prompts(db, prompts)
    for round_id, told in fetch(db, "SELECT id, verdict FROM rounds WHERE verdict IS NOT NULL"):
        if told != (kept := without_lost_words(db, told)):
            db.execute("UPDATE rounds SET verdict = ? WHERE id = ?", [kept, round_id])
    drop_orphans(db)


def without_lost_words(db: Database, verdict: str) -> str:
    """A round's verdict (JSON) whose card quotes only answers that are still there."""
    told = json.loads(verdict)
    card = told.get("card") or {}
    quoted = card.get("moved", [])
    # [text, number, conversation, id of the answer, which rounds of before did not store]
    here = [q for q in quoted if len(q) > 2 and _is_here(db, *q[2:])]
    if len(here) == len(quoted):
        return verdict
    return as_json(told | {"card": card | {"moved": here}})


def _is_here(db: Database, conversation_id: str, answer_id: str = "") -> bool:
    if not fetch(db, "SELECT 1 FROM conversations WHERE id = ?", [conversation_id]):
        return False
    any_kind = " UNION ALL ".join(f"SELECT id FROM {table.name}" for table in TABLES.values())
    sql = f"SELECT 1 FROM ({any_kind}) WHERE id = ?"
    return not answer_id or bool(fetch(db, sql, [answer_id]))


def erase_from_backups(path: Path, erased: Erased) -> list[Path]:
    """The same in every automatic copy of the file; a copy that was never finished is removed.
    Returns the copies that could not be erased now: kept, to be tried again."""
    for part in unfinished_backups_of(path):
        _remove(part)
    if not any(erased):
        return []
    return [backup for backup in backups_of(path) if not _erased(backup, erased)]


def _erased(backup: Path, erased: Erased) -> bool:
    """A copy that is locked, unreadable or on a full disk is kept; one that is damaged is removed,
    since nothing can be deleted from it and nothing restored."""
    try:
        with closing(connect(backup, "rw")) as db:
            sql = "SELECT id FROM conversations WHERE id IN (SELECT value FROM json_each(?))"
            held = [row[0] for row in fetch(db, sql, [json.dumps(list(erased.conversations))])]
            corrections = held_corrections(db, erased.corrections)
            if held or corrections:
                apply_migrations(db)  # the copy may be of an older version
                with db.atomic():
                    erase_corrections(db, corrections)
                    erase(db, held)
                    seal(db)
                    faults.point("delete.in_backup")
            if erased.answers:
                with db.atomic():
                    erase_words(db, erased.answers)
                    seal(db)
        return True
    except (sqlite3.Error, OSError) as error:
        if is_corrupt(backup):
            log.warning("%s is damaged and is removed: %s", backup, error)
            _remove(backup)
            return True
        log.warning("deleted text is still in %s: %s; tried again later", backup, error)
        return False


def _remove(copy: Path) -> None:
    try:
        copy.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            "db.copy_not_removed", path=copy, error=error.strerror or str(error)
        ) from error
