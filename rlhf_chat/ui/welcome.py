"""The welcome of the first run: three steps, of which the last is a first vote.

It stands in the empty chat and blocks nothing; a first message or "Skip" puts it away for good.
Leaves out the vote itself, which happens on Compare.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import js_component, status_line, status_message
from rlhf_chat.ui.handlers import QUICK, quick, sentence

Update = dict[Any, Any]


class Welcome:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker

    # ---- acts ----------------------------------------------------------------------------------

    async def load(self) -> Update:
        def read() -> dict:
            return {"shown": self.chat.is_new(), "steps": steps(self.worker.status().needed)}

        try:
            return {self.card: await quick(read)}
        except Exception as error:
            return {self.note: status_message(sentence(error), "bad")}

    async def put_away(self) -> Update:
        try:
            await quick(self.chat.dismiss_welcome)
        except Exception as error:  # it will simply be there again
            return {self.note: status_message(sentence(error), "bad")}
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
    """(heading, words, button) of each step."""
    return [
        [
            "A model of your own",
            "It runs on this machine. What you write and what you rate stays in one file, "
            "feedback.db, and nothing is sent anywhere.",
            "Next",
        ],
        [
            "It learns what you like",
            f"Give replies a thumb, or choose between two drafts. After {needed} ratings a round "
            "begins by itself: the model practises, and a new version answers only if a check says "
            "it got better. You can always go back.",
            "Next",
        ],
        [
            "Your first vote",
            "Two drafts of the same question, side by side. Press 1 if you like A more, 2 for B. "
            "Who wrote them is shown afterwards.",
            "Show me two drafts",
        ],
    ]
