"""The welcome of the first run: three steps, the last of which opens Compare for a first vote.

It stands in the empty chat and blocks nothing; a first message or "Skip" hides it for good.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import error_message, js_component, status_line
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import text

Update = dict[Any, Any]


class Welcome:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker

    # ---- acts ----------------------------------------------------------------------------------

    async def load(self) -> Update:
        def read() -> dict[str, Any]:
            return {"shown": self.chat.is_new(), "steps": steps(self.worker.status().needed)}

        try:
            return {self.card: await quick(read)}
        except Exception as error:
            return {self.note: error_message(error)}

    async def put_away(self) -> Update:
        try:
            await quick(self.chat.dismiss_welcome)
        except Exception as error:  # it will simply be there again
            return {self.note: error_message(error)}
        return {self.card: {"shown": False, "steps": []}}

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out(self) -> None:
        self.card = js_component(
            "welcome",
            {"shown": False, "steps": []},
            elem_id="welcome",
        )
        self.note = status_line("welcome-note")

    def wire(self, demo: gr.Blocks) -> None:
        page = [self.card, self.note]
        self.card.select(self.put_away, None, page, **QUICK)
        demo.load(self.load, None, page, **QUICK)


def steps(needed: int) -> list[list[str]]:
    """(heading, text, button) of each step."""
    onward = text("welcome.next")
    return [
        [text("welcome.own_model"), text("welcome.own_model_text"), onward],
        [text("welcome.learns"), text("welcome.learns_text", count=needed), onward],
        [
            text("welcome.first_vote"),
            text("welcome.first_vote_text"),
            text("welcome.show_answers"),
        ],
    ]
