"""The part of Learning where a simulated person rates: who, how fast, what it just did.

Leaves out the person itself (rlhf_chat.simulation.simulator).
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.simulation.simulator import OWN, SLIDERS, Simulation, people, spoken
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.charts import line_chart
from rlhf_chat.ui.components import (
    js_component,
    outcome_message,
    plural,
    status_line,
    status_message,
)
from rlhf_chat.ui.handlers import QUICK, quick, sentence

INTRO = (
    "A simulated person with a hidden taste votes on drafts, through the same calls as you, and "
    "trains versions of its own, beginning at the base. Your ratings stay apart, and everything it "
    "leaves is removed with one click."
)
SMOOTH = 12  # votes averaged for the curve

Update = dict[Any, Any]


class SimulationPanel:
    def __init__(self, watch: Simulation, worker: TrainingWorker) -> None:
        self.watch, self.worker = watch, worker

    # ---- acts ----------------------------------------------------------------------------------

    async def start(self, name: str, speed: float, *sliders: float) -> Update:
        mix = dict(zip(SLIDERS, sliders, strict=True))
        return await self._do(lambda: self.watch.start(name, mix, speed))

    async def stop(self) -> Update:
        return await self._do(self.watch.stop)

    async def remove(self) -> Update:
        return await self._do(self.watch.remove)

    async def set_speed(self, speed: float) -> None:
        self.watch.set_speed(speed)

    async def choose(self, name: str) -> Update:
        return {self.mix: gr.update(visible=name == OWN)}

    async def _do(self, act: Any) -> Update:
        try:
            word = outcome_message(await quick(act))
        except Exception as error:
            word = status_message(sentence(error), "bad")
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        seen = self.watch.seen
        try:
            left_over = self.worker.watching()
        except Exception as error:
            return {self.note: status_message(sentence(error), "bad")}
        return {
            self.scene: {
                "rater": spoken(seen.rater or left_over),
                "running": seen.running,
                "doing": _doing(seen, left_over),
                "prompt": seen.prompt,
                "left": seen.left,
                "right": seen.right,
                "outcome": seen.outcome,
            },
            self.curve: line_chart(
                _smoothed(seen.liking), "How much it likes the replies", x_name="vote"
            ),
            self.start_button: gr.update(value="Start", interactive=not seen.running),
            self.stop_button: gr.update(value="Stop rating", interactive=seen.running),
            self.remove_button: gr.update(
                value="Remove all of it", interactive=bool(left_over or seen.running)
            ),
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        names = people()
        with gr.Accordion("Watch it learn", open=False, elem_id="simulation"):
            gr.HTML(INTRO, elem_classes="quiet", apply_default_css=False)
            with gr.Row(elem_id="simulation-who"):
                self.who = gr.Dropdown(
                    [(name.replace("_", " "), name) for name in names],
                    value=names[0],
                    label="Person",
                    filterable=False,
                    elem_id="simulation-person",
                )
                self.speed = gr.Slider(
                    2, 120, 30, step=1, label="Votes per minute", elem_id="simulation-speed"
                )
            with gr.Row(visible=names[0] == OWN, elem_id="simulation-mix") as self.mix:
                self.sliders = [
                    gr.Slider(-2, 2, 0, step=0.5, label=name, min_width=150) for name in SLIDERS
                ]
            with gr.Row(elem_id="simulation-buttons"):
                self.start_button = gr.Button("Start", variant="primary", scale=0, min_width=90)
                self.stop_button = gr.Button(
                    "Stop rating", scale=0, min_width=110, interactive=False
                )
                self.remove_button = gr.Button(
                    "Remove all of it", scale=0, min_width=140, interactive=False
                )
            self.note = status_line("watch-note")
            with gr.Row(elem_id="simulation-row"):
                self.scene = js_component(
                    "simulation",
                    {},
                    elem_id="simulation-view",
                )
                self.curve = gr.HTML(elem_id="liking", apply_default_css=False)

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self) -> None:
        self.page = [
            self.note,
            self.scene,
            self.curve,
            self.start_button,
            self.stop_button,
            self.remove_button,
        ]
        self.start_button.click(
            self.start, [self.who, self.speed, *self.sliders], self.page, **QUICK
        )
        self.stop_button.click(self.stop, None, self.page, **QUICK)
        self.remove_button.click(self.remove, None, self.page, **QUICK)
        self.speed.input(self.set_speed, self.speed, None, trigger_mode="always_last", **QUICK)
        self.who.input(self.choose, self.who, self.mix, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _doing(seen: Any, left_over: str) -> str:
    if seen.problem:
        return str(seen.problem)
    if seen.resting:
        return f"{plural(seen.votes, 'vote')}. It rests while the round learns from them."
    if seen.running:
        return f"{plural(seen.votes, 'vote')} so far."
    if seen.rater:
        return f"{plural(seen.votes, 'vote')}. It has stopped; its versions are still here."
    if left_over:
        name = spoken(left_over)
        return f"{name} was here before the app was started again; what it left is set aside."
    return ""


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[float, float | None]]:
    """Each point with those before it, so that single votes do not hide the way."""
    return [
        (float(at), sum(v for _, v in points[max(0, i - SMOOTH + 1) : i + 1]) / min(i + 1, SMOOTH))
        for i, (at, _) in enumerate(points)
    ]
