"""The Learning screen: what training is doing, what it thinks you like, how each round ended.

Leaves out training itself; everything here is read from the trainer's status and rows, so a closed
tab loses nothing.
"""

from __future__ import annotations

import math
import re
from typing import Any

import gradio as gr

from rlhf_chat.simulation.simulator import Simulation, spoken
from rlhf_chat.training.worker import Status, TrainingWorker
from rlhf_chat.ui.charts import bars, intervals, line_chart, number, safe
from rlhf_chat.ui.components import (
    countdown,
    duration,
    outcome_message,
    plural,
    status_line,
    status_message,
    version_label,
    when,
)
from rlhf_chat.ui.handlers import QUICK, quick, sentence
from rlhf_chat.ui.simulation_panel import SimulationPanel
from rlhf_chat.versions.leaderboard import Standing

# The measures a person should look at first, in this order; the others follow under "More
# measures".
MAIN_LIVE = ("score", "kl", "response_tokens", "entropy")
MAIN_ACROSS = ("bootstrap_win_rate", "probe_kl", "head_accuracy", "score")
TITLES = {
    "score": "Score of practice replies",
    "score_std": "Spread of the scores",
    "reward": "Reward",
    "kl": "KL to base, nats",
    "kl_coef": "KL coefficient",
    "kl_target": "KL target, nats",
    "probe_kl": "KL to base on probe prompts, nats",
    "response_tokens": "Reply length, tokens",
    "unfinished": "Replies without an end",
    "entropy": "Entropy, nats per token",
    "explained_variance": "Explained variance",
    "approxkl": "KL of one update",
    "clipfrac": "Share of clipped tokens",
    "ratio_max": "Largest probability ratio",
    "loss": "Loss",
    "vf_loss": "Value loss",
    "stopped_early": "Updates stopped early",
    "labels": "Ratings used",
    "effective_labels": "Ratings used, by weight",
    "head_accuracy": "Reward head: ratings it gets right",
    "head_p_value": "Reward head: p value",
    "head_log_loss": "Reward head: log loss",
    "bootstrap_win_rate": "Win rate against base, by judges fitted on halves of your ratings",
    "bootstrap_gain": "Gain over base, log-odds",
    "bootstrap_gain_low": "Gain over base, lower bound",
}
ENDINGS = {
    "promoted": "Promoted",
    "discarded": "Discarded",
    "stopped": "Stopped",
    "failed": "Failed",
    "aborted": "Broken off",
    "running": "Under way",
}
PHASES = ("features", "reward head", "rollouts", "ppo", "gate", "publishing")
ROUNDS_SHOWN = 20
MOST_NEEDED = 10_000  # ratings per round

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
        def act() -> str:
            if self.worker.status().paused:
                self.worker.resume()
                return "Learning goes on."
            self.worker.pause()
            return "Paused. Chat goes on; a round under way waits."

        return await self._do(act)

    async def stop(self) -> Update:
        def act() -> str:
            live = version_label(self.worker.status().live_version)
            self.worker.stop_round()
            return f"The round is being stopped. {live} stays live; the ratings are kept."

        return await self._do(act)

    async def set_needed(self, needed: float | None) -> Update:
        if needed is None or not math.isfinite(needed) or not 1 <= needed <= MOST_NEEDED:
            why = f"Choose a number of ratings from 1 to {MOST_NEEDED:,}."
            before = (await quick(self.worker.status)).needed
            return {self.note: status_message(why, "bad"), self.needed: before}

        def act() -> str:
            self.worker.set_needed(int(needed))
            return f"A round starts by itself after {plural(int(needed), 'new rating')}."

        return await self._do(act)

    async def refresh(self) -> Update:
        return await quick(self.panel)

    async def load(self) -> Update:
        def read() -> Update:
            return {self.needed: self.worker.status().needed, **self.panel()}

        return await quick(read)

    async def _do(self, act: Any) -> Update:
        try:
            word = outcome_message(await quick(act) or "", "quiet")
        except Exception as error:
            word = status_message(sentence(error), "bad")
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        """All of the screen that changes by itself."""
        try:
            status, rounds = self.worker.status(), self.worker.rounds(ROUNDS_SHOWN)
            busy, board = status.round_id is not None, self.worker.leaderboard
            measured = (
                self.worker.metrics(status.round_id or rounds[0].id)
                if status.round_id or rounds
                else {}
            )
            across = self._across(rounds)
            first, others = _split(measured, MAIN_LIVE)
            return {
                self.now: _now(status, rounds),
                self.better: '<div class="answers">'
                + _better(board.standings(), board.advice())
                + _likes(self.worker.feature_weights())
                + "</div>",
                self.live_charts: _charts(first, "This round" if busy else "Last round", "step"),
                self.more_charts: _charts(others, "", "step")
                or "<p class='quiet'>No other measures yet.</p>",
                self.round_charts: _charts(across, "Over the rounds", "round", dots=True),
                self.history: self._history(rounds),
                self.pause_button: gr.update(value="Resume" if status.paused else "Pause"),
                self.stop_button: gr.update(value="Stop", interactive=busy),
                **self.watching.panel(),
            }
        except Exception as error:
            return {self.note: status_message(sentence(error), "bad")}

    def _across(self, rounds: list) -> dict[str, list[tuple[float, float | None]]]:
        """The last value of each measure, round by round."""
        lines: dict[str, list[tuple[float, float | None]]] = {}
        for done in sorted((r for r in rounds if r.ended_at), key=lambda r: r.id):
            if done.id not in self._closed:
                measured = self.worker.metrics(done.id)
                self._closed[done.id] = {
                    name: points[-1][1] for name, points in measured.items() if points
                }
            for name, value in self._closed[done.id].items():
                lines.setdefault(name, []).append((done.id, value))
        main, _ = _split(lines, MAIN_ACROSS)
        return {name: points for name, points in main.items() if len(points) > 1}

    def _history(self, rounds: list) -> str:
        if not rounds:
            words = (
                "No round yet. After enough ratings one starts by itself: it fits your taste, "
                "practises, and asks the gate."
            )
            return f"<h3>Rounds</h3><p class='quiet box'>{words}</p>"
        cards = "".join(_round_card(r, self._closed.get(r.id, {})) for r in rounds)
        return f"<h3>Rounds</h3><ol class='history'>{cards}</ol>"

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Row(elem_id="learning-buttons"):
            self.train_button = gr.Button("Train now", variant="primary", scale=0, min_width=110)
            self.pause_button = gr.Button("Pause", scale=0, min_width=90)
            self.stop_button = gr.Button(
                "Stop", interactive=False, scale=0, min_width=80, elem_id="stop-round"
            )
            # No minimum and maximum: Gradio refuses what is beyond them before a handler is asked,
            # and tells the person nothing.
            self.needed = gr.Number(
                label="Ratings per round",
                precision=0,
                scale=0,
                min_width=150,
                elem_id="needed",
            )
        self.note = status_line("learning-note")
        self.now = gr.HTML(elem_id="now", apply_default_css=False)
        self.watching.lay_out()
        self.better = gr.HTML(elem_id="better", apply_default_css=False)
        self.live_charts = gr.HTML(elem_id="live-charts", apply_default_css=False)
        self.round_charts = gr.HTML(elem_id="round-charts", apply_default_css=False)
        self.history = gr.HTML(elem_id="rounds", apply_default_css=False)
        with gr.Accordion("More measures", open=False, elem_id="more"):
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
            *self.watching.page,
        ]
        self.train_button.click(self.train_now, None, self.page, **QUICK)
        self.pause_button.click(self.pause_or_resume, None, self.page, **QUICK)
        self.stop_button.click(self.stop, None, self.page, **QUICK)
        gr.on(
            [self.needed.submit, self.needed.blur], self.set_needed, self.needed, self.page, **QUICK
        )
        demo.load(self.load, None, self.page, **QUICK)


