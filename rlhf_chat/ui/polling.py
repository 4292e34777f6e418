"""When the page is refreshed: as a tab opens, every few seconds, and each second while Learning is
open. The timers stop while the page is hidden.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.ui.chat_screen import ChatScreen
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.components import hidden, js_component
from rlhf_chat.ui.data_screen import DataScreen
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.learning_screen import LearningScreen
from rlhf_chat.ui.raters_panel import RatersPanel
from rlhf_chat.ui.status_bar import StatusBar
from rlhf_chat.ui.versions_screen import VersionsScreen

SLOW, FAST = 3.0, 1.0  # seconds
TABS = ("chat", "compare", "learning", "versions", "data")  # ids, in the order of the layout

# The tab that is open, as the page has it: one that a handler opened sends no `select`.
OPEN_TAB = """() => {
    const tab = document.querySelector('#tabs [role=tab][aria-selected=true]');
    return tab ? tab.id.replace(/^tab-|-button$/g, '') : '';
}"""

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

    async def on_tab(
        self, words: str, kind: str, answer: str, shown: float, event: gr.SelectData
    ) -> Update:
        name = _tab(event)
        update: Update = {self.open_tab: name, self.fast: gr.update(active=name == "learning")}
        if name == "learning":
            return update | await self.learning.refresh()
        if name == "data":
            return update | await self.data.refresh(words, kind, answer, shown)
        return update | await self._often(name)

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

    async def on_slow(self, name: str) -> Update:
        update: Update = {self.strip.strip: await quick(self.strip.read), self.open_tab: name}
        if name != "learning":
            update[self.fast] = gr.update(active=False)
        return update | await self._often(name)

    async def on_page_seen(self, name: str, event: gr.EventData) -> Update:
        seen = bool(getattr(event, "seen", True))
        fast = gr.update(active=seen and name == "learning")
        return {self.slow: gr.update(active=seen), self.fast: fast}

    async def _often(self, name: str) -> Update:
        """What may have changed on a tab while it is looked at."""
        if name == "versions":
            return await self.versions.refresh()
        if name == "compare":
            return await self.comparing.refresh()
        return {}

    def wire(self, tabs: gr.Tabs) -> None:
        self.open_tab = hidden("open-tab", "chat")
        self.slow, self.fast = gr.Timer(SLOW), gr.Timer(FAST, active=False)
        page_seen = js_component(
            "page_seen",
            True,
            visible="hidden",
            elem_id="page-seen",
        )
        often = [*self.versions.page, self.comparing.answers.count, self.comparing.sampled]
        pages = [*self.learning.page, *self.data.page, *often]
        tabs.select(self.on_tab, self.data.filters, [self.open_tab, self.fast, *pages], **EACH)
        chat = self.chatting
        tabs.select(self.on_tab_of_chat, chat.view, chat.page, **EACH)
        tabs.select(self.on_tab_of_people, None, self.people.page, **EACH)
        slow = [self.strip.strip, self.open_tab, self.fast, *often]
        self.slow.tick(self.on_slow, self.open_tab, slow, js=OPEN_TAB, **QUICK)
        details = self.learning.details
        state = [self.learning.shown, details.drawn, *details.chosen]
        both = [self.learning.shown, *self.learning.page, *details.page]
        self.fast.tick(self.learning.tick, state, both, **QUICK)
        page_seen.select(self.on_page_seen, self.open_tab, [self.slow, self.fast], **EACH)


def _tab(event: gr.SelectData) -> str:
    """The id of the tab that was opened; its label depends on the language."""
    return TABS[int(event.index)]
