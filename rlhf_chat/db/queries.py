"""The ledger: what was said as a person would tell it, whose words count, and how a simulated
person is taken out again.

A rater whose name starts with "simulated:" is a program that shows how learning works. What it said
is never mixed with what people said. Left out: adding ratings and votes (ratings.py).
"""

from sqlite_utils import Database

from rlhf_chat.db.codec import clean_text, fetch, select
from rlhf_chat.db.deletion import drop_orphans
from rlhf_chat.db.events import add_event
from rlhf_chat.db.schema import Feedback

SIMULATED = "simulated:"

# True for the rater ?1, and where ?1 is empty for every rater who is not simulated.
RATER_FILTER = "(CASE ?1 WHEN '' THEN rater NOT LIKE 'simulated:%' ELSE rater = ?1 END)"

_THUMBS = """SELECT r.number, r.id, 'thumb' AS kind, iif(value > 0, 'up', 'down') AS answer,
    asked.content AS prompt, m.content AS reply, '' AS other, reason, comment, rater,
    m.adapter_version AS version, NULL AS other_version, m.id AS message_id, '' AS other_id,
    m.conversation_id AS conversation_id, r.created_at AS created_at, '[]' AS "order",
    '' AS strength FROM ratings r JOIN messages m ON m.id = message_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE value <> 0 AND r.number = (SELECT max(number) FROM ratings
        WHERE message_id = r.message_id AND rater = r.rater)"""
_VOTES = """SELECT p.number, p.id, 'vote' AS kind, outcome AS answer,
    asked.content AS prompt, a.content AS reply, b.content AS other, '' AS reason,
    p.comment AS comment, rater, a.adapter_version AS version, b.adapter_version AS other_version,
    a.id AS message_id, b.id AS other_id, a.conversation_id AS conversation_id,
    p.created_at AS created_at, '[]' AS "order",
    strength
    FROM preferences p JOIN messages a ON a.id = message_a JOIN messages b ON b.id = message_b
    LEFT JOIN messages asked ON asked.id = a.parent_id
    WHERE outcome <> 'withdrawn' AND again = 0 AND p.number = (SELECT max(number) FROM preferences
        WHERE pair_key = p.pair_key AND rater = p.rater AND again = 0)"""

_ALONE = """'' AS reason, '' AS comment, rater, m.adapter_version AS version"""
_STARS = f"""SELECT s.number, s.id, 'stars' AS kind, CAST(stars AS TEXT) AS answer,
    asked.content AS prompt, m.content AS reply, '' AS other, {_ALONE}, NULL AS other_version,
    m.id AS message_id, '' AS other_id, m.conversation_id AS conversation_id,
    s.created_at AS created_at, '[]' AS "order",
    '' AS strength FROM scores s JOIN messages m ON m.id = message_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE stars > 0 AND s.number = (SELECT max(number) FROM scores
        WHERE message_id = s.message_id AND rater = s.rater)"""
_EDITS = f"""SELECT e.number, e.id, 'edit' AS kind, 'corrected' AS answer,
    asked.content AS prompt, m.content AS reply, mine.content AS other, {_ALONE},
    NULL AS other_version, m.id AS message_id, mine.id AS other_id,
    m.conversation_id AS conversation_id, e.created_at AS created_at,
    '[]' AS "order", '' AS strength
    FROM edits e JOIN messages m ON m.id = message_id JOIN messages mine ON mine.id = edited_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE withdrawn = 0 AND e.number = (SELECT max(number) FROM edits WHERE
        message_id = e.message_id AND edited_id = e.edited_id AND rater = e.rater)"""
# `reply` is the one put first; the others are told with their places.
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
_EVERYTHING = " UNION ALL ".join((_THUMBS, _VOTES, _STARS, _EDITS, _RANKINGS))


def like(words: str) -> str:
    """A pattern for LIKE ... ESCAPE that finds the words as they are."""
    words = clean_text(words)
    for sign in "\\%_":
        words = words.replace(sign, "\\" + sign)
    return f"%{words}%"


