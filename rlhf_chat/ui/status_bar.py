"""The status bar: model, live version and the state of training (training/status.py).

A ring fills with ratings or, while a round runs, with its progress. A dot on the Learning tab says
that a version was made since that tab was last open. While a simulation runs or its versions are
live, the bar says so in place of the model's name.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.simulation.simulator import Simulation
from rlhf_chat.training.status import FAILED, OFF, PAUSED, STOPPED, TRAINING
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import js_component
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import message, problem, text

TONES = {FAILED: "bad", TRAINING: "busy", OFF: "off", PAUSED: "off", STOPPED: "off"}


class StatusBar:
    def __init__(self, chat: Chat, worker: TrainingWorker, watch: Simulation) -> None:
        self.chat, self.worker, self.watch = chat, worker, watch

    # ---- acts ----------------------------------------------------------------------------------

    def read(self) -> dict[str, Any]:
        try:
            status = self.worker.status()
        except Exception as error:
            return {"tone": "bad", "parts": [message(problem(error))]}
        simulated = bool(self.watch.seen.rater)
        return {
            "tone": TONES.get(status.state, "good"),
            "share": round(status.share, 3),
            "told": message(status.sentence),
            "situation": status.situation,
            "newest": status.newest_version,
            "simulated": simulated,
            "parts": [
                text("simulation.running") if simulated else model_name(self.chat),
                text("status.live", version=status.live_version),
                message(status.count),
                message(status.name),
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
