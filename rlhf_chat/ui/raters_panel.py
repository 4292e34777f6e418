"""Raters: the name this browser rates under, and how well the raters agree.

The name stands in the sidebar and is remembered by the browser alone. The panel on Data appears
once there is more than one rater, or somebody has voted on the same pair twice.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.raters import LONGEST_NAME, ME, Rater, Raters, checked_name
from rlhf_chat.errors import Notice
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import error_message, js_component, outcome_message, status_line
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.language import label, text

# The browser's own memory; "me" where it keeps none.
READ = (
    "() => { try { return localStorage.getItem('rlhf-chat:rater') || 'me'; } "
    "catch (_) { return 'me'; } }"
)
KEEP = "name => { try { localStorage.setItem('rlhf-chat:rater', name); } catch (_) {} }"

Update = dict[Any, Any]


class RatersPanel:
    def __init__(self, raters: Raters, worker: TrainingWorker) -> None:
        self.raters, self.worker = raters, worker

    # ---- acts ----------------------------------------------------------------------------------

    async def name(self, name: str) -> Update:
        return {self.rater: checked_name(name or "")}

    async def act(self, event: gr.EventData) -> Update:
        """Exclude a rater, include one again, or retrain without one."""
        do, name = str(getattr(event, "do", "")), str(getattr(event, "name", ""))
        try:
            word = outcome_message(await quick(self._act, do, name), during=self.worker.status())
        except Exception as error:
            word = error_message(error)
        return {self.note: word, **await quick(self.panel)}

    def _act(self, do: str, name: str) -> Notice:
        if do == "rebuild":
            return self.worker.retrain_without(rater=name)
        answer = self.raters.set_aside(name, do == "aside")
        self.worker.wake()
        return answer

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        try:
            table = self.raters.table()
            alpha = alpha_in_words(self.raters.alpha())
        except Exception as error:
            return {self.note: error_message(error)}
        worth_showing = len(table) > 1 or any(r.asked_again or not r.counts for r in table)
        return {
            self.list: {
                "rows": [_row(r) for r in table] if worth_showing else [],
                "alpha": alpha,
            }
        }

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out_name(self) -> None:
        self.rater = gr.Textbox(
            ME,
            label=label("rating_as"),
            max_lines=1,
            max_length=LONGEST_NAME,
            elem_id="rater",
            placeholder="me",
        )

    def lay_out(self) -> None:
        self.note = status_line("people-note")
        self.list = js_component(
            "raters",
            {"rows": [], "alpha": ""},
            elem_id="raters",
        )

    def wire(self, demo: gr.Blocks) -> None:
        self.page = [self.note, self.list]
        self.acted = self.list.select(self.act, None, self.page, **EACH)
        # The server tidies the name; the browser keeps what came back.
        gr.on([self.rater.blur, self.rater.submit], self.name, self.rater, self.rater, **QUICK)
        self.rater.change(None, self.rater, None, js=KEEP, **QUICK)
        demo.load(None, None, self.rater, js=READ, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _row(rater: Rater) -> dict[str, Any]:
    parts = [text("raters.ratings", count=rater.answers)]
    if rater.asked_again:
        parts.append(text("raters.repeats", same=rater.said_same, count=rater.asked_again))
    if rater.with_others:
        parts.append(text("raters.agreement", share=rater.with_others.share))
    return {
        "name": rater.name,
        "counts": rater.counts,
        "parts": parts,
        "suspect": rater.suspect and rater.counts,
    }


def alpha_in_words(alpha: float | None) -> str:
    """Krippendorff's alpha with its meaning; the thresholds .667 and .8 are Krippendorff's own."""
    if alpha is None:
        return ""
    meaning = (
        "raters.agree"
        if alpha >= 0.8
        else "raters.mostly_agree"
        if alpha >= 0.667
        else "raters.often_disagree"
        if alpha > 0
        else "raters.by_chance"
    )
    return text("raters.alpha", alpha=alpha, meaning=text(meaning))
