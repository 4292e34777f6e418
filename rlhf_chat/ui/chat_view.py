"""The Chat screen's components, and the updates that draw them as they are by now.

A page is described by one value, the `view` (transcript.py), which handlers also get back. Actions
are elsewhere: replies (streaming.py), conversations (chat_screen.py), ratings (rating_panel.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.raters import ME
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import markdown_escape, transcript
from rlhf_chat.ui.attachments_panel import AttachmentsPanel
from rlhf_chat.ui.components import error_message, hidden, js_component, status_line, status_message
from rlhf_chat.ui.conversation_list import ConversationList
from rlhf_chat.ui.language import label, text
from rlhf_chat.ui.rating_panel import RatingPanel
from rlhf_chat.ui.restart import Restart
from rlhf_chat.ui.sessions import Sessions
from rlhf_chat.ui.settings_panel import SettingsPanel

SHOWN_AT_FIRST = 60  # messages drawn; each frame of a streaming reply draws all of them again

Update = dict[Any, Any]


class ChatView:
    def __init__(
        self,
        chat: Chat,
        worker: TrainingWorker,
        starters: Sequence[str] = (),
        restart: Restart | None = None,
    ) -> None:
        self.chat, self.worker = chat, worker
        self.starters = starters  # prompts offered while the conversation is empty
        self.settings = SettingsPanel(chat, worker, restart)
        self.conversations = ConversationList(chat)
        self.ratings = RatingPanel(chat, worker, self.redrawn)
        self.attachments = AttachmentsPanel(chat)
        self.presence = Sessions()

    # ---- what is shown -------------------------------------------------------------------------

    def opened(self, conversation_id: str, rater: str) -> Update:
        """A conversation with all around it; "" for one that has not begun."""
        replying = self.presence.reply(conversation_id) is not None
        shown = self.shown(conversation_id, rater=rater) if conversation_id else self.blank(rater)
        return {
            **shown,
            **self.settings.shown(conversation_id),
            **self.conversations.rows(conversation_id),
            **self.put_away(),
            self.note: status_message(),
            **self.buttons(replying=replying),
        }

    def blank(self, rater: str) -> Update:
        """A conversation that has not begun."""
        return {
            self.bot: gr.update(value=[], feedback_value=None),
            self.view: transcript.view("", [], rater=rater),
            **self.put_away(),
            self.earlier: gr.update(value=text("label.earlier"), visible=False),
            **self.settings.shown(""),
            **self.buttons(replying=False),
        }

    def shown(
        self,
        conversation_id: str,
        limit: int = SHOWN_AT_FIRST,
        rater: str = ME,
        speed: float | None = None,
    ) -> Update:
        """The newest `limit` messages with this person's thumbs; `speed` of the last reply, in
        tokens a second."""
        turns = self.chat.conversations.history(conversation_id, rater) if conversation_id else []
        return {
            self.bot: gr.update(
                value=transcript.offered(turns[-limit:]),
                feedback_value=transcript.thumbs(turns[-limit:]),
            ),
            self.view: {
                **transcript.view(conversation_id, turns[-limit:], rater=rater, speed=speed),
                "thumbs": transcript.thumbs(turns[-limit:]),
            },
            self.earlier: gr.update(value=text("label.earlier"), visible=len(turns) > limit),
        }

    def redrawn(self, view: dict[str, Any]) -> Update:
        """What a page shows, as it is by now."""
        conversation_id = view["conversation"] if self.is_here(view["conversation"]) else ""
        return self.shown(conversation_id, limit_of(view), rater_of(view))

    def refused(self, conversation_id: str, session: str, error: Exception) -> Update:
        """Why not; and where the conversation is gone, deleted elsewhere, the page without it."""
        update: Update = {self.note: error_message(error)}
        if not conversation_id or self.is_here(conversation_id):
            return update
        self.presence.show(session, "")
        blank = {**self.shown("", rater=self.presence.named(session)), **self.put_away()}
        return {**update, **blank, **self.conversations.rows("")}

    def is_here(self, conversation_id: str) -> bool:
        """False where it was deleted elsewhere."""
        return conversation_id in [c.id for c in self.chat.conversations.all()]

    def put_away(self) -> Update:
        """Hide what is about one reply, which may be gone."""
        return {**self.ratings.hidden(), self.heat: ""}

    def buttons(self, *, replying: bool) -> Update:
        # An update of a button without its text empties it.
        return {
            self.send_button: gr.update(value=text("label.send"), visible=not replying),
            self.stop_button: gr.update(value=text("label.stop"), visible=replying),
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.view = js_component(
            "view",
            {"conversation": "", "turns": [], "sent": False},
            elem_id="view",
            visible="hidden",
        )
        self.event_id = hidden("chat-event-id")
        self.earlier = gr.Button(
            label("earlier"), visible=False, size="sm", elem_id="earlier", scale=0
        )
        self.bot = gr.Chatbot(
            elem_id="bot",
            show_label=False,
            label=label("conversation"),
            layout="bubble",
            editable="all",
            buttons=["copy"],
            placeholder=str(label("empty_chat")),
            examples=[{"text": prompt} for prompt in self.starters],
            sanitize_html=True,
            latex_delimiters=markdown_escape.DELIMITERS,
            allow_tags=False,
            group_consecutive_messages=False,
            height="100%",
        )
        self.ratings.lay_out()
        self.heat = gr.HTML(elem_id="attribution", apply_default_css=False)
        with gr.Row(elem_id="chat-line"):
            self.note = self.ratings.note = self.conversations.note = status_line("chat-note")
            self.attachments.note = self.note
            self.settings.lay_out_toggle()
        self.attachments.lay_out()
        with gr.Row(elem_id="composer"):
            self.attachments.lay_out_button()
            self.message = gr.Textbox(
                label=label("message"),
                show_label=False,
                container=False,
                lines=1,
                max_lines=8,
                elem_id="message",
                placeholder=label("write_message"),
                autofocus=True,
                scale=1,
            )
            self.send_button = gr.Button(
                label("send"), variant="primary", elem_id="send", scale=0, min_width=72
            )
            self.stop_button = gr.Button(
                label("stop"), elem_id="stop", visible=False, scale=0, min_width=72
            )
        self.settings.lay_out()


# ---- small parts -------------------------------------------------------------------------------


def rater_of(view: dict[str, Any]) -> str:
    """Whose thumbs this page shows."""
    return str(view.get("rater") or ME)


def limit_of(view: dict[str, Any]) -> int:
    return max(SHOWN_AT_FIRST, len(view["turns"]) + 2)