# ---- drawing -----------------------------------------------------------------------------------


def _now(status: Status, rounds: list) -> str:
    return (
        f'<div class="state"><div class="doing"><h2>{safe(status.sentence)}</h2>'
        f"{_bar(status)}{_last_verdict(rounds)}"
        + (f'<p class="error">{safe(status.error)}</p>' if status.error else "")
        + f'</div><div class="cards">{_cards(status, rounds)}</div></div>'
    )


def _bar(status: Status) -> str:
    """How far the round is, or how many ratings are still missing for one."""
    if status.round_id is not None:
        share = min(1.0, max(0.0, status.progress))
        name, phases = f"Round {status.round_id}", "".join(_phase(p, status) for p in PHASES)
        under = f"{name}, {share:.0%}", duration(status.seconds_left)
        below = f'<ol class="phases">{phases}</ol>'
    else:
        share = min(1.0, status.waiting / max(1, status.needed))
        name, below = "Ratings until the next round", ""
        under = countdown(status.waiting, status.needed), ""
    return (
        f'<div class="bar" role="progressbar" aria-label="{name}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div>'
        f'<div class="under"><span>{under[0]}</span><span>{under[1]}</span></div>{below}'
    )


def _phase(phase: str, status: Status) -> str:
    at = PHASES.index(status.phase) if status.phase in PHASES else -1
    place = PHASES.index(phase)
    kind = "here" if place == at else "done" if place < at else ""
    return f'<li class="{kind}">{safe(phase)}</li>'


