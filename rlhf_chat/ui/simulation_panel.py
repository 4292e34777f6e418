"""The simulation on Learning: which simulated rater votes, how fast, and the last vote."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.simulation.simulator import CUSTOM, SLIDERS, Seen, Simulation, people
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.charts import line_chart
from rlhf_chat.ui.components import (
    error_message,
    js_component,
    outcome_message,
    rater_name,
    status_line,
)
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import label, message, text

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
        return {self.mix: gr.update(visible=name == CUSTOM)}

    async def _do(self, act: Any) -> Update:
        try:
            word = outcome_message(await quick(act), during=self.worker.status())
        except Exception as error:
            word = error_message(error)
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        seen = self.watch.seen
        try:
            left_over = self.worker.simulation.rater()
        except Exception as error:
            return {self.note: error_message(error)}
        return {
            self.scene: {
                "rater": rater_name(seen.rater or left_over),
                "running": seen.running,
                "doing": _doing(seen, left_over),
                "prompt": seen.prompt,
                "left": seen.left,
                "right": seen.right,
                "outcome": seen.outcome,
            },
            self.curve: line_chart(
                _smoothed(seen.liking), text("simulation.liking"), axis=text("chart.vote")
            ),
            self.start_button: gr.update(value=text("label.start"), interactive=not seen.running),
            self.stop_button: gr.update(
                value=text("label.stop_simulation"), interactive=seen.running
            ),
            self.remove_button: gr.update(
                value=text("label.remove_simulation"), interactive=bool(left_over or seen.running)
            ),
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        names = people()
        with gr.Accordion(label("simulation"), open=False, elem_id="simulation"):
            gr.HTML(label("simulation_intro"), elem_classes="quiet", apply_default_css=False)
            with gr.Row(elem_id="simulation-who"):
                self.who = gr.Dropdown(
                    [(label(f"taste_{name}"), name) for name in names],
                    value=names[0],
                    label=label("rater"),
                    filterable=False,
                    elem_id="simulation-person",
                )
                self.speed = gr.Slider(
                    2, 120, 30, step=1, label=label("votes_per_minute"), elem_id="simulation-speed"
                )
            with gr.Row(visible=names[0] == CUSTOM, elem_id="simulation-mix") as self.mix:
                self.sliders = [
                    gr.Slider(-2, 2, 0, step=0.5, label=label(f"slider_{name}"), min_width=150)
                    for name in SLIDERS
                ]
            with gr.Row(elem_id="simulation-buttons"):
                self.start_button = gr.Button(
                    label("start"), variant="primary", scale=0, min_width=90
                )
                self.stop_button = gr.Button(
                    label("stop_simulation"), scale=0, min_width=150, interactive=False
                )
                self.remove_button = gr.Button(
                    label("remove_simulation"), scale=0, min_width=200, interactive=False
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


def _doing(seen: Seen, left_over: str) -> str:
    if seen.problem:
        return message(seen.problem)
    if seen.resting:
        return text("simulation.resting", count=seen.votes)
    if seen.running:
        return text("simulation.votes", count=seen.votes)
    if seen.rater:
        return text("simulation.over", count=seen.votes)
    return text("simulation.left_over", name=rater_name(left_over)) if left_over else ""


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[float, float | None]]:
    """Each point with those before it, so that single votes do not hide the way."""
    return [
        (float(at), sum(v for _, v in points[max(0, i - SMOOTH + 1) : i + 1]) / min(i + 1, SMOOTH))
        for i, (at, _) in enumerate(points)
    ]
