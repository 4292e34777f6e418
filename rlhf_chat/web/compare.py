"""The Compare screen: one prompt, two replies with hidden versions, one vote, then the names.

The next pair is written while the person still reads this one (ahead.py). Prompts are suggested,
taken from one's own chats, or typed; a duel sets two chosen versions against each other. Leaves
out which versions are drawn otherwise: that is the business of rlhf_chat.chat. A vote counts only
when both drafts have ended, so the buttons wait for `Pair.votable`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rlhf_chat.chat import Chat, Pair
from rlhf_chat.trainer import Status, Trainer
from rlhf_chat.web.ahead import Ahead
from rlhf_chat.web.quick import FRAME_SECONDS, QUICK, REPLIES, close, quick, sentence, with_event_id
from rlhf_chat.web.words import hidden, said, saying, version_choices, version_label

VOTES = (
    ("a", "A is better", "vote-a"),
    ("b", "B is better", "vote-b"),
    ("tie", "Tie", "vote-tie"),
    ("both_bad", "Both bad", "vote-bad"),
    ("both_good", "Both good", "vote-good"),
)
STRENGTHS = (("slightly", "Slightly", "slightly"), ("much", "Much", "much"))
SAID = {outcome: label for outcome, label, _ in VOTES}
KEYS = (
    "<kbd>1</kbd> to <kbd>5</kbd> vote <i></i> <kbd>S</kbd> slightly <kbd>B</kbd> much <i></i> "
    "<kbd>N</kbd> next drafts <i></i> <kbd>U</kbd> undo"
)
FIRST = (
    "Two drafts will appear here. Say which one you prefer; "
    "who wrote them is shown after your vote."
)
WRITING = "Writing two drafts…"
SUGGESTED, RECENT, OWN = "Suggested", "From my chats", "My own"

Update = dict[Any, Any]


class CompareScreen:
    def __init__(self, chat: Chat, trainer: Trainer) -> None:
        self.chat, self.trainer = chat, trainer
        self._under_way: dict[str, threading.Event] = {}  # event id -> how to stop these drafts
        self._lock = threading.Lock()
        self._ahead = Ahead()
        self._rng = random.Random()

    # ---- acts: drafts --------------------------------------------------------------------------

    def draft(
        self,
        prompt: str,
        event_id: str,
        source: str = SUGGESTED,
        dueling: bool = False,
        one: str = "",
        other: str = "",
        request: gr.Request | None = None,
    ) -> Iterator[Update]:
        stop, tab = threading.Event(), (request.session_hash or "") if request else ""
        try:
            versions = _chosen(dueling, one, other)
            ahead = self._ahead.take(tab, self._key(prompt, versions))
            if ahead is not None:
                stop, pairs = ahead.stop, ahead.follow()
            else:
                pairs = self._compare(prompt, versions, stop, event_id)
            pair = next(pairs)  # refusals come here; the last pair then stays on the page
        except Exception as error:
            yield {self.verdict: said(sentence(error), "bad")}
            return
        with self._lock:
            self._under_way[event_id] = stop
        whole = False
        try:
            yield self._begun(pair, prompt, event_id)
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
            whole = pair.done
        except GeneratorExit:
            raise
        except Exception as error:
            word = said(sentence(error), "bad")
        finally:
            stop.set()
            close(pairs)
            with self._lock:
                self._under_way.pop(event_id, None)
        update = {
            **self._panes(pair),
            **self._votes(pair.votable),
            self.pair_id: pair.pair_id or "",
            self.verdict: word,
            self.next_button: gr.update(value="New drafts", visible=True),
            self.stop_button: gr.update(value="Stop", visible=False),
        }
        if whole and source != OWN:
            coming = self._next_prompt(source)
            self._write_ahead(tab, coming, versions)
            update[self.coming] = coming
        yield update

    def _begun(self, pair: Pair, prompt: str, event_id: str) -> Update:
        return {
            **self._panes(pair),
            **self._votes(False),
            self.asked: said(prompt.strip()),
            self.pair_id: "",
            self.coming: "",
            self.running: event_id,
            self.verdict: said(pair.note or WRITING),
            self.next_button: gr.update(value="New drafts", visible=False),
            self.stop_button: gr.update(value="Stop", visible=True),
            self.undo_button: gr.update(value="Undo", visible=False),
            **self._strengths(False),
        }

    def _compare(
        self,
        prompt: str,
        versions: tuple[int, int] | None,
        stop: threading.Event,
        event_id: str = "",
    ) -> Iterator[Pair]:
        more: dict[str, Any] = {"versions": versions} if versions else {}
        return self.chat.compare(prompt, event_id=event_id or None, stop=stop, **more)

    def _key(self, prompt: str, versions: tuple[int, int] | None) -> tuple:
        """What drafts made ahead must agree in to be shown."""
        return prompt.strip(), versions, self.trainer.status().live_version

    def _write_ahead(self, tab: str, prompt: str, versions: tuple[int, int] | None) -> None:
        self._ahead.begin(
            tab, self._key(prompt, versions), lambda stop: self._compare(prompt, versions, stop)
        )

    def _next_prompt(self, source: str) -> str:
        if source == RECENT:
            asked = self.chat.recent_prompts()
            if asked:
                return self._rng.choice(asked)
        return self.chat.suggest_prompt()

    async def stop(self, running: str) -> None:
        with self._lock:
            stop = self._under_way.get(running)
        if stop:
            stop.set()

    # ---- acts: votes ---------------------------------------------------------------------------

    async def vote(
        self,
        outcome: str,
        pair_id: str,
        event_id: str,
        coming: str = "",
        source: str = SUGGESTED,
        dueling: bool = False,
        one: str = "",
        other: str = "",
    ) -> Update:
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
            **self._strengths(outcome in ("a", "b")),
            self.voted: outcome,
            self.verdict: said(f"Saved: {SAID[outcome]}. A was {a}, B was {b}.", "good"),
            self.undo_button: gr.update(value="Undo", visible=True),
            self.next_button: gr.update(value="Next drafts"),
        }
        try:
            if coming or source != OWN:
                update[self.prompt] = coming or await quick(self._next_prompt, source)
            update |= await quick(self._counted, _chosen(dueling, one, other))
        except Exception as error:  # the vote is stored; what follows must not look like a loss
            update |= {self.count: said(sentence(error), "bad")}
        return update

    async def refine(self, strength: str, pair_id: str, voted: str) -> Update:
        """How much better: the same vote again, with its strength."""
        if not pair_id or voted not in ("a", "b"):
            return {self.verdict: said("Vote for a draft first.", "bad")}
        try:
            revealed = await quick(self.chat.prefer, pair_id, voted, strength=strength)
        except Exception as error:
            return {self.verdict: said(f"Not saved. {sentence(error)}", "bad")}
        return {self.verdict: said(revealed.sentence, "good")}

    async def undo(self, pair_id: str) -> Update:
        try:
            await quick(self.chat.withdraw, pair_id)
            return {
                **self._votes(True),
                **self._strengths(False),
                self.verdict: said("Taken back. Which draft is better?"),
                self.undo_button: gr.update(value="Undo", visible=False),
                self.count: await quick(self._count),
            }
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}

    # ---- acts: what to compare -----------------------------------------------------------------

    async def choose_source(self, source: str) -> Update:
        if source == OWN:
            return {self.prompt: "", self.verdict: said("Write a prompt, then press New drafts.")}
        try:
            if source == RECENT and not await quick(self.chat.recent_prompts):
                return {
                    self.prompt: await quick(self.chat.suggest_prompt),
                    self.verdict: said("You have not asked anything in Chat yet: suggested ones."),
                }
            return {self.prompt: await quick(self._next_prompt, source), self.verdict: said()}
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}

    async def set_duel(self, dueling: bool, one: str, other: str) -> Update:
        try:
            return await quick(self._duel, dueling, one, other)
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}

    async def begin_duel(self, version: int, request: gr.Request) -> Update:
        """From the Versions screen: this version against what is live, or against its parent."""

        def pair() -> tuple[str, str]:
            live = self.trainer.status().live_version
            known = {v.version: v for v in self.trainer.versions()}
            other = live if live != version else (known[version].parent or 0 if version else 0)
            if other == version:
                other = max(known)
            return str(version), str(other)

        try:
            update = await quick(self._duel, True, *await quick(pair))
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}
        return {**update, self.dueling: True, self.tabs: gr.update(selected="compare")}

    def _duel(self, dueling: bool, one: str, other: str) -> Update:
        choices = version_choices(self.trainer.versions())
        values = [value for _, value in choices]
        one = one if one in values else values[0]
        other = (
            other
            if other in values and other != one
            else next((v for v in reversed(values) if v != one), one)
        )
        return {
            self.one: gr.update(choices=choices, value=one, visible=dueling),
            self.other: gr.update(choices=choices, value=other, visible=dueling),
            **self._counted(_chosen(dueling, one, other) if one != other else None),
        }

    # ---- what is shown -------------------------------------------------------------------------

    async def load(self) -> Update:
        return {
            self.prompt: await quick(self.chat.suggest_prompt),
            self.count: await quick(self._count),
            **await quick(self._duel, False, "", ""),
        }

    async def recount(self) -> dict:
        return await quick(self._count)

    def _count(self) -> dict:
        return said(unlocks(self.trainer.status(), self.trainer.rounds(1)))

    def _counted(self, versions: tuple[int, int] | None) -> Update:
        """What the next vote unlocks, and in a duel how it stands."""
        return {self.count: self._count(), self.standing: said(self._standing(versions))}

    def _standing(self, versions: tuple[int, int] | None) -> str:
        if versions is None:
            return ""
        record, low, high = self.trainer.duel(*versions)
        one, other = (version_label(v) for v in versions)
        if not record.votes:
            return f"No blind votes between {one} and {other} yet."
        told = f"{one} won {record.wins} of {record.votes} against {other}"
        told += f" ({record.ties} ties)" if record.ties else ""
        return f"{told}: {record.win_rate:.0%}, between {low:.0%} and {high:.0%}."

    def _panes(self, pair: Any) -> Update:
        return {self.left: pair.left or "…", self.right: pair.right or "…"}

    def _votes(self, open_: bool) -> Update:
        return {
            button: gr.update(value=label, interactive=open_)
            for button, (_, label, _) in zip(self.vote_buttons, VOTES, strict=True)
        }

    def _strengths(self, shown: bool) -> Update:
        return {
            button: gr.update(value=word, visible=shown)
            for button, (_, word, _) in zip(self.strength_buttons, STRENGTHS, strict=True)
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.pair_id, self.running, self.event_id, self.coming = (
            hidden("pair-id"),
            hidden("running"),
            hidden("compare-event-id"),
            hidden("coming"),
        )
        self.outcomes = [hidden(f"outcome-{outcome}", outcome) for outcome, _, _ in VOTES]
        self.strengths = [hidden(f"strength-{word}", word) for word, _, _ in STRENGTHS]
        self.voted = hidden("voted")
        with gr.Row(elem_id="from"):
            self.source = gr.Radio(
                [SUGGESTED, RECENT, OWN],
                value=SUGGESTED,
                label="Prompts",
                show_label=False,
                container=False,
                elem_id="source",
                scale=0,
            )
            self.dueling = gr.Checkbox(
                False, label="Duel", container=False, elem_id="dueling", scale=0, min_width=70
            )
            self.one = self._version_menu("One version", "duel-one")
            self.other = self._version_menu("Other version", "duel-other")
            self.standing = saying("duel-standing")
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
            self.strength_buttons = [
                gr.Button(word, visible=False, size="sm", scale=0, min_width=84, elem_id=elem_id)
                for _, word, elem_id in STRENGTHS
            ]
            self.undo_button = gr.Button(
                "Undo", visible=False, size="sm", scale=0, min_width=72, elem_id="undo"
            )
            gr.HTML(KEYS, elem_id="compare-keys", apply_default_css=False)

    @staticmethod
    def _version_menu(label: str, elem_id: str) -> gr.Dropdown:
        return gr.Dropdown(
            [("base", "0")],
            value="0",
            label=label,
            show_label=False,
            container=False,
            visible=False,
            elem_id=elem_id,
            scale=0,
            min_width=130,
        )

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

    def wire(self, demo: gr.Blocks, tabs: gr.Tabs | None = None) -> None:
        self.tabs = tabs
        duel: list[Any] = [self.dueling, self.one, self.other]
        page: list[Any] = [
            self.left,
            self.right,
            self.asked,
            self.verdict,
            self.count,
            self.standing,
            self.prompt,
            self.coming,
            self.pair_id,
            self.running,
            self.next_button,
            self.stop_button,
            self.undo_button,
            *duel,
            *self.vote_buttons,
            *self.strength_buttons,
            self.voted,
        ]
        if tabs is not None:
            page.append(tabs)
        self.page = page
        gr.on(
            [self.prompt.submit, self.next_button.click],
            self.draft,
            [self.prompt, self.event_id, self.source, *duel],
            page,
            js=with_event_id(1),
            **REPLIES,
        )
        self.stop_button.click(self.stop, self.running, None, **QUICK)
        for button, outcome in zip(self.vote_buttons, self.outcomes, strict=True):
            button.click(
                self.vote,
                [outcome, self.pair_id, self.event_id, self.coming, self.source, *duel],
                page,
                js=with_event_id(2),
                **QUICK,
            )
        for button, strength in zip(self.strength_buttons, self.strengths, strict=True):
            button.click(self.refine, [strength, self.pair_id, self.voted], page, **QUICK)
        self.undo_button.click(self.undo, self.pair_id, page, **QUICK)
        self.source.input(self.choose_source, self.source, page, **QUICK)
        gr.on([box.input for box in duel], self.set_duel, duel, page, **QUICK)
        demo.load(self.load, None, page, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _chosen(dueling: bool, one: str, other: str) -> tuple[int, int] | None:
    return (int(one), int(other)) if dueling and one and other and one != other else None


def unlocks(status: Status, rounds: list) -> str:
    """What the next vote, or how many more of them, will unlock."""
    if status.round_id is not None:
        return (
            f"Round {status.round_id} is learning from your votes; go on, they count for the next."
        )
    number = (rounds[0].id if rounds else 0) + 1
    if status.phase == "off":
        return f"{status.waiting} new ratings. Learning is off, they are kept."
    if status.paused:
        return f"{status.waiting} new ratings. Learning is paused, they are kept."
    left = status.needed - status.waiting
    if left <= 0:
        return f"{status.waiting} new ratings, enough: round {number} begins."
    if left == 1:
        return f"Your next vote starts round {number}."
    return f"{left} more votes start round {number} ({status.waiting} of {status.needed})."
