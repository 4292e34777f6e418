"""The Learning screen: what training does, what was learned, how each round ended.

Everything here is read from the worker's status and from rows, so a closed tab loses nothing.
"""

from __future__ import annotations

import math
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from rlhf_chat.errors import Notice
from rlhf_chat.locale import has
from rlhf_chat.simulation.simulator import Simulation
from rlhf_chat.training.status import PHASES, Status
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.charts import bars, intervals, line_chart, number, safe
from rlhf_chat.ui.components import (
    error_message,
    outcome_message,
    rater_name,
    status_line,
    status_message,
    version_label,
    when,
)
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import label, message, text
from rlhf_chat.ui.simulation_panel import SimulationPanel
from rlhf_chat.versions.leaderboard import Standing

# The measures a person should look at first, in this order; the others follow under "More
# measures".
MAIN_LIVE = ("score", "kl", "response_tokens", "entropy")
MAIN_ACROSS = ("bootstrap_win_rate", "probe_kl", "head_accuracy", "score")
ENDINGS = ("promoted", "discarded", "stopped", "failed", "aborted", "running")
TIERS = {
    "base": "learning.tier_base",
    "provisional": "learning.tier_provisional",
    "passed": "learning.tier_passed",
    "proved": "versions.tier_proved",
}
ROUNDS_SHOWN = 20
MOST_NEEDED = 10_000  # ratings per round
MOST_MINUTES = 24 * 60  # per round

Update = dict[Any, Any]


class LearningScreen:
    def __init__(self, worker: TrainingWorker, watch: Simulation) -> None:
        self.worker = worker
        self.watching = SimulationPanel(watch, worker)
        self._closed: dict[
            int, dict[str, float]
        ] = {}  # last values of rounds that ended; they never change again

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

    async def refresh(self) -> Update:
        return await quick(self.panel)

    async def load(self) -> Update:
        def read() -> Update:
            return {
                self.needed: self.worker.status().needed,
                self.minutes: self.worker.round_minutes,
                **self.panel(),
            }

        return await quick(read)

    async def _do(self, act: Any) -> Update:
        try:
            word = outcome_message(await quick(act), "quiet")
        except Exception as error:
            word = error_message(error)
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        """All of the screen that changes by itself."""
        try:
            status, rounds = self.worker.status(), self.worker.history.rounds(ROUNDS_SHOWN)
            busy, board = status.round_id is not None, self.worker.leaderboard
            measured = (
                self.worker.history.metrics(status.round_id or rounds[0].id)
                if status.round_id or rounds
                else {}
            )
            across = self._across(rounds)
            first, others = _split(measured, MAIN_LIVE)
            return {
                self.round_size: self._round_size(),
                self.now: _now(status, rounds),
                self.better: '<div class="answers">'
                + _better(board.standings(), message(board.advice()))
                + _likes(self.worker.history.feature_weights())
                + "</div>",
                self.live_charts: _charts(
                    first,
                    text("learning.this_round" if busy else "learning.last_round"),
                    "chart.step",
                ),
                self.more_charts: _charts(others, "", "chart.step")
                or f"<p class='quiet'>{safe(text('learning.no_measures'))}</p>",
                self.round_charts: _charts(
                    across, text("learning.over_rounds"), "chart.round", dots=True
                ),
                self.history: self._history(rounds),
                self.pause_button: gr.update(
                    value=text("label.resume" if status.paused else "label.pause")
                ),
                self.stop_button: gr.update(value=text("label.stop"), interactive=busy),
                **self.watching.panel(),
            }
        except Exception as error:
            return {self.note: error_message(error)}

    def _round_size(self) -> str:
        """What the next round will do; nothing where it cannot be chosen."""
        if not self.worker.sizes_rounds:
            return ""
        size = self.worker.round_size()
        words = text(
            "learning.round_size", count=size.updates, replies=size.replies, tokens=size.tokens
        )
        return f"<p class='quiet'>{safe(words)}</p>"

    def _across(self, rounds: list[Any]) -> dict[str, list[tuple[float, float | None]]]:
        """The last value of each measure, round by round."""
        lines: dict[str, list[tuple[float, float | None]]] = {}
        for done in sorted((r for r in rounds if r.ended_at), key=lambda r: r.id):
            if done.id not in self._closed:
                measured = self.worker.history.metrics(done.id)
                self._closed[done.id] = {
                    name: points[-1][1] for name, points in measured.items() if points
                }
            for name, value in self._closed[done.id].items():
                lines.setdefault(name, []).append((done.id, value))
        main, _ = _split(lines, MAIN_ACROSS)
        return {name: points for name, points in main.items() if len(points) > 1}

    def _history(self, rounds: list[Any]) -> str:
        heading = f"<h3>{safe(text('learning.rounds'))}</h3>"
        if not rounds:
            words = safe(text("learning.no_round"))
            return f"{heading}<p class='quiet box'>{words}</p>"
        cards = "".join(_round_card(r, self._closed.get(r.id, {})) for r in rounds)
        return f"{heading}<ol class='history'>{cards}</ol>"

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
            self.needed = _whole_number(label("ratings_per_round"), "needed")
            self.minutes = _whole_number(
                label("minutes_per_round"), "minutes", visible=self.worker.sizes_rounds
            )
        self.round_size = gr.HTML(elem_id="round-size", apply_default_css=False)
        self.note = status_line("learning-note")
        self.now = gr.HTML(elem_id="now", apply_default_css=False)
        self.watching.lay_out()
        self.better = gr.HTML(elem_id="better", apply_default_css=False)
        self.live_charts = gr.HTML(elem_id="live-charts", apply_default_css=False)
        self.round_charts = gr.HTML(elem_id="round-charts", apply_default_css=False)
        self.history = gr.HTML(elem_id="rounds", apply_default_css=False)
        with gr.Accordion(label("more_measures"), open=False, elem_id="more"):
            self.more_charts = gr.HTML(elem_id="more-charts", apply_default_css=False)

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks) -> None:
        self.watching.wire()
        self.page = [
            self.note,
            self.now,
            self.better,
            self.live_charts,
            self.more_charts,
            self.round_charts,
            self.history,
            self.pause_button,
            self.stop_button,
            self.needed,
            self.minutes,
            self.round_size,
            *self.watching.page,
        ]
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
        demo.load(self.load, None, self.page, **QUICK)


