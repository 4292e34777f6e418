"""The strip that is always visible: model, live version, new ratings, what the trainer does. While
a simulated person is in charge, its name stands there instead of the model's. Leaves out all
detail.
"""

from __future__ import annotations

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.simulation.simulator import Simulation, spoken
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import js_component, so_far, version_label
from rlhf_chat.ui.handlers import QUICK, quick, sentence


class StatusBar:
    def __init__(self, chat: Chat, worker: TrainingWorker, watch: Simulation) -> None:
        self.chat, self.worker, self.watch = chat, worker, watch

    # ---- acts ----------------------------------------------------------------------------------

    def read(self) -> dict:
        try:
            status = self.worker.status()
        except Exception as error:
            return {"tone": "bad", "parts": [sentence(error)]}
        if status.error:
            tone, doing = "bad", "Learning has a problem"
        elif status.paused:
            tone, doing = "off", "Learning paused"
        elif status.round_id is not None:
            tone, doing = "busy", f"Learning: {status.phase}, {round(100 * status.progress)} %"
        else:
            tone, doing = (
                "good" if status.phase != "off" else "off",
                "Learning is off" if status.phase == "off" else "Ready",
            )
        watched = self.watch.seen.rater
        model = f"{spoken(watched)} is in charge" if watched else model_name(self.chat)
        return {
            "tone": tone,
            "parts": [
                part
                for part in (
                    model,
                    f"{version_label(status.live_version)} live",
                    so_far(status.waiting, status.needed),
                    doing,
                )
                if part
            ],
        }

    async def refresh(self) -> dict:
        return await quick(self.read)

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out(self) -> None:
        self.strip = js_component(
            "status_bar",
            {"tone": "off", "parts": []},
            elem_id="status-bar",
        )

    def wire(self, demo: gr.Blocks) -> None:
        demo.load(self.refresh, None, self.strip, **QUICK)


def model_name(chat: Chat) -> str:
    """The last part of the model's name or folder, as people call it."""
    return chat.model.name.rstrip("/").rsplit("/", 1)[-1]
