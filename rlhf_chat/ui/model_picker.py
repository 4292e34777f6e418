"""Which models could be run instead of this one: what is here, what each takes, what fits.

A part of the settings. Versions are adapters of one base model and the database remembers which of
them was live for each, so another model is started, not swapped in (restart.py). Where the app
cannot start itself anew, it shows the command.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat import model_list
from rlhf_chat.model_list import ModelChoice
from rlhf_chat.ui.components import error_message, status_line, status_message
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import label, text
from rlhf_chat.ui.restart import Restart
from rlhf_chat.ui.scripts import script

Update = dict[Any, Any]
GIB = 1 << 30


class ModelPicker:
    def __init__(self, current: str, restart: Restart | None = None) -> None:
        self.current, self.restart = current, restart
        self._choices: dict[str, ModelChoice] = {}

    async def look(self) -> Update:
        """Opening the list looks at the machine anew: models come and go."""
        try:
            found = await quick(model_list.choices)
        except Exception as error:
            return {self.note: error_message(error)}
        self._choices = {choice.name: choice for choice in found}
        named = [(_label(choice), choice.name) for choice in found]
        return {
            self.menu: gr.update(choices=named, value=None),
            **self._nothing_chosen(),
        }

    def _nothing_chosen(self) -> Update:
        return {
            self.command: gr.update(visible=False),
            self.start: gr.update(visible=False),
            self.note: status_message(text("models.now", name=self.current)),
        }

    async def choose(self, name: str | None) -> Update:
        choice = self._choices.get(name or "")
        if choice is None:
            return self._nothing_chosen()
        told = text("models.switch")
        if choice.fits is False:
            told = text("models.too_large")
        elif not choice.here:
            told = text("models.fetched_first")
        return {
            self.command: gr.update(value=choice.command, visible=self.restart is None),
            self.start: gr.update(visible=bool(self.restart) and choice.fits is not False),
            self.note: status_message(told, "bad" if choice.fits is False else "quiet"),
        }

    async def start_chosen(self, name: str | None) -> Update:
        """Only what was listed: a page could send any path."""
        choice = self._choices.get(name or "")
        if self.restart is None or choice is None or choice.fits is False:
            return self._nothing_chosen()
        self.restart.ask(choice.name)
        told = text("models.starting", name=choice.name)
        return {self.start: gr.update(visible=False), self.note: status_message(told, "quiet")}

    def lay_out(self) -> None:
        with gr.Accordion(label("model"), open=False, elem_id="models") as self.panel:
            self.menu = gr.Dropdown([], label=label("other_model"), elem_id="model-menu")
            self.note = status_line("model-note")
            self.command = gr.Textbox(
                label=label("model_command"),
                visible=False,
                interactive=False,
                buttons=["copy"],
                elem_id="model-command",
            )
            self.start = gr.Button(label("start_model"), visible=False, elem_id="model-start")

    def wire(self) -> None:
        page = [self.menu, self.command, self.start, self.note]
        self.panel.expand(self.look, None, page, **QUICK)
        self.menu.input(self.choose, self.menu, page, preprocess=False, **QUICK)
        started = self.start.click(self.start_chosen, self.menu, page, preprocess=False, **QUICK)
        started.success(None, js=script("restart"), **QUICK)


def _label(choice: ModelChoice) -> str:
    """For example: small · Qwen/Qwen3-1.7B · 3.1 GiB · fits · not on this machine"""
    parts = [choice.name, choice.about]
    if choice.needs is not None:
        parts.append(text("models.needs", gib=choice.needs / GIB))
    if choice.fits is not None:
        parts.append(text("models.fits" if choice.fits else "models.does_not_fit"))
    parts.append("" if choice.here else text("models.not_here"))
    return " · ".join(filter(None, parts))
