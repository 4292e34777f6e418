"""Replies on the Chat screen: sending, regenerating, continuing, editing, streaming, stopping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from itertools import takewhile
from typing import Any

import gradio as gr

from rlhf_chat.chat.attachments import with_files
from rlhf_chat.chat.chat import ReplyChunk
from rlhf_chat.chat.conversations import Turn
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.ui import markdown_escape, transcript
from rlhf_chat.ui.attachments_panel import NOTHING as NO_FILES
from rlhf_chat.ui.attachments_panel import attached
from rlhf_chat.ui.chat_view import ChatView, Update, limit_of, rater_of
from rlhf_chat.ui.components import (
    error_message,
    not_saved_message,
    saved_message,
    status_message,
)
from rlhf_chat.ui.handlers import FRAME_SECONDS
from rlhf_chat.ui.language import message, text
from rlhf_chat.ui.rating_panel import NOTHING, event_index
from rlhf_chat.ui.sessions import Reply, Start, tab_of


class ReplyStreaming:
    def __init__(self, pane: ChatView) -> None:
        self.pane, self.chat, self.worker = pane, pane.chat, pane.worker

    # ---- acts ----------------------------------------------------------------------------------

    def send(
        self,
        text: str,
        view: dict[str, Any],
        event_id: str,
        request: gr.Request,
        files: dict[str, Any] = NO_FILES,
        *,
        typed: bool = True,
    ) -> Iterator[Update]:
        """`files`: those that stand above the message box. `typed`: it comes from the box, which is
        emptied."""
        if self.pane.presence.seen_click(event_id):
            yield {self.pane.note: gr.skip()}  # yielding nothing would empty all outputs
            return
        conversation_id, made_here = view["conversation"], ""
        try:
            sent = attached(files)
            if not conversation_id:
                conversation_id = made_here = self.chat.conversations.new()
            before = (
                []
                if made_here
                else self.chat.conversations.history(conversation_id, rater_of(view))
            )
        except Exception as error:
            yield self.pane.refused(conversation_id, tab_of(request), error)
            return
        if made_here:
            self.pane.presence.show(tab_of(request), made_here)
        accepted = yield from self._stream(
            tab_of(request),
            conversation_id,
            before,
            [*transcript.bubbles(before), transcript.bubble("user", with_files(text, sent))],
            lambda stop: self.chat.reply(
                conversation_id, text, event_id=event_id or None, stop=stop, files=sent
            ),
            sent=True,
            typed=typed,
            view=view,
        )
        if made_here and not accepted:
            self.pane.presence.show(tab_of(request), "")
            self.chat.conversations.delete(
                made_here
            )  # a refused first message leaves nothing behind

    def send_example(
        self, view: dict[str, Any], event_id: str, request: gr.Request, event: gr.SelectData
    ) -> Iterator[Update]:
        text = str(event.value["text"])
        yield from self.send(text, view, event_id, request, typed=False)

    def regenerate(
        self, view: dict[str, Any], request: gr.Request, event: gr.RetryData
    ) -> Iterator[Update]:
        replies = [
            turn for turn in view["turns"][event_index(event) :] if turn["role"] == "assistant"
        ]
        if replies:
            yield from self._branch(request, view, replies[0]["id"], self.chat.regenerate)
        else:
            yield {self.pane.note: status_message(text("chat.nothing_to_regenerate"), "bad")}

    def continue_reply(self, view: dict[str, Any], request: gr.Request) -> Iterator[Update]:
        """The last reply was cut: write on at it."""
        last = view["turns"][-1]["id"] if view["turns"] else ""
        rated = self.chat.ratings.of(last, rater_of(view)) != NOTHING
        grew = yield from self._branch(request, view, last, self.chat.continue_reply)
        if grew and rated:
            yield {self.pane.note: status_message(text("chat.continued_reply_rated"))}

    def edit(
        self, view: dict[str, Any], rater: str, draft: str, request: gr.Request, event: gr.EditData
    ) -> Iterator[Update]:
        """Edit a message of the person, or correct a reply, which is a rating. A refused text goes
        into the message box, below the `draft` that stands in it."""
        text, before = (
            markdown_escape.raw(str(words)) for words in (event.value, event.previous_value)
        )
        turn = view["turns"][event_index(event)]
        new = text.strip() and text.strip() != before.strip()
        waits = f"{draft.rstrip()}\n\n{text}" if draft.strip() else text
        kept = {self.pane.message: waits} if new else {}
        if turn["role"] == "assistant":
            yield self._correct(view, turn["id"], text, rater, kept)
            return

        def act(message_id: str, *, stop: threading.Event) -> Iterator[ReplyChunk]:
            return self.chat.edit(message_id, text, stop=stop)

        yield from self._branch(request, view, turn["id"], act, edited=text, kept=kept)

    def _correct(
        self, view: dict[str, Any], message_id: str, wording: str, rater: str, kept: Update
    ) -> Update:
        try:
            self.chat.ratings.correct(message_id, wording, rater=checked_name(rater))
            self.worker.wake()
            word = saved_message(text("rating.corrected"), self.pane.ratings.worker.status())
            kept = {}
        except Exception as error:
            word = not_saved_message(error)
        return {**self.pane.redrawn(view), **self.pane.put_away(), self.pane.note: word, **kept}

    def _branch(
        self,
        request: gr.Request,
        view: dict[str, Any],
        message_id: str,
        act: Callable[..., Iterator[ReplyChunk]],
        edited: str | None = None,
        kept: Update | None = None,
    ) -> Generator[Update, None, bool]:
        """A new message beside an old one: show the conversation up to there, then stream. `kept`:
        shown where the message is refused. Returns whether it was accepted."""
        conversation_id = view["conversation"]
        try:
            before = list(
                takewhile(
                    lambda turn: turn.message_id != message_id,
                    self.chat.conversations.history(conversation_id, rater_of(view)),
                )
            )
        except Exception as error:
            yield {**self.pane.refused(conversation_id, tab_of(request), error), **(kept or {})}
            return False
        said_now = transcript.bubbles(before) + (
            [transcript.bubble("user", edited)] if edited is not None else []
        )
        accepted = yield from self._stream(
            tab_of(request),
            conversation_id,
            before,
            said_now,
            lambda stop: act(message_id, stop=stop),
            view=view,
        )
        if kept and not accepted:
            yield kept
        return accepted

    def _stream(
        self,
        session: str,
        conversation_id: str,
        before: list[Turn],
        said_now: list[dict[str, Any]],
        start: Start,
        *,
        view: dict[str, Any],
        sent: bool = False,
        typed: bool = False,
    ) -> Generator[Update, None, bool]:
        """Show a reply as it is written. Returns whether the message was accepted."""
        limit, rater = limit_of(view), rater_of(view)
        reply = self.pane.presence.begin(conversation_id, session, said_now[-limit:], start)
        if reply is None:
            yield {self.pane.note: status_message(text("chat.reply_running"), "bad")}
            return False
        if reply.chunk is None:  # an edited message on the page goes back to what it was
            note = error_message(reply.error or RuntimeError("no reply"))
            ended = {} if sent else self._ended(conversation_id, session, limit, rater, note)
            yield {self.pane.note: note, **ended}
            return False
        begun = self._begun(conversation_id, before[-limit:], reply, rater, typed)
        yield {**begun, **(self.pane.conversations.rows(conversation_id) if sent else {})}
        yield from self._frames(conversation_id, session, reply)
        if self.pane.presence.shows(session, conversation_id):
            rater = self.pane.presence.named(session, rater)
            yield self._ended(
                conversation_id,
                session,
                limit,
                rater,
                _note_at_the_end(reply),
                reply.chunk.tokens_per_second,
            )
        return True

    def _frames(self, conversation_id: str, session: str, reply: Reply) -> Iterator[Update]:
        """The reply as it grows, while this tab shows its conversation."""
        drawn, presence = reply.chunk, self.pane.presence
        with presence.drawn(reply):
            while not reply.ended.wait(FRAME_SECONDS):
                if drawn is not reply.chunk and presence.shows(session, conversation_id):
                    drawn = reply.chunk
                    yield self._frame(reply)

    def _begun(
        self,
        conversation_id: str,
        before: list[Turn],
        reply: Reply,
        rater: str,
        typed: bool,
    ) -> Update:
        update = {
            **self._frame(reply),
            # The thumbs go out whenever the value changes, so they are sent with the first one of
            # each reply.
            self.pane.bot: gr.update(
                value=_bubbles(reply),
                feedback_value=[*transcript.thumbs(before), None],
            ),
            self.pane.view: transcript.view(conversation_id, before, rater=rater, sent=typed),
            **self.pane.put_away(),
            **self.pane.buttons(replying=True),
        }
        emptied = {self.pane.message: "", self.pane.attachments.files: NO_FILES}
        return update | (emptied if typed else {})

    def follow(self, view: dict[str, Any], request: gr.Request) -> Iterator[Update]:
        """A conversation opened while its reply is being written for another tab, or for this page
        before it was reloaded: draw along."""
        conversation_id, session = view["conversation"], tab_of(request)
        reply = self.pane.presence.reply(conversation_id)
        yield {self.pane.note: gr.skip()}
        if reply is None or reply.tab == session:
            return
        yield self._frame(reply)
        yield from self._frames(conversation_id, session, reply)
        if self.pane.presence.shows(session, conversation_id):
            rater = self.pane.presence.named(session, rater_of(view))
            note = _note_at_the_end(reply)
            yield self._ended(conversation_id, session, limit_of(view), rater, note)

    def _frame(self, reply: Reply) -> Update:
        note = reply.chunk.note if reply.chunk else None
        return {
            self.pane.bot: _bubbles(reply),
            self.pane.note: status_message(message(note)),
        }

    def _ended(
        self,
        conversation_id: str,
        session: str,
        limit: int,
        rater: str,
        note: dict[str, Any],
        speed: float | None = None,
    ) -> Update:
        try:
            return {
                **self.pane.shown(conversation_id, limit, rater, speed=speed),
                self.pane.note: note,
                **self.pane.conversations.rows(conversation_id),
                **self.pane.buttons(replying=False),
            }
        except Exception as error:
            return self._gone(conversation_id, session, error)

    def _gone(self, conversation_id: str, session: str, error: Exception) -> Update:
        """Also where the conversation was deleted meanwhile, Send comes back."""
        refused = self.pane.refused(conversation_id, session, error)
        return {**refused, **self.pane.buttons(replying=False)}

    async def stop(self, view: dict[str, Any]) -> None:
        """Ask the reply to end. Its own handler then shows what was kept and puts Send back."""
        reply = self.pane.presence.reply(view["conversation"])
        if reply:
            reply.stop.set()


# ---- small parts -------------------------------------------------------------------------------


def _bubbles(reply: Reply) -> list[dict[str, Any]]:
    """The conversation down to what there is of the reply."""
    text = reply.chunk.text if reply.chunk else ""
    return [*reply.before, transcript.bubble("assistant", text or "…")]


def _note_at_the_end(reply: Reply) -> dict[str, Any]:
    if reply.error:
        return error_message(reply.error)
    return status_message(transcript.ending(reply.chunk) if reply.chunk else "")
