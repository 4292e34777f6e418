"""Comments and reasons of answers that were withdrawn or replaced: the answer stays in its log, its
words do not."""

import json
from collections.abc import Sequence

from sqlite_utils import Database

from rlhf_chat.db.codec import fetch
from rlhf_chat.db.events import add_event
from rlhf_chat.db.feedback_tables import FeedbackTable

ERASED = "words_erased"  # kind of event: the words of this answer may still be in a backup
# Columns of what an answer is about; as text they are FeedbackTable.subject, which has no index.
ABOUT = {"ratings": "message_id", "preferences": "pair_key, again", "rankings": "asked_id"}
WORDS = {"ratings": ("reason", "comment"), "preferences": ("comment",), "rankings": ("comment",)}


def erase_replaced(db: Database, table: FeedbackTable, number: int) -> list[str]:
    """Erases the words of the answers that answer `number` replaces; their ids."""
    if table.name not in WORDS:
        return []
    sql = f"""SELECT id FROM {table.name} WHERE number < ?1 AND (rater, {ABOUT[table.name]}) =
        (SELECT rater, {ABOUT[table.name]} FROM {table.name} WHERE number = ?1)
        AND {_has_words(WORDS[table.name])}"""
    ids = [row[0] for row in fetch(db, sql, [number])]
    note_erased(db, ids)
    erase_words(db, ids)
    return ids


def note_erased(db: Database, answer_ids: Sequence[str]) -> None:
    """So that a start can finish what was not erased everywhere."""
    for id in answer_ids:
        add_event(db, ERASED, id, {})


def forget_erased(db: Database, answer_ids: Sequence[str]) -> None:
    """The words are nowhere any more: a start has nothing to finish."""
    named = json.dumps(list(answer_ids))
    these = "ref IN (SELECT value FROM json_each(?))"
    db.execute(f"DELETE FROM events WHERE kind LIKE '%_erased' AND {these}", [named])


def erase_words(db: Database, answer_ids: Sequence[str]) -> None:
    """In whatever of the columns there are: a backup may be of an older version."""
    named = json.dumps(list(answer_ids))
    for table, columns in WORDS.items():
        found = {row[0] for row in fetch(db, "SELECT name FROM pragma_table_info(?)", [table])}
        if here := [column for column in columns if column in found]:
            these = f"id IN (SELECT value FROM json_each(?)) AND {_has_words(here)}"
            if fetch(db, f"SELECT 1 FROM {table} WHERE {these} LIMIT 1", [named]):
                empty = ", ".join(f"{column} = ''" for column in here)
                db.execute(f"UPDATE {table} SET {empty} WHERE {these}", [named])


def _has_words(columns: Sequence[str]) -> str:
    return "(" + " OR ".join(f"{column} <> ''" for column in columns) + ")"