# ---- drawing -----------------------------------------------------------------------------------


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


def _now(status: Status, rounds: list[Any]) -> str:
    return (
        f'<div class="state"><div class="doing"><h2>{safe(message(status.name))}</h2>'
        f"{_bar(status)}{_last_verdict(rounds)}</div>"
        f'<div class="cards">{_cards(status, rounds)}</div></div>'
    )


def _bar(status: Status) -> str:
    """How far the round is, or the ratings for one; in words below."""
    share, phases = status.share, ""
    name = text("learning.until_next")
    if status.round_id is not None:
        name = text("learning.round", number=status.round_id)
        phases = f'<ol class="phases">{"".join(_step(p, status) for p in PHASES)}</ol>'
    return (
        f'<div class="bar" role="progressbar" aria-label="{safe(name)}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div>'
        f'<p class="under">{safe(message(status.sentence))}</p>{phases}'
    )


def _step(phase: str, status: Status) -> str:
    at = PHASES.index(status.phase) if status.phase in PHASES else -1
    place = PHASES.index(phase)
    kind = "here" if place == at else "done" if place < at else ""
    name = text(f"step.{phase.replace(' ', '_')}")
    return f'<li class="{kind}">{safe(name)}</li>'


def _last_verdict(rounds: list[Any]) -> str:
    ended = next((r for r in rounds if r.ended_at), None)
    if ended is None:
        return ""
    name = safe(text("learning.round", number=ended.id))
    told = f"<span>{name}</span>: <span>{safe(message(ended.reason))}</span>"
    return f'<p class="last">{_ending(ended.status)} {told}</p>'