def current_feedback(
    db: Database, rater: str, containing: str, kind: str, answer: str
) -> list[Feedback]:
    rest = f"""FROM ({_EVERYTHING}) WHERE {RATER_FILTER}
        AND (?2 = '%%' OR prompt || ' ' || reply || ' ' || other || ' ' || comment
            || ' ' || "order" LIKE ?2 ESCAPE '\\')
        AND ?3 IN ('', kind) AND ?4 IN ('', answer) ORDER BY number DESC"""
    return select(db, Feedback, rest, [rater, like(containing), kind, answer])


def recent_prompts(db: Database, limit: int) -> list[str]:
    sql = """SELECT content FROM messages m JOIN conversations c ON c.id = conversation_id
        WHERE kind = 'chat' AND role = 'user' GROUP BY content ORDER BY max(number) DESC LIMIT ?"""
    return [row[0] for row in fetch(db, sql, [limit])]


def votes_between_versions(db: Database, rater: str) -> list[tuple[int, int, str]]:
    """One vote for each two drafts: they say the same once more, whoever else is shown them. It is
    the first of whoever voted first, since one changed after the names were shown is not blind any
    more; once that person takes it back, the drafts say nothing."""
    sql = f"""SELECT a.adapter_version, b.adapter_version, p.outcome
        FROM preferences p JOIN messages a ON a.id = message_a JOIN messages b ON b.id = message_b
        WHERE a.adapter_version <> b.adapter_version AND again = 0
        AND p.number = (SELECT min(number) FROM preferences
            WHERE pair_key = p.pair_key AND {RATER_FILTER} AND again = 0)
        AND 'withdrawn' <> (SELECT outcome FROM preferences
            WHERE pair_key = p.pair_key AND rater = p.rater AND again = 0
            ORDER BY number DESC LIMIT 1)
        AND p.outcome <> 'withdrawn' ORDER BY p.number"""
    return fetch(db, sql, [rater])


def erase_rater(db: Database, rater: str) -> None:
    """Votes, the drafts only this rater saw, its rounds and the versions made from them."""
    db.execute(
        """DELETE FROM conversations WHERE kind = 'compare' AND id IN
        (SELECT conversation_id FROM messages m JOIN preferences p ON message_a = m.id
         WHERE rater = ?1) AND id NOT IN
        (SELECT conversation_id FROM messages m JOIN preferences p ON message_a = m.id
         WHERE rater <> ?1)""",
        [rater],
    )
    for log in ("ratings", "scores", "preferences", "rankings", "edits"):
        db.execute(f"DELETE FROM {log} WHERE rater = ?", [rater])
    own = """(SELECT v.version FROM adapter_versions v JOIN rounds r ON r.id = v.round_id
        WHERE r.rater = ?1)"""
    # Whatever a person made from such a version keeps its weights and hangs on the base from now.
    db.execute(
        f"UPDATE adapter_versions SET parent = 0 WHERE parent IN {own} AND version NOT IN {own}",
        [rater],
    )
    db.execute(
        f"UPDATE conversations SET adapter_version = NULL WHERE adapter_version IN {own}", [rater]
    )
    db.execute(f"UPDATE live_versions SET version = 0 WHERE version IN {own}", [rater])
    gone = f"SELECT version FROM adapter_versions WHERE version IN {own}"
    for (version,) in fetch(db, gone, [rater]):  # their folders may outlive the rows for a while
        add_event(db, "version_deleted", str(version), {})
    # Children before parents: each step removes the leaves.
    leaves = f"""DELETE FROM adapter_versions WHERE version IN {own}
        AND version NOT IN (SELECT parent FROM adapter_versions WHERE parent IS NOT NULL)"""
    while db.execute(leaves, [rater]).rowcount:
        pass
    db.execute("DELETE FROM rounds WHERE rater = ?", [rater])
    drop_orphans(db)
