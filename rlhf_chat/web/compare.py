"""The Compare screen: one prompt, two to four drafts with hidden versions, one answer, the names.

Two drafts get a vote; three or four are pressed in order, best first. The next drafts are written
while the person still reads these (ahead.py). Prompts are suggested, taken from one's own chats, or
typed; a duel (duel.py) sets two chosen versions against each other. An answer counts only when all
drafts have ended, so the buttons wait for `Drafts.votable`. Leaves out which drafts and versions
are drawn otherwise: that is the business of rlhf_chat.compare.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rlhf_chat.compare import Compare, Drafts
from rlhf_chat.trainer import Status, Trainer
from rlhf_chat.web.ahead import Ahead
from rlhf_chat.web.duel import Duel, between
from rlhf_chat.web.quick import FRAME_SECONDS, QUICK, REPLIES, close, quick, sentence, with_event_id
from rlhf_chat.web.words import hidden, said, saying

VOTES = (
    ("a", "A is better", "vote-a"),
    ("b", "B is better", "vote-b"),
    ("tie", "Tie", "vote-tie"),
    ("both_bad", "Both bad", "vote-bad"),
    ("both_good", "Both good", "vote-good"),
)
STRENGTHS = (("slightly", "Slightly", "slightly"), ("much", "Much", "much"))
SAID = {outcome: label for outcome, label, _ in VOTES}
LETTERS = "ABCD"
COUNTS = [("2 drafts", 2), ("3", 3), ("4", 4)]
KEYS = (
    "<kbd>1</kbd> to <kbd>5</kbd> vote <i></i> <kbd>S</kbd> slightly <kbd>B</kbd> much <i></i> "
    "<kbd>N</kbd> next drafts <i></i> <kbd>U</kbd> undo"
)
RANK_KEYS = (
    "<kbd>1</kbd> to <kbd>4</kbd> the next best <i></i> <kbd>T</kbd> the rest are equal <i></i> "
    "<kbd>N</kbd> next drafts <i></i> <kbd>U</kbd> undo"
)
FIRST = (
    "Two drafts will appear here. Say which one you prefer; "
    "who wrote them is shown after your vote."
)
WRITING = "Writing drafts…"
WHICH = "Which draft is better?"
ORDER = "Press the drafts in order, the best first."
SUGGESTED, RECENT, OWN = "Suggested", "From my chats", "My own"

Update = dict[Any, Any]


class CompareScreen:
    def __init__(self, compare: Compare, trainer: Trainer) -> None:
        self.compare, self.trainer, self.duel = compare, trainer, Duel(trainer)
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
        count: int = 2,
        rater: str = "me",
        request: gr.Request | None = None,
    ) -> Iterator[Update]:
        tab = (request.session_hash or "") if request else ""
        try:
            versions = between(dueling, one, other)
            count = 2 if versions else int(count)
            stop, sets = self._sets(tab, prompt, count, versions, event_id)
            drafts = next(sets)  # refusals come here; the last drafts then stay on the page
        except Exception as error:
            yield {self.verdict: said(sentence(error), "bad")}
            return
        with self._lock:
            self._under_way[event_id] = stop
        whole = False
        try:
            yield self._begun(drafts, event_id)
            drawn = time.monotonic()
            for drafts in sets:
                if time.monotonic() - drawn >= FRAME_SECONDS:
                    yield {**self._panes(drafts), self.verdict: said(drafts.note or WRITING)}
                    drawn = time.monotonic()
            word = said(WHICH if len(drafts.texts) == 2 else ORDER)
            if not drafts.votable:
                word = said(drafts.note or "These drafts cannot be compared. Make new ones.", "bad")
            whole = drafts.done
        except GeneratorExit:
            raise
        except Exception as error:
            word = said(sentence(error), "bad")
        finally:
            stop.set()
            close(sets)
            with self._lock:
                self._under_way.pop(event_id, None)
        update = self._ended(drafts) | {self.verdict: word}
        if whole and source != OWN:
            update[self.coming] = coming = self._next_prompt(source)
            self._write_ahead(tab, coming, count, versions, rater)
        yield update

    def _sets(
        self,
        tab: str,
        prompt: str,
        count: int,
        versions: tuple[int, int] | None,
        event_id: str,
    ) -> tuple[threading.Event, Iterator[Drafts]]:
        """The drafts made ahead for this tab if they are the ones wanted, else new ones; and how to
        stop them."""
        ahead = self._ahead.take(tab, self._key(prompt, versions, count))
        if ahead is not None:
            return ahead.stop, ahead.follow()
        stop = threading.Event()
        return stop, self._write(prompt, count, versions, stop, event_id)

    def _ended(self, drafts: Drafts) -> Update:
        return {
            **self._panes(drafts),
            **self._answers(len(drafts.texts), drafts.votable),
            self.asked: said(drafts.prompt),
            self.set_id: drafts.set_id or "",
            self.next_button: gr.update(value="New drafts", visible=True),
            self.stop_button: gr.update(value="Stop", visible=False),
        }

    def _begun(self, drafts: Drafts, event_id: str) -> Update:
        return {
            **self._panes(drafts),
            **self._answers(len(drafts.texts), False),
            self.asked: said(drafts.prompt),
            self.set_id: drafts.set_id or "",
            self.order: "",
            self.voted: "",
            self.coming: "",
            self.running: event_id,
            self.verdict: said(drafts.note or WRITING),
            self.next_button: gr.update(value="New drafts", visible=False),
            self.stop_button: gr.update(value="Stop", visible=True),
            self.undo_button: gr.update(value="Undo", visible=False),
            self.because: gr.update(value="", visible=False),
            **self._strengths(False),
        }

    def _write(
        self,
        prompt: str,
        count: int,
        versions: tuple[int, int] | None,
        stop: threading.Event,
        event_id: str = "",
    ) -> Iterator[Drafts]:
        return self.compare.write(
            prompt, count, event_id=event_id or None, stop=stop, versions=versions
        )

    def _key(self, prompt: str, versions: tuple[int, int] | None, count: int) -> tuple:
        """What drafts made ahead must agree in to be shown."""
        return prompt.strip(), versions, count, self.trainer.status().live_version

    def _write_ahead(
        self, tab: str, prompt: str, count: int, versions: tuple[int, int] | None, rater: str
    ) -> None:
        """The next drafts; now and then, instead, a pair this person has seen before."""

        def start(stop: threading.Event) -> Iterator[Drafts]:
            old = self.compare.seen_before(rater) if count == 2 and versions is None else None
            return iter([old]) if old else self._write(prompt, count, versions, stop)

        self._ahead.begin(tab, self._key(prompt, versions, count), start)

    def _next_prompt(self, source: str) -> str:
        if source == RECENT:
            asked = self.compare.recent_prompts()
            if asked:
                return self._rng.choice(asked)
        return self.compare.suggest_prompt()

    async def stop(self, running: str) -> None:
        with self._lock:
            stop = self._under_way.get(running)
        if stop:
            stop.set()

    # ---- acts: votes ---------------------------------------------------------------------------

    async def vote(
        self,
        outcome: str,
        set_id: str,
        event_id: str,
        coming: str = "",
        source: str = SUGGESTED,
        dueling: bool = False,
        one: str = "",
        other: str = "",
        rater: str = "me",
    ) -> Update:
        if not set_id:
            return {self.verdict: said("Wait until both drafts have ended.", "bad")}
        try:
            revealed = await quick(
                self.compare.prefer, set_id, outcome, event_id=event_id or None, rater=rater
            )
            self.trainer.wake()
        except Exception as error:
            return {self.verdict: said(f"Not saved. {sentence(error)}", "bad")}
        return {
            **self._answers(2, False),
            **self._strengths(outcome in ("a", "b")),
            self.voted: outcome,
            **await self._answered(revealed.sentence, coming, source, between(dueling, one, other)),
        }

    async def place(
        self,
        letter: str,
        set_id: str,
        event_id: str,
        coming: str = "",
        source: str = SUGGESTED,
        order: str = "",
        rater: str = "me",
    ) -> Update:
        """The next best draft; no letter says that the rest are equal. With one left the ranking is
        whole, and saved."""
        if not set_id:
            return {self.verdict: said("Wait until all drafts have ended.", "bad")}
        try:
            count = len((await quick(self.compare.shown, set_id)).texts)
            order += letter if letter in LETTERS[:count] and letter not in order else ""
            left = [other for other in LETTERS[:count] if other not in order]
            if letter and len(left) > 1:
                return {
                    **self._ranked(count, order),
                    self.verdict: said(f"{', then '.join(order)}, then…"),
                    self.undo_button: gr.update(value="Undo", visible=True),
                }
            places = [order.index(x) if x in order else len(order) for x in LETTERS[:count]]
            revealed = await quick(
                self.compare.rank, set_id, places, event_id=event_id or None, rater=rater
            )
            self.trainer.wake()
        except Exception as error:
            return {self.verdict: said(f"Not saved. {sentence(error)}", "bad")}
        return {
            **self._answers(count, False),
            **self._ranked(count, order, False),
            self.voted: "ranking",
            **await self._answered(revealed.sentence, coming, source, None),
        }

    async def _answered(
        self, sentence_: str, coming: str, source: str, versions: tuple[int, int] | None
    ) -> Update:
        """What follows a saved answer: the names, the way back, the next prompt."""
        update: Update = {
            self.verdict: said(sentence_, "good"),
            self.undo_button: gr.update(value="Undo", visible=True),
            self.because: gr.update(value="", visible=True),
            self.next_button: gr.update(value="Next drafts"),
        }
        try:
            if coming or source != OWN:
                update[self.prompt] = coming or await quick(self._next_prompt, source)
            update |= await quick(self._counted, versions)
        except Exception as error:  # the vote is stored; what follows must not look like a loss
            update |= {self.count: said(sentence(error), "bad")}
        return update

    async def refine(self, strength: str, set_id: str, voted: str, rater: str = "me") -> Update:
        """How much better: the same vote again, with its strength."""
        if not set_id or voted not in ("a", "b"):
            return {self.verdict: said("Vote for a draft first.", "bad")}
        try:
            revealed = await quick(
                self.compare.prefer, set_id, voted, strength=strength, rater=rater
            )
        except Exception as error:
            return {self.verdict: said(f"Not saved. {sentence(error)}", "bad")}
        return {self.verdict: said(revealed.sentence, "good")}

    async def explain(self, words: str, set_id: str, rater: str = "me") -> Update:
        """Why, in the person's own words, beside an answer that was given."""
        try:
            told = await quick(self.compare.comment, set_id, words, rater=rater)
        except Exception as error:
            return {self.verdict: said(f"Not saved. {sentence(error)}", "bad")}
        return {self.verdict: said(told, "good"), self.because: gr.update(visible=False)}

    async def undo(self, set_id: str, voted: str, rater: str = "me") -> Update:
        """Takes a saved answer back; with none, the places given so far."""
        try:
            count = len((await quick(self.compare.shown, set_id)).texts)
            if voted:
                await quick(self.compare.withdraw, set_id, rater=rater)
            return {
                **self._answers(count, True),
                **self._strengths(False),
                self.because: gr.update(value="", visible=False),
                self.voted: "",
                self.verdict: said(f"Taken back. {WHICH if count == 2 else ORDER}"),
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
            if source == RECENT and not await quick(self.compare.recent_prompts):
                return {
                    self.prompt: await quick(self.compare.suggest_prompt),
                    self.verdict: said("You have not asked anything in Chat yet: suggested ones."),
                }
            return {self.prompt: await quick(self._next_prompt, source), self.verdict: said()}
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}

    async def choose_count(self, count: int) -> Update:
        """Room for so many drafts; the ones on the page stay until new ones are made."""
        shown = self._answers(int(count), False)
        return shown | {self.set_id: "", self.verdict: said("Press New drafts.")}

    async def set_duel(self, dueling: bool, one: str, other: str) -> Update:
        try:
            return await quick(self.duel.menus, dueling, one, other)
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}

    async def begin_duel(self, version: int) -> Update:
        """From the Versions screen."""
        try:
            update = await quick(self.duel.begun, version)
        except Exception as error:
            return {self.verdict: said(sentence(error), "bad")}
        return {**update, self.tabs: gr.update(selected="compare")}

    # ---- what is shown -------------------------------------------------------------------------

    async def load(self) -> Update:
        return {
            self.prompt: await quick(self.compare.suggest_prompt),
            self.count: await quick(self._count),
            **await quick(self.duel.menus, False, "", ""),
        }

    async def recount(self) -> dict:
        return await quick(self._count)

    def _count(self) -> dict:
        return said(unlocks(self.trainer.status(), self.trainer.rounds(1)))

    def _counted(self, versions: tuple[int, int] | None) -> Update:
        """What the next vote unlocks, and in a duel how it stands."""
        return {self.count: self._count(), **self.duel.stand(versions)}

    def _panes(self, drafts: Drafts) -> Update:
        texts = [*drafts.texts, *[""] * (len(LETTERS) - len(drafts.texts))]
        return {pane: text or "…" for pane, text in zip(self.panes, texts, strict=True)}

    def _answers(self, count: int, open_: bool) -> Update:
        """The panes and buttons for so many drafts: votes on two, an order of more."""
        votes = {
            button: gr.update(value=label, interactive=open_, visible=count == 2)
            for button, (_, label, _) in zip(self.vote_buttons, VOTES, strict=True)
        }
        columns = {c: gr.update(visible=i < count) for i, c in enumerate(self.columns) if i >= 2}
        return {
            **votes,
            **columns,
            **self._ranked(count, "", open_),
            self.keys: RANK_KEYS if count > 2 else KEYS,
        }

    def _ranked(self, count: int, order: str, open_: bool = True) -> Update:
        """The buttons of a ranking: each draft once, then it says its place."""
        buttons: Update = {
            button: gr.update(
                value=f"{order.index(x) + 1}: {x}" if x in order else x,
                interactive=open_ and x not in order,
                visible=i < count and count > 2,
            )
            for i, (x, button) in enumerate(zip(LETTERS, self.place_buttons, strict=True))
        }
        rest = gr.update(value="The rest are equal", interactive=open_, visible=count > 2)
        return {**buttons, self.rest_button: rest, self.order: order}

    def _strengths(self, shown: bool) -> Update:
        return {
            button: gr.update(value=word, visible=shown)
            for button, (_, word, _) in zip(self.strength_buttons, STRENGTHS, strict=True)
        }

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.set_id, self.running, self.event_id, self.coming, self.order = (
            hidden("set-id"),
            hidden("running"),
            hidden("compare-event-id"),
            hidden("coming"),
            hidden("order"),
        )
        self.letters = [hidden(f"letter-{x}", x) for x in (*LETTERS, "")]
        self.outcomes = [hidden(f"outcome-{outcome}", outcome) for outcome, _, _ in VOTES]
        self.strengths = [hidden(f"strength-{word}", word) for word, _, _ in STRENGTHS]
        self.voted = hidden("voted")
        self._lay_out_question()
        self.asked = saying("asked")
        with gr.Row(elem_id="panes", equal_height=True):
            made = [self._pane(letter) for letter in LETTERS]
            self.columns, self.panes = [c for c, _ in made], [pane for _, pane in made]
        self.verdict = saying("verdict")
        self._lay_out_answers()

    def _lay_out_question(self) -> None:
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
            self.how_many = gr.Radio(
                COUNTS,
                value=2,
                label="Drafts",
                show_label=False,
                container=False,
                elem_id="how-many",
                scale=0,
            )
            self.duel.lay_out()
        with gr.Row(elem_id="ask"):
            self.prompt = gr.Textbox(
                label="Prompt",
                show_label=False,
                container=False,
                lines=1,
                max_lines=4,
                elem_id="prompt",
                scale=1,
                placeholder="A prompt for all drafts",
            )
            self.next_button = gr.Button(
                "New drafts", variant="primary", elem_id="new-drafts", scale=0, min_width=112
            )
            self.stop_button = gr.Button(
                "Stop", elem_id="stop-drafts", visible=False, scale=0, min_width=112
            )

    def _lay_out_answers(self) -> None:
        with gr.Row(elem_id="votes"):
            self.vote_buttons = [
                gr.Button(label, elem_id=elem_id, interactive=False, min_width=120)
                for _, label, elem_id in VOTES
            ]
            self.place_buttons = [
                gr.Button(x, elem_id=f"place-{x.lower()}", visible=False, min_width=90)
                for x in LETTERS
            ]
            self.rest_button = gr.Button(
                "The rest are equal", elem_id="rest-equal", visible=False, min_width=140
            )
        with gr.Row(elem_id="after"):
            self.count = saying("count")
            self.strength_buttons = [
                gr.Button(word, visible=False, size="sm", scale=0, min_width=84, elem_id=elem_id)
                for _, word, elem_id in STRENGTHS
            ]
            self.undo_button = gr.Button(
                "Undo", visible=False, size="sm", scale=0, min_width=72, elem_id="undo"
            )
            self.keys = gr.HTML(KEYS, elem_id="compare-keys", apply_default_css=False)
        self.because = gr.Textbox(
            label="Why",
            show_label=False,
            container=False,
            max_lines=2,
            visible=False,
            elem_id="because",
            placeholder="Say why (optional, Enter saves)",
        )

    def _pane(self, letter: str) -> tuple[gr.Column, gr.Markdown]:
        column = gr.Column(elem_classes="pane", min_width=200, visible=letter in "AB")
        with column:
            # To be reached by Tab: a long draft is then scrolled by keys.
            title = f'<span tabindex="0">Draft {letter}</span>'
            gr.HTML(title, elem_classes="pane-title", apply_default_css=False)
            pane = gr.Markdown(
                FIRST if letter == "A" else "",
                elem_id=f"draft-{letter.lower()}",
                sanitize_html=True,
                line_breaks=True,
                elem_classes="draft",
            )
        return column, pane

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, rater: gr.Textbox, tabs: gr.Tabs | None = None) -> None:
        self.tabs = tabs
        duel = self.duel.boxes
        page: list[Any] = [
            *self.columns,
            *self.panes,
            self.asked,
            self.verdict,
            self.count,
            self.prompt,
            self.coming,
            self.set_id,
            self.order,
            self.running,
            self.next_button,
            self.stop_button,
            self.undo_button,
            self.because,
            self.keys,
            *self.duel.page,
            *self.vote_buttons,
            *self.place_buttons,
            self.rest_button,
            *self.strength_buttons,
            self.voted,
        ]
        if tabs is not None:
            page.append(tabs)
        self.page = page
        gr.on(
            [self.prompt.submit, self.next_button.click],
            self.draft,
            [self.prompt, self.event_id, self.source, *duel, self.how_many, rater],
            page,
            js=with_event_id(1),
            **REPLIES,
        )
        self.stop_button.click(self.stop, self.running, None, **QUICK)
        said_of: list[Any] = [self.set_id, self.event_id, self.coming, self.source]
        for button, outcome in zip(self.vote_buttons, self.outcomes, strict=True):
            fields = [outcome, *said_of, *duel, rater]
            button.click(self.vote, fields, page, js=with_event_id(2), **QUICK)
        for button, letter in zip(
            [*self.place_buttons, self.rest_button], self.letters, strict=True
        ):
            fields = [letter, *said_of, self.order, rater]
            button.click(self.place, fields, page, js=with_event_id(2), **QUICK)
        for button, strength in zip(self.strength_buttons, self.strengths, strict=True):
            button.click(self.refine, [strength, self.set_id, self.voted, rater], page, **QUICK)
        self.because.submit(self.explain, [self.because, self.set_id, rater], page, **QUICK)
        self.undo_button.click(self.undo, [self.set_id, self.voted, rater], page, **QUICK)
        self.source.input(self.choose_source, self.source, page, **QUICK)
        self.how_many.input(self.choose_count, self.how_many, page, **QUICK)
        gr.on([box.input for box in duel], self.set_duel, duel, page, **QUICK)
        demo.load(self.load, None, page, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


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
