"""Feedback: one append-only log for each kind (thumbs, stars, preferences, rankings, edits).

The logs share one counter, so one watermark covers them all. The newest row of one rater about one
reply, pair or prompt counts; withdrawing an answer is a row too.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlite_utils import Database

from rlhf_chat.db.codec import (
    clean_text,
    fetch,
    fresh_id,
    insert,
    message_row,
    next_number,
    one_value,
    timestamp,
)
from rlhf_chat.db.connection import DatabaseConnection, Repository
from rlhf_chat.db.deletion import Erased, finish_erasing_words
from rlhf_chat.db.feedback_tables import TABLES, FeedbackTable, everything
from rlhf_chat.db.messages import add_message, token_columns
from rlhf_chat.db.queries import (
    RATER_FILTER,
    SIMULATED,
    current_feedback,
    erase_rater,
    feedback_of,
    feedback_of_id,
    numbers_of_feedback,
    votes_between_versions,
)
from rlhf_chat.db.records import (
    MOST_RANKED,
    VOTES,
    Edit,
    Feedback,
    FeedbackPage,
    Message,
    Preference,
    Ranking,
    Rating,
    Score,
)
from rlhf_chat.db.settings import put_setting
from rlhf_chat.db.withdrawn_corrections import erase_replaced_corrections
from rlhf_chat.db.withdrawn_words import erase_replaced, note_erased
from rlhf_chat.errors import NotFound, StoreError

QUARANTINED = "SELECT value FROM settings WHERE key = 'quarantined_raters'"
OUTCOMES = (*VOTES, "withdrawn")


class FeedbackRepository(Repository):
    def __init__(self, connection: DatabaseConnection) -> None:
        super().__init__(connection)
        self._start = self.count()  # of `revision`

    # ---- thumbs and stars

    def add_rating(
        self,
        message_id: str,
        value: int,
        *,
        reason: str = "",
        comment: str = "",
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """One thumb: +1, -1, or 0 to withdraw it. The same event_id twice is stored once."""
        if value not in (-1, 0, 1):
            raise StoreError("db.invalid", what="rating", value=str(value))

        def check(db: Database) -> None:
            if message_row(db, message_id)[0] != "assistant":
                raise StoreError("db.only_replies_rated")

        row = {"message_id": message_id, "value": int(value), "reason": reason, "comment": comment}
        return self._append("ratings", event_id, check, {**row, "rater": rater})

    def ratings(self, rater: str = "") -> list[Rating]:
        """What counts now, oldest first; withdrawn ratings are left out.

        Here and below, rater "" means all people; simulated raters are always kept apart."""
        rest = f"FROM ratings AS r WHERE {_CURRENT_RATING} AND {RATER_FILTER} ORDER BY number"
        return self._db.rows(Rating, rest, [rater])

    def rating_of(self, message_ids: Iterable[str], rater: str = "") -> dict[str, Rating]:
        """The current rating of each of these messages that has one: by `rater`, or, if that is
        "", the newest of any person."""
        rest = f"""FROM ratings AS r WHERE {_CURRENT_RATING} AND {RATER_FILTER}
            AND message_id IN (SELECT value FROM json_each(?2)) ORDER BY number"""
        found = self._db.rows(Rating, rest, [rater, json.dumps(list(message_ids))])
        return {rating.message_id: rating for rating in found}

    def add_score(
        self, message_id: str, stars: int, *, rater: str = "me", event_id: str | None = None
    ) -> str:
        """1 to 5 stars for one reply, or 0 to withdraw them."""
        if stars not in range(6):
            raise StoreError("db.invalid", what="stars", value=str(stars))

        def check(db: Database) -> None:
            if message_row(db, message_id)[0] != "assistant":
                raise StoreError("db.only_replies_rated")

        row = {"message_id": message_id, "stars": int(stars), "rater": rater}
        return self._append("scores", event_id, check, row)

    def scores(self, rater: str = "") -> list[Score]:
        """What counts now, oldest first."""
        rest = f"""FROM scores AS s WHERE stars > 0 AND {RATER_FILTER} AND number =
            (SELECT max(number) FROM scores
             WHERE message_id = s.message_id AND rater = s.rater) ORDER BY number"""
        return self._db.rows(Score, rest, [rater])

    def stars_of(self, message_id: str, rater: str) -> int:
        """The stars this rater gives this reply now; 0 if none."""
        sql = """SELECT stars FROM scores WHERE message_id = ? AND rater = ?
            ORDER BY number DESC LIMIT 1"""
        return self._db.value(sql, [message_id, rater]) or 0

    # ---- comparisons

    def add_preference(
        self,
        message_a: str,
        message_b: str,
        outcome: str,
        *,
        shown_first: str,
        strength: str = "",
        comment: str = "",
        again: bool = False,
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """One vote between two replies to the same message; the newest vote on a pair counts.

        strength: "slightly" or "much" where it was given. `again`: the pair was shown a
        second time to measure the consistency of the rater; it does not replace the vote.
        """
        if outcome not in OUTCOMES:
            raise StoreError("db.invalid", what="outcome", value=str(outcome))
        if shown_first not in ("a", "b"):
            raise StoreError("db.invalid", what="shown_first", value=str(shown_first))
        if strength not in ("", "slightly", "much") or (strength and outcome not in ("a", "b")):
            raise StoreError("db.invalid", what="strength", value=strength)
        row = {"message_a": message_a, "message_b": message_b, "outcome": outcome}
        row |= {"shown_first": shown_first, "strength": strength, "comment": comment}
        row |= {"rater": rater}
        return self._append(
            "preferences",
            event_id,
            lambda db: _check_pair(db, message_a, message_b),
            {**row, "again": int(again)},
        )

    def preferences(self, rater: str = "") -> list[Preference]:
        """What counts now, oldest first; withdrawn votes are left out."""
        rest = f"""FROM preferences AS p WHERE outcome <> 'withdrawn'
            AND again = 0 AND {RATER_FILTER}
            AND number = (SELECT max(number) FROM preferences
             WHERE pair_key = p.pair_key AND rater = p.rater AND again = 0) ORDER BY number"""
        return self._db.rows(Preference, rest, [rater])

    def preference(self, id: str) -> Preference | None:
        """One vote, whether it counts now or not."""
        found = self._db.rows(Preference, "FROM preferences WHERE id = ?", [id])
        return found[0] if found else None

    def asked_again(self, rater: str = "") -> list[Preference]:
        """Second answers to pairs that were shown again with their sides swapped, oldest first."""
        rest = f"""FROM preferences AS p WHERE outcome <> 'withdrawn'
            AND again = 1 AND {RATER_FILTER}
            AND number = (SELECT max(number) FROM preferences
             WHERE pair_key = p.pair_key AND rater = p.rater AND again = 1) ORDER BY number"""
        return self._db.rows(Preference, rest, [rater])

    def add_ranking(
        self,
        asked_id: str,
        places: Mapping[str, int],
        *,
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """Replies to one message in order: message id -> place, 0 is best, equal places are tied.
        No places at all withdraws the ranking."""
        if places and not 2 <= len(places) <= MOST_RANKED:
            raise StoreError("db.ranking_size", limit=MOST_RANKED, count=len(places))
        if any(not isinstance(p, int) or not 0 <= p < MOST_RANKED for p in places.values()):
            raise StoreError("db.invalid", what="place", value=str(list(places.values())))

        def check(db: Database) -> None:
            message_row(db, asked_id)
            for message_id in places:
                role, parent, _ = message_row(db, message_id)
                if role != "assistant" or parent != asked_id:
                    raise StoreError("db.ranking_prompts")

        row = {"asked_id": asked_id, "places": json.dumps(dict(places)), "rater": rater}
        return self._append("rankings", event_id, check, row)

    def rankings(self, rater: str = "") -> list[Ranking]:
        """What counts now, oldest first."""
        rest = f"""FROM rankings AS r WHERE places <> '{{}}' AND {RATER_FILTER} AND number =
            (SELECT max(number) FROM rankings
             WHERE asked_id = r.asked_id AND rater = r.rater) ORDER BY number"""
        return self._db.rows(Ranking, rest, [rater])

    def ranking(self, id: str) -> Ranking | None:
        """One ranking, whether it counts now or not."""
        found = self._db.rows(Ranking, "FROM rankings WHERE id = ?", [id])
        return found[0] if found else None

    def set_comment(self, answer_id: str, comment: str) -> None:
        """Set the comment of a vote or a ranking. It is written into the row: a comment is no new
        answer and does not count towards the next round."""
        words = clean_text(comment)

        def change(db: Database) -> None:
            if replaced:
                note_erased(db, [answer_id])
            for table in ("preferences", "rankings"):
                db.execute(f"UPDATE {table} SET comment = ? WHERE id = ?", [words, answer_id])

        before = self.preference(answer_id) or self.ranking(answer_id)
        replaced = before is not None and before.comment not in ("", words)
        self._db.write(change)
        if replaced:
            finish_erasing_words(self._db, Erased(answers=[answer_id]))

    def add_edit(
        self,
        message_id: str,
        edited_id: str,
        *,
        withdrawn: bool = False,
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """A reply and its correction (a sibling message); or that this was withdrawn. The words of
        a correction that is withdrawn, or replaced by another one of the same rater, are erased."""
        row = {"message_id": message_id, "edited_id": edited_id, "withdrawn": int(withdrawn)}
        return self._append(
            "edits",
            event_id,
            lambda db: _check_pair(db, message_id, edited_id),
            {**row, "rater": rater},
        )

    def add_correction(
        self,
        original: Message,
        text: str,
        response_ids: Sequence[int],
        *,
        rater: str = "me",
        event_id: str | None = None,
    ) -> str:
        """A corrected reply as a message beside it, which its chat shows from now on, and the edit
        that says so: both or nothing. Returns the id of the message."""
        row = {
            "id": fresh_id(),
            "conversation_id": original.conversation_id,
            "parent_id": original.parent_id,
            "role": "assistant",
            "content": text,
            **token_columns(original.prompt_ids, response_ids),
            "finish_reason": "stop",
            "event_id": event_id,
            "created_at": timestamp(),
        }
        edit = {"message_id": original.id, "edited_id": row["id"], "withdrawn": 0, "rater": rater}

        def store(db: Database) -> None:
            edit["edited_id"] = add_message(db, row, make_head=True)
            _check_pair(db, original.id, edit["edited_id"])

        id = self._append("edits", event_id, store, edit)
        edited: str = self._db.value("SELECT edited_id FROM edits WHERE id = ?", [id])
        return edited

    def edit_to(self, edited_id: str) -> Edit:
        """The correction that made this message, whether it counts now or not. Raises NotFound."""
        rest = "FROM edits WHERE edited_id = ? AND withdrawn = 0 ORDER BY number"
        found = self._db.rows(Edit, rest, [edited_id])
        if not found:
            raise NotFound("db.answer_gone")
        return found[0]

    def edits(self, rater: str = "") -> list[Edit]:
        """What counts now, oldest first."""
        rest = f"""FROM edits AS e WHERE withdrawn = 0 AND {RATER_FILTER} AND number =
            (SELECT max(number) FROM edits WHERE message_id = e.message_id
             AND edited_id = e.edited_id AND rater = e.rater) ORDER BY number"""
        return self._db.rows(Edit, rest, [rater])

    # ---- all of them

    def add(self, kind: str, row: Mapping[str, Any], *, event_id: str | None = None) -> str:
        """An answer of any kind, as the columns of its table. Only the table's own constraints are
        checked."""
        return self._append(TABLES[kind].name, event_id, lambda db: None, dict(row))

    def votes_between_versions(self, rater: str = "") -> list[tuple[int, int, str]]:
        """(version of a, version of b, outcome) for each two drafts by different versions, oldest
        first: only the first vote on each pair, given before the versions were shown. Votes of
        several people on the same drafts are not independent."""
        with self._db.read() as db:
            return votes_between_versions(db, rater)

    def all(
        self, rater: str = "", *, containing: str = "", kind: str = "", answer: str = ""
    ) -> list[Feedback]:
        """Every rating and vote that counts now, newest first, with the texts it is about."""
        with self._db.read() as db:
            return current_feedback(db, rater, containing, kind, answer)

    def get(self, id: str) -> Feedback:
        """One answer of a person that counts now. Raises NotFound."""
        with self._db.read() as db:
            found = feedback_of_id(db, id)
        if found is None:
            raise NotFound("db.answer_gone")
        return found

    def page(
        self,
        rater: str = "",
        *,
        containing: str = "",
        kind: str = "",
        answer: str = "",
        limit: int = 50,
        before: int | None = None,
    ) -> FeedbackPage:
        """A part of `all`: the newest ones, or those that follow another page."""
        with self._db.read() as db:
            numbers = numbers_of_feedback(db, rater, containing, kind, answer)
            left = numbers if before is None else [n for n in numbers if n < before]
            rows = feedback_of(db, left[:limit])
            return FeedbackPage(rows, len(numbers), left[limit - 1] if len(left) > limit else None)

    def tally(self, rater: str = "") -> dict[str, int]:
        """How often each answer was given, of those that count now."""
        listed = " UNION ALL ".join(table.listed for table in TABLES.values())
        sql = f"SELECT answer, count(*) FROM ({listed}) WHERE {RATER_FILTER} GROUP BY answer"
        with self._db.read() as db:
            return dict(fetch(db, sql, [rater]))

    def kinds_until(self, watermark: int, rater: str = "") -> dict[str, int]:
        """kind -> how many answers up to the watermark count now; without quarantined raters."""
        listed = " UNION ALL ".join(table.listed for table in TABLES.values())
        sql = f"""SELECT kind, count(*) FROM ({listed}) WHERE {RATER_FILTER} AND number <= ?2
            AND rater NOT IN (SELECT value FROM json_each(?3)) GROUP BY kind ORDER BY kind"""
        aside = json.dumps(sorted(self.quarantined()))
        with self._db.read() as db:
            return dict(fetch(db, sql, [rater, watermark, aside]))

    def without_texts(self, rater: str = "") -> list[Feedback]:
        """As `all`, with empty texts: much faster where there are many."""
        blank = {"prompt", "reply", "other", "reason", "comment"}
        names = [f"'' AS {n.name}" if n.name in blank else f'"{n.name}"' for n in fields(Feedback)]
        names[[n.name for n in fields(Feedback)].index("order")] = "'[]' AS \"order\""
        inner = f"SELECT number, {', '.join(names)} FROM ({everything()}) WHERE {RATER_FILTER}"
        return self._db.rows(Feedback, f"FROM ({inner}) ORDER BY number DESC", [rater])

    def erase_rater(self, rater: str) -> None:
        """Delete a simulated rater: its feedback, drafts, rounds and the rows of their versions."""
        if not rater.startswith(SIMULATED):
            raise StoreError("db.invalid", what="simulated rater", value=rater)
        self._db.write_feedback(lambda db: erase_rater(db, rater))

    def quarantined(self) -> set[str]:
        """Raters whose feedback is kept and does not count."""
        return set(json.loads(self._db.value(QUARANTINED) or "[]"))

    def set_quarantined(self, raters: Iterable[str]) -> None:
        names = sorted(raters)
        self._db.write_feedback(lambda db: put_setting(db, "quarantined_raters", names))

    @property
    def revision(self) -> int:
        """A number that rises whenever other feedback may count, deletions and quarantine included.

        A cache compares it before it reads anything: while it is the same, so is everything here.
        It starts at `count()` and is kept in memory, since only this process writes to the file; a
        read-only file, which another process may write, is asked.
        """
        if self._db.read_only:
            return self.count()
        return self._start + self._db.feedback_writes

    def count(self) -> int:
        """The number of the newest answer; it never goes back."""
        result: int = self._db.value("SELECT value FROM counters WHERE name = 'feedback'")
        return result

    def count_since(self, watermark: int, rater: str = "") -> int:
        """How many subjects have answers after the watermark, withdrawals included. One reply or
        one set of drafts is one subject, however often its answer was changed. Answers of an import
        count from when it was accepted."""
        new = " UNION ".join(_since(table) for table in TABLES.values())
        result: int = self._db.value(f"SELECT count(*) FROM ({new})", [rater, watermark])
        return result

    def _append(
        self,
        log: str,
        event_id: str | None,
        check: Callable[[Database], None],
        row: dict[str, Any],
    ) -> str:
        """One event at the end of a log. A retried event_id gives the id that is there already.
        `check` may refuse it, and complete the row, in the same transaction."""
        own = {"id": fresh_id(), "event_id": event_id or fresh_id(), "created_at": timestamp()}
        table = next(one for one in TABLES.values() if one.name == log)
        erased = Erased()

        def change(db: Database) -> str:
            nonlocal erased
            erased = Erased()
            sql = f"SELECT id FROM {log} WHERE event_id = ?"
            stored: str | None = one_value(db, sql, [own["event_id"]])
            if stored is not None:
                return stored
            check(db)
            number = next_number(db, "feedback")
            insert(db, log, number=number, **own, **row)
            if table.name == "edits":
                erased = Erased(corrections=erase_replaced_corrections(db, number))
            else:
                erased = Erased(answers=erase_replaced(db, table, number))
            return own["id"]

        id = self._db.write_feedback(change)
        if any(erased):
            finish_erasing_words(self._db, erased)
        return id


# Messages of imports that are not learned from, and of those that are since the watermark ?2.
_OF_IMPORTS = """SELECT m.id FROM imports i JOIN conversations c ON origin = i.id AND origin <> ''
    JOIN messages m ON m.conversation_id = c.id WHERE counts_from"""
_CURRENT_RATING = """value <> 0 AND number = (SELECT max(number) FROM ratings
    WHERE message_id = r.message_id AND rater = r.rater)"""


def _since(table: FeedbackTable) -> str:
    """SELECT of the rater and the subject of each answer that counts since the watermark ?2."""
    these = f"SELECT rater, {table.subject} FROM {table.name} WHERE {RATER_FILTER}"
    return f"""{these} AND number > ?2 AND {table.message} NOT IN ({_OF_IMPORTS} IS NULL)
        UNION {these} AND {table.message} IN ({_OF_IMPORTS} > ?2)"""


def _check_pair(db: Database, message_a: str, message_b: str) -> None:
    a, b = message_row(db, message_a), message_row(db, message_b)
    if message_a == message_b:
        raise StoreError("db.same_reply")
    if a[0] != "assistant" or b[0] != "assistant" or a[1] is None or a[1] != b[1]:
        raise StoreError("db.not_comparable")
