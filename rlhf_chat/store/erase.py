"""Deleting so that nothing stays: a conversation, what was cached from its words, and backups.

Left out: emptying the WAL, which is the writer's (archive.py asks for it).
"""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from rlhf_chat.store.file import connect
from rlhf_chat.store.rows import content_key, fetch, ids_list, split


def erase(db: Database, conversation_id: str) -> None:
    """The conversation with all that hangs on it, and every cached thing made from its words."""
    _erase_prompts(db, conversation_id)
    db.execute("DELETE FROM conversations WHERE id = ?", [conversation_id])
    drop_orphans(db)


def drop_orphans(db: Database) -> None:
    """Vectors that nothing left accounts for: losing a cache costs a moment, not data."""
    cached = fetch(db, "SELECT prompt_ids, lengths, response_ids FROM reference_responses")
    kept = [
        content_key(ids_list(prompt), response)
        for prompt, lengths, flat in cached
        for response in split(ids_list(flat), ids_list(lengths))
    ]
    db.execute(
        """DELETE FROM features WHERE content_key NOT IN
        (SELECT content_key FROM messages WHERE content_key IS NOT NULL
         UNION SELECT value FROM json_each(?))""",
        [json.dumps(kept)],
    )


def _erase_prompts(db: Database, conversation_id: str) -> None:
    """Cached prompts that hold this conversation's words, unless another one has the same."""
    sql = "SELECT DISTINCT prompt_ids FROM messages WHERE conversation_id = ? AND prompt_ids <> x''"
    own = [row[0] for row in fetch(db, sql, [conversation_id])]
    for (cached,) in fetch(db, "SELECT DISTINCT prompt_ids FROM reference_responses"):
        if any(_is_part(cached, prompt) for prompt in own):
            db.execute(
                """DELETE FROM reference_responses WHERE prompt_ids = ?1 AND NOT EXISTS
                (SELECT 1 FROM messages WHERE prompt_ids = ?1 AND conversation_id <> ?2)""",
                [cached, conversation_id],
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


def erase_from_backup(backup: Path, conversation_id: str) -> None:
    """Deleted means deleted: a backup that cannot be cleaned is removed."""
    try:
        with closing(connect(backup, "rw")) as db, db.atomic():
            erase(db, conversation_id)
    except sqlite3.Error:
        backup.unlink(missing_ok=True)
