"""The Chat screen: conversations on the left, replies that stream, a thumb under each.

Acts first, then layout, then wiring. Leaves out how a reply is made and where ratings go: that is
rlhf_chat.chat. What the page shows is described by one value, the `view` (transcript.py), which
handlers also get back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import takewhile
from typing import Any

import gradio as gr

from rlhf_chat.chat import Chat, Partial, Turn
from rlhf_chat.raters import ME
from rlhf_chat.trainer import Trainer
from rlhf_chat.web import markup, transcript
from rlhf_chat.web.charts import heat
from rlhf_chat.web.conversations import ConversationList
from rlhf_chat.web.manner import MannerPanel
from rlhf_chat.web.people import READ
from rlhf_chat.web.presence import Presence, Reply
from rlhf_chat.web.quick import (
    FRAME_SECONDS,
    QUICK,
    REPLIES,
    WITH_SEND_ID,
    close,
    quick,
    sentence,
)
from rlhf_chat.web.ratings import RatingPart, event_index
from rlhf_chat.web.words import hidden, said, saying, script

SHOWN_AT_FIRST = 60  # messages drawn; each frame of a streaming reply draws all of them again

EMPTY = """## What shall we talk about?
Rate what you read: the model learns your taste while you go on chatting."""

EARLIER = "Show earlier messages"
SHUT = '<button type="button" class="shut" aria-label="Close">×</button>'  # pressed: js/view.js

Update = dict[Any, Any]


class ChatScreen:
    def __init__(self, chat: Chat, trainer: Trainer, starters: Sequence[str] = ()) -> None:
        self.chat, self.trainer = chat, trainer
        self.starters = starters  # prompts offered while the conversation is empty
        self.manner = MannerPanel(chat, trainer)
        self.conversations = ConversationList(chat)
        self.ratings = RatingPart(chat, trainer, self._redraw)
        self.presence = Presence()

    # ---- acts: replies -------------------------------------------------------------------------

    def send(self, text: str, view: dict, event_id: str, request: gr.Request) -> Iterator[Update]:
        if self.presence.heard(event_id):
            yield {self.note: gr.skip()}  # yielding nothing would empty all outputs
            return
        conversation_id, made_here = view["conversation"], ""
        try:
            if not conversation_id:
                conversation_id = made_here = self.chat.new_conversation()
            before = [] if made_here else self.chat.history(conversation_id, _rater(view))
        except Exception as error:
            yield self._refused(conversation_id, _session(request), error)
            return
        if made_here:
            self.presence.show(_session(request), made_here)
        accepted = yield from self._stream(
            _session(request),
            conversation_id,
            before,
            [*transcript.bubbles(before), transcript.bubble("user", text.strip())],
            lambda stop: self.chat.reply(
                conversation_id, text, event_id=event_id or None, stop=stop
            ),
            sent=True,
            view=view,
        )
        if made_here and not accepted:
            self.presence.show(_session(request), "")
            self.chat.delete(made_here)  # a refused first message leaves nothing behind

    def send_example(
        self, view: dict, event_id: str, request: gr.Request, event: gr.SelectData
    ) -> Iterator[Update]:
        yield from self.send(str(event.value["text"]), view, event_id, request)

    def regenerate(self, view: dict, request: gr.Request, event: gr.RetryData) -> Iterator[Update]:
        replies = [
            turn for turn in view["turns"][event_index(event) :] if turn["role"] == "assistant"
        ]
        if replies:
            yield from self._branch(request, view, replies[0]["id"], self.chat.regenerate)
        else:
            yield {self.note: said("There is no reply to make again yet.", "bad")}

    def edit(
        self, view: dict, rater: str, request: gr.Request, event: gr.EditData
    ) -> Iterator[Update]:
        """One's own message is said differently; a reply is corrected, and that is a rating."""
        text = markup.raw(str(event.value))
        turn = view["turns"][event_index(event)]
        if turn["role"] == "assistant":
            yield self._correct(view, turn["id"], text, rater)
            return

        def act(message_id: str, *, stop: threading.Event) -> Iterator[Partial]:
            return self.chat.edit(message_id, text, stop=stop)

        yield from self._branch(request, view, turn["id"], act, edited=text)

    def _correct(self, view: dict, message_id: str, text: str, rater: str) -> Update:
        try:
            self.chat.ratings.correct(message_id, text, rater=rater)
            self.trainer.wake()
            counted = self.ratings.countdown()
            word = said(f"Saved: your wording is preferred to the reply's. {counted}", "good")
        except Exception as error:
            word = said(f"Not saved. {sentence(error)}", "bad")
        return {**self._redraw(view), **self._put_away(), self.note: word}

    def _branch(
        self,
        request: gr.Request,
        view: dict,
        message_id: str,
        act: Callable[..., Iterator[Partial]],
        edited: str | None = None,
    ) -> Iterator[Update]:
        """A new message beside an old one: show the conversation up to there, then stream."""
        conversation_id = view["conversation"]
        try:
            before = list(
                takewhile(
                    lambda turn: turn.message_id != message_id,
                    self.chat.history(conversation_id, _rater(view)),
                )
            )
        except Exception as error:
            yield self._refused(conversation_id, _session(request), error)
            return
        said_now = transcript.bubbles(before) + (
            [transcript.bubble("user", edited)] if edited is not None else []
        )
        accepted = yield from self._stream(
            _session(request),
            conversation_id,
            before,
            said_now,
            lambda stop: act(message_id, stop=stop),
            view=view,
        )
        if not accepted and edited is not None:
            yield {self.message: edited}  # what was typed is not lost; it waits in the message box

    def _stream(
        self,
        session: str,
        conversation_id: str,
        before: list[Turn],
        said_now: list[dict],
        start: Callable[[threading.Event], Iterator[Partial]],
        *,
        view: dict,
        sent: bool = False,
    ) -> Generator[Update, None, bool]:
        """Show a reply as it is written. Returns whether the message was accepted."""
        reply = self.presence.begin(conversation_id, session)
        if reply is None:
            yield {
                self.note: said(
                    "A reply is still being written here. Wait for it, or press Stop. "
                    "Your message is kept.",
                    "bad",
                )
            }
            return False
        limit, rater = _limit(view), _rater(view)
        said_now, accepted = said_now[-limit:], False
        partials: Iterator[Partial] | None = None
        try:
            partials = start(reply.stop)
            partial = next(partials)  # refusals come here, before anything on the page has changed
            accepted = True
            yield self._begun(conversation_id, before[-limit:], said_now, partial, rater, sent)
            drawn = time.monotonic()
            for partial in partials:
                reply.text, reply.note = partial.text, partial.note
                waited = time.monotonic() - drawn >= FRAME_SECONDS
                if waited and self.presence.shows(session, conversation_id):
                    yield self._frame(said_now, reply)
                    drawn = time.monotonic()
            note = said(transcript.ending(partial))
        except GeneratorExit:
            raise  # the tab was closed or reloaded: nobody is left to show anything to
        except Exception as error:
            note = said(sentence(error), "bad")
            if not accepted:  # an edited message on the page goes back to what it was
                redrawn = {} if sent else self._shown(conversation_id, limit, rater)
                yield {self.note: note, **redrawn}
                return False
        finally:
            # Closing it stores the partial text, so this comes before the page is told the end.
            reply.stop.set()
            try:
                close(partials)
            finally:  # also where nothing can be stored: the next message must not wait for ever
                self.presence.end(conversation_id)
        if self.presence.shows(session, conversation_id):
            rater = self.presence.named(session, rater)
            yield self._ended(conversation_id, limit, rater, note, partial.tokens_per_second)
        return True

    def _begun(
        self,
        conversation_id: str,
        before: list[Turn],
        said_now: list[dict],
        partial: Partial,
        rater: str,
        sent: bool,
    ) -> Update:
        update = {
            # The thumbs go out whenever the value changes, so they are sent with the first one of
            # each reply.
            self.bot: gr.update(
                value=[*said_now, transcript.bubble("assistant", partial.text or "…")],
                feedback_value=[*transcript.thumbs(before), None],
            ),
            self.view: transcript.view(conversation_id, before, rater=rater, sent=sent),
            self.note: said(partial.note),
            **self._put_away(),
            **self._buttons(replying=True),
        }
        if sent:
            update |= {self.message: "", **self.conversations.rows(conversation_id)}
        return update

    def follow(self, view: dict, request: gr.Request) -> Iterator[Update]:
        """A conversation opened in a second tab while its reply is being written elsewhere: draw
        along.
        """
        conversation_id, session = view["conversation"], _session(request)
        reply = self.presence.reply(conversation_id)
        yield {self.note: gr.skip()}
        if reply is None or reply.tab == session:
            return
        said_now = transcript.bubbles(self.chat.history(conversation_id))[-_limit(view) :]
        while self.presence.reply(conversation_id) is reply:
            if not self.presence.shows(session, conversation_id):
                return
            yield self._frame(said_now, reply)
            time.sleep(2 * FRAME_SECONDS)
        if self.presence.shows(session, conversation_id):
            rater = self.presence.named(session, _rater(view))
            yield self._ended(conversation_id, _limit(view), rater, said())

    def _frame(self, said_now: list[dict], reply: Reply) -> Update:
        return {
            self.bot: [*said_now, transcript.bubble("assistant", reply.text or "…")],
            self.note: said(reply.note),
        }

    def _ended(
        self,
        conversation_id: str,
        limit: int,
        rater: str,
        note: dict,
        speed: float | None = None,
    ) -> Update:
        return {
            **self._shown(conversation_id, limit, rater, speed=speed),
            self.note: note,
            **self.conversations.rows(conversation_id),
            **self._buttons(replying=False),
        }

    async def stop(self, view: dict) -> None:
        """Ask the reply to end. Its own handler then shows what was kept and puts Send back."""
        reply = self.presence.reply(view["conversation"])
        if reply:
            reply.stop.set()

    # ---- acts: conversations -------------------------------------------------------------------

    async def on_view(self, view: dict, event: gr.EventData) -> Update:
        """What is under a message was pressed: the picker "2/3" shows another branch, "why" what
        each word of the reply does to its score, the star what one has said of it."""
        try:
            if getattr(event, "shut", ""):
                return {self.heat: ""}
            if asked := str(getattr(event, "explain", "")):
                pieces = await quick(self.chat.explain, asked)
                return {self.heat: SHUT + heat([(p.text, p.gain, p.sigma) for p in pieces])}
            if asked := str(getattr(event, "rate", "")):
                return await self.ratings.opened(asked, _rater(view))
            await quick(self.chat.select, str(getattr(event, "message_id", "")))
            return {**await quick(self._redraw, view), **self._put_away()}
        except Exception as error:
            return {self.note: said(sentence(error), "bad")}

    async def on_list(self, view: dict, request: gr.Request, event: gr.EventData) -> Update:
        """Open, rename or delete, as the list in the sidebar asks."""
        do, chosen = getattr(event, "do", "open"), str(getattr(event, "id", ""))
        current = view["conversation"]
        try:
            if do == "rename":
                return await self.conversations.rename(
                    current, chosen, str(getattr(event, "title", ""))
                )
            if do == "delete":
                await quick(self.chat.delete, chosen)
                if chosen != current:
                    return {
                        **await quick(self.conversations.rows, current),
                        self.note: said("Conversation deleted."),
                    }
                self.presence.show(_session(request), "")
                return {
                    **self._blank(_rater(view)),
                    **await quick(self.conversations.rows, ""),
                    self.note: said("Conversation deleted."),
                }
            return await self.open(chosen, request)
        except Exception as error:
            return {
                self.note: said(sentence(error), "bad"),
                **await quick(self.conversations.rows, current),
            }

    async def open(self, conversation_id: str, request: gr.Request) -> Update:
        """Show a conversation and come to the front."""
        tab = _session(request)
        self.presence.show(tab, conversation_id)
        shown = await quick(self._opened, conversation_id, self.presence.named(tab))
        return {**shown, self.tabs: gr.update(selected="chat")}

    async def start_new(self, request: gr.Request) -> Update:
        tab = _session(request)
        self.presence.show(tab, "")
        return {
            **self._blank(self.presence.named(tab)),
            **await quick(self.conversations.rows, ""),
            self.note: said(),
            self.tabs: gr.update(selected="chat"),
        }

    async def reread(self, view: dict, request: gr.Request) -> Update:
        """What is open and the list, as they are by now; a reply under way draws itself."""
        conversation_id, session = view["conversation"], _session(request)
        try:
            listed = await quick(self.conversations.rows, conversation_id)
            if not conversation_id or self.presence.reply(conversation_id):
                return listed
            shown = await quick(self._shown, conversation_id, _limit(view), _rater(view))
            # A page that is right is left alone: a thumb pressed just now must not go out again.
            same = conversation_id not in self.ratings.rated and _same(shown[self.view], view)
            if same:
                return listed
            self.ratings.rated.discard(conversation_id)  # what is drawn now knows them
            return {**listed, **shown}
        except Exception as error:
            return await quick(self._refused, conversation_id, session, error)

    def _refused(self, conversation_id: str, session: str, error: Exception) -> Update:
        """Why not; and where the conversation is gone, deleted elsewhere, the page without it."""
        update: Update = {self.note: said(sentence(error), "bad")}
        if not conversation_id or self._is_here(conversation_id):
            return update
        self.presence.show(session, "")
        blank = {**self._shown("", rater=self.presence.named(session)), **self._put_away()}
        return {**update, **blank, **self.conversations.rows("")}

    async def show_earlier(self, view: dict) -> Update:
        limit = len(view["turns"]) + 4 * SHOWN_AT_FIRST
        return await quick(self._shown, view["conversation"], limit, _rater(view))

    async def rename(self, view: dict, rater: str, request: gr.Request) -> Update:
        """Somebody else rates here from now on, so their thumbs are drawn; a reply that is being
        written is left alone and draws them at its end."""
        self.presence.name(_session(request), rater)
        named = {**view, "rater": rater}
        if view["conversation"] and not self.presence.reply(view["conversation"]):
            return {**await quick(self._redraw, named), **self._put_away()}
        return {self.view: named}

    async def load(self, request: gr.Request, rater: str = ME) -> Update:
        """The conversation named in the address, so that a reload or a restart brings it back."""
        asked, tab = request.query_params.get("c", ""), _session(request)
        self.presence.show(tab, asked)
        self.presence.name(tab, rater)
        try:
            return await quick(self._opened, asked, rater)
        except Exception as error:
            self.presence.show(tab, "")
            return {
                **self._blank(rater),
                **await quick(self.conversations.rows, ""),
                self.note: said(sentence(error), "bad"),
            }

    def _opened(self, conversation_id: str, rater: str) -> Update:
        replying = self.presence.reply(conversation_id) is not None
        shown = self._shown(conversation_id, rater=rater) if conversation_id else self._blank(rater)
        return {
            **shown,
            **self.manner.shown(conversation_id),
            **self.conversations.rows(conversation_id),
            **self._put_away(),
            self.note: said(),
            **self._buttons(replying=replying),
        }

    def _put_away(self) -> Update:
        """Nothing on the page speaks of a reply that may not be there any more."""
        return {**self.ratings.hidden(), self.heat: ""}

    def _blank(self, rater: str) -> Update:
        return {
            self.bot: gr.update(value=[], feedback_value=None),
            self.view: transcript.view("", [], rater=rater),
            **self._put_away(),
            self.earlier: gr.update(value=EARLIER, visible=False),
            **self.manner.shown(""),
            **self._buttons(replying=False),
        }

    def _shown(
        self,
        conversation_id: str,
        limit: int = SHOWN_AT_FIRST,
        rater: str = ME,
        speed: float | None = None,
    ) -> Update:
        turns = self.chat.history(conversation_id, rater) if conversation_id else []
        return {
            self.bot: gr.update(
                value=transcript.bubbles(turns[-limit:]),
                feedback_value=transcript.thumbs(turns[-limit:]),
            ),
            self.view: {
                **transcript.view(conversation_id, turns[-limit:], rater=rater, speed=speed),
                "thumbs": transcript.thumbs(turns[-limit:]),
            },
            self.earlier: gr.update(value=EARLIER, visible=len(turns) > limit),
        }

    def _is_here(self, conversation_id: str) -> bool:
        """False where it was deleted elsewhere."""
        return conversation_id in [c.id for c in self.chat.conversations()]

    def _redraw(self, view: dict) -> Update:
        conversation_id = view["conversation"] if self._is_here(view["conversation"]) else ""
        return self._shown(conversation_id, _limit(view), _rater(view))

    def _buttons(self, *, replying: bool) -> Update:
        # An update of a button without its text empties it.
        return {
            self.send_button: gr.update(value="Send", visible=not replying),
            self.stop_button: gr.update(value="Stop", visible=replying),
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.view = gr.HTML(
            {"conversation": "", "turns": [], "sent": False},
            apply_default_css=False,
            html_template="<div></div>",
            js_on_load=script("view"),
            elem_id="view",
            visible="hidden",
        )
        self.event_id = hidden("chat-event-id")
        self.earlier = gr.Button(EARLIER, visible=False, size="sm", elem_id="earlier", scale=0)
        self.bot = gr.Chatbot(
            elem_id="bot",
            show_label=False,
            label="Conversation",
            layout="bubble",
            editable="all",
            buttons=["copy"],
            placeholder=EMPTY,
            examples=[{"text": prompt} for prompt in self.starters],
            sanitize_html=True,
            allow_tags=False,
            group_consecutive_messages=False,
            height="100%",
        )
        self.ratings.lay_out()
        self.heat = gr.HTML(elem_id="heat", apply_default_css=False)
        with gr.Row(elem_id="chat-line"):
            self.note = self.ratings.note = self.conversations.note = saying("chat-note")
            self.manner.lay_out_toggle()
        with gr.Row(elem_id="composer"):
            self.message = gr.Textbox(
                label="Message",
                show_label=False,
                container=False,
                lines=1,
                max_lines=8,
                elem_id="message",
                placeholder="Write a message",
                autofocus=True,
                scale=1,
            )
            self.send_button = gr.Button(
                "Send", variant="primary", elem_id="send", scale=0, min_width=72
            )
            self.stop_button = gr.Button(
                "Stop", elem_id="stop", visible=False, scale=0, min_width=72
            )
        self.manner.lay_out()

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, tabs: gr.Tabs, rater: gr.Textbox) -> None:
        self.tabs = tabs
        self.manner.wire(self.view)
        self.page = page = [
            *self.manner.page,
            self.bot,
            self.view,
            self.note,
            self.message,
            self.send_button,
            self.stop_button,
            self.conversations.list,
            self.ratings.why,
            self.heat,
            self.earlier,
            tabs,
        ]
        streamed = [
            self.bot,
            self.view,
            self.note,
            self.message,
            self.conversations.list,
            self.earlier,
        ]
        streamed += [self.ratings.why, self.heat, self.send_button, self.stop_button]
        sent = gr.on(
            [self.message.submit, self.send_button.click],
            self.send,
            [self.message, self.view, self.event_id],
            streamed,
            js=WITH_SEND_ID,
            trigger_mode="multiple",
            **REPLIES,
        )
        self.bot.example_select(
            self.send_example,
            [self.view, self.event_id],
            streamed,
            js=WITH_SEND_ID,
            trigger_mode="multiple",
            **REPLIES,
        )
        sent.then(self.manner.after_sending, self.view, self.manner.whose, **QUICK)
        self.bot.retry(self.regenerate, self.view, streamed, trigger_mode="multiple", **REPLIES)
        self.bot.edit(self.edit, [self.view, rater], streamed, trigger_mode="multiple", **REPLIES)
        self.stop_button.click(self.stop, self.view, None, **QUICK)

        redrawn = [self.bot, self.view, self.earlier]
        self.ratings.wire(self.bot, self.view, rater, self.event_id, redrawn)
        renamed = [*redrawn, self.ratings.why, self.heat]
        rater.change(self.rename, [self.view, rater], renamed, trigger_mode="always_last", **QUICK)
        about = [*page, self.ratings.comment, self.ratings.chips]
        self.view.select(self.on_view, self.view, about, **QUICK)
        opened = self.conversations.list.select(self.on_list, self.view, page, **QUICK)
        self.conversations.new_button.click(self.start_new, None, page, **QUICK)
        self.earlier.click(self.show_earlier, self.view, page, **QUICK)
        self.conversations.wire(self.view)
        loaded = demo.load(self.load, rater, page, js=f"() => [({READ})()]", **QUICK)
        for event in (opened, loaded):
            event.then(self.follow, self.view, streamed, trigger_mode="multiple", **REPLIES)


# ---- small parts -------------------------------------------------------------------------------


def _session(request: gr.Request) -> str:
    return request.session_hash or ""


def _rater(view: dict) -> str:
    """Whose thumbs this page shows."""
    return str(view.get("rater") or ME)


def _same(one: dict, other: dict) -> bool:
    """Whether two views show the same messages with the same person's thumbs."""
    ids = [[turn["id"] for turn in view["turns"]] for view in (one, other)]
    return (
        ids[0] == ids[1] and _rater(one) == _rater(other) and one["thumbs"] == other.get("thumbs")
    )


def _limit(view: dict) -> int:
    return max(SHOWN_AT_FIRST, len(view["turns"]) + 2)
