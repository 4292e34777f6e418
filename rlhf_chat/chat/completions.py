"""Replies for programs: the whole conversation comes with each request, as in OpenAI's API.

What is kept is stored as if it had been typed: the turns become the messages of a chat, or are
found again in the chat of an earlier request, and the reply is written by `Chat.answer`. Two
requests with the same turns are two replies to one message, so that they can be compared. The id of
a reply is known before it is written and is that of its message.

Messages may be longer than what a person types: editors send whole files. What fits into the
context, with room for a short reply, is answered.
"""

from __future__ import annotations

import hashlib
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rlhf_chat.chat.chat import Chat, GeneratedReply, ReplyPlan
from rlhf_chat.chat.context_window import Words, chat_message
from rlhf_chat.chat.message_text import checked
from rlhf_chat.chat.settings import ConversationSettings
from rlhf_chat.chat.stop_texts import ended_by, visible
from rlhf_chat.db import Message, clean_text
from rlhf_chat.errors import AppError
from rlhf_chat.inference.generate import Response, Sampling

LONGEST = 8_000_000  # characters of a message; what the model can read is far less
LEAST_REPLY = 16  # tokens that a long prompt has to leave for the reply


@dataclass(frozen=True)
class CompletionRequest:
    """Turns by user and assistant, the last one by the user, and how they are answered. `system`
    None: as new chats are."""

    turns: tuple[Words, ...]
    sampling: Sampling
    system: str | None = None
    version: int | None = None  # None: the live one
    seed: int | None = None  # drawn if it is None
    stop_texts: tuple[str, ...] = ()
    count: int = 1
    keep: bool = True


@dataclass(frozen=True)
class Draft:
    """One reply as far as it is written. `text` is what the client sees of it."""

    reply_id: str
    text: str = ""
    done: bool = False
    finish_reason: str = ""
    response_ids: tuple[int, ...] = ()  # once it is done
    kept: bool = False  # it is stored, so it can be rated


@dataclass(frozen=True)
class Completion:
    """All replies to one request, as far as they are written."""

    drafts: tuple[Draft, ...]
    plan: ReplyPlan = field(repr=False)

    @property
    def done(self) -> bool:
        return all(draft.done for draft in self.drafts)


