"""Corrections that were withdrawn or replaced: the corrected text is a message, and goes with it.

A chat may have gone on from the correction. Its later messages then follow the original reply; the
prompts they were written with held the corrected words, so those are erased too, and nothing is
learned from feedback on such replies any more.
"""

import json
from collections.abc import Sequence

from sqlite_utils import Database

from rlhf_chat.db.codec import as_json, fetch, one_value
from rlhf_chat.db.events import add_event
from rlhf_chat.db.feature_cache import drop_orphans, forget_prompts

CORRECTION_ERASED = "correction_erased"  # kind of event: a backup may still hold this message

_LATER = """WITH RECURSIVE later (id) AS (SELECT id FROM messages WHERE parent_id = ?1
    UNION ALL SELECT m.id FROM messages m JOIN later ON m.parent_id = later.id)"""


def erase_replaced_corrections(db: Database, number: int) -> list[str]:
    """Erases the corrections that edit `number` withdraws or replaces: of one reply, a rater's
    newest correction stays. The ids of their messages."""
    [(rater, about, edited, withdrawn)] = fetch(
        db, "SELECT rater, message_id, edited_id, withdrawn FROM edits WHERE number = ?", [number]
    )
    gone = [edited] if withdrawn else _own(db, rater, "edited_id = ?2", about)
    gone = [id for id in gone if _erase(db, id)]
    if not withdrawn:
        now = "SELECT message_id FROM edits WHERE number = ?"
        earlier = _own(db, rater, "message_id = ?2", one_value(db, now, [number]))
        gone += [id for id in earlier if id != edited and _erase(db, id)]
    for id in gone:
        add_event(db, CORRECTION_ERASED, id, {})
    return gone


def _own(db: Database, rater: str, where: str, value: str) -> list[str]:
    sql = f"SELECT DISTINCT edited_id FROM edits WHERE rater = ?1 AND {where}"
    return [row[0] for row in fetch(db, sql, [rater, value])]


def erase_corrections(db: Database, message_ids: Sequence[str]) -> None:
    """The same in a backup, as far as it holds them."""
    for id in message_ids:
        _erase(db, id)


def held_corrections(db: Database, message_ids: Sequence[str]) -> list[str]:
    sql = "SELECT id FROM messages WHERE id IN (SELECT value FROM json_each(?))"
    return [row[0] for row in fetch(db, sql, [json.dumps(list(message_ids))])]


def _erase(db: Database, id: str) -> bool:
    """Whether there was such a message, written by a person."""
    sql = "SELECT conversation_id, parent_id FROM messages WHERE id = ? AND adapter_version IS NULL"
    found = fetch(db, sql, [id])
    if not found:
        return False
    [(conversation, parent)] = found
    original = _original(db, id, parent)
    _forget_later_prompts(db, id)
    db.execute("UPDATE messages SET parent_id = ? WHERE parent_id = ?", [original, id])
    sql = "UPDATE edits SET message_id = ?1 WHERE message_id = ?2 AND edited_id <> ?1"
    db.execute(sql, [original, id])
    db.execute("UPDATE conversations SET head_id = ? WHERE head_id = ?", [original, id])
    db.execute("DELETE FROM messages WHERE id = ?", [id])
    _erase_quotes(db, conversation)
    drop_orphans(db)
    return True


def _original(db: Database, id: str, parent: str | None) -> str | None:
    """The reply that was corrected; where a copy was made before that was stored, its sibling."""
    sql = "SELECT message_id FROM edits WHERE edited_id = ? ORDER BY number DESC LIMIT 1"
    beside = "SELECT id FROM messages WHERE parent_id = ? AND id <> ? ORDER BY number LIMIT 1"
    found: str | None = one_value(db, sql, [id]) or one_value(db, beside, [parent, id])
    return found or parent


def _forget_later_prompts(db: Database, id: str) -> None:
    later = f"{_LATER} SELECT id FROM later"
    sql = f"SELECT DISTINCT prompt_ids FROM messages WHERE id IN ({later}) AND prompt_ids <> x''"
    prompts = [row[0] for row in fetch(db, sql, [id])]
    sql = f"UPDATE messages SET prompt_ids = NULL, content_key = NULL WHERE id IN ({later})"
    db.execute(f"{sql} AND role = 'assistant'", [id])
    forget_prompts(db, prompts)


def _erase_quotes(db: Database, conversation: str) -> None:
    """Reports of rounds quote single ratings, among them perhaps this one: those of its chat go."""
    sql = "SELECT id, verdict FROM rounds WHERE verdict IS NOT NULL"
    for round_id, stored in fetch(db, sql):
        verdict = json.loads(stored)
        card = verdict.get("card") or {}
        quoted = card.get("moved", [])
        kept = [quote for quote in quoted if conversation not in quote[2:]]
        if len(kept) < len(quoted):
            words = as_json(verdict | {"card": card | {"moved": kept}})
            db.execute("UPDATE rounds SET verdict = ? WHERE id = ?", [words, round_id])
