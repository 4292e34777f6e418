"""Who rates: the name this browser answers under, and how well those who answer agree.

The name stands in the sidebar and is remembered by the browser alone. The panel on Data appears
once more than one name has answered, or somebody has been asked the same pair twice. Leaves out the
counting (rlhf_chat.chat.raters).
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.chat.raters import LONGEST_NAME, ME, Rater, Raters, checked_name
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import js_component, outcome_message, status_line, status_message
from rlhf_chat.ui.handlers import EACH, QUICK, quick, sentence

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
        """Set somebody aside, let them back, or learn once more without them."""
        do, name = str(getattr(event, "do", "")), str(getattr(event, "name", ""))
        try:
            word = outcome_message(await quick(self._act, do, name))
        except Exception as error:
            word = status_message(sentence(error), "bad")
        return {self.note: word, **await quick(self.panel)}

    def _act(self, do: str, name: str) -> str:
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
            return {self.note: status_message(sentence(error), "bad")}
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
            label="Rating as",
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
        self.list.select(self.act, None, self.page, **EACH)
        # The server tidies the name; the browser keeps what came back.
        gr.on([self.rater.blur, self.rater.submit], self.name, self.rater, self.rater, **QUICK)
        self.rater.change(None, self.rater, None, js=KEEP, **QUICK)
        demo.load(None, None, self.rater, js=READ, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _row(rater: Rater) -> dict[str, Any]:
    parts = [f"{rater.answers} answers"]
    if rater.asked_again:
        parts.append(f"same answer to {rater.said_same} of {rater.asked_again} repeated pairs")
    if rater.with_others:
        parts.append(f"agrees with the others {rater.with_others.share:.0%} of the time")
    return {
        "name": rater.name,
        "counts": rater.counts,
        "parts": parts,
        "suspect": rater.suspect and rater.counts,
    }


def alpha_in_words(alpha: float | None) -> str:
    """Krippendorff's alpha with what it means; his own marks are .667 and .8."""
    if alpha is None:
        return ""
    word = (
        "they mean the same"
        if alpha >= 0.8
        else "they mostly mean the same"
        if alpha >= 0.667
        else "they often disagree"
        if alpha > 0
        else "no more than by chance"
    )
    return f"Agreement (Krippendorff's alpha): {alpha:.2f}, {word}."
