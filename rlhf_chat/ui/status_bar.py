"""The status bar: model, live version, new ratings, what training does.

While a simulation runs or its versions are live, it says so in place of the model's name.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.simulation.simulator import Simulation
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import js_component, short_countdown
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import message, problem, text


class StatusBar:
    def __init__(self, chat: Chat, worker: TrainingWorker, watch: Simulation) -> None:
        self.chat, self.worker, self.watch = chat, worker, watch

    # ---- acts ----------------------------------------------------------------------------------

    def read(self) -> dict[str, Any]:
        try:
            status = self.worker.status()
        except Exception as error:
            return {"tone": "bad", "parts": [message(problem(error))]}
        if status.error:
            tone, doing = "bad", text("status.problem")
        elif status.paused:
            tone, doing = "off", text("status.paused")
        elif status.round_id is not None:
            step = text(f"step.{status.phase.replace(' ', '_')}")
            percent = round(100 * status.progress)
            tone, doing = "busy", text("status.round", step=step, percent=percent)
        else:
            off = status.phase == "off"
            tone, doing = ("off", text("status.off")) if off else ("good", text("status.ready"))
        simulated = bool(self.watch.seen.rater)
        model = text("simulation.running") if simulated else model_name(self.chat)
        return {
            "tone": tone,
            "parts": [
                part
                for part in (
                    model,
                    text("status.live", version=status.live_version),
                    short_countdown(status.waiting, status.needed),
                    doing,
                )
                if part
            ],
        }

    async def refresh(self) -> dict[str, Any]:
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
    """The last part of the model's name or folder."""
    return chat.model.name.rstrip("/").rsplit("/", 1)[-1]
