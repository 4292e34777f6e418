"""The list of conversations in the sidebar, its search, and the button for a new one.

A part of the Chat screen, which decides what opening or deleting one does to the page
(chat_screen.py). Titles are filtered in the browser (static/conversations.js); here, which
conversations contain the words.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.ui.components import error_message, js_component, status_message
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import label, text

MOST = 500  # of the newest are listed

Update = dict[Any, Any]


class ConversationList:
    """`note` is the line under the chat."""

    note: gr.HTML

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    def rows(self, current: str) -> Update:
        found = self.chat.conversations.all(with_deleted=True, limit=MOST)
        pinned, gone = self.chat.conversations.pinned(), self.chat.deletion.pending()
        rows = [
            {
                "id": c.id,
                "title": c.title or text("chat.untitled"),
                "current": c.id == current,
                "at": c.updated_at,
                "pinned": c.id in pinned,
                "until": gone.get(c.id, 0),  # its deletion can be undone until then
            }
            for c in found
        ]
        rows.sort(key=lambda row: not row["pinned"])
        return {self.list: {"rows": rows, "words": "", "hits": []}}

    async def search(self, words: str, view: dict[str, Any]) -> Update:
        try:
            found = await quick(self.chat.conversations.all, words) if words.strip() else []
            excerpts = await quick(self.chat.conversations.excerpts, words, found)
            listed = await quick(self.rows, view["conversation"])
        except Exception as error:
            return {self.note: error_message(error)}
        hits = {"words": words, "hits": [[c.id, *excerpts.get(c.id, ())] for c in found]}
        return {self.list: {**listed[self.list], **hits}}

    async def rename(self, current: str, conversation_id: str, title: str) -> Update:
        await quick(self.chat.conversations.rename, conversation_id, title.strip()[:80])
        return await quick(self.rows, current)

    async def pin(self, current: str, conversation_id: str, pinned: bool) -> Update:
        await quick(self.chat.conversations.pin, conversation_id, pinned)
        return await quick(self.rows, current)

    async def undo_delete(self, current: str, conversation_id: str) -> Update:
        await quick(self.chat.deletion.undo, conversation_id)
        listed = await quick(self.rows, current)
        return {**listed, self.note: status_message(text("chat.restored"), "good")}

    def lay_out(self) -> None:
        self.new_button = gr.Button(
            label("new_chat"), elem_id="new-chat", elem_classes="lucide-square-pen", size="sm"
        )
        self.searched = gr.Textbox(
            label=label("search_chats"),
            show_label=False,
            container=False,
            max_lines=1,
            placeholder=label("search_chats"),
            elem_id="search",
        )
        self.list = js_component(
            "conversations",
            {"rows": [], "words": "", "hits": []},
            elem_id="conversations",
        )

    def wire(self, view: gr.HTML) -> None:
        self.searched.change(  # pasted text is no `input` for Gradio
            self.search,
            [self.searched, view],
            [self.list, self.note],
            trigger_mode="always_last",
            **QUICK,
        )
