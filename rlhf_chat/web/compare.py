"""The Compare screen: one prompt, two replies with hidden versions, one vote, then the names.

Leaves out which two versions are drawn and how often: that is the business of rlhf_chat.chat. A
vote counts only when both drafts have ended, so the buttons wait for `Pair.votable`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rlhf_chat.chat import Chat
from rlhf_chat.trainer import Trainer
from rlhf_chat.web.quick import FRAME_SECONDS, QUICK, REPLIES, WITH_EVENT_ID, close, quick, sentence
from rlhf_chat.web.words import countdown, hidden, said, saying, version_label

VOTES = (
    ("a", "A is better", "vote-a"),
    ("b", "B is better", "vote-b"),
    ("tie", "Tie", "vote-tie"),
    ("both_bad", "Both bad", "vote-bad"),
)
SAID = {outcome: label for outcome, label, _ in VOTES}
KEYS = "<kbd>1</kbd> <kbd>2</kbd> <kbd>3</kbd> <kbd>4</kbd> vote <i></i> <kbd>N</kbd> next drafts"
FIRST = (
    "Two drafts will appear here. Say which one you prefer; "
    "who wrote them is shown after your vote."
)
WRITING = "Writing two drafts…"

Update = dict[Any, Any]


class CompareScreen:
    def __init__(self, chat: Chat, trainer: Trainer) -> None:
        self.chat, self.trainer = chat, trainer
        self._under_way: dict[str, threading.Event] = {}  # event id -> how to stop these drafts
        self._lock = threading.Lock()

    # ---- acts ----------------------------------------------------------------------------------

    def draft(self, prompt: str, event_id: str) -> Iterator[Update]:
        stop = threading.Event()
        pairs = self.chat.compare(prompt, event_id=event_id or None, stop=stop)
        try:
            pair = next(
                pairs
            )  # refusals come here; the last pair then stays on the page, votes and all
        except Exception as error:
            yield {self.verdict: said(sentence(error), "bad")}
            return
        with self._lock:
            self._under_way[event_id] = stop
        try:
            yield {
                **self._panes(pair),
                **self._votes(False),
                self.asked: said(prompt.strip()),
                self.pair_id: "",
                self.running: event_id,
                self.verdict: said(pair.note or WRITING),
                self.next_button: gr.update(value="New drafts", visible=False),
                self.stop_button: gr.update(value="Stop", visible=True),
                self.undo_button: gr.update(value="Undo", visible=False),
            }
            drawn = time.monotonic()
            for pair in pairs:
                if time.monotonic() - drawn >= FRAME_SECONDS:
                    yield {**self._panes(pair), self.verdict: said(pair.note or WRITING)}
                    drawn = time.monotonic()
            word = (
                said("Which draft is better?")
                if pair.votable
                else said(pair.note or "These drafts cannot be compared. Make new ones.", "bad")
            )
        except GeneratorExit:
            raise
        except Exception as error:
            word = said(sentence(error), "bad")
        finally:
            stop.set()
            close(pairs)
            with self._lock:
                self._under_way.pop(event_id, None)
        yield {
            **self._panes(pair),
            **self._votes(pair.votable),
            self.pair_id: pair.pair_id or "",
            self.verdict: word,
            self.next_button: gr.update(value="New drafts", visible=True),
            self.stop_button: gr.update(value="Stop", visible=False),
        }

    async def stop(self, running: str) -> None:
        with self._lock:
            stop = self._under_way.get(running)
        if stop:
            stop.set()

    async def vote(self, outcome: str, pair_id: str, event_id: str) -> Update:
        if not pair_id:
            return {self.verdict: said("Wait until both drafts have ended.", "bad")}
        try:
            revealed = await quick(self.chat.prefer, pair_id, outcome, event_id=event_id or None)
            self.trainer.wake()
        except Exception as error:
            return {self.verdict: said(f"Not saved. {sentence(error)}", "bad")}
        a, b = version_label(revealed.left_version), version_label(revealed.right_version)
        update = {
            **self._votes(False),
            self.verdict: said(f"Saved: {SAID[outcome]}. A was {a}, B was {b}.", "good"),
            self.undo_button: gr.update(value="Undo", visible=True),
            self.next_button: gr.update(value="Next drafts"),
        }
        try:
            update |= {
                self.prompt: await quick(self.chat.suggest_prompt),
                self.count: await quick(self._count),
            }
        except (
            Exception
        ) as error:  # the vote is stored; a missing suggestion must not look like a lost vote
            update |= {self.count: said(sentence(error), "bad")}
        return update

    async def undo(self, pair_id: str) -> Update:
        try:
            await quick(self.chat.withdraw, pair_id)
            return {
                **self._votes(True),
                self.verdict: said("Taken back. Which draft is better?"),
                self.undo_button: gr.update(value="Undo", visible=False),
                self.count: await quick(self._count),
            }
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}

    async def load(self) -> Update:
        return {
            self.prompt: await quick(self.chat.suggest_prompt),
            self.count: await quick(self._count),
        }

    async def recount(self) -> dict:
        return await quick(self._count)

    def _count(self) -> dict:
        status = self.trainer.status()
        return said(countdown(status.waiting, status.needed))

    def _panes(self, pair: Any) -> Update:
        return {self.left: pair.left or "…", self.right: pair.right or "…"}

    def _votes(self, open_: bool) -> Update:
        return {
            button: gr.update(value=label, interactive=open_)
            for button, (_, label, _) in zip(self.vote_buttons, VOTES, strict=True)
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.pair_id, self.running, self.event_id = (
            hidden("pair-id"),
            hidden("running"),
            hidden("compare-event-id"),
        )
        self.outcomes = [hidden(f"outcome-{outcome}", outcome) for outcome, _, _ in VOTES]
        with gr.Row(elem_id="ask"):
            self.prompt = gr.Textbox(
                label="Prompt",
                show_label=False,
                container=False,
                lines=1,
                max_lines=4,
                elem_id="prompt",
                scale=1,
                placeholder="A prompt for both drafts",
            )
            self.next_button = gr.Button(
                "New drafts", variant="primary", elem_id="new-drafts", scale=0, min_width=112
            )
            self.stop_button = gr.Button(
                "Stop", elem_id="stop-drafts", visible=False, scale=0, min_width=112
            )
        self.asked = saying("asked")
        with gr.Row(elem_id="panes", equal_height=True):
            self.left, self.right = self._pane("A"), self._pane("B")
        self.verdict = saying("verdict")
        with gr.Row(elem_id="votes"):
            self.vote_buttons = [
                gr.Button(label, elem_id=elem_id, interactive=False, min_width=120)
                for _, label, elem_id in VOTES
            ]
        with gr.Row(elem_id="after"):
            self.count = saying("count")
            self.undo_button = gr.Button(
                "Undo", visible=False, size="sm", scale=0, min_width=72, elem_id="undo"
            )
            gr.HTML(KEYS, elem_id="compare-keys", apply_default_css=False)

    def _pane(self, letter: str) -> gr.Markdown:
        with gr.Column(elem_classes="pane", min_width=260):
            gr.HTML(f"Draft {letter}", elem_classes="pane-title", apply_default_css=False)
            return gr.Markdown(
                FIRST if letter == "A" else "",
                elem_id=f"draft-{letter.lower()}",
                sanitize_html=True,
                line_breaks=True,
                elem_classes="draft",
            )

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks) -> None:
        page = [
            self.left,
            self.right,
            self.asked,
            self.verdict,
            self.count,
            self.prompt,
            self.pair_id,
            self.running,
            self.next_button,
            self.stop_button,
            self.undo_button,
            *self.vote_buttons,
        ]
        gr.on(
            [self.prompt.submit, self.next_button.click],
            self.draft,
            [self.prompt, self.event_id],
            page,
            js=WITH_EVENT_ID,
            **REPLIES,
        )
        self.stop_button.click(self.stop, self.running, None, **QUICK)
        for button, outcome in zip(self.vote_buttons, self.outcomes, strict=True):
            button.click(
                self.vote, [outcome, self.pair_id, self.event_id], page, js=WITH_EVENT_ID, **QUICK
            )
        self.undo_button.click(self.undo, self.pair_id, page, **QUICK)
        demo.load(self.load, None, page, **QUICK)
