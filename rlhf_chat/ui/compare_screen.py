"""The Compare screen: one prompt, two to four answers with hidden versions, a vote, the versions.

Answers are shown as they are written, and can be voted on from the first words; the next ones come
by themselves after a vote, because they are written while the person reads these (prefetch.py).
Prompts are suggested, taken from one's own chats, or typed; a duel (duel_panel.py) sets two chosen
versions against each other. A vote (vote_panel.py) is stored when all answers are complete, see
shown_sets.py. Which answers are shown is decided in rlhf_chat.chat.draft_writer.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from rlhf_chat.chat.compare import Candidates, Compare
from rlhf_chat.chat.message_text import checked
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import markdown_escape
from rlhf_chat.ui.components import (
    error_message,
    hidden,
    js_component,
    status_line,
    status_message,
)
from rlhf_chat.ui.duel_panel import Duel, between
from rlhf_chat.ui.handlers import FRAME_SECONDS, QUICK, REPLIES, quick, with_event_id
from rlhf_chat.ui.language import label, message, text
from rlhf_chat.ui.prefetch import Prefetcher, PrefetchJob
from rlhf_chat.ui.sessions import tab_of
from rlhf_chat.ui.shown_sets import EarlyVote, ShownSet, ShownSets
from rlhf_chat.ui.vote_panel import AFTERWARDS, LETTERS, VotePanel, asking

COUNTS: list[Any] = [(label("two_answers"), 2), ("3", 3), ("4", 4)]
SUGGESTED, RECENT, OWN = "suggested", "recent", "own"
SOURCES: list[Any] = [
    (label("suggested"), SUGGESTED),
    (label("from_chats"), RECENT),
    (label("own_prompt"), OWN),
]

LAST, DRAWN = 16, 6  # prompts that are remembered, and that the next one is chosen from

Update = dict[Any, Any]


@dataclass(frozen=True)
class Wanted:
    """What is to be drafted. Sets written ahead are for exactly one of these: the name is in it
    because they may be a pair that this person has seen before."""

    source: str
    prompt: str  # one's own, else ""
    versions: tuple[int, int] | None  # of a duel
    count: int
    rater: str
    live: int
    sampling: Any


class CompareScreen:
    def __init__(self, compare: Compare, worker: TrainingWorker) -> None:
        self.compare, self.worker, self.duel = compare, worker, Duel(worker)
        self.sets, self._ahead = ShownSets(), Prefetcher()
        self.answers = VotePanel(compare, worker, self.sets, self._answered, self._bring_back)
        self._rng = random.Random()
        self._prompts: deque[str] = deque(maxlen=LAST)  # that were taken last

    # ---- acts: drafts --------------------------------------------------------------------------

    def draft(
        self,
        event_id: str,
        prompt: str,
        drafted: str,
        source: str = SUGGESTED,
        dueling: bool = False,
        one: str = "",
        other: str = "",
        count: int = 2,
        rater: str = "me",
        request: gr.Request | None = None,
    ) -> Iterator[Update]:
        """Shows the next set as it is written. With a prompt of one's own, another set for the one
        before if nothing new was typed."""
        tab = tab_of(request)
        prompt = prompt.strip() or drafted
        if source == OWN and not prompt:
            yield {self.answers.asking: status_message(text("compare.write_prompt"))}
            return
        try:
            prompt = checked(prompt) if source == OWN else ""
            wanted = self._wanted(source, prompt, between(dueling, one, other), count, rater)
        except Exception as error:
            yield {self.answers.asking: error_message(error)}
        else:
            yield from self._next_set(tab, event_id, wanted)

    def _next_set(self, tab: str, event_id: str, wanted: Wanted) -> Iterator[Update]:
        current = self.sets.of(tab)
        if current and current.early and current.key == wanted:
            # The vote on these is not stored yet, and the next ones come after it.
            yield self.answers.waits(current.early.outcome)
            return
        try:
            shown = self._show(tab, event_id, wanted)
            sets = shown.job.follow()
            drafts = next(sets)  # refusals come here; the last drafts then stay on the page
        except Exception as error:
            hidden_stop = gr.update(value=text("label.stop"), visible=False)
            yield {self.answers.asking: error_message(error), self.stop_button: hidden_stop}
            return
        shown.now(drafts)
        begun = self._begun(shown, drafts, wanted)
        if drafts.done:
            yield {**begun, **self._ended(drafts)}
        else:
            yield from self._streamed(shown, begun, sets, wanted)

    def _wanted(
        self,
        source: str,
        prompt: str,
        versions: tuple[int, int] | None,
        count: int,
        rater: str,
    ) -> Wanted:
        return Wanted(
            source,
            prompt,
            versions,
            2 if versions else int(count),
            checked_name(rater),
            self.worker.status().live_version,
            self.compare.sampling(),
        )

    def _show(self, tab: str, event_id: str, wanted: Wanted) -> ShownSet:
        """The set that this page shows from now on: written ahead, or begun now. Either way nothing
        is chosen from here on, the person waits; and the next ones are put behind it."""
        job = self._ahead.take(tab, wanted)
        if job is None:

            def start(stop: threading.Event, hurry: threading.Event) -> Iterator[Candidates]:
                hurry.set()
                return self._write(wanted, stop, hurry, event_id)

            job = PrefetchJob(start)
        job.hurry.set()
        shown = ShownSet(tab, event_id, wanted, job)
        self.sets.show(shown)
        if wanted.source != OWN:
            self._ahead.fill(
                tab, wanted, job, lambda stop, hurry: self._write_ahead(wanted, stop, hurry)
            )
        return shown

    def _write(
        self, wanted: Wanted, stop: threading.Event, hurry: threading.Event, event_id: str = ""
    ) -> Iterator[Candidates]:
        prompt = wanted.prompt if wanted.source == OWN else self._next_prompt(wanted.source)
        return self.compare.write(
            prompt,
            wanted.count,
            event_id=event_id or None,
            stop=stop,
            versions=wanted.versions,
            hurry=hurry,
        )

    def _write_ahead(
        self, wanted: Wanted, stop: threading.Event, hurry: threading.Event
    ) -> Iterator[Candidates]:
        """The next drafts; now and then, instead, a pair this person has seen before."""
        plain = wanted.count == 2 and wanted.versions is None
        old = self.compare.repeat_pair(wanted.rater) if plain else None
        return iter([old]) if old else self._write(wanted, stop, hurry)

    def _next_prompt(self, source: str) -> str:
        """Of a few drawn, the one that was not taken for the longest time."""
        asked = self.compare.recent_prompts() if source == RECENT else []
        drawn = [
            self._rng.choice(asked) if asked else self.compare.suggest_prompt()
            for _ in range(DRAWN)
        ]
        taken = {prompt: when for when, prompt in enumerate(self._prompts)}
        prompt = min(drawn, key=lambda one: taken.get(one, -1))
        self._prompts.append(prompt)
        return prompt

    def _streamed(
        self, shown: ShownSet, begun: Update, sets: Iterator[Candidates], wanted: Wanted
    ) -> Iterator[Update]:
        """What the page shows until the set is whole, and what follows from an early vote on it.

        Where a page lags behind, Gradio applies to an update what later ones changed before
        drawing it. So each frame repeats all that matters until then.
        """
        early, problem = None, None
        try:
            yield begun
            for drafts in sets:
                if shown.left:
                    break
                early = shown.now(drafts)
                if drafts.done:
                    break
                yield self._frame(shown, drafts, wanted)
                time.sleep(FRAME_SECONDS)  # the newest state is then followed, and none is missed
        except GeneratorExit:  # the tab was closed
            if not shown.left:
                shown.job.stop.set()
                self._ahead.drop(shown.tab)
            raise
        except Exception as error:
            early, problem = shown.early, error
        if shown.left or shown.drafts is None:
            return
        update = self._frame(shown, shown.drafts, wanted) | self._ended(shown.drafts)
        if problem is not None:
            update[self.answers.asking] = error_message(problem)
        if early:
            update |= self._early_stored(early, shown.drafts, wanted)
        yield update

    def _frame(self, shown: ShownSet, drafts: Candidates, wanted: Wanted) -> Update:
        """The answers as they are by now. Two can be voted on once there is text in each."""
        update: Update = {
            **self._panes(drafts),
            self.asked: status_message(drafts.prompt),
            self.sampled: self._sampled(wanted.sampling),
            self.stop_button: gr.update(value=text("label.stop"), visible=True),
            self.answers.asking: self._asking(drafts),
        }
        if len(drafts.texts) == 2:
            early = shown.early
            update |= self.answers.opened("", shown.readable)
            if early:
                update |= self.answers.kept_early(early.outcome)
            elif shown.withdrawn:
                update |= self.answers.taken_back()
        return update

    def _early_stored(self, early: EarlyVote, drafts: Candidates, wanted: Wanted) -> Update:
        """A vote that was given while the answers were written, now that they are complete. One of
        answers that were stopped, or changed since, is not stored."""
        forgotten = self.answers.forgotten()
        if not (drafts.votable and drafts.set_id and drafts.note is None):
            return forgotten
        after = (wanted.source, *self._duel_fields(wanted))
        return forgotten | self.answers.stored(early, drafts.set_id, *after)

    @staticmethod
    def _duel_fields(wanted: Wanted) -> tuple[bool, str, str]:
        one, other = wanted.versions or ("", "")
        return bool(wanted.versions), str(one), str(other)

    @staticmethod
    def _asking(drafts: Candidates) -> dict[str, str]:
        """What the person can do with these drafts, or why nothing."""
        if drafts.votable:
            return status_message(f"{message(drafts.note)} {asking(len(drafts.texts))}".strip())
        if drafts.done:
            return status_message(message(drafts.note) or text("compare.not_comparable"), "bad")
        return status_message(message(drafts.note) or text("compare.writing"))

    def _begun(self, shown: ShownSet, drafts: Candidates, wanted: Wanted) -> Update:
        count = len(drafts.texts)
        update: Update = {
            **self._frame(shown, drafts, wanted),
            **self._columns(count),
            **self.answers.shown(count, shown.readable and count == 2),
            self.set_id: "",
            self.shown_id: shown.id,
        }
        if wanted.source == OWN:
            update |= {self.prompt: "", self.drafted: wanted.prompt}
        return update

    def _ended(self, drafts: Candidates) -> Update:
        count = len(drafts.texts)
        return {
            **self._panes(drafts),
            **self._columns(count),
            **self.answers.shown(count, drafts.votable),
            self.asked: status_message(drafts.prompt),
            self.set_id: drafts.set_id or "",
            self.answers.asking: self._asking(drafts),
            self.stop_button: gr.update(value=text("label.stop"), visible=False),
        }

    async def stop(self, shown_id: str) -> None:
        shown = self.sets.get(shown_id)
        if shown:
            shown.job.stop.set()

    # ---- acts: after an answer -----------------------------------------------------------------

    def _answered(
        self,
        set_id: str,
        source: str = SUGGESTED,
        dueling: bool = False,
        one: str = "",
        other: str = "",
    ) -> Update:
        """What follows a saved answer: the next set, unless prompts are typed; what the next vote
        unlocks, and in a duel how it stands."""
        update: Update = {}
        if source == OWN:
            update[self.answers.asking] = status_message(text("compare.next_prompt"))
        else:
            update[self.advance] = {"after": set_id}
        try:
            update[self.answers.count] = self.answers.counted()
            update |= self.duel.stand(between(dueling, one, other))
        except Exception as error:  # the vote is stored; what follows must not look like a loss
            update[self.answers.count] = error_message(error)
        return update

    def _bring_back(self, set_id: str, shown_id: str) -> Update:
        """A stored set again; the one that is shown instead comes next."""
        drafts = self.compare.shown(set_id)
        shown = self.sets.get(shown_id)
        if shown and (shown.drafts is None or shown.drafts.set_id != set_id):
            self.sets.leave(shown)
            self._ahead.put_back(shown.tab, shown.key, shown.job)
        return {**self._ended(drafts), self.shown_id: "", self.advance: {"after": ""}}

    # ---- acts: what to compare -----------------------------------------------------------------

    async def choose_source(self, source: str, request: gr.Request | None = None) -> Update:
        if source == OWN:
            self._ahead.drop(tab_of(request))
            return {
                self.prompt: gr.update(visible=True),
                self.answers.asking: status_message(text("compare.write_prompt")),
            }
        update: Update = {self.prompt: gr.update(visible=False), **self._onward()}
        try:
            if source == RECENT and not await quick(self.compare.recent_prompts):
                update[self.verdict] = status_message(text("compare.no_recent"))
        except Exception as error:
            return {self.answers.asking: error_message(error)}
        return update

    def _onward(self) -> Update:
        """Makes the page ask for the next set."""
        return {self.advance: {"after": uuid.uuid4().hex}}

    async def choose_count(
        self, count: int, source: str = OWN, request: gr.Request | None = None
    ) -> Update:
        """Room for so many drafts. Those on the page can no longer be voted on, nor are they drawn
        on, and the next ones come; one's own prompt waits until it is sent."""
        shown = self.sets.of(tab_of(request))
        if shown:
            self.sets.leave(shown)
            shown.job.stop.set()
        update: Update = {
            self.stop_button: gr.update(value=text("label.stop"), visible=False),
            **self._columns(int(count)),
            **self.answers.shown(int(count), False),
            **self.answers.forgotten(),
            self.set_id: "",
            self.verdict: status_message(),
            self.answers.asking: status_message(text("compare.press_new")),
        }
        return update if source == OWN else update | self._onward()

    async def set_duel(self, dueling: bool, one: str, other: str, source: str = OWN) -> Update:
        try:
            update = await quick(self.duel.menus, dueling, one, other)
        except Exception as error:
            return {self.answers.asking: error_message(error)}
        return update if source == OWN else update | self._onward()

    async def begin_duel(self, version: int) -> Update:
        """From the Versions screen."""
        try:
            update = await quick(self.duel.begun, version)
        except Exception as error:
            return {self.answers.asking: error_message(error)}
        suggested = {self.source: SUGGESTED, self.prompt: gr.update(visible=False)}
        return {**update, **suggested, **self._onward(), self.tabs: gr.update(selected="compare")}

    # ---- what is shown -------------------------------------------------------------------------

    async def load(self) -> Update:
        return {**await self.refresh(), **await quick(self.duel.menus, False, "", "")}

    async def refresh(self) -> Update:
        """What may have changed while the screen is looked at."""
        sampling = await quick(self.compare.sampling)
        return {
            self.answers.count: await self.answers.recount(),
            self.sampled: self._sampled(sampling),
        }

    @staticmethod
    def _sampled(sampling: Any) -> dict[str, str]:
        return status_message(
            text(
                "compare.sampling",
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                count=sampling.max_new_tokens,
            )
        )

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
        self.set_id, self.shown_id = hidden("set-id"), hidden("shown-id")
        self.event_id = hidden("compare-event-id")
        self.drafted = hidden("drafted")  # the last prompt of one's own
        self._lay_out_question()
        with gr.Row(elem_id="candidates", equal_height=True):
            made = [self._pane(letter) for letter in LETTERS]
            self.columns, self.panes = [c for c, _ in made], [pane for _, pane in made]
        self.answers.lay_out()
        self.verdict = self.answers.verdict
        with gr.Row(elem_id="below"):
            self.answers.lay_out_count()
            self.sampled = status_line("sampled")
        self.advance = js_component("next_answers", {"after": ""}, elem_id="next-answers")

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
            self.asked = status_line("asked")
            self.prompt = gr.Textbox(
                label=label("prompt"),
                show_label=False,
                container=False,
                visible=False,
                lines=1,
                max_lines=4,
                elem_id="prompt",
                scale=1,
                placeholder=label("prompt_hint"),
            )
            self.stop_button = gr.Button(
                label("stop"), elem_id="stop-drafts", visible=False, scale=0, min_width=80
            )
            self.next_button = gr.Button(
                label("new_answers"), elem_id="new-drafts", scale=0, min_width=112
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
                latex_delimiters=markdown_escape.DELIMITERS,
                elem_classes="draft",
            )
            self.answers.lay_out_under(letter)
        return column, pane

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, rater: gr.Textbox, tabs: gr.Tabs | None = None) -> None:
        self.tabs = tabs
        duel = self.duel.boxes
        page: list[Any] = [
            *self.columns,
            *self.panes,
            self.asked,
            self.source,
            self.prompt,
            self.drafted,
            self.set_id,
            self.shown_id,
            self.sampled,
            self.advance,
            self.stop_button,
            *self.duel.page,
            *self.answers.page,
        ]
        if tabs is not None:
            page.append(tabs)
        self.page = page
        # "multiple": a set may be asked for while the one before is still being written.
        gr.on(
            [self.prompt.submit, self.next_button.click, self.advance.select],
            self.draft,
            [self.event_id, self.prompt, self.drafted, self.source, *duel, self.how_many, rater],
            page,
            js=with_event_id(0),
            trigger_mode="multiple",
            **REPLIES,
        ).then(**AFTERWARDS)
        self.stop_button.click(self.stop, self.shown_id, None, **QUICK)
        after: list[Any] = [self.source, *duel]
        self.answers.wire(self.set_id, self.event_id, self.shown_id, rater, after, page)
        number, between_two = [self.how_many, self.source], [*duel, self.source]
        for chosen in (
            self.source.input(self.choose_source, self.source, page, **QUICK),
            self.how_many.input(self.choose_count, number, page, **QUICK),
            gr.on([box.input for box in duel], self.set_duel, between_two, page, **QUICK),
        ):
            chosen.then(**AFTERWARDS)
        demo.load(self.load, None, page, **QUICK)
