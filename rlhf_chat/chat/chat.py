"""Replies in conversations: written, continued, edited, best of several.

Messages go to the store, replies come from the live view. Each stored reply keeps its exact token
ids, the adapter version that wrote it and the sampling settings: training uses those, never
re-tokenised text.
"""

from __future__ import annotations

import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Generator as Stream
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from rlhf_chat.chat.attachments import Attachment, with_files
from rlhf_chat.chat.context_window import (
    TooLongError,
    Words,
    chat_message,
    truncate,
    with_system,
)
from rlhf_chat.chat.conversations import CONTINUES, Conversations, can_continue
from rlhf_chat.chat.deferred_deletion import DeferredDeletion
from rlhf_chat.chat.imports import Imports
from rlhf_chat.chat.message_feedback import Ratings
from rlhf_chat.chat.message_text import MAX_CHARACTERS, checked
from rlhf_chat.chat.repetition import first_round
from rlhf_chat.chat.settings import ConversationSettings, SettingsService
from rlhf_chat.chat.stop_texts import ended_by
from rlhf_chat.db import Message, Store
from rlhf_chat.errors import AppError, ModelError, Notice
from rlhf_chat.feedback.replies import Prompt, Reply, reply_of
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.generator import Generator
from rlhf_chat.inference.model import Model, ModelView
from rlhf_chat.reward.scorer import RewardModel, RewardModelCache, TokenAttribution
from rlhf_chat.versions.simulation_setting import answers_people

VIEWS_KEPT = 3  # versions loaded beside the live one; each is the size of what it changed


@dataclass(frozen=True)
class ReplyChunk:
    """A reply on its way. message_id is set once it is stored."""

    message_id: str | None
    text: str
    done: bool
    adapter_version: int | None
    finish_reason: str
    note: Notice | None
    tokens_per_second: float
    response_ids: tuple[int, ...] = ()  # once it is done


@dataclass(frozen=True)
class GeneratedReply:
    """A reply with everything that is kept of it."""

    view: ModelView
    sampling: Sampling
    seed: int
    prompt_ids: list[int]
    response: Response
    text: str
    finish_reason: str
    stop_texts: tuple[str, ...] = ()
    continues: str | None = None  # id of the cut reply that it begins with


@dataclass(frozen=True)
class ReplyPlan:
    """All that a reply needs. Everything that can be refused is checked before one is made, so that
    nothing is stored for a refused message."""

    view: ModelView
    sampling: Sampling
    prompt_ids: list[int]
    left_out: int  # messages the model no longer reads
    seed: int | None = None  # drawn if it is None
    stop_texts: tuple[str, ...] = ()  # that end the reply where the model writes one
    reply_id: str = ""  # under which it is stored; drawn if it is ""
    keep: bool = True
    takes_back: bool = True  # text that was shown, where it goes in circles
    written: tuple[int, ...] = ()  # tokens that the reply begins with
    continues: str | None = None  # id of the cut reply that they are from


