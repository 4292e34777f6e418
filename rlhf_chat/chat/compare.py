"""Comparisons: several answers to one prompt, shown side by side without their versions, and votes.

Two answers get a vote, three or four are ranked. Answers are stored when all of them are complete,
and only those can be rated. Now and then a pair is shown a second time with its sides swapped: a
different vote then is a slip. Where there are several raters, they sometimes get the same pair.
Which answers are shown is decided in draft_writer.py.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from rlhf_chat.chat.chat import Chat, GeneratedReply
from rlhf_chat.chat.draft_writer import AskedDrafts, DraftWriter
from rlhf_chat.chat.message_text import MAX_CHARACTERS, checked, checked_note
from rlhf_chat.db import Message, Preference
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.reward import active_sampling, prompt_sets

MOST_DRAFTS = 4
AGAIN = "again "  # prefix, with the rater, of the id of a pair that is shown a second time

OUTCOMES = ("a", "b", "tie", "both_bad", "both_good")  # of a vote on two drafts


@dataclass(frozen=True)
class Candidates:
    """Drafts as they are shown, from left to right. set_id is set once they are stored."""

    set_id: str | None
    prompt: str
    texts: tuple[str, ...]
    done: bool
    note: Notice | None = None

    @property
    def votable(self) -> bool:
        return self.done and self.set_id is not None


@dataclass(frozen=True)
class VoteResult:
    """What is known once a vote or ranking is stored: the version that wrote each draft, as shown,
    and, of a pair that this rater has seen before, whether the vote is the same."""

    versions: tuple[int, ...]
    same_as_before: bool | None = None


class Compare:
    def __init__(self, chat: Chat) -> None:
        self.chat, self.store, self.model = chat, chat.store, chat.model
        self.drafts = DraftWriter(chat)

    # ------------------------------------------------------------------ what to ask

    def suggest_prompt(self) -> str:
        return self.drafts.rng.choice(prompt_sets.suggestions(self.model.is_demo))

    def recent_prompts(self, limit: int = 50) -> list[str]:
        """What you asked in chats, newest first, short enough to compare drafts of."""
        return [p for p in self.store.messages.recent_prompts(limit) if len(p) <= MAX_CHARACTERS]

    def repeat_pair(self, rater: str = "me", share: float | None = None) -> Candidates | None:
        """Sometimes a pair that was voted on already. One of the rater's own is shown with
        its sides swapped: it measures consistency and replaces no vote. One of another rater's is
        voted on like any other and measures agreement."""
        every = self.store.feedback.preferences()
        shown = self.store.messages.drafts()  # not imported, nor replies of a chat
        clear = [p for p in every if p.outcome in ("a", "b")]
        votes = [p for p in clear if p.message_a in shown and p.message_b in shown]
        known = {_ids(p) for p in every if p.rater == rater}  # also those that came to a tie
        if self.drafts.rng.random() < (active_sampling.ANCHOR_SHARE if share is None else share):
            others = [p for p in votes if p.rater != rater and _ids(p) not in known]
            if others:
                return self._seen(self.drafts.rng.choice(others))
        if self.drafts.rng.random() < (active_sampling.REPEAT_SHARE if share is None else share):
            known = {_ids(p) for p in self.store.feedback.asked_again(rater)}
            mine = [p for p in votes if p.rater == rater][: -active_sampling.REPEAT_AFTER]
            old = [p for p in mine if _ids(p) not in known]
            if old:
                return self._seen(self.drafts.rng.choice(old), f"{AGAIN}{rater} ")
        return None

    def _seen(self, vote: Preference, before: str = "") -> Candidates:
        return self.shown(before + self.store.messages.get(vote.message_a).conversation_id)

    def forget_unanswered(self) -> int:
        """Deletes drafts without a vote for a day, such as those written ahead and never shown. For
        the start of the app; returns how many sets there were."""
        if self.store.read_only:
            return 0
        yesterday = datetime.now(UTC) - timedelta(days=1)
        return self.store.conversations.drop_unanswered(
            yesterday.isoformat(timespec="milliseconds")
        )

    # ------------------------------------------------------------------ drafts

    def write(
        self,
        prompt: str,
        count: int = 2,
        *,
        event_id: str | None = None,
        stop: threading.Event | None = None,
        versions: tuple[int, int] | None = None,
        hurry: threading.Event | None = None,
        simulated: bool = False,
    ) -> Iterator[Candidates]:
        """Streams drafts of one prompt side by side and stores them when all are whole.

        `versions` sets two against each other; otherwise they are drawn
        (active_sampling.py), for a `simulated` rater from what it trained. The same event again
        yields the stored drafts. Drafts to choose from are written unseen; once `hurry` is set the
        first of them are shown as they go on, and the set is whole when these are.
        """
        text = checked(prompt)
        if not 2 <= count <= MOST_DRAFTS:
            raise AppError("compare.draft_count", limit=MOST_DRAFTS)
        known = self.store.messages.of_event(event_id) if event_id else None
        if known and len(self.store.messages.children(known.id)) > 1:
            yield self.shown(known.conversation_id)
            return
        set_id = event_id if event_id and not known else uuid.uuid4().hex
        stop, hurry = stop or threading.Event(), hurry or threading.Event()
        live = (self.model.live if simulated else self.chat.people_live()).version
        asked = self.drafts.asked(text, count, live, versions, stop, hurry)
        latest = [Response([], False)] * count
        for latest, note in self.drafts.written(asked, chosen=versions is None):
            if asked.stop.is_set():
                break
            yield self._telling(set_id, text, latest, note)
        before = [draft.ids for draft in latest]
        kept = self.drafts.redrawn(asked, latest)
        if asked.stop.is_set():
            note = Notice("compare.stopped")
            yield self._telling(set_id, text, latest, note, done=True)
        elif len(kept) < 2:
            note = Notice("compare.all_equal")
            yield self._telling(set_id, text, latest, note, done=True)
        else:
            note = Notice("compare.redrawn") if before != [d.ids for d in latest] else None
            yield replace(self.shown(self._save(set_id, asked, latest, kept)), note=note)

    def sampling(self) -> Sampling:
        """What drafts are written with."""
        return self.drafts.sampling()

    def _telling(
        self,
        set_id: str,
        prompt: str,
        latest: Sequence[Response],
        note: Notice | None,
        done: bool = False,
    ) -> Candidates:
        order = active_sampling.order(set_id, len(latest))
        texts = tuple(
            self.model.decode(latest[i].ids, partial=not (done or latest[i].finished))
            for i in order
        )
        return Candidates(None, prompt, texts, done, note)

    def _save(
        self, set_id: str, asked: AskedDrafts, latest: list[Response], kept: Sequence[int]
    ) -> str:
        conversation = self.store.conversations.add("compare", title=set_id)
        question = self.store.messages.get(
            self.store.messages.add(conversation, "user", asked.prompt.text, event_id=set_id)
        )
        for i in kept:
            generated = GeneratedReply(
                asked.views[i],
                asked.sampling,
                asked.seeds[i],
                list(asked.prompt.ids),
                latest[i],
                self.model.decode(latest[i].ids),
                "stop" if latest[i].finished else "length",
            )
            self.chat.save_reply(question, generated, make_head=False)
        return conversation

    # ------------------------------------------------------------------ votes and rankings

    def shown(self, set_id: str) -> Candidates:
        """Stored drafts, as they were shown."""
        question, drafts = self._stored(set_id)
        return Candidates(set_id, question.content, tuple(d.content for d in drafts), True)

    def vote(
        self,
        set_id: str,
        outcome: str,
        *,
        strength: str = "",
        rater: str = "me",
        event_id: str | None = None,
    ) -> VoteResult:
        """A vote on two drafts; "a" is the left one, strength "slightly" or "much" where
        given. Returns after COMMIT, with what was hidden until now."""
        if outcome not in OUTCOMES:
            raise AppError("compare.vote_value", choices=", ".join(OUTCOMES))
        question, drafts = self._stored(set_id)
        if len(drafts) != 2:
            raise AppError("compare.not_a_pair")
        vote = self._add_vote(set_id, question, drafts, outcome, strength, rater, event_id)
        versions = tuple(d.adapter_version or 0 for d in drafts)
        if not _again(set_id, rater):
            return VoteResult(versions)
        first = {frozenset(_ids(p)): p.outcome for p in self.store.feedback.preferences(rater)}
        return VoteResult(versions, vote == first.get(frozenset(d.id for d in drafts)))

    def rank(
        self,
        set_id: str,
        places: Sequence[int],
        *,
        rater: str = "me",
        event_id: str | None = None,
    ) -> VoteResult:
        """The place of each draft as shown: 0 is best, equal places are tied. Returns after
        COMMIT."""
        question, drafts = self._stored(set_id)
        if len(places) != len(drafts):
            raise AppError("compare.place_count", count=len(drafts))
        by_id = {draft.id: place for draft, place in zip(drafts, places, strict=True)}
        self.store.feedback.add_ranking(question.id, by_id, rater=rater, event_id=event_id)
        return VoteResult(tuple(d.adapter_version or 0 for d in drafts))

    def comment(self, set_id: str, words: str, *, rater: str = "me") -> None:
        """Stores a note beside the vote or ranking of this rater. Returns after COMMIT."""
        words = checked_note(words)
        question, drafts = self._stored(set_id)
        if len(drafts) == 2:
            vote = self._vote(set_id, drafts, rater)
            found = [vote.id] if vote else []
        else:
            rankings = self.store.feedback.rankings(rater)
            found = [r.id for r in rankings if r.asked_id == question.id]
        for answer_id in found:
            self.store.feedback.set_comment(answer_id, words)
            return
        raise AppError("compare.vote_first")

    def withdraw(self, set_id: str, *, rater: str = "me", event_id: str | None = None) -> None:
        """Withdraws this rater's vote or ranking of these drafts."""
        question, drafts = self._stored(set_id)
        if len(drafts) == 2:
            self._add_vote(set_id, question, drafts, "withdrawn", "", rater, event_id)
            return
        self.store.feedback.add_ranking(question.id, {}, rater=rater, event_id=event_id)

    def _add_vote(
        self,
        set_id: str,
        question: Message,
        drafts: Sequence[Message],
        outcome: str,
        strength: str,
        rater: str,
        event_id: str | None,
    ) -> str:
        """Stores a vote on the left and right draft as one on a and b, the order in which they
        are stored; returns it."""
        stored = self.store.messages.children(question.id)
        a, b = sorted(drafts, key=lambda draft: stored.index(draft.id))
        a_left = a.id == drafts[0].id
        vote = active_sampling.from_side(outcome, a_left)
        before = self._vote(set_id, drafts, rater)
        self.store.feedback.add_preference(
            a.id,
            b.id,
            vote,
            shown_first="a" if a_left else "b",
            strength=strength,
            comment=before.comment if before and before.outcome == vote else "",
            again=_again(set_id, rater),
            rater=rater,
            event_id=event_id,
        )
        return vote

    def _vote(self, set_id: str, drafts: Sequence[Message], rater: str) -> Preference | None:
        """The current vote of this rater on these two, or the one on their repetition."""
        again = (
            self.store.feedback.asked_again
            if _again(set_id, rater)
            else self.store.feedback.preferences
        )
        votes = again(rater)
        pair = {draft.id for draft in drafts}
        return next((v for v in reversed(votes) if set(_ids(v)) == pair), None)

    def _stored(self, set_id: str) -> tuple[Message, list[Message]]:
        """The question and its drafts, in the order they are shown."""
        conversation = self.store.conversations.get(set_id.rpartition(" ")[2])
        question = self.store.messages.roots(conversation.id)[0]
        stored = [self.store.messages.get(i) for i in self.store.messages.children(question)]
        drafts = [one for one in stored if one.adapter_version is not None]  # no correction
        order = active_sampling.order(conversation.title, len(drafts))
        if set_id.startswith(AGAIN):
            order = order[::-1]
        return self.store.messages.get(question), [drafts[i] for i in order]


def _ids(vote: Preference) -> tuple[str, str]:
    return vote.message_a, vote.message_b


def _again(set_id: str, rater: str) -> bool:
    """Whether this rater sees these drafts a second time. A rater who is shown a pair that was
    repeated for another one has not seen it before, so the vote is an ordinary one."""
    return set_id.startswith(f"{AGAIN}{rater} ")
