"""The Compare screen: one prompt, two to four answers with hidden versions, a vote, the versions.

The next answers are written while the person reads these (prefetch.py). Prompts are suggested,
taken from one's own chats, or typed; a duel (duel_panel.py) sets two chosen versions against each
other. A vote (vote_panel.py) counts only when all answers are complete, so its buttons wait for
`Candidates.votable`. Which answers are shown is decided in rlhf_chat.chat.compare.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from rlhf_chat.chat.compare import Candidates, Compare
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import markdown_escape
from rlhf_chat.ui.components import error_message, hidden, status_line, status_message
from rlhf_chat.ui.duel_panel import Duel, between
from rlhf_chat.ui.handlers import (
    FRAME_SECONDS,
    QUICK,
    REPLIES,
    close,
    quick,
    with_event_id,
)
from rlhf_chat.ui.language import label, message, text
from rlhf_chat.ui.prefetch import Prefetcher
from rlhf_chat.ui.vote_panel import LETTERS, VotePanel, asking

COUNTS: list[Any] = [(label("two_answers"), 2), ("3", 3), ("4", 4)]
SUGGESTED, RECENT, OWN = "suggested", "recent", "own"
SOURCES: list[Any] = [
    (label("suggested"), SUGGESTED),
    (label("from_chats"), RECENT),
    (label("own_prompt"), OWN),
]

Update = dict[Any, Any]


class CompareScreen:
    def __init__(self, compare: Compare, worker: TrainingWorker) -> None:
        self.compare, self.worker, self.duel = compare, worker, Duel(worker)
        self.answers = VotePanel(compare, worker, self._answered)
        self._under_way: dict[str, threading.Event] = {}  # event id -> how to stop these drafts
        self._lock = threading.Lock()
        self._ahead = Prefetcher()
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
        tab, rater = (request.session_hash or "") if request else "", checked_name(rater)
        try:
            versions = between(dueling, one, other)
            count = 2 if versions else int(count)
            stop, sets = self._sets(tab, prompt, count, versions, rater, event_id)
            drafts = next(sets)  # refusals come here; the last drafts then stay on the page
        except Exception as error:
            yield {self.verdict: error_message(error)}
            return
        with self._lock:
            self._under_way[event_id] = stop
        whole = False
        try:
            yield self._begun(drafts, prompt, event_id)
            drawn = time.monotonic()
            for drafts in sets:
                if time.monotonic() - drawn >= FRAME_SECONDS:
                    yield {
                        **self._panes(drafts),
                        self.verdict: _writing(drafts),
                    }
                    drawn = time.monotonic()
            word = status_message(asking(len(drafts.texts)))
            if not drafts.votable:
                word = status_message(message(drafts.note) or text("compare.not_comparable"), "bad")
            whole = drafts.done
        except GeneratorExit:
            raise
        except Exception as error:
            word = error_message(error)
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
        rater: str,
        event_id: str,
    ) -> tuple[threading.Event, Iterator[Candidates]]:
        """The drafts made ahead for this tab if they are the ones wanted, else new ones; and how to
        stop them."""
        ahead = self._ahead.take(tab, self._key(prompt, versions, count, rater))
        if ahead is not None:
            return ahead.stop, ahead.follow()
        stop = threading.Event()
        return stop, self._write(prompt, count, versions, stop, event_id)

    def _ended(self, drafts: Candidates) -> Update:
        return {
            **self._panes(drafts),
            **self._columns(len(drafts.texts)),
            **self.answers.shown(len(drafts.texts), drafts.votable),
            self.asked: status_message(drafts.prompt),
            self.set_id: drafts.set_id or "",
            self.next_button: gr.update(value=text("label.new_answers"), visible=True),
            self.stop_button: gr.update(value=text("label.stop"), visible=False),
        }

    def _begun(self, drafts: Candidates, prompt: str, event_id: str) -> Update:
        return {
            **self._panes(drafts),
            **self._columns(len(drafts.texts)),
            **self.answers.cleared(len(drafts.texts)),
            self.asked: status_message(drafts.prompt),
            self.set_id: drafts.set_id or "",
            self.coming: "",
            self.drafted: prompt,
            self.running: event_id,
            self.verdict: _writing(drafts),
            self.next_button: gr.update(value=text("label.new_answers"), visible=False),
            self.stop_button: gr.update(value=text("label.stop"), visible=True),
        }

    def _write(
        self,
        prompt: str,
        count: int,
        versions: tuple[int, int] | None,
        stop: threading.Event,
        event_id: str = "",
    ) -> Iterator[Candidates]:
        return self.compare.write(
            prompt, count, event_id=event_id or None, stop=stop, versions=versions
        )

    def _key(
        self, prompt: str, versions: tuple[int, int] | None, count: int, rater: str
    ) -> tuple[Any, ...]:
        """What drafts made ahead must agree in to be shown; the name, because they may be a pair
        that this person has seen before."""
        return prompt.strip(), versions, count, rater, self.worker.status().live_version

    def _write_ahead(
        self, tab: str, prompt: str, count: int, versions: tuple[int, int] | None, rater: str
    ) -> None:
        """The next drafts; now and then, instead, a pair this person has seen before."""

        def start(stop: threading.Event) -> Iterator[Candidates]:
            old = self.compare.repeat_pair(rater) if count == 2 and versions is None else None
            return iter([old]) if old else self._write(prompt, count, versions, stop)

        self._ahead.begin(tab, self._key(prompt, versions, count, rater), start)

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

    async def _answered(
        self,
        prompt: str = "",
        drafted: str = "",
        coming: str = "",
        source: str = SUGGESTED,
        dueling: bool = False,
        one: str = "",
        other: str = "",
    ) -> Update:
        """What follows a saved answer: the next prompt, unless the box holds another than these
        drafts were asked for with; what the next vote unlocks, and in a duel how it stands."""
        update: Update = {self.next_button: gr.update(value=text("compare.next_answers"))}
        try:
            if source != OWN and prompt == drafted:
                update[self.prompt] = coming or await quick(self._next_prompt, source)
            update[self.answers.count] = await self.answers.recount()
            update |= await quick(self.duel.stand, between(dueling, one, other))
        except Exception as error:  # the vote is stored; what follows must not look like a loss
            update |= {self.answers.count: error_message(error)}
        return update

    # ---- acts: what to compare -----------------------------------------------------------------

    async def choose_source(self, source: str) -> Update:
        if source == OWN:
            return {
                self.prompt: "",
                self.verdict: status_message(text("compare.write_prompt")),
            }
        try:
            if source == RECENT and not await quick(self.compare.recent_prompts):
                return {
                    self.prompt: await quick(self.compare.suggest_prompt),
                    self.verdict: status_message(text("compare.no_recent")),
                }
            return {
                self.prompt: await quick(self._next_prompt, source),
                self.verdict: status_message(),
            }
        except Exception as error:
            return {self.verdict: error_message(error)}

    async def choose_count(self, count: int) -> Update:
        """Room for so many drafts; the ones on the page stay until new ones are made."""
        return {
            **self._columns(int(count)),
            **self.answers.cleared(int(count)),
            self.set_id: "",
            self.next_button: gr.update(value=text("label.new_answers")),
            self.verdict: status_message(text("compare.press_new")),
        }

    async def set_duel(self, dueling: bool, one: str, other: str) -> Update:
        try:
            return await quick(self.duel.menus, dueling, one, other)
        except Exception as error:
            return {self.verdict: error_message(error)}

    async def begin_duel(self, version: int) -> Update:
        """From the Versions screen."""
        try:
            update = await quick(self.duel.begun, version)
        except Exception as error:
            return {self.verdict: error_message(error)}
        return {**update, self.tabs: gr.update(selected="compare")}

    # ---- what is shown -------------------------------------------------------------------------

    async def load(self) -> Update:
        return {
            self.prompt: await quick(self.compare.suggest_prompt),
            self.answers.count: await self.answers.recount(),
            **await quick(self.duel.menus, False, "", ""),
        }

    def _panes(self, drafts: Candidates) -> Update:
        texts = [*drafts.texts, *[""] * (len(LETTERS) - len(drafts.texts))]
        return {
            pane: markdown_escape.shown(text) or "…"
            for pane, text in zip(self.panes, texts, strict=True)
        }

    def _columns(self, count: int) -> Update:
        """Room for so many drafts; two have it always."""
        return {c: gr.update(visible=i < count) for i, c in enumerate(self.columns) if i >= 2}

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.set_id, self.running = hidden("set-id"), hidden("running")
        self.event_id, self.coming = hidden("compare-event-id"), hidden("coming")
        self.drafted = hidden("drafted")  # the prompt these drafts were asked for with
        self._lay_out_question()
        self.asked = status_line("asked")
        with gr.Row(elem_id="candidates", equal_height=True):
            made = [self._pane(letter) for letter in LETTERS]
            self.columns, self.panes = [c for c, _ in made], [pane for _, pane in made]
        self.answers.lay_out()
        self.verdict = self.answers.verdict

    def _lay_out_question(self) -> None:
        with gr.Row(elem_id="from"):
            self.source = gr.Radio(
                SOURCES,
                value=SUGGESTED,
                label=label("prompts"),
                show_label=False,
                container=False,
                elem_id="source",
                scale=0,
            )
            self.how_many = gr.Radio(
                COUNTS,
                value=2,
                label=label("answer_count"),
                show_label=False,
                container=False,
                elem_id="how-many",
                scale=0,
            )
            self.duel.lay_out()
        with gr.Row(elem_id="ask"):
            self.prompt = gr.Textbox(
                label=label("prompt"),
                show_label=False,
                container=False,
                lines=1,
                max_lines=4,
                elem_id="prompt",
                scale=1,
                placeholder=label("prompt_hint"),
            )
            self.next_button = gr.Button(
                label("new_answers"),
                variant="primary",
                elem_id="new-drafts",
                scale=0,
                min_width=112,
            )
            self.stop_button = gr.Button(
                label("stop"), elem_id="stop-drafts", visible=False, scale=0, min_width=112
            )

    def _pane(self, letter: str) -> tuple[gr.Column, gr.Markdown]:
        column = gr.Column(elem_classes="pane", min_width=200, visible=letter in "AB")
        with column:
            # To be reached by Tab: a long draft is then scrolled by keys.
            title = '<span tabindex="0">' + label(f"answer_{letter.lower()}") + "</span>"
            gr.HTML(title, elem_classes="pane-title", apply_default_css=False)
            pane = gr.Markdown(
                label("first_answers") if letter == "A" else "",
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
            self.prompt,
            self.coming,
            self.drafted,
            self.set_id,
            self.running,
            self.next_button,
            self.stop_button,
            *self.duel.page,
            *self.answers.page,
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
        after: list[Any] = [self.prompt, self.drafted, self.coming, self.source, *duel]
        self.answers.wire(self.set_id, self.event_id, rater, after, page)
        self.source.input(self.choose_source, self.source, page, **QUICK)
        self.how_many.input(self.choose_count, self.how_many, page, **QUICK)
        gr.on([box.input for box in duel], self.set_duel, duel, page, **QUICK)
        demo.load(self.load, None, page, **QUICK)


def _writing(drafts: Candidates) -> dict[str, str]:
    return status_message(message(drafts.note) or text("compare.writing"))
