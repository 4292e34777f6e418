"""Ratings of one reply: a thumb, then, optionally, a reason, stars or a comment.

A part of the Chat screen. Correcting a reply makes a new message and is in streaming.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.message_feedback import REASONS, MessageFeedback
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.locale import has
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import (
    js_component,
    not_saved_message,
    saved_message,
    status_message,
)
from rlhf_chat.ui.handlers import EACH, WITH_EVENT_ID, quick
from rlhf_chat.ui.language import label, text

NOTHING = MessageFeedback()

Update = dict[Any, Any]


class RatingPanel:
    """`note` is the line under the chat, `redraw` puts the thumbs back as they are stored."""

    note: gr.HTML

    def __init__(
        self, chat: Chat, worker: TrainingWorker, redraw: Callable[[dict[str, Any]], Update]
    ) -> None:
        self.chat, self.worker, self._redraw = chat, worker, redraw
        self.rated: set[str] = set()  # conversations whose views do not know their thumbs any more

    # ---- acts ----------------------------------------------------------------------------------

    async def rate(
        self, view: dict[str, Any], rater: str, event_id: str, event: gr.LikeData
    ) -> Update:
        """One thumb. `liked` is True, False, or "" when the thumb is taken back."""
        turns, index = view["turns"], event_index(event)
        if index >= len(turns) or not turns[index]["id"]:
            return {self.note: status_message(text("rating.not_complete"), "bad")}
        message_id, rater = turns[index]["id"], checked_name(rater)
        self.rated.add(view["conversation"])
        value = {True: 1, False: -1}.get(event.liked, 0) if isinstance(event.liked, bool) else 0
        try:
            await quick(
                self.chat.ratings.rate, message_id, value, rater=rater, event_id=event_id or None
            )
            self.worker.wake()
            opinion = await quick(self.chat.ratings.of, message_id, rater)
        except Exception as error:
            return {
                self.note: not_saved_message(error),
                **await quick(self._redraw, view),
            }
        status = await quick(self.worker.status)
        if not value:
            return {
                self.note: saved_message(text("rating.withdrawn"), status, "quiet"),
                **self.hidden(),
            }
        return {
            self.note: saved_message(text("rating.saved"), status),
            **self._drawn(message_id, opinion),
        }

    async def opened(self, message_id: str, rater: str) -> Update:
        """The panel of one reply with this rater's ratings of it. Stars need no thumb."""
        opinion = await quick(self.chat.ratings.of, message_id, checked_name(rater))
        return self._drawn(message_id, opinion)

    async def add_reason(
        self, chips: dict[str, Any], comment: str, rater: str, event: gr.EventData
    ) -> Update:
        if getattr(event, "shut", ""):
            return self.hidden()
        stars = getattr(event, "stars", None)
        if stars is not None:
            return await self._give_stars(chips, stars, rater)
        chosen = str(getattr(event, "reason", ""))
        return await self._explain(
            {**chips, "chosen": "" if chosen == chips["chosen"] else chosen}, comment, rater
        )

    async def _give_stars(self, chips: dict[str, Any], stars: Any, rater: str) -> Update:
        """A score from 1 to 5; the same star again takes it back."""
        given = 0 if stars == chips.get("stars") else stars
        try:
            await quick(self.chat.ratings.score, chips["id"], int(given), rater=checked_name(rater))
            self.worker.wake()
        except Exception as error:
            return {self.note: not_saved_message(error)}
        code = "rating.stars_saved" if given else "rating.stars_withdrawn"
        return {
            self.note: status_message(text(code, count=given), "good"),
            self.chips: {**chips, "stars": given},
        }

    async def add_comment(self, chips: dict[str, Any], comment: str, rater: str) -> Update:
        told = await self._explain(chips, comment, rater)
        return {**told, **self.hidden()} if self.chips in told else told  # what is not saved stays

    async def _explain(self, chips: dict[str, Any], comment: str, rater: str) -> Update:
        """The same rating again, now with its reason: the newest one of a message counts."""
        if chips["chosen"] not in ("", *REASONS.get(chips["value"], ())) or not chips["value"]:
            return {self.note: status_message(text("common.choose_shown"), "bad")}
        try:
            await quick(
                self.chat.ratings.rate,
                chips["id"],
                chips["value"],
                reason=chips["chosen"],
                comment=comment.strip(),
                rater=checked_name(rater),
            )
        except Exception as error:
            return {self.note: not_saved_message(error)}
        given = chips["chosen"] or comment.strip()
        word = (
            status_message(text("rating.reason_saved"), "good")
            if given
            else status_message(text("rating.reason_withdrawn"))
        )
        return {self.note: word, self.chips: chips}

    def hidden(self) -> Update:
        """Put away: no reply is being rated."""
        return {self.chips: chips_for()}

    def _drawn(self, message_id: str, opinion: MessageFeedback) -> Update:
        return {
            # Words belong to a thumb; without one there is nothing to explain.
            self.comment: gr.update(value=opinion.comment, visible=bool(opinion.value)),
            self.chips: chips_for(message_id, opinion),
        }

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Column(elem_id="why"):  # shown while the reasons name a reply (theme.css)
            self.chips = js_component(
                "reasons",
                chips_for(),
                elem_id="reasons",
            )
            self.comment = gr.Textbox(
                label=label("comment"),
                show_label=False,
                container=False,
                max_lines=3,
                elem_id="comment",
                placeholder=label("comment_hint"),
            )

    def wire(
        self,
        bot: gr.Chatbot,
        view: gr.HTML,
        rater: gr.Textbox,
        event_id: gr.Textbox,
        redrawn: list[Any],
    ) -> None:
        # Gradio looks at each output of an event, changed or not, so what is quick or comes often
        # names few: a rating with all of them took 30 ms of CPU time, now it takes 14.
        page = [self.note, self.comment, self.chips]
        named = [view, rater, event_id]
        bot.like(self.rate, named, [*page, *redrawn], js=WITH_EVENT_ID, **EACH)
        reasons = [self.chips, self.comment, rater]
        self.chips.select(self.add_reason, reasons, page, **EACH)
        self.comment.submit(self.add_comment, reasons, page, **EACH)


# ---- small parts -------------------------------------------------------------------------------


def event_index(event: Any) -> int:
    """Which message of the chat an event is about."""
    return event.index if isinstance(event.index, int) else event.index[0]


def reason_text(reason: str) -> str:
    """A stored reason as it is shown: one of `REASONS`, or any text from an import."""
    key = f"reason.{reason.lower().replace(' ', '_')}"
    return text(key) if has(key) else reason


def chips_for(message_id: str = "", opinion: MessageFeedback = NOTHING) -> dict[str, Any]:
    return {
        "id": message_id,
        "value": opinion.value,
        "choices": [[one, reason_text(one)] for one in REASONS.get(opinion.value, ())],
        "chosen": opinion.reason,
        "stars": opinion.stars,
    }
