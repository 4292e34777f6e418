"""The settings panel beside a conversation: system prompt, sampling, and which version answers.

Changes apply from the next reply on and are stored at once: for the open conversation, or, while
none is open, for new ones.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.settings import BEST_OF, ConversationSettings
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import (
    error_message,
    js_component,
    not_saved_message,
    status_line,
    status_message,
    version_choices,
)
from rlhf_chat.ui.handlers import QUICK, quick
from rlhf_chat.ui.language import label, text
from rlhf_chat.ui.model_picker import ModelPicker
from rlhf_chat.ui.restart import Restart

LIVE = "live"
NUMBERS = ("temperature", "top_p", "top_k", "max_reply")  # names of the sliders' labels

Update = dict[Any, Any]


class SettingsPanel:
    def __init__(self, chat: Chat, worker: TrainingWorker, restart: Restart | None = None) -> None:
        """`restart`: notes which model to start with; None: the app cannot start itself anew."""
        self.chat, self.worker = chat, worker
        self.models = ModelPicker(chat.model.name, restart)

    # ---- acts ----------------------------------------------------------------------------------

    async def save(
        self,
        view: dict[str, Any],
        system: str,
        heat: float,
        top_p: float,
        top_k: float,
        most: float,
        by: str,
    ) -> Update:
        word = text("settings.saved_here" if view["conversation"] else "settings.saved_for_new")
        return await self._save(view["conversation"], word, system, heat, top_p, top_k, most, by)

    async def save_for_new(self, *fields: Any) -> Update:
        return await self._save("", text("settings.new_default"), *fields)

    async def _save(self, conversation_id: str, word: str, system: str, *fields: Any) -> Update:
        """A number beyond the ends of its slider is moved to that end, as the page itself does when
        the box is left."""
        *numbers, by = fields
        if any(number is None for number in numbers):
            return {self.note: status_message(text("settings.not_a_number"), "bad")}
        sliders = (self.heat, self.top_p, self.top_k, self.most)
        kept = [within(n, s) for n, s in zip(numbers, sliders, strict=True)]
        heat, top_p, top_k, most = kept
        try:
            settings = self._settings(system, heat, top_p, top_k, most, by)
            await quick(self.chat.settings.set, conversation_id, settings)
        except Exception as error:
            return {self.note: not_saved_message(error)}
        for name, asked, now in zip(NUMBERS, numbers, kept, strict=True):
            if now != asked:
                name = text(f"label.{name}")
                word = text("settings.saved_within", saved=word, name=name, value=now)
                break
        return {self.note: status_message(word, "good")}

    async def export_markdown(self, view: dict[str, Any]) -> Update:
        return await self._export(view["conversation"], "md")

    async def export_json(self, view: dict[str, Any]) -> Update:
        return await self._export(view["conversation"], "json")

    async def _export(self, conversation_id: str, ending: str) -> Update:
        if not conversation_id:
            return {self.note: status_message(text("settings.nothing_to_export"), "bad")}
        try:
            name, contents = await quick(self.chat.conversations.exported, conversation_id, ending)
        except Exception as error:
            return {self.note: error_message(error)}
        return {
            self.file: {"name": name, "text": contents, "id": uuid4().hex},
            self.note: status_message(text("settings.exported", name=name), "good"),
        }

    async def set_best_of(self, drafts: int) -> Update:
        try:
            await quick(self.chat.settings.set_best_of, int(drafts))
        except Exception as error:
            return {self.note: not_saved_message(error)}
        if drafts == 1:
            return {self.note: status_message(text("settings.best_of_off"), "good")}
        return {self.note: status_message(text("settings.best_of_on", count=drafts), "good")}

    async def refresh(self, view: dict[str, Any], *on_page: Any) -> Update:
        """Writes only into fields that were out of date: the user may have begun to
        type before the answer comes."""
        shown = await quick(self.shown, view["conversation"])
        fields = zip(self.fields, on_page, strict=True)
        fresh = [f for f, value in fields if f is not self.by and shown.get(f) == value]
        return {part: value for part, value in shown.items() if part not in fresh}

    async def after_sending(self, view: dict[str, Any]) -> Update:
        """A first message has made the settings those of this chat. Fields are left alone: the user
        may be typing in them."""
        shown = await quick(self.shown, view["conversation"])
        told = {field: shown[field] for field in self.whose if field in shown}
        return told or {self.about: gr.skip()}

    def _settings(
        self, system: str, heat: float, top_p: float, top_k: float, most: float, by: str
    ) -> ConversationSettings:
        version = None if by == LIVE else int(by)
        return ConversationSettings.of(
            system or "", float(heat), float(top_p), int(top_k), int(most), version
        )

    # ---- what is shown -------------------------------------------------------------------------

    def shown(self, conversation_id: str) -> Update:
        """Every field as it is stored; also when that cannot be read."""
        try:
            settings = self.chat.settings.get(conversation_id)
            choices = [
                (text("label.live_version"), LIVE),
                *version_choices(self.worker.versions.all()),
            ]
        except Exception as error:
            return {self.note: error_message(error)}
        by = LIVE if settings.version is None else str(settings.version)
        drawn = settings.sampling
        return {
            self.about: status_message(
                text("settings.this_chat" if conversation_id else "settings.new_chats")
            ),
            self.system: settings.system_prompt,
            self.heat: drawn.temperature,
            self.top_p: drawn.top_p,
            self.top_k: drawn.top_k,
            self.most: drawn.max_new_tokens,
            self.best_of: self.chat.settings.best_of,
            self.by: gr.update(choices=choices, value=by, interactive=bool(conversation_id)),
            self.note: status_message(),
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        settings = self.chat.settings.get()
        drawn, longest = settings.sampling, self.chat.settings.longest_reply
        with gr.Column(elem_id="settings"):
            with gr.Row(elem_id="settings-head"):
                self.about = status_line("settings-about")
                self.close_button = gr.Button(
                    label("close"), size="sm", scale=0, min_width=60, elem_id="settings-close"
                )
            self.system = gr.Textbox(
                settings.system_prompt,
                label=label("system_prompt"),
                lines=3,
                max_lines=8,
                elem_id="system",
                placeholder=label("system_prompt_hint"),
            )
            self.heat = gr.Slider(0, 2, drawn.temperature, step=0.05, label=label("temperature"))
            self.top_p = gr.Slider(0.05, 1, drawn.top_p, step=0.05, label=label("top_p"))
            self.top_k = gr.Slider(0, 200, drawn.top_k, step=1, label=label("top_k"))
            self.most = gr.Slider(
                8, longest, drawn.max_new_tokens, step=8, label=label("max_reply")
            )
            self.by = gr.Dropdown(
                [(label("live_version"), LIVE)], value=LIVE, label=label("answered_by")
            )
            self.best_of = gr.Radio(
                [(label("off"), 1), *((str(n), n) for n in BEST_OF if n > 1)],
                value=self.chat.settings.best_of,
                label=label("best_of"),
                elem_id="best-of",
            )
            self.new_button = gr.Button(label("use_for_new"), size="sm", elem_id="settings-new")
            with gr.Row(elem_id="export-chat"):
                self.markdown_button = gr.Button(label("export_markdown"), size="sm")
                self.json_button = gr.Button(label("export_json"), size="sm")
            self.models.lay_out()
            self.file = js_component("download", {}, visible="hidden", elem_id="chat-file")
            self.note = status_line("settings-note")

    def lay_out_toggle(self) -> None:
        self.toggle = gr.Button(
            label("settings"),
            size="sm",
            scale=0,
            min_width=60,
            elem_id="settings-toggle",
            elem_classes="lucide-sliders-horizontal",
        )

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, view: gr.HTML) -> None:
        fields: list[Any] = [self.system, self.heat, self.top_p, self.top_k, self.most, self.by]
        self.fields = [*fields, self.best_of]
        self.page = [self.about, self.note, *self.fields]
        self.whose: list[Any] = [self.about, self.by]
        # As they come: Gradio's own check of a number beyond its slider answers "500" before any
        # handler, so nothing would be saved and no message shown.
        as_they_come: dict[str, Any] = {"preprocess": False, **QUICK}
        gr.on(
            # Text that was pasted with the mouse is no `input` for Gradio, hence the blur.
            [*(field.input for field in fields), self.system.blur],
            self.save,
            [view, *fields],
            self.page,
            trigger_mode="always_last",
            **as_they_come,
        )
        self.best_of.input(self.set_best_of, self.best_of, self.page, **QUICK)
        self.models.wire()
        self.markdown_button.click(self.export_markdown, view, [self.file, self.note], **QUICK)
        self.json_button.click(self.export_json, view, [self.file, self.note], **QUICK)
        self.new_button.click(self.save_for_new, fields, self.page, **as_they_come)
        # Opening is the browser's own business; the fields are read again, because another tab or
        # a new version may have changed them.
        self.toggle.click(
            self.refresh,
            [view, *self.fields],
            self.page,
            js="(...page) => { rlhfPanel(); return page; }",
            **as_they_come,
        )
        self.close_button.click(None, None, None, js="() => { rlhfPanel(false); }", **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def within(number: float, ends: gr.Slider) -> float:
    return min(max(number, ends.minimum), ends.maximum)
