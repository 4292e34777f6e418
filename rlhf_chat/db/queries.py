"""Queries over all kinds of feedback: listing, search, and removing a simulated rater.

A rater whose name starts with "simulated:" is a program that shows how learning works. Its feedback
is never mixed with that of people.
"""

from collections.abc import Sequence

from sqlite_utils import Database

from rlhf_chat.db.codec import clean_text, fetch, one_value, select
from rlhf_chat.db.events import add_event
from rlhf_chat.db.feature_cache import drop_orphans
from rlhf_chat.db.feedback_tables import TABLES, everything
from rlhf_chat.db.records import Feedback

SIMULATED = "simulated:"

# True for the rater ?1, and where ?1 is empty for every rater who is not simulated.
RATER_FILTER = "(CASE ?1 WHEN '' THEN rater NOT LIKE 'simulated:%' ELSE rater = ?1 END)"


def like(words: str) -> str:
    """A pattern for LIKE ... ESCAPE that finds the text literally."""
    words = clean_text(words)
    for sign in "\\%_":
        words = words.replace(sign, "\\" + sign)
    return f"%{words}%"


INDEXED = 3  # characters: of shorter words the index knows nothing
FEW = 10_000  # messages with a text, from which their answers are found by indexes
AT_ONCE = 500  # answers that are read with their texts by one query


def contains(words: str, place: int) -> tuple[str, str]:
    """Condition on a row of `messages` that it contains the text, in any case of letters, and the
    value of its parameter `place`."""
    if len(words) < INDEXED:
        return f"content LIKE ?{place} ESCAPE '\\'", like(words)
    phrase = '"' + clean_text(words).replace('"', '""').replace("\0", " ") + '"'
    found = f"SELECT rowid FROM message_texts WHERE message_texts MATCH ?{place}"
    return f"number IN ({found})", phrase


def numbers_of_feedback(
    db: Database, rater: str, containing: str, kind: str, answer: str
) -> list[int]:
    """Of the answers that count now, newest first, without reading their texts."""
    listed = " UNION ALL ".join(table.listed for table in TABLES.values())
    sql = f"""SELECT number FROM ({listed}) WHERE {RATER_FILTER}
        AND ?2 IN ('', kind) AND ?3 IN ('', answer) ORDER BY number DESC"""
    numbers = [row[0] for row in fetch(db, sql, [rater, kind, answer])]
    if not containing:
        return numbers
    where, value = contains(containing, 2)
    found = f"SELECT number FROM messages WHERE {where}"
    counted = f"SELECT count(*) FROM ({found} LIMIT {FEW + 1})"
    few = len(containing) >= INDEXED and one_value(db, counted, [None, value]) <= FEW
    searched = " UNION ALL ".join(table.searched(few) for table in TABLES.values())
    sql = f"""WITH found (number) AS MATERIALIZED ({found}),
        these (id) AS MATERIALIZED (SELECT id FROM messages WHERE number IN found),
        hit (id) AS MATERIALIZED (SELECT id FROM these UNION
            SELECT m.id FROM these JOIN messages m ON m.parent_id = these.id) {searched}"""
    matching = {row[0] for row in fetch(db, sql, [like(containing), value])}
    return [number for number in numbers if number in matching]


def feedback_of(db: Database, numbers: Sequence[int]) -> list[Feedback]:
    """Those answers with their texts, newest first."""
    found: list[Feedback] = []
    for first in range(0, len(numbers), AT_ONCE):
        named = ", ".join(str(int(n)) for n in numbers[first : first + AT_ONCE])
        rest = f"FROM ({everything()}) WHERE number IN ({named}) ORDER BY number DESC"
        found += select(db, Feedback, rest)
    return found


def current_feedback(
    db: Database, rater: str, containing: str, kind: str, answer: str
) -> list[Feedback]:
    if containing:
        return feedback_of(db, numbers_of_feedback(db, rater, containing, kind, answer))
    rest = f"""FROM ({everything()}) WHERE {RATER_FILTER}
        AND ?2 IN ('', kind) AND ?3 IN ('', answer) ORDER BY number DESC"""
    return select(db, Feedback, rest, [rater, kind, answer])


def feedback_of_id(db: Database, id: str) -> Feedback | None:
    """One answer of a person, if it counts now."""
    found = select(
        db, Feedback, f"FROM ({everything()}) WHERE id = ?2 AND {RATER_FILTER}", ["", id]
    )
    return found[0] if found else None


def recent_prompts(db: Database, limit: int) -> list[str]:
    sql = """SELECT content FROM messages m JOIN conversations c ON c.id = conversation_id
        WHERE kind = 'chat' AND role = 'user' GROUP BY content ORDER BY max(number) DESC LIMIT ?"""
    return [row[0] for row in fetch(db, sql, [limit])]


def votes_between_versions(db: Database, rater: str) -> list[tuple[int, int, str]]:
    """One vote for each two drafts, since votes of several raters on them are not independent: the
    first vote of the first rater, since one changed after the versions were shown is not blind.
    Once that rater withdraws it, the drafts do not count."""
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
    for table in TABLES.values():
        db.execute(f"DELETE FROM {table.name} WHERE rater = ?", [rater])
    own = """(SELECT v.version FROM adapter_versions v JOIN rounds r ON r.id = v.round_id
        WHERE r.rater = ?1)"""
    # Versions of people made from such a version keep their weights and get the base as parent.
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