class Chat:
    def __init__(
        self,
        store: Store,
        model: Model,
        sampling: Sampling | None = None,
        load_view: Callable[[int], ModelView] | None = None,
        scorer: RewardModelCache | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.store = store
        self.model = model
        self.generator: Generator = generator or model
        longest = 96 if model.is_demo else min(512, model.context_tokens // 2)
        sampling = sampling or model.sampling.limited(longest)
        self.settings = SettingsService(store, sampling, model.context_tokens, self.view)
        self.ratings = Ratings(store, model.encode_reply, model.context_tokens)
        self.imports = Imports(store, model)
        self.deletion = DeferredDeletion(store)
        self.conversations = Conversations(store, self.settings, self.deletion)
        self._load_view = load_view
        self.scorer = scorer  # None, or not warm yet: drafts are shown as they come
        self._views: OrderedDict[int, ModelView] = OrderedDict()  # loaded beside the live one
        self._views_lock = threading.Lock()
        self._rng = random.Random()

    def stored(self) -> int:
        """A number that is another one after each change of what is stored."""
        return self.store.commits

    def is_new(self) -> bool:
        """Whether nothing was written or rated, and the welcome was not dismissed."""
        counts = self.store.counts()
        return not (counts["messages"] or self.store.settings.get("welcomed", False))

    def dismiss_welcome(self) -> None:
        self.store.settings.set("welcomed", True)

    def not_erased(self) -> Notice | None:
        """Where deleted words still are, until they could be erased from every backup."""
        if not (left := self.store.unerased):
            return None
        names = ", ".join(path.name for path in left)
        return Notice("data.not_erased", {"count": len(left), "names": names})

    def damaged(self) -> Notice | None:
        """What changed in the database on the disk by itself, and the copy to go back to."""
        return self.store.integrity.told()

    # ------------------------------------------------------------------ replies

    def reply(
        self,
        conversation_id: str,
        text: str,
        *,
        event_id: str | None = None,
        stop: threading.Event | None = None,
        files: Sequence[Attachment] = (),
    ) -> Iterator[ReplyChunk]:
        """Stores what was typed and attached, then streams and stores the reply. A stopped reply
        keeps its text.

        Sending the same event again stores nothing twice: it is answered with the stored reply.
        """
        text = with_files(checked(text) if text.strip() else "", files) if files else checked(text)
        asked = self.store.messages.of_event(event_id) if event_id else None
        answers = self.store.messages.children(asked.id) if asked else []
        if answers:
            yield self._told(self.store.messages.get(answers[-1]))
            return
        if asked:
            ready = self._ready(asked.conversation_id, asked.id)
        else:
            head = self.store.conversations.get(conversation_id).head_id
            ready = self._ready(conversation_id, head, text)
            asked = self._ask(conversation_id, head, text, event_id)
        yield from self.answer(asked, ready, stop)

    @staticmethod
    def _told(reply: Message) -> ReplyChunk:
        """A stored reply, as its stream ended."""
        cut = reply.finish_reason or ""
        return ReplyChunk(reply.id, reply.content, True, reply.adapter_version, cut, None, 0.0)

    def regenerate(
        self, message_id: str, *, stop: threading.Event | None = None
    ) -> Iterator[ReplyChunk]:
        """Another reply to the same message; the earlier one stays as a sibling."""
        message = self.store.messages.get(message_id)
        if message.role == "assistant" and message.parent_id:
            message = self.store.messages.get(message.parent_id)
        ready = self._ready(message.conversation_id, message.id)
        yield from self.answer(message, ready, stop)

    def continue_reply(
        self, message_id: str, *, stop: threading.Event | None = None
    ) -> Iterator[ReplyChunk]:
        """Writes on at a cut reply: the version that began it, from its exact tokens.

        Messages never change, since feedback is about the tokens that were shown. So the longer
        text is a message of its own, in the place of the cut one. The cut one keeps its ratings;
        the longer one has none yet.
        """
        cut = self.store.messages.get(message_id)
        if not can_continue(cut) or cut.parent_id is None:
            raise AppError("chat.not_cut")
        ready = self._ready_to_continue(cut)
        yield from self.answer(self.store.messages.get(cut.parent_id), ready, stop)

    def _ready_to_continue(self, cut: Message) -> ReplyPlan:
        prompt_ids, written = cut.prompt_ids or [], tuple(cut.response_ids or [])
        if cut.adapter_version is None or not self.model.reads_as(written, cut.content):
            raise AppError("chat.continue_other_model")
        try:
            view = self.view(cut.adapter_version)
        except AppError as error:
            raise AppError("chat.continue_no_version", version=cut.adapter_version) from error
        sampling = self.settings.get(cut.conversation_id).sampling
        room = self.model.context_tokens - len(prompt_ids) - len(written)
        if room < 1:
            raise AppError("chat.continue_no_room", limit=self.model.context_tokens)
        sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room))
        return ReplyPlan(
            view,
            sampling,
            prompt_ids,
            0,
            stop_texts=tuple((cut.sampling or {}).get("stop", ())),
            written=written,
            continues=cut.id,
        )

    def edit(
        self, message_id: str, text: str, *, stop: threading.Event | None = None
    ) -> Iterator[ReplyChunk]:
        """Edits a message of the user: a new branch beside the old one, with its own reply."""
        old = self.store.messages.get(message_id)
        text = checked(text, max(MAX_CHARACTERS, len(old.content)))  # it may hold a file
        if old.role != "user":
            raise AppError("chat.only_own_edited")
        ready = self._ready(old.conversation_id, old.parent_id, text)
        asked = self._ask(old.conversation_id, old.parent_id, text)
        yield from self.answer(asked, ready, stop)

    def _ready(self, conversation_id: str, message_id: str | None, text: str = "") -> ReplyPlan:
        """What is needed to answer the branch down to a message, with `text` after it if given."""
        settings = self.settings.get(conversation_id)
        view = self.people_live() if settings.version is None else self.view(settings.version)
        path = self.store.messages.path_to(message_id) if message_id else []
        turns = [chat_message(m.role, m.content) for m in path]
        if text:
            turns.append(chat_message("user", text))
        return ReplyPlan(view, settings.sampling, *self.prompt_ids(turns, settings))

    def _ask(
        self, conversation_id: str, parent_id: str | None, text: str, event_id: str | None = None
    ) -> Message:
        """Stores what was typed."""
        asked = self.store.messages.add(
            conversation_id, "user", text, parent_id=parent_id, event_id=event_id
        )
        return self.store.messages.get(asked)

    def answer(
        self, asked: Message, ready: ReplyPlan, stop: threading.Event | None
    ) -> Iterator[ReplyChunk]:
        """Streams the reply to a message, and stores it if it is to be kept."""
        stop = stop or threading.Event()
        view, version, note = ready.view, ready.view.version, _trimmed(ready.left_out)
        seed = self._rng.getrandbits(31) if ready.seed is None else ready.seed
        response, begun = Response(list(ready.written), False), len(ready.written)
        text = self.model.decode(response.ids, partial=True)
        yield ReplyChunk(None, text, False, version, "", note or Notice("chat.thinking"), 0.0)
        started = time.monotonic()
        stream = self._stream(asked, ready, seed)
        cut = "cancelled"
        try:
            for (response,) in stream:
                text = self.model.decode(response.ids, partial=not response.finished)
                rate = (len(response.ids) - begun) / max(time.monotonic() - started, 1e-6)
                if stop.is_set():
                    break
                if (sense := first_round(response.ids[begun:])) is not None:
                    if ready.takes_back:
                        response = Response(response.ids[: begun + sense], False)
                    cut, note = "length", Notice("chat.in_circles")
                    break
                yield ReplyChunk(None, text, False, version, "", note, rate)
            else:
                cut = "stop" if response.finished else "length"
        except ModelError:
            cut = "error"
            raise
        except Exception as error:
            cut = "error"
            raise AppError("chat.broke_off") from error
        finally:  # also when the reader goes away in the middle
            stream.close()
            text = self.model.decode(response.ids)
            made = GeneratedReply(
                view,
                ready.sampling,
                seed,
                ready.prompt_ids,
                response,
                text,
                cut,
                ready.stop_texts,
                ready.continues,
            )
            saved, new = ready.continues, len(response.ids) - begun
            worth = new or (not begun and cut in ("stop", "length"))  # nothing cannot be rated
            if ready.keep and worth:
                saved = self.save_reply(asked, made, message_id=ready.reply_id)
        rate = new / max(time.monotonic() - started, 1e-6)
        yield ReplyChunk(saved, text, True, version, cut, note, rate, tuple(response.ids))

    def _stream(self, asked: Message, ready: ReplyPlan, seed: int) -> Stream[list[Response]]:
        """The reply as it grows, with the tokens that it begins with."""
        view, sampling, prompt_ids = ready.view, ready.sampling, ready.prompt_ids
        best_of = self.model.max_parallel_drafts(
            self.settings.best_of, prompt_ids, sampling.max_new_tokens
        )
        scorer = self.scorer.get() if self.scorer and best_of > 1 else None
        if ready.written:
            begun = [[*prompt_ids, *ready.written]]
            stream = _after(ready.written, self.generator.stream(view, begun, sampling, seed=seed))
        elif scorer:
            asked_for = Prompt(tuple(prompt_ids), asked.content)
            stream = self._best(view, asked_for, sampling, scorer, seed, best_of)
        else:
            stream = self.generator.stream(view, [prompt_ids], sampling, seed=seed)
        if ready.stop_texts:
            stream = ended_by(stream, ready.stop_texts, self.model.decode)
        return stream

    def _best(
        self,
        view: ModelView,
        asked: Prompt,
        sampling: Sampling,
        scorer: RewardModel,
        seed: int,
        count: int,
    ) -> Stream[list[Response]]:
        """Several drafts, then the one with the highest score. Nothing is shown until then."""
        drafts: list[Response] = []
        for drafts in self.generator.stream(view, [asked.ids] * count, sampling, seed=seed):  # noqa: B007
            yield [Response([], False)]
        message = [r for r in drafts if r.ids]
        if not message:
            yield drafts[:1]
            return
        replies = [Reply(asked, tuple(r.ids), self.model.decode(r.ids)) for r in message]
        assert self.scorer
        yield [message[self.scorer.best(scorer, replies)]]

    def save_reply(
        self,
        asked: Message,
        generated: GeneratedReply,
        make_head: bool = True,
        message_id: str = "",
    ) -> str:
        """Stores a reply to a message; its id."""
        sampling: dict[str, Any] = {**generated.sampling.as_dict(), "seed": generated.seed}
        if generated.stop_texts:
            sampling["stop"] = list(generated.stop_texts)
        if generated.continues:
            sampling[CONTINUES] = generated.continues
        return self.store.messages.add(
            asked.conversation_id,
            "assistant",
            generated.text,
            parent_id=asked.id,
            prompt_ids=generated.prompt_ids,
            response_ids=generated.response.ids,
            adapter_version=generated.view.version,
            sampling=sampling,
            finish_reason=generated.finish_reason,
            make_head=make_head,
            message_id=message_id,
        )

    def prompt_ids(
        self, path: Sequence[Words], settings: ConversationSettings
    ) -> tuple[list[int], int]:
        """Encodes the conversation as far as it fits; how many of its messages do not."""
        limit = self.model.context_tokens - settings.sampling.max_new_tokens
        try:
            return truncate(self.model, settings.system_prompt, path, limit)
        except TooLongError as error:
            if error.tokens is None:
                raise AppError("chat.message_far_too_long", limit=limit) from error
            raise AppError("chat.message_too_long", tokens=error.tokens, limit=limit) from error

    def message_tokens(self, conversation_id: str, text: str) -> tuple[int, int]:
        """How many tokens a message takes, and how many it may take."""
        settings = self.settings.get(conversation_id)
        turns = with_system(settings.system_prompt, [chat_message("user", text)])
        limit = self.model.context_tokens - settings.sampling.max_new_tokens
        return len(self.model.encode(turns)), limit

    def explain(self, message_id: str) -> list[TokenAttribution]:
        """The effect of each word of a reply on its score under the current reward model."""
        scorer = self.scorer.get() if self.scorer else None
        if self.scorer is None or scorer is None:
            raise AppError("chat.base_not_measured")
        reply = reply_of(self.store, message_id)
        if reply is None or not self.scorer.extractor.can_measure(reply):
            raise AppError("chat.only_replies_explained")
        return self.scorer.explain(scorer, reply)

    # ------------------------------------------------------------------ versions

    def people_live(self) -> ModelView:
        """The live version; beside a simulation the one that was live before it."""
        before = answers_people(self.store, self.model.base_hash)
        return self.model.live if before is None else self.view(before)

    def view(self, version: int) -> ModelView:
        """A version ready to generate: live, base, or loaded now and kept while it is used."""
        if view_if_live := self.model.view_if_live(version):
            return view_if_live
        with self._views_lock:
            if version not in self._views:
                if self._load_view is None:
                    raise AppError("chat.version_not_loaded", version=version)
                self._views[version] = self._load_view(version)
            self._views.move_to_end(version)
            while len(self._views) > VIEWS_KEPT:
                self._views.popitem(last=False)
            return self._views[version]

    def forget_view(self, version: int) -> None:
        """Drops a deleted version from memory."""
        with self._views_lock:
            self._views.pop(version, None)


def _trimmed(left_out: int) -> Notice | None:
    return Notice("chat.trimmed", {"count": left_out}) if left_out else None


def _after(written: tuple[int, ...], stream: Stream[list[Response]]) -> Stream[list[Response]]:
    """The rest of a reply as it is written, as the whole reply."""
    with closing(stream):
        for (rest,) in stream:
            yield [Response([*written, *rest.ids], rest.finished)]