class Completions:
    def __init__(self, chat: Chat) -> None:
        self.chat, self.store, self.model = chat, chat.store, chat.model
        self._storing = threading.Lock()  # so that equal requests find one another's messages
        self._rng = random.Random()

    def stream(self, request: CompletionRequest, stop: threading.Event) -> Iterator[Completion]:
        """Raises AppError before anything is stored if the request cannot be answered; the first
        item says that it can."""
        settings = self._settings(request)
        turns = _checked_turns(request.turns)
        asked, plan = self._asked(request, settings, turns)
        ids = [uuid.uuid4().hex for _ in range(request.count)]
        yield Completion(tuple(map(Draft, ids)), plan)
        if request.count == 1:
            yield from self._one(asked, replace(plan, reply_id=ids[0]), stop)
        else:
            yield from self._several(asked, plan, ids, stop)

    def _settings(self, request: CompletionRequest) -> ConversationSettings:
        longest = min(request.sampling.max_new_tokens, self.chat.settings.longest_reply)
        system = request.system
        if system is None:
            system = self.chat.settings.default().system_prompt
        return self.chat.settings.checked(
            ConversationSettings(
                clean_text(system), request.sampling.limited(longest), request.version
            ),
            LONGEST,
        )

    def _asked(
        self, request: CompletionRequest, settings: ConversationSettings, turns: list[Words]
    ) -> tuple[Message, ReplyPlan]:
        """The message to answer and how. Stores what is not there yet, if the replies are kept."""
        if not request.keep:
            return _unstored(turns[-1]["content"]), self._plan(request, settings, turns)
        with self._storing:
            known = self._known(settings.system_prompt, turns)
            exact = [chat_message(m.role, m.content) for m in known]
            plan = self._plan(request, settings, [*exact, *turns[len(known) :]])
            return self._stored(settings, turns, known), plan

    def _plan(
        self, request: CompletionRequest, settings: ConversationSettings, turns: Sequence[Words]
    ) -> ReplyPlan:
        version = settings.version
        view = self.chat.people_live() if version is None else self.chat.view(version)
        try:
            prompt_ids, left_out, sampling = self._room(turns, settings)
        except AppError:
            raise
        except Exception as error:  # a template may raise whatever Python does
            raise AppError("api.template_refuses") from error
        return ReplyPlan(
            view,
            sampling,
            prompt_ids,
            left_out,
            seed=request.seed,
            stop_texts=request.stop_texts,
            keep=request.keep,
            takes_back=False,  # a program may have read it already
        )

    def _room(
        self, turns: Sequence[Words], settings: ConversationSettings
    ) -> tuple[list[int], int, Sampling]:
        """The prompt, and how long the reply may be: as asked for, or where only then the last
        message fits, as long as there is room beside it."""
        sampling = settings.sampling
        try:
            return *self.chat.prompt_ids(turns, settings), sampling
        except AppError:
            shorter = sampling.limited(min(LEAST_REPLY, sampling.max_new_tokens))
            prompt_ids, left_out = self.chat.prompt_ids(turns, replace(settings, sampling=shorter))
            room = self.model.context_tokens - len(prompt_ids)
            return prompt_ids, left_out, sampling.limited(min(room, sampling.max_new_tokens))

    # ------------------------------------------------------------------ messages in the database

    def _known(self, system: str, turns: Sequence[Words]) -> list[Message]:
        """The stored messages that these turns repeat, from the first one on. None of a chat whose
        deletion can still be undone: what is added to it now would go with it."""
        first = self.store.messages.of_event(_event_of(system, turns[0]))
        found = [first] if first and not self._is_deleted(first) else []
        while found and len(found) < len(turns):
            children = self.store.messages.children(found[-1].id)
            below = self.store.messages.get_many(children)
            turn = turns[len(found)]
            # of equal replies the newest: the client goes on from what it was shown last
            newest = (below[id] for id in reversed(children) if id in below)
            same = next((one for one in newest if _repeats(turn, one)), None)
            if same is None:
                break
            found.append(same)
        return found

    def _stored(
        self, settings: ConversationSettings, turns: Sequence[Words], known: Sequence[Message]
    ) -> Message:
        """The last message, with those before it added where they are missing."""
        if known:
            conversation, parent = known[-1].conversation_id, known[-1].id
        else:
            conversation, parent = self.store.conversations.add(), ""
            self.chat.settings.set(conversation, settings, LONGEST)
        for i, turn in enumerate(turns[len(known) :], len(known)):
            event = self._free_event(settings.system_prompt, turn) if i == 0 else None
            parent = self.store.messages.add(
                conversation,
                turn["role"],
                turn["content"],
                parent_id=parent or None,
                event_id=event,
            )
        return self.store.messages.get(parent)

    def _is_deleted(self, message: Message) -> bool:
        return message.conversation_id in self.chat.deletion.pending()

    def _free_event(self, system: str, turn: Words) -> str | None:
        """None where a deleted chat still has it: then later requests begin a chat of their own."""
        event = _event_of(system, turn)
        return None if self.store.messages.of_event(event) else event

    # ------------------------------------------------------------------ replies

    def _one(self, asked: Message, plan: ReplyPlan, stop: threading.Event) -> Iterator[Completion]:
        for chunk in self.chat.answer(asked, plan, stop):
            text = visible(chunk.text, plan.stop_texts, done=chunk.done)
            draft = Draft(
                plan.reply_id,
                text,
                chunk.done,
                chunk.finish_reason,
                chunk.response_ids,
                kept=chunk.message_id is not None,
            )
            yield Completion((draft,), plan)

    def _several(
        self, asked: Message, plan: ReplyPlan, ids: Sequence[str], stop: threading.Event
    ) -> Iterator[Completion]:
        """As many at once as there is memory for."""
        drafts = {id: Draft(id) for id in ids}
        at_once = self.model.max_parallel_drafts(
            len(ids), plan.prompt_ids, plan.sampling.max_new_tokens
        )
        seed = self._rng.getrandbits(31) if plan.seed is None else plan.seed
        for start in range(0, len(ids), at_once):
            part = ids[start : start + at_once]
            for written in self._batch(asked, replace(plan, seed=seed + start), part, stop):
                drafts |= written
                yield Completion(tuple(drafts.values()), plan)
            if stop.is_set():
                return

    def _batch(
        self, asked: Message, plan: ReplyPlan, ids: Sequence[str], stop: threading.Event
    ) -> Iterator[dict[str, Draft]]:
        assert plan.seed is not None
        latest = [Response([], False) for _ in ids]
        stream = self.chat.generator.stream(
            plan.view, [plan.prompt_ids] * len(ids), plan.sampling, seed=plan.seed
        )
        if plan.stop_texts:
            stream = ended_by(stream, plan.stop_texts, self.model.decode)
        whole = False
        try:
            for latest in stream:
                yield {
                    id: Draft(id, self._text(plan, response))
                    for id, response in zip(ids, latest, strict=True)
                }
                if stop.is_set():
                    break
            else:
                whole = True
        finally:  # also when the client has gone away
            stream.close()
            drafts = {
                id: self._finished(asked, plan, id, response, whole)
                for id, response in zip(ids, latest, strict=True)
            }
        yield drafts

    def _text(self, plan: ReplyPlan, response: Response) -> str:
        text = self.model.decode(response.ids, partial=not response.finished)
        return visible(text, plan.stop_texts, done=response.finished)

    def _finished(
        self, asked: Message, plan: ReplyPlan, id: str, response: Response, whole: bool
    ) -> Draft:
        """Stores one of several replies, if it is to be kept."""
        assert plan.seed is not None
        cut = "stop" if response.finished else "length" if whole else "cancelled"
        text = self.model.decode(response.ids)
        kept = plan.keep and bool(response.ids)
        if kept:
            made = GeneratedReply(
                plan.view,
                plan.sampling,
                plan.seed,
                plan.prompt_ids,
                response,
                text,
                cut,
                plan.stop_texts,
            )
            self.chat.save_reply(asked, made, message_id=id)
        shown = visible(text, plan.stop_texts, done=True)
        return Draft(id, shown, True, cut, tuple(response.ids), kept)


def _checked_turns(turns: Sequence[Words]) -> list[Words]:
    """As they are stored; replies without a word, such as stopped ones, are left out."""
    kept: list[Words] = []
    for turn in turns:
        if turn["role"] == "user":
            kept.append(chat_message("user", checked(turn["content"], LONGEST)))
        elif text := clean_text(turn["content"]).strip():
            kept.append(chat_message("assistant", text))
    return kept


def _repeats(turn: Words, message: Message) -> bool:
    """Whether this message is what the client was shown, white space at its ends aside."""
    stops = (message.sampling or {}).get("stop", ())
    shown = visible(message.content, stops, done=True)
    return message.role == turn["role"] and shown.strip() == turn["content"]


def _event_of(system: str, turn: Words) -> str:
    """Names the first message of a chat: the same words under the same system prompt are found
    again."""
    digest = hashlib.sha256("\0".join((system, turn["role"], turn["content"])).encode())
    return f"api:{digest.hexdigest()}"


def _unstored(text: str) -> Message:
    return Message("", "", None, "user", text, None, None, None, None, None, None, "")