def _ending(status: str) -> str:
    name = text(f"ending.{status}") if status in ENDINGS else status
    return f'<b class="ending {safe(status)}">{safe(name)}</b>'


def _cards(status: Status, rounds: list[Any]) -> str:
    tier = TIERS.get(status.live_tier)
    cards = (
        (
            text("learning.live"),
            version_label(status.live_version),
            text(tier) if tier else status.live_tier,
        ),
    )
    return "".join(
        f'<div class="card"><span>{safe(name)}</span><b>{safe(value)}</b>'
        f"<small>{safe(note)}</small></div>"
        for name, value, note in cards
    )


def _split(
    measured: dict[str, Any], first: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    main = {name: measured[name] for name in first if name in measured}
    return main, {name: points for name, points in measured.items() if name not in main}


def _charts(lines: dict[str, Any], heading: str, axis: str, *, dots: bool = False) -> str:
    drawn = "".join(
        line_chart(points, measure_title(name), axis=text(axis), dots=dots)
        for name, points in lines.items()
    )
    if not drawn:
        return ""
    return (f"<h3>{safe(heading)}</h3>" if heading else "") + f'<div class="charts">{drawn}</div>'


def measure_title(name: str) -> str:
    if has(f"measure.{name}"):
        return text(f"measure.{name}")
    return name.replace("_", " ").replace("/", ": ").strip().capitalize()


def feature_text(name: str, direction: str = "") -> str:
    """A text feature by its name, or with more or less of it; one of an older version as it is."""
    key = f"feature.{name.replace(' ', '_').lower()}"
    return text(key, direction=direction) if has(key) else f"{direction} {name}".strip()


def _direction(weight: float) -> str:
    return "more" if weight > 0 else "less"


def _likes(feature_weights: list[tuple[str, float, float]]) -> str:
    """The learned preferences: in words, then the weights behind them."""
    head = f"<h3>{safe(text('learning.likes'))}</h3>"
    if not feature_weights:
        words = safe(text("learning.likes_nothing"))
        return f"<section id='likes'>{head}<p class='quiet box'>{words}</p></section>"
    sure = [(name, weight) for name, weight, sigma in feature_weights if abs(weight) > 2 * sigma]
    told = ", ".join(
        f"<b>{safe(feature_text(name, _direction(weight)))}</b>" for name, weight in sure[:4]
    )
    line = f"<p class='told'>{told}</p>" if told else ""
    rows = [(feature_text(name), weight, sigma) for name, weight, sigma in feature_weights[:8]]
    return f"<section id='likes'>{head}{line}{bars(rows)}</section>"


def _better(standings: list[Standing], advice: str) -> str:
    """Blind votes over the base, version by version."""
    head = f"<h3>{safe(text('learning.better'))}</h3>"
    voted = sorted((s for s in standings if s.record.votes), key=lambda s: s.version.version)
    live = next((s for s in standings if s.live), None)
    rows = [
        (version_label(s.version.version), s.low, s.record.win_rate, s.high)
        for s in voted
        if s.version.version
    ]
    tone = " bad" if advice else ""
    return (
        f"<section id='wins'>{head}<p class='told{tone}'>{safe(advice or _live_words(live))}</p>"
        f"{intervals(rows, text('learning.blind_win_rate'))}</section>"
    )


def _live_words(live: Standing | None) -> str:
    if live is None or not live.version.version:
        return text("learning.base_live")
    version, record = live.version.version, live.record
    if not record.votes:
        return text("learning.no_votes", version=version)
    measured = {"version": version, "rate": record.win_rate, "count": record.votes}
    if live.proved:
        return text("learning.proved", **measured)
    return text("learning.not_proved", **measured, low=live.low, high=live.high)


def _round_card(done: Any, measured: dict[str, float]) -> str:
    """One round: how it ended, why, and its main numbers."""
    made = f" → {version_label(done.version)}" if done.version else ""
    versions = safe(f"{version_label(done.parent_version)}{made}")
    numbers = "".join(
        f"<li><span>{safe(measure_title(name))}</span><b>{number(measured[name])}</b></li>"
        for name in MAIN_ACROSS
        if name in measured
    )
    name = safe(text("learning.round", number=done.id))
    return (
        f"<li class='round {safe(done.status)}'><div class='head'><b>{name}</b>"
        f"{_ending(done.status)}<span>{versions}</span>"
        f"<span class='at'>{safe(when(done.started_at))}</span>{_rater_badge(done.rater)}</div>"
        f"<p class='reason'>{safe(message(done.reason))}</p>"
        + (f"<ul class='numbers'>{numbers}</ul>" if numbers else "")
        + f"{_why(done.verdict)}{_checks(done.verdict)}</li>"
    )


def _why(verdict: dict[str, Any] | None) -> str:
    """The ratings that moved the round, what changed, and three prompts before and after."""
    card = (verdict or {}).get("card") or {}
    moved = "".join(
        f"<li>{safe(_rating_text(rating))} <b>{number(owed)}</b></li>"
        for rating, owed, *_ in card.get("moved", [])
    )
    changed = "".join(
        f"<li>{safe(feature_text(name, _direction(change)))}</li>"
        for name, change, _ in card.get("changed", [])
        if abs(change) >= 0.05
    )
    before, after = safe(text("learning.before")), safe(text("learning.after"))
    examples = "".join(
        f"<dt>{safe(prompt)}</dt>"
        f"<dd><span>{before}</span><span>{safe(old)}</span></dd>"
        f"<dd><span>{after}</span><span>{safe(new)}</span></dd>"
        for prompt, old, new in card.get("examples", [])
    )
    if not moved:
        return ""
    return (
        f"<details class='why'><summary>{safe(text('learning.why'))}</summary>"
        f"<p>{safe(text('learning.moved'))}</p><ul>{moved}</ul>"
        + (f"<p>{safe(text('learning.changed'))}</p><ul>{changed}</ul>" if changed else "")
        + (f"<dl>{examples}</dl>" if examples else "")
        + "</details>"
    )


def _rating_text(rating: str | dict[str, Any]) -> str:
    """A rating as `feedback.snapshot.describe` put it; a plain text from an older version."""
    return rating if isinstance(rating, str) else text(rating["code"], **rating["params"])


def _rater_badge(rater: str) -> str:
    """Of a round on simulated ratings, the rater."""
    return f"<span class='badge'>{safe(rater_name(rater))}</span>" if rater else ""


def _checks(verdict: dict[str, Any] | None) -> str:
    """Every check of the gate with its numbers, folded away."""
    checks = [_check(check) for check in (verdict or {}).get("checks") or []]
    if not checks:
        return ""
    lines = "".join(
        f'<li class="{"passed" if passed else "missed"}">'
        f"<span>{safe(name)}</span>: <span>{safe(found)}</span></li>"
        for name, passed, found in checks
    )
    passed = sum(passed for _, passed, _ in checks)
    summary = safe(text("gate.summary", count=passed, total=len(checks)))
    return f"<details><summary>{summary}</summary><ul>{lines}</ul></details>"


def _check(check: dict[str, Any] | list[Any]) -> tuple[str, bool, str]:
    """(name, passed, result) of one check; a list is one from an older version."""
    if isinstance(check, list):
        name, passed, words = check
        return str(name), bool(passed), str(words)
    name, passed, limit = check["name"], bool(check["passed"]), check["limit"]
    if passed and check["value"] is None:
        return text(f"gate.check.{name}"), passed, text("gate.line_passed")
    low, high = limit if isinstance(limit, list) else (None, limit)
    found = text(f"gate.range.{name}", value=check["value"], limit=high, low=low)
    key = "gate.line_passed_range" if passed else "gate.line_failed"
    return text(f"gate.check.{name}"), passed, text(key, range=found)
