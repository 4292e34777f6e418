"""The tables of feedback, one for each kind: code that serves all kinds goes through this list.

The tables are created in schema.py; single kinds are read and written in feedback.py.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_chat.db.records import ImportedFeedback

Row = dict[str, Any]


@dataclass(frozen=True)
class FeedbackTable:
    kind: str  # code of its FeedbackKind (feedback/kinds)
    name: str
    # SQL: what an answer is about. A rater's newest answer about it counts; the same text for a
    # thumb and for stars of one reply, another one for a pair that was asked again.
    subject: str
    message: str  # column with a message of its conversation
    # SELECT of `number` and the columns of `Feedback`, in that order, of answers that count now.
    current: str
    # The columns of an imported answer, from the id of its prompt and the ids of its replies.
    imported: Callable[[ImportedFeedback, str, Sequence[str]], Row]
    of_one_reply: bool = False  # imported answers about the same reply share a conversation
    # The same answers as `current` without their texts, for lists that are long: SELECT of number,
    # rater, kind and answer. "": made from `current`.
    brief: str = ""
    # What a text is searched in: columns with ids of replies, and other conditions (?1: the text,
    # for LIKE; `found`: numbers of the messages that have it). (): columns of `current`.
    replies: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def listed(self) -> str:
        return self.brief or f"SELECT number, rater, kind, answer FROM ({self.current})"

    def searched(self, few: bool) -> str:
        """SELECT of the numbers of its rows in which the text is found. With `few` from the
        messages that have it to the rows, by indexes (`hit`: ids of these messages and of what
        replies to them); else the rows are gone through once, which then costs less."""
        known = bool(self.replies or self.also)
        rows = self.name if known else f"({self.current})"
        replies = self.replies if known else ("message_id", "other_id")
        also = self.also if known else (_COMMENT,)
        if few:
            found_by = (*(f"{reply} IN hit" for reply in replies), *also)
            return " UNION ALL ".join(f"SELECT number FROM {rows} WHERE {one}" for one in found_by)
        found_by = (*map(_has, replies), *map(_answers, replies[:1]), *also)
        return f"SELECT number FROM {rows} WHERE {' OR '.join(found_by)}"


def _has(message: str) -> str:
    """Condition that the text is in the message with this id. By numbers, which the index on ids
    knows: no message is read for it."""
    return f"(SELECT number FROM messages WHERE id = {message}) IN found"


def _answers(message: str) -> str:
    """Condition that the text is in what this message replies to."""
    asked = f"""SELECT asked.number FROM messages reply
        JOIN messages asked ON asked.id = reply.parent_id WHERE reply.id = {message}"""
    return f"({asked}) IN found"


_COMMENT = "comment <> '' AND comment LIKE ?1 ESCAPE '\\'"
_BRIEF_THUMBS = """SELECT number, rater, 'thumb' AS kind, iif(value > 0, 'up', 'down') AS answer
    FROM ratings WHERE value <> 0
    AND number IN (SELECT max(number) FROM ratings GROUP BY message_id, rater)"""
_BRIEF_STARS = """SELECT number, rater, 'stars' AS kind, CAST(stars AS TEXT) AS answer
    FROM scores WHERE stars > 0
    AND number IN (SELECT max(number) FROM scores GROUP BY message_id, rater)"""
_BRIEF_COMPARISONS = """SELECT number, rater, 'comparison' AS kind, outcome AS answer
    FROM preferences WHERE outcome <> 'withdrawn' AND number IN
        (SELECT max(number) FROM preferences WHERE again = 0 GROUP BY pair_key, rater)"""
_BRIEF_RANKINGS = """SELECT number, rater, 'ranking' AS kind, 'ranked' AS answer
    FROM rankings WHERE places <> '{}'
    AND number IN (SELECT max(number) FROM rankings GROUP BY asked_id, rater)"""
_BRIEF_CORRECTIONS = """SELECT number, rater, 'correction' AS kind, 'corrected' AS answer
    FROM edits WHERE withdrawn = 0
    AND number IN (SELECT max(number) FROM edits GROUP BY message_id, edited_id, rater)"""


_THUMBS = """SELECT r.number, r.id, 'thumb' AS kind, iif(value > 0, 'up', 'down') AS answer,
    asked.content AS prompt, m.content AS reply, '' AS other, reason, comment, rater,
    m.adapter_version AS version, NULL AS other_version, m.id AS message_id, '' AS other_id,
    m.conversation_id AS conversation_id, r.created_at AS created_at, '[]' AS "order",
    '' AS strength FROM ratings r JOIN messages m ON m.id = message_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE value <> 0 AND r.number = (SELECT max(number) FROM ratings
        WHERE message_id = r.message_id AND rater = r.rater)"""
_COMPARISONS = """SELECT p.number, p.id, 'comparison' AS kind, outcome AS answer,
    asked.content AS prompt, a.content AS reply, b.content AS other, '' AS reason,
    p.comment AS comment, rater, a.adapter_version AS version, b.adapter_version AS other_version,
    a.id AS message_id, b.id AS other_id, a.conversation_id AS conversation_id,
    p.created_at AS created_at, '[]' AS "order",
    strength
    FROM preferences p JOIN messages a ON a.id = message_a JOIN messages b ON b.id = message_b
    LEFT JOIN messages asked ON asked.id = a.parent_id
    WHERE outcome <> 'withdrawn' AND again = 0 AND p.number = (SELECT max(number) FROM preferences
        WHERE pair_key = p.pair_key AND rater = p.rater AND again = 0)"""

_NO_WORDS = """'' AS reason, '' AS comment, rater, m.adapter_version AS version"""
_STARS = f"""SELECT s.number, s.id, 'stars' AS kind, CAST(stars AS TEXT) AS answer,
    asked.content AS prompt, m.content AS reply, '' AS other, {_NO_WORDS}, NULL AS other_version,
    m.id AS message_id, '' AS other_id, m.conversation_id AS conversation_id,
    s.created_at AS created_at, '[]' AS "order",
    '' AS strength FROM scores s JOIN messages m ON m.id = message_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE stars > 0 AND s.number = (SELECT max(number) FROM scores
        WHERE message_id = s.message_id AND rater = s.rater)"""
_CORRECTIONS = f"""SELECT e.number, e.id, 'correction' AS kind, 'corrected' AS answer,
    asked.content AS prompt, m.content AS reply, mine.content AS other, {_NO_WORDS},
    NULL AS other_version, m.id AS message_id, mine.id AS other_id,
    m.conversation_id AS conversation_id, e.created_at AS created_at,
    '[]' AS "order", '' AS strength
    FROM edits e JOIN messages m ON m.id = message_id JOIN messages mine ON mine.id = edited_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE withdrawn = 0 AND e.number = (SELECT max(number) FROM edits WHERE
        message_id = e.message_id AND edited_id = e.edited_id AND rater = e.rater)"""
# `reply` is the first one; `order` has all of them with their places.
_RANKINGS = """SELECT r.number, r.id, 'ranking' AS kind, 'ranked' AS answer,
    asked.content AS prompt, m.content AS reply, '' AS other, '' AS reason,
    r.comment AS comment, rater, m.adapter_version AS version, NULL AS other_version,
    m.id AS message_id, '' AS other_id, asked.conversation_id AS conversation_id,
    r.created_at AS created_at,
    (SELECT json_group_array(json_array(value, adapter_version, content)) FROM
        (SELECT value, adapter_version, content FROM json_each(r.places)
         JOIN messages ON messages.id = key ORDER BY value, key)) AS "order", '' AS strength
    FROM rankings r JOIN messages asked ON asked.id = asked_id JOIN messages m ON m.id =
        (SELECT key FROM json_each(r.places) ORDER BY value, key LIMIT 1)
    WHERE places <> '{}' AND r.number = (SELECT max(number) FROM rankings
        WHERE asked_id = r.asked_id AND rater = r.rater)"""


def _thumb(one: ImportedFeedback, asked: str, replies: Sequence[str]) -> Row:
    words = {"reason": one.reason, "comment": one.comment}
    return {"message_id": replies[0], "value": one.answer, **words}


def _stars(one: ImportedFeedback, asked: str, replies: Sequence[str]) -> Row:
    return {"message_id": replies[0], "stars": one.answer}


def _comparison(one: ImportedFeedback, asked: str, replies: Sequence[str]) -> Row:
    row = {"message_a": replies[0], "message_b": replies[1], "outcome": one.answer}
    row |= {"strength": one.strength, "comment": one.comment}
    return {**row, "shown_first": "a", "again": 0}


def _ranking(one: ImportedFeedback, asked: str, replies: Sequence[str]) -> Row:
    assert isinstance(one.answer, tuple)
    places = json.dumps(dict(zip(replies, one.answer, strict=True)))
    return {"asked_id": asked, "places": places, "comment": one.comment}


def _correction(one: ImportedFeedback, asked: str, replies: Sequence[str]) -> Row:
    return {"message_id": replies[0], "edited_id": replies[1], "withdrawn": 0}


TABLES: dict[str, FeedbackTable] = {
    table.kind: table
    for table in (
        FeedbackTable(
            "thumb",
            "ratings",
            "message_id",
            "message_id",
            _THUMBS,
            _thumb,
            of_one_reply=True,
            brief=_BRIEF_THUMBS,
            replies=("message_id",),
            also=(_COMMENT,),
        ),
        FeedbackTable(
            "stars",
            "scores",
            "message_id",
            "message_id",
            _STARS,
            _stars,
            of_one_reply=True,
            brief=_BRIEF_STARS,
            replies=("message_id",),
        ),
        FeedbackTable(
            "comparison",
            "preferences",
            "pair_key || ' ' || again",
            "message_a",
            _COMPARISONS,
            _comparison,
            brief=_BRIEF_COMPARISONS,
            replies=("message_a", "message_b"),
            also=(_COMMENT,),
        ),
        FeedbackTable(
            "ranking",
            "rankings",
            "asked_id",
            "asked_id",
            _RANKINGS,
            _ranking,
            brief=_BRIEF_RANKINGS,
            also=(
                _has("asked_id"),
                f"EXISTS (SELECT 1 FROM json_each(places) WHERE {_has('key')})",
                _COMMENT,
            ),
        ),
        FeedbackTable(
            "correction",
            "edits",
            "edited_id",
            "message_id",
            _CORRECTIONS,
            _correction,
            of_one_reply=True,
            brief=_BRIEF_CORRECTIONS,
            replies=("message_id", "edited_id"),
        ),
    )
}


def everything() -> str:
    """SELECT of the answers of every kind that count now."""
    return " UNION ALL ".join(table.current for table in TABLES.values())
