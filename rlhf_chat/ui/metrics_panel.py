"""The second layer of Learning, for those who know RLHF: charts of every measure over updates and
rounds, single values side by side, the weights of the reward model, and every round.

Gradio's own plots (Vega): hover shows values, dragging chooses a range for all of them. They are
fetched and drawn only while the panel is open, and again only when something changed.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import gradio as gr

from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.charts import safe
from rlhf_chat.ui.components import error_message, hidden, status_line
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.language import label, text
from rlhf_chat.ui.learning_summary import direction, feature_text
from rlhf_chat.ui.measures import (
    CHARTS,
    GROUPS,
    Points,
    last_values,
    lines,
    measure_title,
    over_rounds,
    table,
)
from rlhf_chat.ui.round_history import round_history

ROUNDS_SHOWN = 20
MOST_COMPARED = 5
IN_TABLE = 4  # rounds, unless others were chosen
ABSENT = "absent"  # class of a plot without values
UPDATES, ROUNDS = "update", "round"

Update = dict[Any, Any]
Lines = tuple[str, list[list[Any]]]  # what the x axis is, and rows [x, y, name of the line]


class MetricsPanel:
    def __init__(self, worker: TrainingWorker) -> None:
        self.worker = worker
        self._ended: dict[int, dict[str, Points]] = {}  # of rounds that ended: they never change

    # ---- acts ----------------------------------------------------------------------------------

    async def show(self, *chosen: Any) -> Update:
        return await self._draw(*chosen)

    async def hide(self) -> Update:
        return {self.drawn: ""}

    async def zoom(self, group: str, axis: str, rounds: list[str], event: gr.SelectData) -> Update:
        """Every chart within the range that was dragged over one of them."""
        low, high = sorted(float(end) for end in event.index)
        return await self._draw(group, axis, rounds, f"{low:g} {high:g}")

    async def zoom_out(self, group: str, axis: str, rounds: list[str]) -> Update:
        return await self._draw(group, axis, rounds, "")

    async def choose(self, group: str, axis: str, rounds: list[str]) -> Update:
        return await self._draw(group, axis, rounds, "")

    def refreshed(self, drawn: str, *chosen: Any) -> Update:
        """What has changed while the panel is open; `drawn` is the state that the page shows."""
        if not drawn or drawn == self._state(*chosen):
            return {}
        return self.panel(*chosen)

    async def dress(self, drawn: str, *chosen: Any) -> Update:
        """Titles, ranges and legends, once the page has the values: a plot that gets both at once
        draws the values before."""
        if not drawn:
            return {self.note: gr.skip()}
        try:
            return await quick(self._dresses, *chosen)
        except Exception as error:
            return {self.note: error_message(error)}

    async def _draw(self, *chosen: Any) -> Update:
        try:
            return await quick(self.panel, *chosen)
        except Exception as error:
            return {self.note: error_message(error)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self, group: str, axis: str, chosen: list[str], zoom: str) -> Update:
        rounds = self.worker.history.rounds(ROUNDS_SHOWN)
        measured = {done.id: self.measured(done) for done in rounds}
        ids, drawn = self._drawn(measured, group, axis, chosen)
        compared = ids if chosen else sorted(measured)[-IN_TABLE:]
        choices = [(text("learning.round", number=n), str(n)) for n in measured]
        return {
            self.drawn: self._state(group, axis, chosen, zoom),
            self.zoomed: zoom,
            self.whole_button: gr.update(visible=bool(zoom)),
            self.rounds: gr.update(choices=choices),
            **{
                plot: _values(drawn.get(name or ""))
                for plot, name in zip_longest(self.plots, drawn)
            },
            self.absent: _absent([name for name, (_, rows) in drawn.items() if not rows]),
            self.table: table({n: measured[n] for n in compared}),
            self.weights: self._weights(),
            self.history: round_history(rounds),
        }

    def measured(self, done: Any) -> dict[str, Points]:
        """Measure -> its points, of one round."""
        if done.id in self._ended:
            return self._ended[done.id]
        measured: dict[str, Points] = dict(self.worker.history.metrics(done.id))
        if done.ended_at:
            self._ended[done.id] = measured
        return measured

    def last_measured(self, done: Any) -> dict[str, float]:
        return last_values(self.measured(done))

    def _drawn(
        self, measured: Any, group: str, axis: str, chosen: list[str]
    ) -> tuple[list[int], dict[str, Lines]]:
        """The rounds that are compared, and the lines of each measure of the group."""
        ids = sorted(int(n) for n in chosen if int(n) in measured) or sorted(measured)[-1:]
        names = GROUPS.get(group, GROUPS["reward"])
        return ids, {name: self._lines(name, axis, measured, ids) for name in names}

    def _dresses(self, group: str, axis: str, chosen: list[str], zoom: str) -> Update:
        rounds = self.worker.history.rounds(ROUNDS_SHOWN)
        measured = {done.id: self.measured(done) for done in rounds}
        _, drawn = self._drawn(measured, group, axis, chosen)
        shown = zip(self.plots, drawn.items(), strict=False)
        return {plot: _dress(name, *lines, zoom) for plot, (name, lines) in shown}

    @staticmethod
    def _lines(name: str, axis: str, measured: Any, ids: list[int]) -> Lines:
        if axis == ROUNDS:
            return ROUNDS, over_rounds(name, measured)
        return lines(name, measured, ids)

    def _state(self, *chosen: Any) -> str:
        """Changes whenever what is shown does: the choices, how the newest round stands, and its
        updates."""
        newest = next(iter(self.worker.history.rounds(1)), None)
        if newest is None:
            return f"none {chosen}"
        steps = {step for points in self.measured(newest).values() for step, _ in points}
        return f"{newest.id} {newest.status} {len(steps)} {chosen}"

    def _weights(self) -> str:
        weights = self.worker.history.feature_weights()
        if not weights:
            return ""
        rows = "".join(_weight(*one) for one in weights)
        return f"<h3>{safe(text('learning.weights'))}</h3><table><tbody>{rows}</tbody></table>"

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Accordion(label("details"), open=False, elem_id="details") as self.box:
            with gr.Row(elem_id="measures-chosen"):
                self.group = gr.Radio(
                    [(label(f"group_{name}"), name) for name in GROUPS],
                    value="reward",
                    label=label("measures"),
                    elem_id="measure-group",
                )
                self.axis = gr.Radio(
                    [(label("by_update"), UPDATES), (label("by_round"), ROUNDS)],
                    value=UPDATES,
                    label=label("x_axis"),
                    elem_id="measure-axis",
                )
                self.rounds = gr.Dropdown(
                    [],
                    value=[],
                    multiselect=True,
                    max_choices=MOST_COMPARED,
                    label=label("compared_rounds"),
                    info=label("newest_round_unless"),
                    elem_id="compared-rounds",
                )
            with gr.Row(elem_id="zoom"):
                gr.HTML(label("zoom_hint"), elem_classes="quiet", apply_default_css=False)
                self.whole_button = gr.Button(
                    label("whole_range"), visible=False, scale=0, size="sm", elem_id="whole-range"
                )
            self.zoomed = hidden("measures-zoom")
            self.drawn = gr.Textbox(visible="hidden", elem_id="measures-drawn")
            with gr.Row(elem_id="plots"):
                self.plots = [
                    gr.LinePlot(x="x", y="y", color="round", height=230, visible=False)
                    for _ in range(CHARTS)
                ]
            self.absent = gr.HTML(elem_id="absent", apply_default_css=False)
            self.table = gr.HTML(elem_id="measures", apply_default_css=False)
            self.weights = gr.HTML(elem_id="weights", apply_default_css=False)
            self.history = gr.HTML(elem_id="rounds", apply_default_css=False)
            self.note = status_line("details-note")

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self) -> None:
        choice: list[Any] = [self.group, self.axis, self.rounds]
        self.chosen = [*choice, self.zoomed]
        self.page = [
            self.note,
            self.drawn,
            self.zoomed,
            self.whole_button,
            self.rounds,
            *self.plots,
            self.absent,
            self.table,
            self.weights,
            self.history,
        ]
        self.box.expand(self.show, self.chosen, self.page, **QUICK)
        self.box.collapse(self.hide, None, self.drawn, **QUICK)
        for box in choice:
            box.input(self.choose, choice, self.page, **EACH)
        for plot in self.plots:
            plot.select(self.zoom, choice, self.page, **EACH)
        whole = [self.whole_button.click, *(plot.double_click for plot in self.plots)]
        gr.on(whole, self.zoom_out, choice, self.page, **QUICK)
        dressed = [self.note, *self.plots]
        self.drawn.change(self.dress, [self.drawn, *self.chosen], dressed, **EACH)


# ---- small parts -------------------------------------------------------------------------------


def _values(drawn: Lines | None) -> Any:
    """An update of one plot; without values the style sheet hides it: a plot that Gradio takes off
    the page goes on measuring itself there, and fails."""
    if not drawn or not drawn[1]:
        return gr.update(elem_classes=[ABSENT])
    rows = drawn[1]
    value = {
        "columns": ["x", "y", "round"],
        "data": rows,
        "datatypes": {"x": "quantitative", "y": "quantitative", "round": "nominal"},
        "mark": "line" if len({x for x, _, _ in rows}) > 1 else "point",
    }
    return gr.update(value=value, visible=True, elem_classes=[])


def _dress(name: str, axis: str, rows: list[list[Any]], zoom: str) -> Any:
    names = list(dict.fromkeys(line for _, _, line in rows))
    return gr.update(
        title=measure_title(name),
        x_title=text(f"chart.{axis}"),
        y_title=text("chart.value"),
        color_title=" ",
        colors_in_legend=names if len(names) > 1 else [],
        x_lim=[float(end) for end in zoom.split()] if zoom else None,
    )


def _weight(name: str, weight: float, sigma: float) -> str:
    """A row of the table: a feature, its weight, and what that says for sure."""
    sure = abs(weight) > 2 * sigma
    verdict = feature_text(name, direction(weight)) if sure else text("learning.unsure")
    value = text("learning.weight", value=weight, sigma=sigma)
    return (
        f"<tr><th scope='row'>{safe(feature_text(name))}</th>"
        f"<td>{safe(value)}</td><td>{safe(verdict)}</td></tr>"
    )


def _absent(names: list[str]) -> str:
    """Names the measures that these rounds did not store."""
    if not names:
        return ""
    told = text("learning.comma").join(measure_title(name) for name in names)
    return f"<p class='quiet'>{safe(text('learning.not_stored', measures=told))}</p>"
