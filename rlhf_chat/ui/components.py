"""Parts that several screens share: components of our own, status messages, numbers with units.

Gradio evaluates what a `gr.HTML` template shows a second time, as JavaScript: a conversation named
`${alert(1)}` would run. Text from a person or the model therefore never enters a template. It
travels as the component's value, and a script puts it on the page with `textContent`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import gradio as gr

from rlhf_chat.errors import Notice, Refused
from rlhf_chat.locale import has
from rlhf_chat.simulation.simulator import SIMULATED
from rlhf_chat.training.status import Status
from rlhf_chat.ui.language import message, problem, text
from rlhf_chat.ui.scripts import script

# What text.js gives every script, by short names.
SHORT = "const t = window.rlhfText, el = window.rlhfEl, button = window.rlhfButton;\n"


def js_component(name: str, value: Any, **more: Any) -> gr.HTML:
    """A component that the script static/NAME.js draws from its value."""
    template: dict[str, Any] = {"apply_default_css": False, "html_template": "<div></div>"}
    return gr.HTML(value, js_on_load=SHORT + script(name), **template, **more)


def status_message(words: str = "", tone: str = "quiet") -> dict[str, str]:
    """A value for a `status_line`. Tones: quiet, good (saved), bad (refused)."""
    return {"text": words, "tone": tone}


def outcome_message(
    outcome: Notice | None, tone: str = "good", *, during: Status | None = None
) -> dict[str, str]:
    """What an action returned, with `during` only as long as the situation is that one; a refusal
    never has the colour of success."""
    words, tone = message(outcome), "bad" if isinstance(outcome, Refused) else tone
    if during is None:
        return status_message(words, tone)
    return {**status_message(words, tone), "during": during.situation, "then": ""}


def saved_message(words: str, status: Status, tone: str = "good") -> dict[str, str]:
    """What was saved and, while it is still so, what training does with it."""
    whole = status_message(f"{words} {message(status.sentence_for_people)}", tone)
    return {**whole, "during": message(status.sentence), "then": words}


def error_message(error: BaseException) -> dict[str, str]:
    return status_message(message(problem(error)), "bad")


def not_saved_message(error: BaseException) -> dict[str, str]:
    return status_message(text("common.not_saved", problem=problem(error)), "bad")


def status_line(elem_id: str, *, classes: str = "") -> gr.HTML:
    """One line of text that is announced to screen readers when it changes. An empty one keeps its
    height."""
    return js_component(
        "status_message",
        status_message(),
        elem_id=elem_id,
        elem_classes=["saying", *classes.split()],
    )


def hidden(elem_id: str, value: str = "") -> gr.Textbox:
    """A value that the page carries but does not show. Not gr.State: that holds one connection open
    per tab, and a browser allows six, so the sixth tab would never load.
    """
    return gr.Textbox(value, visible=False, elem_id=elem_id, label=elem_id)


def version_label(version: int | None) -> str:
    return "" if version is None else text("version.label", version=version)


def version_choices(versions: Sequence[Any]) -> list[tuple[str, str]]:
    """(label, value) of each version for a menu, the newest first."""
    return [
        (
            f"{version_label(v.version)} · {v.name}" if v.name else version_label(v.version),
            str(v.version),
        )
        for v in sorted(versions, key=lambda v: -v.version)
    ]


def rater_name(rater: str) -> str:
    """The name of a rater as it is shown; of a simulated one: "short and plain (simulated)"."""
    if not rater.startswith(SIMULATED):
        return rater
    name = rater.removeprefix(SIMULATED)
    key = f"label.taste_{'custom' if name == 'mix' else name}"
    return text("simulation.rater", name=text(key) if has(key) else name.replace("_", " "))


def when(stamp: str | None) -> str:
    """A stored UTC time in this machine's own clock."""
    if not stamp:
        return ""
    try:
        moment = datetime.fromisoformat(stamp.replace("Z", "+00:00")).astimezone()
    except ValueError:
        return stamp
    month = Notice("time.month", {"month": moment.month})
    return text("time.moment", day=moment.day, month=month, time=f"{moment:%H:%M}")
