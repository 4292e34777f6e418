"""How other people's words and our numbers become text. Leaves out markdown (chat panes only).

Gradio evaluates what a `gr.HTML` template shows a second time, as JavaScript: a conversation
called `${alert(1)}` ran. So text from a person or the model never enters a template. It travels as
the component's value, and a few lines of script put it on the page with `textContent`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr

from rlhf_chat.errors import Refused
from rlhf_chat.versions.leaderboard import version_name

# Draws {"text", "tone"}; an empty one keeps its line, so that the page does not jump when it fills.


def script(name: str) -> str:
    """The script of one of our own components, from the folder js."""
    return (Path(__file__).parent / "static" / f"{name}.js").read_text(encoding="utf-8")


def js_component(name: str, value: Any, **more: Any) -> gr.HTML:
    """A component of our own, which the script of this name draws from its value."""
    template: dict[str, Any] = {"apply_default_css": False, "html_template": "<div></div>"}
    return gr.HTML(value, js_on_load=script(name), **template, **more)


def status_message(text: str = "", tone: str = "quiet") -> dict[str, str]:
    """A value for a `saying`. Tones: quiet, good (saved), bad (refused)."""
    return {"text": text, "tone": tone}


def outcome_message(text: str, tone: str = "good") -> dict[str, str]:
    """What an act answered: a refusal is never in the colour of success."""
    return status_message(text, "bad" if isinstance(text, Refused) else tone)


def status_line(elem_id: str, *, classes: str = "") -> gr.HTML:
    """One line of text that is announced to screen readers when it changes."""
    return js_component(
        "status_message",
        status_message(),
        elem_id=elem_id,
        elem_classes=["saying", *classes.split()],
    )


def hidden(elem_id: str, value: str = "") -> gr.Textbox:
    """A value the page carries but does not show. Not gr.State: that holds one connection open per
    tab, and a browser allows six, so the sixth tab would never load.
    """
    return gr.Textbox(value, visible=False, elem_id=elem_id, label=elem_id)


def version_label(version: int | None) -> str:
    return "" if version is None else version_name(version, "base")


def version_choices(versions: Sequence[Any]) -> list[tuple[str, str]]:
    """(words, value) of each version for a menu, the newest first."""
    return [
        (
            f"{version_label(v.version)} · {v.name}" if v.name else version_label(v.version),
            str(v.version),
        )
        for v in sorted(versions, key=lambda v: -v.version)
    ]


def capital(text: str) -> str:
    """With a capital first, except where it begins with the name of a version: v3 is no V3."""
    if isinstance(text, Refused) or re.match(r"v\d", text):
        return text
    return text[:1].upper() + text[1:]


def plural(count: int, one: str, more: str = "") -> str:
    """A number with its noun: "1 vote", "2 votes"."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def when(stamp: str | None) -> str:
    """A stored UTC time in this machine's own clock, as a person writes it."""
    if not stamp:
        return ""
    try:
        moment = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return stamp
    return moment.astimezone().strftime("%d %b, %H:%M").lstrip("0")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"


def countdown(waiting: int, needed: int) -> str:
    """How far the ratings are from starting a round."""
    if waiting >= needed:
        return f"{plural(waiting, 'new rating')}, enough for the next round"
    return f"{waiting} of {needed} new ratings; a round starts at {needed}"


def so_far(waiting: int, needed: int) -> str:
    """The same in few words. More than are needed, as during a round, are counted alone."""
    if waiting > needed:
        return plural(waiting, "new rating")
    return f"{waiting} of {needed} ratings"
