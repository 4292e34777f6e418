"""When the page is refreshed: as a tab opens, and when something changed (changes.py), for which it
looks every few seconds, each second while Learning is open, and soon after a click or key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from rlhf_chat.ui.chat_screen import ChatScreen
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.components import js_component
from rlhf_chat.ui.data_screen import DataScreen
from rlhf_chat.ui.handlers import EACH, quick
from rlhf_chat.ui.learning_screen import LearningScreen
from rlhf_chat.ui.raters_panel import RatersPanel
from rlhf_chat.ui.status_bar import StatusBar
from rlhf_chat.ui.versions_screen import VersionsScreen

TABS = ("chat", "compare", "learning", "versions", "data")  # ids, in the order of the layout

Update = dict[Any, Any]


class Polling:
    def __init__(
        self,
        strip: StatusBar,
        chatting: ChatScreen,
        comparing: CompareScreen,
        learning: LearningScreen,
        versions: VersionsScreen,
        data: DataScreen,
        people: RatersPanel,
    ) -> None:
        self.strip, self.chatting, self.comparing = strip, chatting, comparing
        self.learning, self.versions, self.data, self.people = learning, versions, data, people

    def state(self) -> Any:
        """What changes on an open page by itself: it is in here, or stored. Asked by each page."""
        self.strip.watch.watched()
        try:
            status, stored = self.strip.worker.status(), self.strip.chat.stored()
        except Exception as error:  # the status bar says what it is
            return repr(error)
        return status, stored, self.strip.watch.seen, self.versions.exports.told

    async def on_tab(
        self, words: str, kind: str, answer: str, shown: float, event: gr.SelectData
    ) -> Update:
        name = _tab(event)
        if name == "learning":
            return await self.learning.refresh()
        if name == "data":
            return await self.data.refresh(words, kind, answer, shown)
        return await self._often(name) or {self.data.note: gr.skip()}

    async def on_tab_of_chat(
        self, view: dict[str, Any], request: gr.Request, event: gr.SelectData
    ) -> Update:
        """Conversations may have been deleted, and ratings withdrawn, on Data or in another tab."""
        if _tab(event) == "chat":
            return await self.chatting.reread(view, request)
        return {self.chatting.note: gr.skip()}

    async def on_tab_of_people(self, event: gr.SelectData) -> Update:
        """By itself: the agreement of raters may take a fit for each of them."""
        if _tab(event) == "data":
            return await quick(self.people.panel)
        return {self.people.note: gr.skip()}

    async def on_change(self, event: gr.SelectData) -> Update:
        """The tab that is open is told by the page: one that a handler opened sends no `select`."""
        strip = {self.strip.strip: await quick(self.strip.read)}
        return strip | await self._often(str(event.value))

    async def _often(self, name: str) -> Update:
        """What may have changed on a tab while it is looked at."""
        if name == "versions":
            return await self.versions.refresh()
        if name == "compare":
            return await self.comparing.refresh()
        return {}

    def wire(self, tabs: gr.Tabs) -> Callable[[], Any]:
        """Returns what a page asks for (changes.py)."""
        changes = js_component("changes", True, visible="hidden", elem_id="changes")
        often = [*self.versions.page, self.comparing.answers.count, self.comparing.sampled]
        pages = [*self.learning.page, *self.data.page, *often]
        tabs.select(self.on_tab, self.data.filters, pages, **EACH)
        chat = self.chatting
        tabs.select(self.on_tab_of_chat, chat.view, chat.page, **EACH)
        tabs.select(self.on_tab_of_people, None, self.people.page, **EACH)
        changes.select(self.on_change, None, [self.strip.strip, *often], **EACH)
        details = self.learning.details
        state = [self.learning.shown, details.drawn, *details.chosen]
        both = [self.learning.shown, *self.learning.page, *details.page]
        changes.input(self.learning.tick, state, both, **EACH)
        return self.state


def _tab(event: gr.SelectData) -> str:
    """The id of the tab that was opened; its label depends on the language."""
    return TABS[int(event.index)]