def _last_verdict(rounds: list) -> str:
    ended = next((r for r in rounds if r.ended_at), None)
    if ended is None:
        return ""
    told = f"<span>Round {ended.id}</span>: <span>{safe(ended.reason)}</span>"
    return f'<p class="last">{_ending(ended.status)} {told}</p>'


def _ending(status: str) -> str:
    return f'<b class="ending {safe(status)}">{ENDINGS.get(status) or safe(status)}</b>'


def _cards(status: Status, rounds: list) -> str:
    cards = (
        ("Live", version_label(status.live_version), status.live_tier),
        ("New ratings", str(status.waiting), _enough(status)),
        ("Rounds", str(max((r.id for r in rounds), default=0)), "so far"),
    )
    return "".join(
        f'<div class="card"><span>{name}</span><b>{value}</b><small>{safe(note)}</small></div>'
        for name, value, note in cards
    )


def _enough(status: Status) -> str:
    if status.waiting >= status.needed:
        return "enough for the next round"
    return f"of {status.needed} for a round"


def _split(
    measured: dict[str, Any], first: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    main = {name: measured[name] for name in first if name in measured}
    return main, {name: points for name, points in measured.items() if name not in main}


def _charts(lines: dict[str, Any], heading: str, x_name: str, *, dots: bool = False) -> str:
    drawn = "".join(
        line_chart(points, measure_title(name), x_name=x_name, dots=dots)
        for name, points in lines.items()
    )
    if not drawn:
        return ""
    return (f"<h3>{safe(heading)}</h3>" if heading else "") + f'<div class="charts">{drawn}</div>'


def measure_title(name: str) -> str:
    return TITLES.get(name) or name.replace("_", " ").replace("/", ": ").strip().capitalize()


def _likes(feature_weights: list[tuple[str, float, float]]) -> str:
    """What it thinks you like: first in words, then the measures behind them."""
    head = "<h3>What it thinks you like</h3>"
    if not feature_weights:
        words = (
            "Nothing yet. Rate about twenty replies; a round then looks for what the ones you like "
            "have in common."
        )
        return f"<section id='likes'>{head}<p class='quiet box'>{words}</p></section>"
    sure = [(name, weight) for name, weight, sigma in feature_weights if abs(weight) > 2 * sigma][
        :4
    ]
    # Each word stands alone, so that it can be said in another language.
    told = ", ".join(
        f"<span>{'more' if weight > 0 else 'less'}</span> <b>{safe(name)}</b>"
        for name, weight in sure
    )
    line = f"<p class='told'>{told}</p>" if told else ""
    return f"<section id='likes'>{head}{line}{bars(feature_weights[:8])}</section>"


def _better(standings: list[Standing], advice: str) -> str:
    """Did it get better? Blind votes over the base, version by version."""
    head = "<h3>Did it get better?</h3>"
    voted = sorted((s for s in standings if s.record.votes), key=lambda s: s.version.version)
    live = next((s for s in standings if s.live), None)
    rows = [
        (version_label(s.version.version), s.low, s.record.win_rate, s.high)
        for s in voted
        if s.version.version
    ]
    words = advice or _live_words(live)
    tone = " bad" if advice else ""
    return (
        f"<section id='wins'>{head}<p class='told{tone}'>{safe(words)}</p>"
        f"{intervals(rows, 'Blind win rate over the base')}</section>"
    )


def _live_words(live: Standing | None) -> str:
    if live is None or not live.version.version:
        return "The model as it came is live. The first round that passes the gate changes that."
    name, record = version_label(live.version.version), live.record
    if not record.votes:
        return f"{name} is live. Blind votes on Compare will say whether it beats the base."
    share = (
        f"{name} won {record.win_rate:.0%} of {plural(record.votes, 'blind vote')} over the base"
    )
    if live.proved:
        return f"Yes: {share}, more than luck explains."
    return f"Not proved yet: {share}; the true share is between {live.low:.0%} and {live.high:.0%}."


def _round_card(done: Any, measured: dict[str, float]) -> str:
    """One round: what came of it, why, and its few telling numbers."""
    made = f" → {version_label(done.version)}" if done.version else ""
    numbers = "".join(
        f"<li><span>{safe(measure_title(name))}</span><b>{number(measured[name])}</b></li>"
        for name in MAIN_ACROSS
        if name in measured
    )
    return (
        f"<li class='round {safe(done.status)}'><div class='head'><b>Round {done.id}</b>"
        f"{_ending(done.status)}<span>{version_label(done.parent_version)}{made}</span>"
        f"<span class='at'>{safe(when(done.started_at))}</span>{_for_whom(done.rater)}</div>"
        f"<p class='reason'>{safe(done.reason or '')}</p>"
        + (f"<ul class='numbers'>{numbers}</ul>" if numbers else "")
        + f"{_why(done.verdict)}{_checks(done.verdict)}</li>"
    )


def _why(verdict: dict | None) -> str:
    """What moved the round and what it changed, in words; then three prompts before and after."""
    card = (verdict or {}).get("card") or {}
    moved = "".join(
        f"<li>{_moved(words)} <b>{number(owed)}</b></li>"
        for words, owed, *_ in card.get("moved", [])
    )
    changed = "".join(
        f"<li><span>{'more' if change > 0 else 'less'}</span> <span>{safe(name)}</span></li>"
        for name, change, _ in card.get("changed", [])
        if abs(change) >= 0.05
    )
    examples = "".join(
        f"<dt class='theirs'>{safe(prompt)}</dt>"
        f"<dd><span>before</span><span class='theirs'>{safe(before)}</span></dd>"
        f"<dd><span>after</span><span class='theirs'>{safe(after)}</span></dd>"
        for prompt, before, after in card.get("examples", [])
    )
    if not moved:
        return ""
    return (
        "<details class='why'><summary>Why, and what changed</summary>"
        f"<p>The answers that moved it most, with the part of its gain owed to each:</p>"
        f"<ul>{moved}</ul>"
        + (f"<p>Its replies have</p><ul>{changed}</ul>" if changed else "")
        + (f"<dl>{examples}</dl>" if examples else "")
        + "</details>"
    )


def _moved(words: str) -> str:
    """An answer in words, “a” was better than “b”: what is quoted is never put into another
    language, each word of our own stands alone so that it can be."""
    parts = re.split("(“[^”]*”)", words)
    return " ".join(
        f"<span{' class=theirs' if part.startswith('“') else ''}>{safe(part.strip())}</span>"
        for part in parts
        if part.strip()
    )


def _for_whom(rater: str) -> str:
    return f"<span class='badge'>{safe(spoken(rater))}</span>" if rater else ""


def _checks(verdict: dict | None) -> str:
    """Every check of the gate in the numbers it looked at, folded away."""
    checks = (verdict or {}).get("checks") or []
    if not checks:
        return ""
    passed = sum(bool(check[1]) for check in checks)
    lines = "".join(
        f'<li class="{"passed" if ok else "missed"}">'
        f"<span>{safe(name)}</span>: <span>{safe(words)}</span></li>"
        for name, ok, words in checks
    )
    summary = f"{passed} of {len(checks)} checks passed"
    return f"<details><summary>{summary}</summary><ul>{lines}</ul></details>"
