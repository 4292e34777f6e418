"""What a person says of the drafts on Compare: a vote or an order, its strength, why, and undo.

A part of the Compare screen. Two drafts get a vote; three or four are pressed in order, best first.
Leaves out making drafts (compare_screen.py) and what an answer is worth (rlhf_chat.reward.likelihood).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr

from rlhf_chat.chat.compare import OUTCOMES, Compare
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.training.worker import Status, TrainingWorker
from rlhf_chat.ui.components import hidden, status_line, status_message
from rlhf_chat.ui.handlers import QUICK, quick, sentence, with_event_id

VOTES = tuple((o, text, f"vote-{o.removeprefix('both_')}") for o, text in OUTCOMES.items())
STRENGTHS = (("slightly", "Slightly", "slightly"), ("much", "Much", "much"))
LETTERS, REST = "ABCD", "The rest are equal"
# The page itself keeps the order so far, and the id of the click: js/keys.js.
WITH_ORDER = "(...inputs) => window.rlhfPlace(inputs)"
WITHOUT_ORDER = "(...inputs) => window.rlhfUnplace(inputs)"
KEYS = (
    "<kbd>1</kbd> to <kbd>5</kbd> vote <i></i> <kbd>S</kbd> slightly <kbd>B</kbd> much <i></i> "
    "<kbd>N</kbd> next drafts <i></i> <kbd>U</kbd> undo"
)
RANK_KEYS = (
    "<kbd>1</kbd> to <kbd>4</kbd> the next best <i></i> <kbd>T</kbd> the rest are equal <i></i> "
    "<kbd>N</kbd> next drafts <i></i> <kbd>U</kbd> undo"
)

Update = dict[Any, Any]


def asking(count: int) -> str:
    """What is wanted of so many drafts."""
    return "Which draft is better?" if count == 2 else "Press the drafts in order, the best first."


class VotePanel:
    """`then` says what the screen shows after a saved answer; it gets what the screen wired for it,
    unread here (`after`)."""

    def __init__(
        self, compare: Compare, worker: TrainingWorker, then: Callable[..., Awaitable[Update]]
    ) -> None:
        self.compare, self.worker, self._then = compare, worker, then

    # ---- acts ----------------------------------------------------------------------------------

    async def vote(
        self,
        outcome: str,
        set_id: str,
        event_id: str,
        rater: str = "me",
        *after: Any,
    ) -> Update:
        if not set_id:
            return {self.verdict: status_message("Wait until both drafts have ended.", "bad")}
        rater = checked_name(rater)
        try:
            revealed = await quick(
                self.compare.vote, set_id, outcome, event_id=event_id or None, rater=rater
            )
            self.worker.wake()
        except Exception as error:
            return self._not_saved(error)
        return {
            **self.shown(2, False, outcome),
            **self._strengths(outcome in ("a", "b")),
            self.voted: outcome,
            **self._saved(revealed.sentence, rater),
            **await self._then(*after),
        }

    async def place(
        self,
        letter: str,
        set_id: str,
        event_id: str,
        order: str = "",
        rater: str = "me",
        *after: Any,
    ) -> Update:
        """The next best draft, after those of `order`; no letter says that the rest are equal. With
        one left the ranking is whole, and saved."""
        if not set_id:
            return {self.verdict: status_message("Wait until all drafts have ended.", "bad")}
        rater, count = checked_name(rater), 0
        try:
            count = await quick(self._drafts, set_id)
            order += letter if letter in LETTERS[:count] and letter not in order else ""
            left = [other for other in LETTERS[:count] if other not in order]
            if letter and len(left) > 1:
                return {
                    **self._ranked(count, order),
                    self.verdict: status_message(f"{', then '.join(order)}, then…"),
                    self.undo_button: gr.update(value="Undo", visible=True),
                }
            places = [order.index(x) if x in order else len(order) for x in LETTERS[:count]]
            revealed = await quick(
                self.compare.rank, set_id, places, event_id=event_id or None, rater=rater
            )
            self.worker.wake()
        except Exception as error:
            return {**self._not_saved(error), **(self._kept(count, order) if count else {})}
        return {
            **self.shown(count, False),
            **self._ranked(count, order, False),
            self.voted: "ranking",
            **self._saved(revealed.sentence, rater),
            **await self._then(*after),
        }

    async def refine(self, strength: str, set_id: str, voted: str, voter: str = "me") -> Update:
        """How much better: the same vote again, with its strength. Of whoever gave it: by now
        another name may stand in the sidebar. So too what follows."""
        if not set_id or voted not in ("a", "b"):
            return {self.verdict: status_message("Vote for a draft first.", "bad")}
        try:
            revealed = await quick(self.compare.vote, set_id, voted, strength=strength, rater=voter)
        except Exception as error:
            return self._not_saved(error)
        return {self.verdict: status_message(revealed.sentence, "good")}

    async def explain(self, words: str, set_id: str, voter: str = "me") -> Update:
        """Why, in the person's own words, beside an answer that was given."""
        try:
            told = await quick(self.compare.comment, set_id, words, rater=voter)
        except Exception as error:
            return self._not_saved(error)
        return {self.verdict: status_message(told, "good"), self.because: gr.update(visible=False)}

    async def undo(self, set_id: str, voted: str, voter: str = "me") -> Update:
        """Takes a saved answer back; with none, the places given so far."""
        try:
            count = await quick(self._drafts, set_id)
            if voted:
                await quick(self.compare.withdraw, set_id, rater=voter)
            return {
                **self.cleared(count),
                **self.shown(count, True),
                self.verdict: status_message(f"Taken back. {asking(count)}"),
                self.count: await self.recount(),
            }
        except Exception as error:
            return {self.verdict: status_message(sentence(error), "bad")}

    def _drafts(self, set_id: str) -> int:
        return len(self.compare.shown(set_id).texts)

    async def recount(self) -> dict:
        """What the next vote unlocks."""
        return await quick(
            lambda: status_message(unlocks(self.worker.status(), self.worker.rounds(1)))
        )

    # ---- what is shown -------------------------------------------------------------------------

    def cleared(self, count: int) -> Update:
        """Nothing has been said about these drafts, and nothing can be yet."""
        return {
            **self.shown(count, False),
            **self._strengths(False),
            self.voted: "",
            self.voter: "",
            self.undo_button: gr.update(value="Undo", visible=False),
            self.because: gr.update(value="", visible=False),
        }

    def shown(self, count: int, open_: bool, chosen: str = "") -> Update:
        """The buttons for so many drafts: votes on two, the chosen one marked; an order of more."""
        votes = {
            button: gr.update(
                value=label,
                interactive=open_,
                visible=count == 2,
                variant="primary" if outcome == chosen else "secondary",
            )
            for button, (outcome, label, _) in zip(self.vote_buttons, VOTES, strict=True)
        }
        keys = {self.keys: RANK_KEYS if count > 2 else KEYS}
        return {**votes, **keys, **self._ranked(count, "", open_)}

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
        rest = gr.update(value=REST, interactive=open_, visible=count > 2)
        return {**buttons, self.rest_button: rest, self.order: order}

    def _kept(self, count: int, order: str) -> Update:
        """An order that could not be stored: it can be sent again as it is, or be undone."""
        return {
            **self._ranked(count, order, False),
            self.rest_button: gr.update(value=REST, interactive=True, visible=True),
            self.undo_button: gr.update(value="Undo", visible=True),
        }

    def _strengths(self, shown: bool) -> Update:
        return {
            button: gr.update(value=word, visible=shown)
            for button, (_, word, _) in zip(self.strength_buttons, STRENGTHS, strict=True)
        }

    def _saved(self, sentence_: str, rater: str) -> Update:
        return {
            self.voter: rater,
            self.verdict: status_message(sentence_, "good"),
            self.undo_button: gr.update(value="Undo", visible=True),
            self.because: gr.update(value="", visible=True),
        }

    def _not_saved(self, error: Exception) -> Update:
        return {self.verdict: status_message(f"Not saved. {sentence(error)}", "bad")}

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out(self) -> None:
        self.order, self.voted, self.voter = hidden("order"), hidden("voted"), hidden("voter")
        self.letters = [hidden(f"letter-{x}", x) for x in (*LETTERS, "")]
        self.outcomes = [hidden(f"outcome-{outcome}", outcome) for outcome, _, _ in VOTES]
        self.bradley_terry = [hidden(f"strength-{word}", word) for word, _, _ in STRENGTHS]
        self.verdict = status_line("verdict")
        with gr.Row(elem_id="votes"):
            self.vote_buttons = [
                gr.Button(label, elem_id=elem_id, interactive=False, min_width=120)
                for _, label, elem_id in VOTES
            ]
            self.place_buttons = [
                gr.Button(x, elem_id=f"place-{x.lower()}", visible=False, min_width=90)
                for x in LETTERS
            ]
            self.rest_button = gr.Button(REST, elem_id="rest-equal", visible=False, min_width=140)
        with gr.Row(elem_id="after"):
            self.count = status_line("count")
            self.strength_buttons = [
                gr.Button(word, visible=False, size="sm", scale=0, min_width=84, elem_id=elem_id)
                for _, word, elem_id in STRENGTHS
            ]
            self.undo_button = gr.Button(
                "Undo", visible=False, size="sm", scale=0, min_width=72, elem_id="undo"
            )
            self.keys = gr.HTML(KEYS, elem_id="compare-keys", apply_default_css=False)
        with gr.Row(elem_id="because-space"):  # as high without the box: nothing moves under a hand
            self.because = gr.Textbox(
                label="Why",
                show_label=False,
                container=False,
                max_lines=2,
                visible=False,
                elem_id="because",
                placeholder="Say why (optional, Enter saves)",
            )

    @property
    def page(self) -> list[Any]:
        return [
            self.verdict,
            self.count,
            self.order,
            self.voted,
            self.voter,
            self.keys,
            self.undo_button,
            self.because,
            self.rest_button,
            *self.vote_buttons,
            *self.place_buttons,
            *self.strength_buttons,
        ]

    def wire(
        self,
        set_id: gr.Textbox,
        event_id: gr.Textbox,
        rater: gr.Textbox,
        after: list[Any],
        page: list[Any],
    ) -> None:
        """`after`: what the screen wants to know after a saved answer; `page`: all that an answer
        may change."""
        for button, outcome in zip(self.vote_buttons, self.outcomes, strict=True):
            fields = [outcome, set_id, event_id, rater, *after]
            button.click(self.vote, fields, page, js=with_event_id(2), **QUICK)
        for button, letter in zip(
            [*self.place_buttons, self.rest_button], self.letters, strict=True
        ):
            fields = [letter, set_id, event_id, self.order, rater, *after]
            button.click(self.place, fields, page, js=WITH_ORDER, **QUICK)
        for button, strength in zip(self.strength_buttons, self.bradley_terry, strict=True):
            button.click(self.refine, [strength, set_id, self.voted, self.voter], page, **QUICK)
        self.because.submit(self.explain, [self.because, set_id, self.voter], page, **QUICK)
        fields = [set_id, self.voted, self.voter]
        self.undo_button.click(self.undo, fields, page, js=WITHOUT_ORDER, **QUICK)


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
