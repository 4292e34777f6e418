"""What to do when the live version learned from an import that was undone, or from a rater who was
excluded: go back to the version before, or retrain without. It stands at the top of Data.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.errors import Notice
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import error_message, js_component, outcome_message, status_line
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.language import message

Update = dict[Any, Any]


class LapsedPanel:
    def __init__(self, worker: TrainingWorker) -> None:
        self.worker = worker

    async def act(self, event: gr.EventData) -> Update:
        try:
            done = await quick(self._act, str(getattr(event, "do", "")))
            word = outcome_message(done, during=self.worker.status())
        except Exception as error:
            word = error_message(error)
        return {self.note: word, self.box: await quick(self.value)}

    def _act(self, do: str) -> Notice | None:
        if do == "retrain":
            return self.worker.retrain()
        found = self.worker.lapsed()
        return self.worker.versions.make_live(found.back_to) if found else None

    async def refresh(self) -> Update:
        return {self.box: await quick(self.value)}

    def value(self) -> dict[str, str]:
        found = self.worker.lapsed()
        return {"told": message(found.notice)} if found else {}

    def lay_out(self) -> None:
        self.box = js_component("lapsed", {}, elem_id="lapsed")
        self.note = status_line("lapsed-note")

    def wire(self) -> None:
        self.page = [self.box, self.note]
        self.box.select(self.act, None, self.page, **EACH)

    def after(self, event: Any) -> None:
        """Looks again after an event that may change what counts."""
        event.then(self.refresh, None, [self.box], trigger_mode="always_last", **QUICK)
