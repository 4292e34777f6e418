"""The Learning screen in two layers: for anybody, and for those who know RLHF.

The first layer (learning_summary.py) says what training does, what changed, how the blind votes
stand, and what to do next. The second (metrics_panel.py) is folded away. Everything is read from
the worker's status and from rows, so a closed tab loses nothing.
"""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from rlhf_chat.errors import Notice
from rlhf_chat.simulation.simulator import Simulation
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import learning_summary
from rlhf_chat.ui.charts import safe
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.components import (
    error_message,
    hidden,
    outcome_message,
    status_line,
    status_message,
)
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import label, text
from rlhf_chat.ui.learning_summary import DUEL, NextStep
from rlhf_chat.ui.metrics_panel import ROUNDS_SHOWN, MetricsPanel
from rlhf_chat.ui.simulation_panel import SimulationPanel

MOST_NEEDED = 10_000  # ratings per round
MOST_MINUTES = 24 * 60  # per round
TABS = {learning_summary.RATE: "compare", learning_summary.LOOK: "versions"}
# Opens the tab that the next step named; a duel has opened its own and asks for answers.
GO = """tab => {
    const button = document.getElementById(`tab-${tab}-button`);
    button ? button.click() : window.rlhfNext && window.rlhfNext();
}"""

Update = dict[Any, Any]


