"""The Chat screen: conversations on the left, replies that stream, a thumb under each.

Here are the actions on conversations and on what is under a message, and the wiring. The
components are in chat_view.py, replies in streaming.py.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import gradio as gr

from rlhf_chat.chat.raters import ME, checked_name
from rlhf_chat.ui.charts import attribution, safe
from rlhf_chat.ui.chat_view import SHOWN_AT_FIRST, ChatView, Update, limit_of, rater_of
from rlhf_chat.ui.checked_blocks import CheckedBlocks
from rlhf_chat.ui.components import error_message, status_message
from rlhf_chat.ui.handlers import EACH, QUICK, REPLIES, quick, with_send_id
from rlhf_chat.ui.language import text
from rlhf_chat.ui.raters_panel import READ
from rlhf_chat.ui.sessions import tab_of
from rlhf_chat.ui.streaming import ReplyStreaming


class ChatScreen(ChatView):
    @cached_property
    def replying(self) -> ReplyStreaming:
        return ReplyStreaming(self)

    # ---- acts ----------------------------------------------------------------------------------

    async def on_view(self, view: dict[str, Any], event: gr.EventData) -> Update:
        """What is under a message was pressed: the picker shows another branch, "Explain" what
        each word of the reply does to its score, the star the ratings of the reply."""
        try:
            if getattr(event, "shut", ""):
                return {self.heat: ""}
            if asked := str(getattr(event, "explain", "")):
                pieces = await quick(self.chat.explain, asked)
                drawn = attribution([(p.text, p.gain, p.sigma) for p in pieces])
                return {self.heat: _about(asked) + drawn + _close_button()}
            if asked := str(getattr(event, "rate", "")):
                return await self.ratings.opened(asked, rater_of(view))
            await quick(self.chat.conversations.select, str(getattr(event, "message_id", "")))
            return {**await quick(self.redrawn, view), **self.put_away()}
        except Exception as error:
            return {self.note: error_message(error)}

    async def on_list(
        self, view: dict[str, Any], request: gr.Request, event: gr.EventData
    ) -> Update:
        """Open, rename, pin, delete or keep after all, as the list in the sidebar asks."""
        do, chosen = getattr(event, "do", "open"), str(getattr(event, "id", ""))
        current = view["conversation"]
        try:
            if do == "rename":
                return await self.conversations.rename(
                    current, chosen, str(getattr(event, "title", ""))
                )
            if do == "pin":
                return await self.conversations.pin(current, chosen, bool(event.pinned))
            if do == "undo_delete":
                return await self.conversations.undo_delete(current, chosen)
            if do == "delete":
                await quick(self.chat.deletion.add, chosen)
                if reply := self.presence.reply(chosen):
                    reply.stop.set()  # the rest of it would not be shown
                if chosen != current:
                    return {
                        **await quick(self.conversations.rows, current),
                        self.note: status_message(text("chat.deleted")),
                    }
                self.presence.show(tab_of(request), "")
                return {
                    **self.blank(rater_of(view)),
                    **await quick(self.conversations.rows, ""),
                    self.note: status_message(text("chat.deleted")),
                }
            return await self.open(chosen, request)
        except Exception as error:
            return {
                self.note: error_message(error),
                **await quick(self.conversations.rows, current),
            }

    async def open(self, conversation_id: str, request: gr.Request) -> Update:
        """Show a conversation and come to the front."""
        tab = tab_of(request)
        self.presence.show(tab, conversation_id)
        shown = await quick(self.opened, conversation_id, self.presence.named(tab))
        return {**shown, self.tabs: gr.update(selected="chat")}

    async def start_new(self, request: gr.Request) -> Update:
        tab = tab_of(request)
        self.presence.show(tab, "")
        return {
            **self.blank(self.presence.named(tab)),
            **await quick(self.conversations.rows, ""),
            self.note: status_message(),
            self.tabs: gr.update(selected="chat"),
        }

    async def reread(self, view: dict[str, Any], request: gr.Request) -> Update:
        """What is open and the list, as they are by now; a reply under way draws itself."""
        conversation_id, session = view["conversation"], tab_of(request)
        try:
            listed = await quick(self.conversations.rows, conversation_id)
            if not conversation_id or self.presence.reply(conversation_id):
                return listed
            shown = await quick(self.shown, conversation_id, limit_of(view), rater_of(view))
            # A page that is right is left alone: a thumb pressed just now must not go out again.
            same = conversation_id not in self.ratings.rated and _same(shown[self.view], view)
            if same:
                return listed
            self.ratings.rated.discard(conversation_id)  # what is drawn now knows them
            return {**listed, **shown}
        except Exception as error:
            return await quick(self.refused, conversation_id, session, error)

    async def show_earlier(self, view: dict[str, Any]) -> Update:
        limit = len(view["turns"]) + 4 * SHOWN_AT_FIRST
        return await quick(self.shown, view["conversation"], limit, rater_of(view))

    async def rename(self, view: dict[str, Any], rater: str, request: gr.Request) -> Update:
        """Another rater name: draw the thumbs of that rater. A reply that is being
        written is left alone and draws them at its end."""
        rater = checked_name(rater)  # the box may be half typed
        self.presence.name(tab_of(request), rater)
        named = {**view, "rater": rater}
        if view["conversation"] and not self.presence.reply(view["conversation"]):
            return {**await quick(self.redrawn, named), **self.put_away()}
        return {self.view: named}

    async def load(self, request: gr.Request, rater: str = ME) -> Update:
        """The conversation named in the address, so that a reload or a restart brings it back."""
        asked, tab, rater = request.query_params.get("c", ""), tab_of(request), checked_name(rater)
        self.presence.show(tab, asked)
        self.presence.name(tab, rater)
        try:
            # Without a note: who was quick on a new page has one already, which says what happened.
            return {**await quick(self.opened, asked, rater), self.note: gr.skip()}
        except Exception as error:
            self.presence.show(tab, "")
            return {
                **self.blank(rater),
                **await quick(self.conversations.rows, ""),
                self.note: error_message(error),
            }

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, tabs: gr.Tabs, rater: gr.Textbox) -> None:
        self.tabs = tabs
        if isinstance(demo, CheckedBlocks):
            demo.before_close = self.presence.stop_all  # what there is of running replies is kept
        self.settings.wire(self.view)
        self.page = page = [
            *self.settings.page,
            self.bot,
            self.view,
            self.note,
            self.message,
            self.send_button,
            self.stop_button,
            self.conversations.list,
            self.ratings.chips,
            self.heat,
            self.earlier,
            tabs,
        ]
        streamed = self._wire_replies(rater)
        redrawn = [self.bot, self.view, self.earlier]
        self.ratings.wire(self.bot, self.view, rater, self.event_id, redrawn)
        renamed = [*redrawn, self.ratings.chips, self.heat]
        rater.change(self.rename, [self.view, rater], renamed, trigger_mode="always_last", **QUICK)
        about = [*page, self.ratings.comment]
        self.view.select(self.on_view, self.view, about, **EACH)
        opened = self.conversations.list.select(self.on_list, self.view, page, **EACH)
        away = "() => { if (rlhfNarrow()) rlhfSidebar(false); }"  # it covers the page there
        self.conversations.new_button.click(self.start_new, None, page, js=away, **QUICK)
        self.earlier.click(self.show_earlier, self.view, page, **QUICK)
        self.conversations.wire(self.view)
        loaded = demo.load(self.load, rater, page, js=f"() => [({READ})()]", **QUICK)
        for event in (opened, loaded):
            event.then(
                self.replying.follow, self.view, streamed, trigger_mode="multiple", **REPLIES
            )

    def _wire_replies(self, rater: gr.Textbox) -> list[Any]:
        """Returns what a reply that is being written changes on the page."""
        replying = self.replying
        streamed = [
            self.bot,
            self.view,
            self.note,
            self.message,
            self.conversations.list,
            self.earlier,
        ]
        streamed += [self.ratings.chips, self.heat, self.send_button, self.stop_button]
        streamed.append(self.attachments.files)
        self.attachments.wire(self.view)
        sent = gr.on(
            [self.message.submit, self.send_button.click],
            replying.send,
            [self.message, self.view, self.event_id, self.attachments.files],
            streamed,
            js=with_send_id(2),
            trigger_mode="multiple",
            **REPLIES,
        )
        begun = self.bot.example_select(
            replying.send_example,
            [self.view, self.event_id],
            streamed,
            js=with_send_id(1),
            trigger_mode="multiple",
            **REPLIES,
        )
        for first in (sent, begun):
            first.then(self.settings.after_sending, self.view, self.settings.whose, **QUICK)
        self.bot.option_select(
            replying.continue_reply, self.view, streamed, trigger_mode="multiple", **REPLIES
        )
        self.bot.retry(replying.regenerate, self.view, streamed, trigger_mode="multiple", **REPLIES)
        self.bot.edit(
            replying.edit,
            [self.view, rater, self.message],
            streamed,
            trigger_mode="multiple",
            **REPLIES,
        )
        self.stop_button.click(replying.stop, self.view, None, **QUICK)
        return streamed


def _about(message_id: str) -> str:
    """Where static/view.js names the reply."""
    return f'<p class="about" data-about="{safe(message_id)}"></p>'


def _close_button() -> str:
    """Pressed in static/view.js."""
    name = safe(text("attribution.close"))
    return f'<button type="button" class="shut lucide-x" aria-label="{name}"></button>'


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two views show the same messages with the same person's thumbs."""
    ids = [[turn["id"] for turn in view["turns"]] for view in (one, other)]
    return (
        ids[0] == ids[1]
        and rater_of(one) == rater_of(other)
        and one["thumbs"] == other.get("thumbs")
    )
