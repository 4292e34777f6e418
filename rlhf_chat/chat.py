"""One turn and one rating, with no widget in sight: everything the screens can ask for.

Words and ratings go to the store, replies come from the live view. Each stored reply keeps its
exact token ids, the adapter version that wrote it and the sampling settings: training uses those,
never re-tokenised text. Left out: learning (trainer.py), drawing (web/).
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rlhf_chat import pairs, prompts, store
from rlhf_chat.decode import Response, Sampling
from rlhf_chat.evidence import Floats, Prompt, Reply, reply_of
from rlhf_chat.model import Model, ModelError, View
from rlhf_chat.store import Conversation, Feedback, Message, Store
from rlhf_chat.taste import CurrentTaste, Piece, Taste

MAX_CHARACTERS = 8000
REASONS = {
    1: ("Helpful", "Right tone", "Right length", "Well said"),
    -1: ("Wrong", "Off topic", "Too long", "Too short", "Bad tone"),
}
TOLD = {
    "a": "A is better",
    "b": "B is better",
    "tie": "Tie",
    "both_bad": "Both bad",
    "both_good": "Both good",
}
OUTCOMES = tuple(TOLD)
MOST_DRAFTS = 4
VIEWS_KEPT = 3  # versions loaded beside the live one; each is the size of an adapter


class ChatError(Exception):
    """Something the person should know, in one sentence."""


@dataclass(frozen=True)
class Turn:
    """One message as it is shown."""

    message_id: str
    role: str
    content: str
    adapter_version: int | None
    rating: int
    reason: str
    comment: str
    sibling: int  # 1-based place among its alternatives
    siblings: int
    finish_reason: str
    sibling_ids: tuple[str, ...]


@dataclass(frozen=True)
class Partial:
    """A reply on its way. message_id is set once it is stored."""

    message_id: str | None
    text: str
    done: bool
    adapter_version: int | None
    finish_reason: str
    note: str
    tokens_per_second: float


@dataclass(frozen=True)
class Pair:
    """Two drafts of one prompt. pair_id is set once both are stored; votable if they differ."""

    pair_id: str | None
    left: str
    right: str
    done: bool
    votable: bool
    note: str


@dataclass(frozen=True)
class Drafts:
    """Several drafts of one prompt. set_id and message_ids are set once they are stored."""

    set_id: str | None
    message_ids: tuple[str, ...]
    texts: tuple[str, ...]
    done: bool
    note: str


@dataclass(frozen=True)
class Manner:
    """How a conversation is answered: first words to the model, sampling, and by which version
    (None: whoever is live)."""

    system_prompt: str
    sampling: Sampling
    version: int | None = None


@dataclass(frozen=True)
class Revealed:
    left_version: int
    right_version: int
    sentence: str


class Chat:
    def __init__(
        self,
        store: Store,
        model: Model,
        sampling: Sampling | None = None,
        load_view: Callable[[int], View] | None = None,
        taste: CurrentTaste | None = None,
    ) -> None:
        self.store = store
        self.model = model
        longest = 96 if model.is_demo else min(512, model.context_tokens // 2)
        self.sampling = sampling or Sampling(max_new_tokens=longest)
        self._load_view = load_view
        self.taste = taste  # None, or not warm yet: drafts are shown as they come
        self.active = True  # Compare asks about the two drafts that teach most
        self.best_of = 1  # drafts of each reply; the one the taste likes best is shown
        self._views: OrderedDict[int, View] = OrderedDict()  # loaded beside the live one
        self._rng = random.Random()

    # ------------------------------------------------------------------ conversations

    def conversations(self, containing: str = "") -> list[Conversation]:
        return self.store.conversations(containing=containing.strip())

    def new_conversation(self) -> str:
        """An empty one, with the manner that new conversations begin with."""
        manner = self.default_manner()
        with _sentences():
            made = self.store.add_conversation(system_prompt=manner.system_prompt)
            if manner != self._plain_manner():
                self._store_manner(made, manner)
        return made

    def is_new(self) -> bool:
        """Nobody has talked, rated, or put the welcome away."""
        counts = self.store.counts()
        return not (counts["messages"] or self.store.setting("welcomed", False))

    def put_welcome_away(self) -> None:
        with _sentences():
            self.store.set_setting("welcomed", True)

    # ------------------------------------------------------------------ manner

    @property
    def longest_reply(self) -> int:
        """The most tokens a reply may be given: half of what the model can read."""
        return max(16, min(4096, self.model.context_tokens // 2))

    def manner(self, conversation_id: str = "") -> Manner:
        """How this conversation is answered; with no id, how new ones will be."""
        if not conversation_id:
            return self.default_manner()
        with _sentences():
            found = self.store.conversation(conversation_id)
        sampling = Sampling(**found.sampling) if found.sampling else self.sampling
        return Manner(found.system_prompt, sampling, found.adapter_version)

    def set_manner(self, conversation_id: str, manner: Manner) -> None:
        """From the next reply on; with no id, for conversations not yet begun."""
        manner = self._checked_manner(manner)
        with _sentences():
            if conversation_id:
                self._store_manner(conversation_id, manner)
            else:
                value = {
                    "system_prompt": manner.system_prompt,
                    "sampling": manner.sampling.as_dict(),
                }
                self.store.set_setting("manner", value)

    def default_manner(self) -> Manner:
        stored = self.store.setting("manner")
        if not stored:
            return self._plain_manner()
        return Manner(stored["system_prompt"], Sampling(**stored["sampling"]))

    def _plain_manner(self) -> Manner:
        return Manner("", self.sampling)

    def _store_manner(self, conversation_id: str, manner: Manner) -> None:
        self.store.set_manner(
            conversation_id, manner.system_prompt, manner.sampling.as_dict(), manner.version
        )

    def _checked_manner(self, manner: Manner) -> Manner:
        drawn = manner.sampling
        if len(manner.system_prompt) > MAX_CHARACTERS:
            raise ChatError(f"A system prompt can have {MAX_CHARACTERS} characters.")
        if not (0 <= drawn.temperature <= 2 and 0 < drawn.top_p <= 1 and drawn.top_k >= 0):
            raise ChatError("Temperature is 0 to 2, top-p above 0 and up to 1, top-k 0 or more.")
        if not 1 <= drawn.max_new_tokens <= self.longest_reply:
            raise ChatError(f"A reply can have 1 to {self.longest_reply} tokens.")
        if manner.version is not None:
            self.view(manner.version)  # refuses a version that cannot be loaded
        return replace(manner, system_prompt=manner.system_prompt.strip())

    def rename(self, conversation_id: str, title: str) -> None:
        title = " ".join(title.split())[:120]
        if not title:
            raise ChatError("A conversation needs a name.")
        with _sentences():
            self.store.rename_conversation(conversation_id, title)

    def delete(self, conversation_id: str) -> None:
        with _sentences():
            self.store.delete_conversation(conversation_id)

    def history(self, conversation_id: str) -> list[Turn]:
        """The active branch, root to leaf."""
        with _sentences():
            head = self.store.conversation(conversation_id).head_id
            path = self.store.path_to(head) if head else []
            rated = self.store.rating_of([m.id for m in path])
            return [self._turn(m, rated.get(m.id)) for m in path]

    def select(self, message_id: str) -> None:
        """Shows the branch of this message: down to its newest leaf."""
        with _sentences():
            message = self.store.message(message_id)
            self.store.set_head(message.conversation_id, self._newest_leaf(message_id))

    def _newest_leaf(self, message_id: str) -> str:
        while children := self.store.children(message_id):
            message_id = children[-1]
        return message_id

    def _turn(self, message: Message, rating: store.Rating | None) -> Turn:
        siblings = self.store.siblings(message.id)
        return Turn(
            message_id=message.id,
            role=message.role,
            content=message.content,
            adapter_version=message.adapter_version,
            rating=rating.value if rating else 0,
            reason=rating.reason if rating else "",
            comment=rating.comment if rating else "",
            sibling=siblings.index(message.id) + 1,
            siblings=len(siblings),
            finish_reason=message.finish_reason or "",
            sibling_ids=tuple(siblings),
        )

    # ------------------------------------------------------------------ replies

    def reply(
        self,
        conversation_id: str,
        text: str,
        *,
        event_id: str | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[Partial]:
        """Stores what was typed, then streams and stores the reply. A stopped reply keeps its text.

        Sending the same event again stores nothing twice: it is answered with the stored reply.
        """
        text = _checked(text)
        with _sentences():
            head = self.store.conversation(conversation_id).head_id
            asked = self.store.add_message(
                conversation_id, "user", text, parent_id=head, event_id=event_id
            )
            message = self.store.message(asked)
            answers = self.store.children(asked)
        if answers:
            yield self._told(self.store.message(answers[-1]))
            return
        yield from self._answer(message, stop)

    @staticmethod
    def _told(reply: Message) -> Partial:
        """A stored reply, as its stream ended."""
        cut = reply.finish_reason or ""
        return Partial(reply.id, reply.content, True, reply.adapter_version, cut, "", 0.0)

    def regenerate(
        self, message_id: str, *, stop: threading.Event | None = None
    ) -> Iterator[Partial]:
        """Another reply to the same message; the earlier one stays as a sibling."""
        with _sentences():
            message = self.store.message(message_id)
            if message.role == "assistant" and message.parent_id:
                message = self.store.message(message.parent_id)
        yield from self._answer(message, stop)

    def edit(
        self, message_id: str, text: str, *, stop: threading.Event | None = None
    ) -> Iterator[Partial]:
        """Says it differently: a new branch beside the old message, with its own reply."""
        text = _checked(text)
        with _sentences():
            old = self.store.message(message_id)
            if old.role != "user":
                raise ChatError("Only your own messages can be edited here.")
            asked = self.store.add_message(
                old.conversation_id, "user", text, parent_id=old.parent_id
            )
            message = self.store.message(asked)
        yield from self._answer(message, stop)

    def _answer(self, asked: Message, stop: threading.Event | None) -> Iterator[Partial]:
        stop = stop or threading.Event()
        manner = self.manner(asked.conversation_id)
        view = self.model.live if manner.version is None else self.view(manner.version)
        with _sentences():
            prompt_ids, left_out = self._prompt_ids(self.store.path_to(asked.id), manner)
        note = _trimmed(left_out)
        seed = self._rng.getrandbits(31)
        yield Partial(None, "", False, view.version, "", note or "Thinking", 0.0)
        started, response, text = time.monotonic(), Response([], False), ""
        taste = self.taste.get() if self.taste and self.best_of > 1 else None
        if taste:
            asked_for = Prompt(tuple(prompt_ids), asked.content)
            stream = self._best(view, asked_for, manner.sampling, taste, seed)
        else:
            stream = self.model.stream(view, [prompt_ids], manner.sampling, seed=seed)
        cut = "cancelled"
        try:
            for (response,) in stream:
                text = self.model.decode(response.ids)
                rate = len(response.ids) / max(time.monotonic() - started, 1e-6)
                if stop.is_set():
                    break
                yield Partial(None, text, False, view.version, "", note, rate)
            else:
                cut = "stop" if response.finished else "length"
        except ModelError as error:
            cut = "error"
            raise ChatError(str(error)) from error
        except Exception as error:
            cut = "error"
            raise ChatError("The model broke off; what it said until then is kept.") from error
        finally:  # also when the tab is closed in the middle
            stream.close()
            with _sentences():
                saved = self._save_reply(
                    asked, prompt_ids, response, text, view, seed, cut, manner.sampling
                )
        rate = len(response.ids) / max(time.monotonic() - started, 1e-6)
        yield Partial(saved, text, True, view.version, cut, note, rate)

    def _best(
        self, view: View, asked: Prompt, sampling: Sampling, taste: Taste, seed: int
    ) -> Generator[list[Response]]:
        """Several drafts, then the one the taste likes best. Nothing is shown until it is known."""
        drafts: list[Response] = []
        prompts_ids = [asked.ids] * self.best_of
        stream = self.model.stream(view, prompts_ids, sampling, seed=seed)
        for drafts in stream:  # noqa: B007 (kept after)
            yield [Response([], False)]
        distinct, _, scores = self._judged(taste, asked, drafts)
        yield [distinct[int(scores.argmax())] if distinct else drafts[0]]

    def _save_reply(
        self,
        asked: Message,
        prompt_ids: list[int],
        response: Response,
        text: str,
        view: View,
        seed: int,
        finish_reason: str,
        sampling: Sampling,
        make_head: bool = True,
    ) -> str:
        return self.store.add_message(
            asked.conversation_id,
            "assistant",
            text,
            parent_id=asked.id,
            prompt_ids=prompt_ids,
            response_ids=response.ids,
            adapter_version=view.version,
            sampling={**sampling.as_dict(), "seed": seed},
            finish_reason=finish_reason,
            make_head=make_head,
        )

    def _prompt_ids(self, path: Sequence[Message], manner: Manner) -> tuple[list[int], int]:
        """Encodes the conversation; the oldest turns give way when it gets too long. Says how many
        messages did."""
        whole = len(path)
        limit = self.model.context_tokens - manner.sampling.max_new_tokens
        first = manner.system_prompt
        system = [{"role": "system", "content": first}] if first else []
        while True:
            ids = self.model.encode(system + _alternating(path))
            if len(ids) <= limit:
                return ids, whole - len(path)
            if len(path) == 1:
                raise ChatError(
                    f"This message is too long for the model: {len(ids)} tokens of {limit}."
                )
            path = path[1:]
            while path[0].role != "user":
                path = path[1:]

    # ------------------------------------------------------------------ ratings

    def rate(
        self,
        message_id: str,
        value: int,
        *,
        reason: str = "",
        comment: str = "",
        rater: str = "me",
        event_id: str | None = None,
    ) -> None:
        """A thumb: +1, -1, or 0 to take it back. Returns after COMMIT."""
        if value not in (1, -1, 0):
            raise ChatError("A thumb is up, down or taken back.")
        if len(comment) > MAX_CHARACTERS:
            raise ChatError(f"A comment can have {MAX_CHARACTERS} characters.")
        with _sentences():
            self.store.add_rating(
                message_id,
                value,
                reason=reason[:200],
                comment=comment,
                rater=rater,
                event_id=event_id,
            )

    def score(
        self, message_id: str, stars: int, *, rater: str = "me", event_id: str | None = None
    ) -> None:
        """1 to 5 stars, or 0 to take them back. Returns after COMMIT."""
        with _sentences():
            self.store.add_score(message_id, stars, rater=rater, event_id=event_id)

    def correct(
        self, message_id: str, text: str, *, rater: str = "me", event_id: str | None = None
    ) -> str:
        """The reply as the person would have had it: stored beside the original, shown instead of
        it, and preferred to it from now on. Returns the new message's id, after COMMIT."""
        text = _checked(text)
        with _sentences():
            original = self.store.message(message_id)
            if original.role != "assistant" or original.prompt_ids is None:
                raise ChatError("Only a reply of the model can be corrected.")
            if text == original.content.strip():
                raise ChatError("Nothing was changed, so there is nothing to learn.")
            edited = self.store.add_message(
                original.conversation_id,
                "assistant",
                text,
                parent_id=original.parent_id,
                prompt_ids=original.prompt_ids,
                response_ids=self.model.encode_reply(text),
                finish_reason="stop",
                event_id=event_id,
            )
            self.store.add_edit(message_id, edited, rater=rater, event_id=event_id)
        return edited

    # ------------------------------------------------------------------ what was said

    def feedback(self, containing: str = "", kind: str = "", said: str = "") -> list[Feedback]:
        """Every rating and vote of people that counts now, newest first."""
        with _sentences():
            return self.store.feedback(containing=containing.strip(), kind=kind, said=said)

    def change(self, told: Feedback, said: str) -> None:
        """Another answer about the same replies, in the same person's name; "withdrawn" takes it
        back. The log keeps both."""
        answers = {
            "thumb": ("up", "down"),
            "vote": OUTCOMES,
            "stars": tuple("12345"),
        }.get(told.kind, ())
        back = said == "withdrawn"
        if said not in answers and not back:
            raise ChatError(f"The answer is one of {', '.join((*answers, 'withdrawn'))}.")
        rater = told.rater
        with _sentences():
            if told.kind == "thumb":
                self.store.add_rating(
                    told.message_id,
                    {"up": 1, "down": -1}.get(said, 0),
                    reason=told.reason if said == told.said else "",
                    comment=told.comment,
                    rater=rater,
                )
            elif told.kind == "vote":
                self.store.add_preference(
                    told.message_id, told.other_id, said, shown_first="a", rater=rater
                )
            elif told.kind == "stars":
                self.store.add_score(told.message_id, 0 if back else int(said), rater=rater)
            elif told.kind == "edit":
                self.store.add_edit(told.message_id, told.other_id, withdrawn=True, rater=rater)
            else:
                asked = self.store.message(told.message_id).parent_id
                self.store.add_ranking(asked or "", {}, rater=rater)

    def explain(self, message_id: str) -> list[Piece]:
        """What each word of a reply does to its score, as the taste is known now."""
        taste = self.taste.get() if self.taste else None
        if self.taste is None or taste is None:
            raise ChatError("The app is still reading what the base says; try again in a moment.")
        with _sentences():
            reply = reply_of(self.store, message_id)
        if reply is None:
            raise ChatError("Only a reply of the model can be explained.")
        return self.taste.explain(taste, reply)

    def suggest_prompt(self) -> str:
        return self._rng.choice(prompts.practice(self.model.is_demo, 400, 0))

    def recent_prompts(self, limit: int = 50) -> list[str]:
        """What you asked in chats, newest first, short enough to compare drafts of."""
        return [p for p in self.store.recent_prompts(limit) if len(p) <= MAX_CHARACTERS]

    def compare(
        self,
        prompt: str,
        *,
        event_id: str | None = None,
        stop: threading.Event | None = None,
        versions: tuple[int, int] | None = None,
    ) -> Iterator[Pair]:
        """Streams two drafts of one prompt side by side and stores them when both are whole.

        The same event again is answered with the stored pair.
        """
        text = _checked(prompt)
        stop = stop or threading.Event()
        known = self.store.message_of_event(event_id) if event_id else None
        if known and len(self.store.children(known.id)) == 2:
            yield self.pair(known.conversation_id)
            return
        a_version, b_version = versions or pairs.choose(self.model.live.version, self._rng)
        views = [self.view(a_version), self.view(b_version)]
        prompt_ids = self.model.encode([{"role": "user", "content": text}])
        limit = self.model.context_tokens - self.sampling.max_new_tokens
        if len(prompt_ids) > limit:
            raise ChatError(f"This prompt is too long: {len(prompt_ids)} tokens of {limit}.")
        pair_id = event_id if event_id and not known else uuid.uuid4().hex
        left = pairs.a_is_left(pair_id)

        def shown(pair: str | None, done: bool, note: str) -> Pair:
            drafts = [self.model.decode(r.ids) for r in responses]
            one, other = drafts if left else drafts[::-1]
            return Pair(pair, one, other, done, done and pair is not None, note)

        responses = [Response([], False), Response([], False)]
        seeds = [self._rng.getrandbits(31) for _ in range(2)]
        taste = self.taste.get() if self.taste and self.active and versions is None else None
        chosen = taste and views[0] is views[1] and self._rng.random() >= pairs.RANDOM_SHARE
        if taste and chosen:
            asked = Prompt(tuple(prompt_ids), text)
            stream = self._many(views[0], asked, pairs.DRAFTS, seeds[0], stop)
            for drafts in stream:  # noqa: B007 (kept after)
                yield shown(None, False, f"Writing {pairs.DRAFTS} drafts to choose two from")
            if not stop.is_set():
                responses = self._two_most_telling(taste, asked, drafts)
        else:
            for responses in self._two_streams(views, prompt_ids, seeds):  # noqa: B007
                if stop.is_set():
                    break
                yield shown(None, False, "")
        tries = 0
        while not stop.is_set() and responses[0].ids == responses[1].ids and tries < 4:
            tries += 1  # nothing to choose from
            seeds[1] = self._rng.getrandbits(31)
            for (second,) in self.model.stream(
                views[1], [prompt_ids], self.sampling, seed=seeds[1]
            ):
                responses = [responses[0], second]
                if stop.is_set():
                    break
        if stop.is_set():
            yield shown(None, True, "Stopped: this pair is not kept.")
            return
        if responses[0].ids == responses[1].ids:
            yield shown(None, True, "Both drafts came out the same; try another prompt.")
            return
        pair_id = self._save_pair(pair_id, text, prompt_ids, responses, views, seeds)
        yield shown(pair_id, True, "")

    def _many(
        self, view: View, asked: Prompt, count: int, seed: int, stop: threading.Event
    ) -> Iterator[list[Response]]:
        """Several drafts of one prompt in one batch, until all are whole or somebody stops it."""
        for drafts in self.model.stream(view, [asked.ids] * count, self.sampling, seed=seed):
            yield drafts
            if stop.is_set():
                return

    def _judged(
        self, taste: Taste, asked: Prompt, drafts: list[Response]
    ) -> tuple[list[Response], Floats, Floats]:
        """Distinct drafts, their features (N, D) relative to each other, and their scores (N,)."""
        distinct = list({tuple(r.ids): r for r in drafts if r.ids}.values())
        replies = [Reply(asked, tuple(r.ids), self.model.decode(r.ids)) for r in distinct]
        assert self.taste
        x = self.taste.features(taste, replies)
        return distinct, x, taste.score(x) - taste.charge([r.text for r in replies])

    def _two_most_telling(
        self, taste: Taste, asked: Prompt, drafts: list[Response]
    ) -> list[Response]:
        distinct, x, _ = self._judged(taste, asked, drafts)
        if len(distinct) < 2:
            return drafts[:2]
        chosen = pairs.most_telling(taste.capped(x), taste.head.weights, taste.head.covariance)
        return [distinct[i] for i in chosen]

    def _two_streams(
        self, views: list[View], prompt_ids: list[int], seeds: list[int]
    ) -> Iterator[list[Response]]:
        """Both drafts at once: one batch where the version is the same, else in turns."""
        if views[0] is views[1]:
            yield from self.model.stream(views[0], [prompt_ids] * 2, self.sampling, seed=seeds[0])
            return
        latest = [Response([], False), Response([], False)]
        going = {
            i: self.model.stream(view, [prompt_ids], self.sampling, seed=seed)
            for i, (view, seed) in enumerate(zip(views, seeds, strict=True))
        }
        try:
            while going:
                for i in list(going):
                    step = next(going[i], None)
                    if step is None:
                        del going[i]
                    else:
                        latest[i] = step[0]
                yield list(latest)
        finally:
            for stream in going.values():
                stream.close()

    def _save_pair(
        self,
        pair_id: str,
        text: str,
        prompt_ids: list[int],
        responses: list[Response],
        views: list[View],
        seeds: list[int],
    ) -> str:
        with _sentences():
            conversation = self.store.add_conversation("compare", title=pair_id)
            asked = self.store.message(
                self.store.add_message(conversation, "user", text, event_id=pair_id)
            )
            for response, view, seed in zip(responses, views, seeds, strict=True):
                reason = "stop" if response.finished else "length"
                draft = self.model.decode(response.ids)
                self._save_reply(
                    asked,
                    prompt_ids,
                    response,
                    draft,
                    view,
                    seed,
                    reason,
                    self.sampling,
                    make_head=False,
                )
        return conversation

    def pair(self, pair_id: str) -> Pair:
        one, other = self._sides(pair_id)
        return Pair(pair_id, one.content, other.content, True, True, "")

    def prefer(
        self,
        pair_id: str,
        outcome: str,
        *,
        strength: str = "",
        rater: str = "me",
        event_id: str | None = None,
    ) -> Revealed:
        """A vote; "a" is the left draft, strength "slightly" or "much" if the person says so.
        Returns after COMMIT, with what was hidden until now."""
        if outcome not in OUTCOMES:
            raise ChatError(f"A vote is one of {', '.join(OUTCOMES)}.")
        one, other = self._sides(pair_id)
        a, b, a_left = self._drafts(pair_id)
        with _sentences():
            self.store.add_preference(
                a.id,
                b.id,
                pairs.from_side(outcome, a_left),
                shown_first="a" if a_left else "b",
                strength=strength,
                rater=rater,
                event_id=event_id,
            )
        said = TOLD[outcome].replace("is better", f"is {strength} better") if strength else ""
        names = [version_name(m.adapter_version) for m in (one, other)]
        sentence = f"Saved: {said or TOLD[outcome]}. A was {names[0]}, B was {names[1]}."
        return Revealed(one.adapter_version or 0, other.adapter_version or 0, sentence)

    def withdraw(self, pair_id: str, *, event_id: str | None = None) -> None:
        """Takes the vote on this pair back."""
        a, b, a_left = self._drafts(pair_id)
        with _sentences():
            self.store.add_preference(
                a.id, b.id, "withdrawn", shown_first="a" if a_left else "b", event_id=event_id
            )

    # ------------------------------------------------------------------ several drafts, ranked

    def draft(
        self, prompt: str, count: int, *, stop: threading.Event | None = None
    ) -> Iterator[Drafts]:
        """Streams drafts of one prompt, to be ranked, and stores them when all are whole."""
        text = _checked(prompt)
        if not 2 <= count <= MOST_DRAFTS:
            raise ChatError(f"2 to {MOST_DRAFTS} drafts can be ranked.")
        stop, view = stop or threading.Event(), self.model.live
        prompt_ids = self.model.encode([{"role": "user", "content": text}])
        if len(prompt_ids) > self.model.context_tokens - self.sampling.max_new_tokens:
            raise ChatError(f"This prompt is too long: {len(prompt_ids)} tokens.")
        seed = self._rng.getrandbits(31)
        responses: list[Response] = []
        asked = Prompt(tuple(prompt_ids), text)
        for responses in self._many(view, asked, count, seed, stop):
            texts = tuple(self.model.decode(r.ids) for r in responses)
            yield Drafts(None, (), texts, False, "")
        if stop.is_set():
            yield Drafts(None, (), texts, True, "Stopped: these drafts are not kept.")
            return
        set_id = self._save_pair(
            uuid.uuid4().hex, text, prompt_ids, responses, [view] * count, [seed] * count
        )
        with _sentences():
            ids = tuple(self.store.children(self.store.roots(set_id)[0]))
        yield Drafts(set_id, ids, texts, True, "")

    def rank(
        self,
        set_id: str,
        places: Mapping[str, int],
        *,
        rater: str = "me",
        event_id: str | None = None,
    ) -> None:
        """Message ids -> places, 0 is best, equal places are tied; {} takes it back."""
        with _sentences():
            asked = self.store.roots(set_id)[0]
            self.store.add_ranking(asked, places, rater=rater, event_id=event_id)

    def _drafts(self, pair_id: str) -> tuple[Message, Message, bool]:
        with _sentences():
            conversation = self.store.conversation(pair_id)
            asked = self.store.roots(pair_id)[0]
            a, b = (self.store.message(i) for i in self.store.children(asked))
            return a, b, pairs.a_is_left(conversation.title)

    def _sides(self, pair_id: str) -> tuple[Message, Message]:
        a, b, a_left = self._drafts(pair_id)
        return (a, b) if a_left else (b, a)

    # ------------------------------------------------------------------ versions

    def view(self, version: int) -> View:
        """A version ready to speak: live, base, or loaded now and kept while it is being used."""
        live = self.model.live
        if version == live.version:
            return live
        if not version:
            return self.model.reference
        if version not in self._views:
            if self._load_view is None:
                raise ChatError(f"Version {version} is not loaded.")
            try:
                self._views[version] = self._load_view(version)
            except Exception as error:
                raise ChatError(str(error)) from error
        self._views.move_to_end(version)
        while len(self._views) > VIEWS_KEPT:
            self._views.popitem(last=False)
        return self._views[version]

    def forget_view(self, version: int) -> None:
        """A deleted version may not go on speaking from memory."""
        self._views.pop(version, None)


def version_name(version: int | None) -> str:
    return f"v{version}" if version else "base"


def _alternating(path: Sequence[Message]) -> list[dict[str, str]]:
    """Messages with alternating roles, as strict chat templates demand: a message that never got
    its reply becomes one with the next."""
    messages: list[dict[str, str]] = []
    for m in path:
        if messages and messages[-1]["role"] == m.role:
            messages[-1]["content"] += f"\n\n{m.content}"
        else:
            messages.append({"role": m.role, "content": m.content})
    return messages


def _trimmed(left_out: int) -> str:
    if not left_out:
        return ""
    told = "message is" if left_out == 1 else f"{left_out} messages are"
    return f"The first {told} no longer read: the conversation is longer than the model can hold."


class _sentences:
    """Turns the store's refusals into what the person is told."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, store.StoreError):
            raise ChatError(str(error)) from error


def _checked(text: str) -> str:
    if not text.strip():
        raise ChatError("Write something first: the message is empty.")
    if len(text) > MAX_CHARACTERS:
        raise ChatError(
            f"This is too long: {len(text):,} characters; {MAX_CHARACTERS:,} are allowed."
        )
    return text.strip()