class LearningScreen:
    def __init__(self, worker: TrainingWorker, watch: Simulation) -> None:
        self.worker = worker
        self.watching, self.details = SimulationPanel(watch, worker), MetricsPanel(worker)

    # ---- acts ----------------------------------------------------------------------------------

    async def train_now(self) -> Update:
        return await self._do(self.worker.train_now)

    async def pause_or_resume(self) -> Update:
        def act() -> Notice:
            if self.worker.status().paused:
                self.worker.resume()
                return Notice("training.resumed")
            self.worker.pause()
            return Notice("training.paused")

        return await self._do(act)

    async def stop(self) -> Update:
        def act() -> Notice:
            live = self.worker.status().live_version
            self.worker.stop_round()
            return Notice("training.stopping", {"live": live})

        return await self._do(act)

    async def set_needed(self, needed: float | None) -> Update:
        if needed is None or not math.isfinite(needed) or not 1 <= needed <= MOST_NEEDED:
            why = text("training.needed_range", limit=MOST_NEEDED)
            before = (await quick(self.worker.status)).needed
            return {self.note: status_message(why, "bad"), self.needed: before}

        def act() -> Notice:
            self.worker.set_needed(int(needed))
            return Notice("training.needed_set", {"count": int(needed)})

        return await self._do(act)

    async def set_minutes(self, minutes: float | None) -> Update:
        if minutes is None or not math.isfinite(minutes) or not 1 <= minutes <= MOST_MINUTES:
            why = text("training.minutes_range", limit=MOST_MINUTES)
            before = self.worker.round_minutes
            return {self.note: status_message(why, "bad"), self.minutes: before}

        def act() -> Notice:
            self.worker.set_round_minutes(int(minutes))
            return Notice("training.minutes_set", {"count": int(minutes)})

        return await self._do(act)

    async def set_conditions(self, names: list[str]) -> Update:
        def act() -> Notice:
            shown = self.worker.possible_conditions  # the others stay as they are
            self.worker.set_conditions([*names, *{*self.worker.conditions}.difference(shown)])
            return Notice("training.conditions_set" if names else "training.no_conditions")

        return await self._do(act)

    async def take_step(self) -> Update:
        """The next step's button."""
        try:
            step = await quick(self._next_step)
        except Exception as error:
            return {self.note: error_message(error), self.target: "learning"}
        if step.act == DUEL:
            return {**await self.comparing.begin_duel(0), self.target: ""}
        return {self.target: TABS.get(step.act, "learning")}

    async def refresh(self) -> Update:
        return await quick(self.panel)

    async def tick(self, shown: str, drawn: str, *chosen: Any) -> Update:
        """Both layers while the screen is looked at, each only if it changed; `shown` says what the
        last tick drew."""

        def read() -> Update:
            update = self.panel()
            state = str(hash(repr(list(update.values()))))
            first = {} if state == shown else update
            return {self.shown: state, **first, **self.details.refreshed(drawn, *chosen)}

        return await quick(read)

    async def load(self) -> Update:
        def read() -> Update:
            return {
                self.needed: self.worker.status().needed,
                self.minutes: self.worker.round_minutes,
                self.conditions: [
                    name
                    for name in self.worker.conditions
                    if name in self.worker.possible_conditions
                ],
                **self.panel(),
            }

        return await quick(read)

    async def _do(self, act: Any) -> Update:
        try:
            word = outcome_message(await quick(act), "quiet", during=self.worker.status())
        except Exception as error:
            word = error_message(error)
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        """The first layer: all of the screen that changes by itself."""
        try:
            status, rounds = self.worker.status(), self.worker.history.rounds(ROUNDS_SHOWN)
            standings = self.worker.leaderboard.standings()
            step = learning_summary.next_step(status, standings, self.worker.leaderboard.advice())
            done = next((r for r in rounds if r.version and r.version == status.live_version), None)
            measured = self.details.last_measured(done) if done else {}
            busy = status.round_id is not None
            return {
                self.round_size: self._round_size(),
                self.now: learning_summary.now(status, rounds),
                self.next_words: f"<h3>{safe(text('learning.next'))}</h3><p>{safe(step.told)}</p>",
                self.next_button: gr.update(value=step.button or None, visible=bool(step.act)),
                self.train_button: gr.update(variant="secondary" if step.act else "primary"),
                self.changed: learning_summary.changed(status, done, measured),
                self.votes: learning_summary.votes(standings),
                self.taste: learning_summary.taste(self.worker.history.feature_weights()),
                self.pause_button: gr.update(
                    value=text("label.resume" if status.paused else "label.pause")
                ),
                self.stop_button: gr.update(value=text("label.stop"), interactive=busy),
                **self.watching.panel(),
            }
        except Exception as error:
            return {self.note: error_message(error)}

    def _next_step(self) -> NextStep:
        board = self.worker.leaderboard
        return learning_summary.next_step(self.worker.status(), board.standings(), board.advice())

    def _round_size(self) -> str:
        """What the next round will do; nothing where it cannot be chosen."""
        if not self.worker.sizes_rounds:
            return ""
        size = self.worker.round_size()
        words = text(
            "learning.round_size", count=size.updates, replies=size.replies, tokens=size.tokens
        )
        return f"<p class='quiet'>{safe(words)}</p>"

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Row(elem_id="learning-buttons"):
            self.train_button = gr.Button(
                label("train_now"), variant="primary", scale=0, min_width=110
            )
            self.pause_button = gr.Button(label("pause"), scale=0, min_width=90)
            self.stop_button = gr.Button(
                label("stop"), interactive=False, scale=0, min_width=80, elem_id="stop-round"
            )
            self.note = status_line("learning-note")
        with gr.Row(elem_id="first-layer"):
            self.now = gr.HTML(elem_id="now", apply_default_css=False)
            with gr.Column(elem_id="next"):
                self.next_words = gr.HTML(elem_id="next-words", apply_default_css=False)
                self.next_button = gr.Button(variant="primary", visible=False, elem_id="next-step")
            self.changed = gr.HTML(elem_id="changed", apply_default_css=False)
            with gr.Column(elem_id="so-far"):
                self.votes = gr.HTML(elem_id="wins", apply_default_css=False)
                self.taste = gr.HTML(elem_id="taste", apply_default_css=False)
        with gr.Row(elem_id="round-settings"):
            self.needed = _whole_number(label("ratings_per_round"), "needed")
            self.minutes = _whole_number(
                label("minutes_per_round"), "minutes", visible=self.worker.sizes_rounds
            )
            self.conditions = gr.CheckboxGroup(
                [(label(f"rounds_only_{name}"), name) for name in self.worker.possible_conditions],
                label=label("rounds_only"),
                elem_id="rounds-only",
            )
            self.round_size = gr.HTML(elem_id="round-size", apply_default_css=False)
        self.notify = gr.Checkbox(False, label=label("notify"), elem_id="notify")
        self.target, self.shown = hidden("next-target"), hidden("learning-shown")
        self.watching.lay_out()
        self.details.lay_out()

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, comparing: CompareScreen) -> None:
        self.comparing = comparing
        self.watching.wire()
        self.details.wire()
        self.page = [
            self.note,
            self.now,
            self.next_words,
            self.next_button,
            self.changed,
            self.votes,
            self.taste,
            self.train_button,
            self.pause_button,
            self.stop_button,
            self.needed,
            self.minutes,
            self.conditions,
            self.round_size,
            *self.watching.page,
        ]
        step = [self.note, self.target, *comparing.page]
        self.next_button.click(self.take_step, None, step, **QUICK).then(
            None, self.target, None, js=GO, **QUICK
        )
        self.train_button.click(self.train_now, None, self.page, **QUICK)
        self.pause_button.click(self.pause_or_resume, None, self.page, **QUICK)
        self.stop_button.click(self.stop, None, self.page, **QUICK)
        gr.on(
            [self.needed.submit, self.needed.blur], self.set_needed, self.needed, self.page, **QUICK
        )
        gr.on(
            [self.minutes.submit, self.minutes.blur],
            self.set_minutes,
            self.minutes,
            self.page,
            **QUICK,
        )
        # The browser keeps this setting: it is about this page, and the browser has to allow it.
        told = [self.notify, self.note]
        self.notify.input(None, self.notify, told, js="rlhfNotify", **QUICK)
        demo.load(None, None, self.notify, js="() => rlhfNotifies()", **QUICK)
        self.conditions.input(self.set_conditions, self.conditions, self.page, **QUICK)
        demo.load(self.load, None, self.page, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _whole_number(name: I18nData, elem_id: str, *, visible: bool = True) -> gr.Number:
    """A field without minimum and maximum: Gradio refuses what is beyond them before a handler is
    asked, and tells the person nothing."""
    return gr.Number(
        label=name,
        precision=0,
        scale=0,
        min_width=150,
        elem_id=elem_id,
        visible=visible,
    )
