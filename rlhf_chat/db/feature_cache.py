"""Cache of what the model computed for replies and prompts: it can be computed again."""

import json
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from sqlite_utils import Database

from rlhf_chat.db.codec import (
    fetch,
    ids_blob,
    ids_list,
    split,
)
from rlhf_chat.db.connection import Repository
from rlhf_chat.db.row_checksums import CHECKED, sound_rows
from rlhf_chat.errors import StoreError


class FeatureCache(Repository):
    """Features of replies and responses of the reference model, by content key."""

    def put(self, feature_key: str, rows: Sequence[tuple[str, np.ndarray]]) -> None:
        """Cache one vector per content key (see content_key); an existing one is replaced. Nothing
        is kept of a reply that was deleted while it was measured."""
        values = []
        for key, vector in rows:
            vector = np.asarray(vector, dtype="<f4")
            if vector.ndim != 1:
                raise StoreError("db.invalid", what="shape of features", value=str(vector.shape))
            values.append((feature_key, key, vector.tobytes()))
        sql = """INSERT OR REPLACE INTO features SELECT ?1, ?2, ?3
            WHERE EXISTS (SELECT 1 FROM messages WHERE content_key = ?2)"""
        self._db.execute_many(sql, values)

    def get(self, feature_key: str, content_keys: Iterable[str]) -> dict[str, np.ndarray]:
        """The cached vectors among those asked for; a damaged one is not there."""
        where = "t.feature_key = ? AND t.content_key IN (SELECT value FROM json_each(?))"
        asked = [feature_key, json.dumps(list(content_keys))]
        with self._db.read() as db:
            found = sound_rows(db, CHECKED["features"], where, asked)
        return {key.decode(): np.frombuffer(v, dtype="<f4").copy() for _, key, v in found}

    def count(self, feature_key: str, content_keys: Iterable[str]) -> int:
        """How many of them have a cached vector."""
        sql = """SELECT count(*) FROM features WHERE feature_key = ?
            AND content_key IN (SELECT value FROM json_each(?))"""
        result: int = self._db.value(sql, [feature_key, json.dumps(list(content_keys))])
        return result

    def put_reference_responses(
        self,
        feature_key: str,
        prompt_key: str,
        prompt_ids: Sequence[int],
        responses: list[list[int]],
        *,
        suggested: bool = False,
    ) -> None:
        """Cache the reference model's responses to a prompt. Unless the prompt is one of the app's
        own suggestions, nothing is kept where its message was deleted meanwhile."""
        lengths = ids_blob([len(response) for response in responses])
        flat = ids_blob([token for response in responses for token in response])
        values = (feature_key, prompt_key, ids_blob(prompt_ids), lengths, flat, suggested)
        sql = """INSERT OR REPLACE INTO reference_responses SELECT ?1, ?2, ?3, ?4, ?5
            WHERE ?6 OR EXISTS (SELECT 1 FROM messages WHERE prompt_ids = ?3)"""
        self._db.execute_many(sql, [values])

    def reference_responses(
        self, feature_key: str, prompt_keys: Iterable[str]
    ) -> dict[str, list[list[int]]]:
        """By prompt key; damaged ones are not there."""
        where = "t.feature_key = ? AND t.prompt_key IN (SELECT value FROM json_each(?))"
        asked = [feature_key, json.dumps(list(prompt_keys))]
        with self._db.read() as db:
            found = sound_rows(db, CHECKED["reference_responses"], where, asked)
        return {
            key.decode(): split(ids_list(flat), ids_list(lengths))
            for _, key, _, lengths, flat in found
        }

    def drop_reference_responses(self, prompt_keys: Iterable[str]) -> None:
        """Of prompts that no message has."""
        sql = """DELETE FROM reference_responses WHERE prompt_key = ?1 AND NOT EXISTS
            (SELECT 1 FROM messages WHERE messages.prompt_ids = reference_responses.prompt_ids)"""
        self._db.execute_many(sql, [(key,) for key in prompt_keys])


def drop_orphans(db: Database) -> None:
    """Delete cached vectors of deleted replies: losing a cache costs time, not data."""
    db.execute(
        """DELETE FROM features WHERE content_key NOT IN
        (SELECT content_key FROM messages WHERE content_key IS NOT NULL)"""
    )


def forget_prompts(db: Database, prompts: Collection[bytes]) -> None:
    """Deletes the cached prompts that hold text of these, which were just erased, unless another
    message has the same prompt."""
    for (cached,) in fetch(db, "SELECT DISTINCT prompt_ids FROM reference_responses"):
        if cached in prompts or any(_is_part(cached, prompt) for prompt in prompts):
            db.execute(
                """DELETE FROM reference_responses WHERE prompt_ids = ?1
                AND NOT EXISTS (SELECT 1 FROM messages WHERE prompt_ids = ?1)""",
                [cached],
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
