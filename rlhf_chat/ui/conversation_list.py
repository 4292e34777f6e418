"""The list of conversations in the sidebar, its search, and the button for a new one.

A part of the Chat screen, which decides what opening or deleting one does to the page
(chat_screen.py). Titles are filtered in the browser (static/conversations.js); here, which
conversations contain the words.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.ui.components import error_message, js_component
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
        found = self.chat.conversations()[:MOST]
        rows = [
            {
                "id": c.id,
                "title": c.title or text("chat.untitled"),
                "current": c.id == current,
                "at": c.updated_at,
            }
            for c in found
        ]
        return {self.list: {"rows": rows, "words": "", "hits": []}}

    async def search(self, words: str, view: dict[str, Any]) -> Update:
        try:
            found = await quick(self.chat.conversations, words) if words.strip() else []
            listed = await quick(self.rows, view["conversation"])
        except Exception as error:
            return {self.note: error_message(error)}
        hits = {"words": words, "hits": [c.id for c in found]}
        return {self.list: {**listed[self.list], **hits}}

    async def rename(self, current: str, conversation_id: str, title: str) -> Update:
        await quick(self.chat.rename, conversation_id, title.strip()[:80])
        return await quick(self.rows, current)

    def lay_out(self) -> None:
        self.new_button = gr.Button(label("new_chat"), elem_id="new-chat", size="sm")
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
