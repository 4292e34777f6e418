"""Comparisons: several answers to one prompt, shown side by side without their versions, and votes.

Two answers get a vote, three or four are ranked. Answers are stored when all of them are complete,
and only those can be rated. Now and then a pair is shown a second time with its sides swapped: a
different vote then is a slip. Where there are several raters, they sometimes get the same pair.
Which answers are shown is decided in rlhf_chat.reward.active_sampling.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain

from rlhf_chat.chat.chat import Chat, GeneratedReply
from rlhf_chat.chat.message_text import MAX_CHARACTERS, checked
from rlhf_chat.db import Message, Preference, Store
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.model import ModelView
from rlhf_chat.reward import active_sampling, prompt_sets

MOST_DRAFTS = 4
REDRAWN = 4  # times a draft that came out like another is drawn anew
AGAIN = "again "  # prefix, with the rater, of the id of a pair that is shown a second time

OUTCOMES = ("a", "b", "tie", "both_bad", "both_good")  # of a vote on two drafts

Streamed = tuple[list[Response], Notice | None]  # drafts so far, and the notice about them


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


@dataclass(frozen=True)
class _Asked:
    """What is about to be drafted: one prompt for several views, each with its own seed."""

    prompt: Prompt
    views: list[ModelView]
    seeds: list[int]
    sampling: Sampling
    stop: threading.Event
    hurry: threading.Event  # set: somebody waits for these drafts, so none are chosen from more

    @property
    def one_version(self) -> bool:
        return all(view is self.views[0] for view in self.views)


# That the drafts of a prompt may take to write. Measuring eight of them, to choose between, takes a
# quarter of that again: 8 x .5 ms a token beside 16 ms a step, of a model of 135M on two cores.
DRAFT_SECONDS = 3.5
LEAST_TOKENS = 64  # of a draft, however slow the machine


class Compare:
    def __init__(self, chat: Chat) -> None:
        self.chat, self.store, self.model = chat, chat.store, chat.model
        self.active = True  # of several drafts, those are shown whose order is least sure
        self._rng = random.Random()

    # ------------------------------------------------------------------ what to ask

    def suggest_prompt(self) -> str:
        return self._rng.choice(prompt_sets.suggestions(self.model.is_demo))

    def recent_prompts(self, limit: int = 50) -> list[str]:
        """What you asked in chats, newest first, short enough to compare drafts of."""
        return [p for p in self.store.messages.recent_prompts(limit) if len(p) <= MAX_CHARACTERS]

    def repeat_pair(self, rater: str = "me", share: float | None = None) -> Candidates | None:
        """Sometimes a pair that was voted on already. One of the rater's own is shown with
        its sides swapped: it measures consistency and replaces no vote. One of another rater's is
        voted on like any other and measures agreement."""
        every = self.store.feedback.preferences()
        elsewhere = self.store.imports.origins()  # other models' replies, in longer conversations
        clear = [p for p in every if p.outcome in ("a", "b")]
        votes = [p for p in clear if p.message_a not in elsewhere]
        known = {_ids(p) for p in every if p.rater == rater}  # also those that came to a tie
        if self._rng.random() < (active_sampling.ANCHOR_SHARE if share is None else share):
            others = [p for p in votes if p.rater != rater and _ids(p) not in known]
            if others:
                return self._seen(self._rng.choice(others))
        if self._rng.random() < (active_sampling.REPEAT_SHARE if share is None else share):
            known = {_ids(p) for p in self.store.feedback.asked_again(rater)}
            mine = [p for p in votes if p.rater == rater][: -active_sampling.REPEAT_AFTER]
            old = [p for p in mine if _ids(p) not in known]
            if old:
                return self._seen(self._rng.choice(old), f"{AGAIN}{rater} ")
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
        asked = self._asked(text, count, live, versions, stop, hurry)
        latest = [Response([], False)] * count
        chooses = self._chooses(asked, versions)
        stream = self._chosen(asked) if chooses else self._streamed(asked)
        for latest, note in stream:
            if asked.stop.is_set():
                break
            yield self._telling(set_id, text, latest, note)
        before = [draft.ids for draft in latest]
        kept = self._redrawn(asked, latest)
        if asked.stop.is_set():
            note = Notice("compare.stopped")
            yield self._telling(set_id, text, latest, note, done=True)
        elif len(kept) < 2:
            note = Notice("compare.all_equal")
            yield self._telling(set_id, text, latest, note, done=True)
        else:
            note = Notice("compare.redrawn") if before != [d.ids for d in latest] else None
            yield replace(self.shown(self._save(set_id, asked, latest, kept)), note=note)

    def _asked(
        self,
        text: str,
        count: int,
        live: int,
        versions: tuple[int, int] | None,
        stop: threading.Event,
        hurry: threading.Event,
    ) -> _Asked:
        drawn: tuple[int, ...] = versions or active_sampling.choose(live, self._rng)
        if count > 2:
            drawn = (live,) * count
        views = [self.chat.view(version) for version in drawn]
        ids = self.model.encode([{"role": "user", "content": text}])
        sampling = self.sampling()
        limit = self.model.context_tokens - sampling.max_new_tokens
        if len(ids) > limit:
            raise AppError("compare.prompt_too_long", tokens=len(ids), limit=limit)
        seeds = [self._rng.getrandbits(31) for _ in drawn]
        asked = _Asked(Prompt(tuple(ids), text), views, seeds, sampling, stop, hurry)
        return replace(asked, seeds=seeds[:1] * len(seeds)) if asked.one_version else asked

    def _chooses(self, asked: _Asked, versions: tuple[int, int] | None) -> bool:
        """Whether more drafts are written than are shown, for the reward model to choose from."""
        scorer = self.chat.scorer
        if not (scorer and self.active and versions is None and asked.one_version):
            return False
        if asked.hurry.is_set() or self._drafts(asked) <= len(asked.views):
            return False  # somebody waits, or there is no memory for more than are shown
        if not scorer.ready and scorer.get() is None:
            return False
        return self._rng.random() >= active_sampling.RANDOM_SHARE

    def _drafts(self, asked: _Asked) -> int:
        """How many to choose from."""
        wanted, tokens = max(active_sampling.DRAFTS, len(asked.views) + 2), asked.sampling
        return self.model.max_parallel_drafts(wanted, asked.prompt.ids, tokens.max_new_tokens)

    def sampling(self) -> Sampling:
        """As new conversations are answered, but no longer than a reader waits for: several drafts
        are written before the first can be chosen."""
        wanted = self.chat.settings.default().sampling
        most = self.model.tokens_within(DRAFT_SECONDS)
        return wanted.limited(min(wanted.max_new_tokens, max(most, LEAST_TOKENS)))

    def _chosen(self, asked: _Asked) -> Iterator[Streamed]:
        """Writes more drafts than are shown, then picks those with the most uncertain order."""
        shown = len(asked.views)
        blank, drafts = [Response([], False)] * shown, []
        count = self._drafts(asked)
        writing = self._batch(asked, count)
        for drafts in writing:
            if asked.hurry.is_set():
                yield from self._hurried(asked, drafts, writing)
                return
            yield blank, Notice("compare.choosing", {"count": count, "shown": shown})
        distinct = [drafts[i] for i in _firsts(drafts) if drafts[i].ids]
        if asked.stop.is_set() or asked.hurry.is_set() or len(distinct) <= shown:
            yield [*distinct, *drafts][:shown], None
            return
        yield self._telling_most(asked, distinct), None

    def _telling_most(self, asked: _Asked, drafts: list[Response]) -> list[Response]:
        """Those whose order the reward model is least certain of. It is fitted to the newest
        feedback here and not before the drafts are written: who comes for them may not wait."""
        cache = self.chat.scorer
        scorer = cache.get() if cache else None
        if cache is None or scorer is None:
            return drafts[: len(asked.views)]
        replies = [Reply(asked.prompt, tuple(r.ids), self.model.decode(r.ids)) for r in drafts]
        x = scorer.capped(cache.features(scorer, replies))
        telling = active_sampling.max_variance(x, scorer.head.covariance, len(asked.views))
        return [drafts[i] for i in telling]

    def _hurried(
        self, asked: _Asked, drafts: list[Response], writing: Iterator[list[Response]]
    ) -> Iterator[Streamed]:
        """The first distinct drafts of a batch from here on, until these are whole. Which end
        first must not decide, or short ones would be preferred."""
        firsts = _firsts(drafts)
        others = [i for i in range(len(drafts)) if i not in firsts]
        places = sorted([*firsts, *others][: len(asked.views)])
        for latest in chain([drafts], writing):
            chosen = [latest[i] for i in places]
            yield chosen, None
            if all(d.finished or len(d.ids) >= asked.sampling.max_new_tokens for d in chosen):
                return

    def _streamed(self, asked: _Asked) -> Iterator[Streamed]:
        """All drafts at once: one batch where the version is the same, else in turns."""
        if asked.one_version:
            yield from ((drafts, None) for drafts in self._batch(asked, len(asked.views)))
            return
        latest = [Response([], False)] * len(asked.views)
        going = {i: self._one(asked, i) for i in range(len(latest))}
        try:
            while going:
                for i in list(going):
                    step = next(going[i], None)
                    if step is None:
                        del going[i]
                    else:
                        latest[i] = step[0]
                yield list(latest), None
        finally:
            for stream in going.values():
                stream.close()

    def _batch(self, asked: _Asked, count: int) -> Iterator[list[Response]]:
        rows = [asked.prompt.ids] * count
        for drafts in self.chat.generator.stream(
            asked.views[0], rows, asked.sampling, seed=asked.seeds[0]
        ):
            yield drafts
            if asked.stop.is_set():
                return

    def _one(self, asked: _Asked, i: int) -> Generator[list[Response]]:
        ids, sampling = asked.prompt.ids, asked.sampling
        return self.chat.generator.stream(asked.views[i], [ids], sampling, seed=asked.seeds[i])

    def _redrawn(self, asked: _Asked, latest: list[Response]) -> list[int]:
        """Draws drafts that came out like another anew, in place; the places worth showing."""
        for _ in range(REDRAWN):
            equal = [i for i in range(len(latest)) if i not in _firsts(latest)]
            for i in equal:
                asked.seeds[i] = self._rng.getrandbits(31)
                for (draft,) in self._one(asked, i):
                    if asked.stop.is_set():
                        return []
                    latest[i] = draft
        return _firsts(latest)

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

    def _save(self, set_id: str, asked: _Asked, latest: list[Response], kept: Sequence[int]) -> str:
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
        words = _checked_note(words)
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
        a, b = self.store.messages.children(question.id)
        a_left = a == drafts[0].id
        vote = active_sampling.from_side(outcome, a_left)
        before = self._vote(set_id, drafts, rater)
        self.store.feedback.add_preference(
            a,
            b,
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
        drafts = [self.store.messages.get(i) for i in self.store.messages.children(question)]
        order = active_sampling.order(conversation.title, len(drafts))
        if set_id.startswith(AGAIN):
            order = order[::-1]
        return self.store.messages.get(question), [drafts[i] for i in order]


def prefer(
    store: Store,
    better: str,
    worse: str,
    *,
    strength: str = "",
    note: str = "",
    rater: str = "me",
    event_id: str | None = None,
) -> str:
    """A vote on two replies to one message that were shown outside this app, by their ids. Which
    was seen first is not known: the one that was written first is taken for it. Returns the id of
    the vote, after COMMIT."""
    a, b = _by_age(store, [better, worse])
    return store.feedback.add_preference(
        a,
        b,
        "a" if a == better else "b",
        shown_first="a",
        strength=strength,
        comment=_checked_note(note),
        rater=rater,
        event_id=event_id,
    )


def order(
    store: Store,
    replies: Sequence[str],
    *,
    note: str = "",
    rater: str = "me",
    event_id: str | None = None,
) -> str:
    """A ranking of replies to one message, the best first, by their ids. Returns the id of the
    ranking, after COMMIT."""
    words = _checked_note(note)
    asked = store.messages.get(replies[0]).parent_id or ""
    places = {reply: place for place, reply in enumerate(replies)}
    made = store.feedback.add_ranking(asked, places, rater=rater, event_id=event_id)
    if words:
        store.feedback.set_comment(made, words)
    return made


def _by_age(store: Store, replies: Sequence[str]) -> list[str]:
    """The oldest first, where they answer the same message."""
    found = store.messages.siblings(replies[0])
    return sorted(replies, key=lambda id: found.index(id) if id in found else len(found))


def _checked_note(words: str) -> str:
    if len(words) > MAX_CHARACTERS:
        raise AppError("text.comment_too_long", limit=MAX_CHARACTERS)
    return words.strip()


def _ids(vote: Preference) -> tuple[str, str]:
    return vote.message_a, vote.message_b


def _again(set_id: str, rater: str) -> bool:
    """Whether this rater sees these drafts a second time. A rater who is shown a pair that was
    repeated for another one has not seen it before, so the vote is an ordinary one."""
    return set_id.startswith(f"{AGAIN}{rater} ")


def _firsts(drafts: Sequence[Response]) -> list[int]:
    """The places of drafts that are like none before them."""
    seen: dict[tuple[int, ...], int] = {}
    for i, draft in enumerate(drafts):
        seen.setdefault(tuple(draft.ids), i)
    return sorted(seen.values())
