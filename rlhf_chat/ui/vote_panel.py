"""Votes on Compare: a vote or a ranking, its strength, a note, and undo.

A part of the Compare screen. Two answers get a vote; three or four are pressed in order, best
first. Writing the answers is in compare_screen.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import gradio as gr

from rlhf_chat.chat.compare import OUTCOMES, Compare, VoteResult
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.training.status import Status
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import (
    error_message,
    hidden,
    not_saved_message,
    status_line,
    status_message,
)
from rlhf_chat.ui.handlers import QUICK, quick, with_event_id
from rlhf_chat.ui.language import label, text

VOTES = tuple((o, f"vote-{o.removeprefix('both_')}") for o in OUTCOMES)  # outcome, element id
STRENGTHS = ("slightly", "much")
LETTERS = "ABCD"
# The page itself keeps the order so far, and the id of the click: static/shortcuts.js.
WITH_ORDER = "(...inputs) => window.rlhfPlace(inputs)"
WITHOUT_ORDER = "(...inputs) => window.rlhfUnplace(inputs)"

Update = dict[Any, Any]


def asking(count: int) -> str:
    """What the person is asked to do with so many answers."""
    return text("compare.which_better" if count == 2 else "compare.rank_in_order")


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
            return {self.verdict: status_message(text("compare.wait_for_both"), "bad")}
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
            **self._saved(vote_saved(outcome, revealed), rater),
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
            return {self.verdict: status_message(text("compare.wait_for_all"), "bad")}
        rater, count = checked_name(rater), 0
        try:
            count = await quick(self._drafts, set_id)
            order += letter if letter in LETTERS[:count] and letter not in order else ""
            left = [other for other in LETTERS[:count] if other not in order]
            if letter and len(left) > 1:
                return {
                    **self._ranked(count, order),
                    self.verdict: status_message(
                        text("compare.order_so_far", order=text("compare.then").join(order))
                    ),
                    self.undo_button: gr.update(value=text("label.undo"), visible=True),
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
            **self._saved(ranking_saved(places, revealed), rater),
            **await self._then(*after),
        }

    async def refine(self, strength: str, set_id: str, voted: str, voter: str = "me") -> Update:
        """How much better: the same vote again, with its strength, by the rater who voted. The name
        in the sidebar may be another one by now; the same holds for `explain` and `undo`."""
        if not set_id or voted not in ("a", "b"):
            return {self.verdict: status_message(text("compare.vote_before_strength"), "bad")}
        try:
            revealed = await quick(self.compare.vote, set_id, voted, strength=strength, rater=voter)
        except Exception as error:
            return self._not_saved(error)
        return {self.verdict: status_message(vote_saved(voted, revealed, strength), "good")}

    async def explain(self, words: str, set_id: str, voter: str = "me") -> Update:
        """Why, in the person's own words, beside an answer that was given."""
        try:
            await quick(self.compare.comment, set_id, words, rater=voter)
        except Exception as error:
            return self._not_saved(error)
        return {
            self.verdict: status_message(text("compare.note_saved"), "good"),
            self.because: gr.update(visible=False),
        }

    async def undo(self, set_id: str, voted: str, voter: str = "me") -> Update:
        """Takes a saved answer back; with none, the places given so far."""
        try:
            count = await quick(self._drafts, set_id)
            if voted:
                await quick(self.compare.withdraw, set_id, rater=voter)
            return {
                **self.cleared(count),
                **self.shown(count, True),
                self.verdict: status_message(text("compare.withdrawn", next=asking(count))),
                self.count: await self.recount(),
            }
        except Exception as error:
            return {self.verdict: error_message(error)}

    def _drafts(self, set_id: str) -> int:
        return len(self.compare.shown(set_id).texts)

    async def recount(self) -> dict[str, Any]:
        """What the next vote unlocks."""
        return await quick(
            lambda: status_message(unlocks(self.worker.status(), self.worker.history.rounds(1)))
        )

    # ---- what is shown -------------------------------------------------------------------------

    def cleared(self, count: int) -> Update:
        """No vote on these drafts, and voting not yet possible."""
        return {
            **self.shown(count, False),
            **self._strengths(False),
            self.voted: "",
            self.voter: "",
            self.undo_button: gr.update(value=text("label.undo"), visible=False),
            self.because: gr.update(value="", visible=False),
        }

    def shown(self, count: int, open_: bool, chosen: str = "") -> Update:
        """The buttons for so many drafts: votes on two, the chosen one marked; an order of more."""
        votes = {
            button: gr.update(
                value=text(f"label.vote_{outcome}"),
                interactive=open_,
                visible=count == 2,
                variant="primary" if outcome == chosen else "secondary",
            )
            for button, (outcome, _) in zip(self.vote_buttons, VOTES, strict=True)
        }
        keys = {self.keys: text("label.rank_keys" if count > 2 else "label.vote_keys")}
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
        rest = gr.update(value=text("label.rest_equal"), interactive=open_, visible=count > 2)
        return {**buttons, self.rest_button: rest, self.order: order}

    def _kept(self, count: int, order: str) -> Update:
        """An order that could not be stored: it can be sent again as it is, or be undone."""
        return {
            **self._ranked(count, order, False),
            self.rest_button: gr.update(
                value=text("label.rest_equal"), interactive=True, visible=True
            ),
            self.undo_button: gr.update(value=text("label.undo"), visible=True),
        }

    def _strengths(self, shown: bool) -> Update:
        return {
            button: gr.update(value=text(f"label.{strength}"), visible=shown)
            for button, strength in zip(self.strength_buttons, STRENGTHS, strict=True)
        }

    def _saved(self, saved: str, rater: str) -> Update:
        return {
            self.voter: rater,
            self.verdict: status_message(saved, "good"),
            self.undo_button: gr.update(value=text("label.undo"), visible=True),
            self.because: gr.update(value="", visible=True),
        }

    def _not_saved(self, error: Exception) -> Update:
        return {self.verdict: not_saved_message(error)}

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out(self) -> None:
        self.order, self.voted, self.voter = hidden("order"), hidden("voted"), hidden("voter")
        self.letters = [hidden(f"letter-{x}", x) for x in (*LETTERS, "")]
        self.outcomes = [hidden(f"outcome-{outcome}", outcome) for outcome, _ in VOTES]
        self.strengths = [hidden(f"strength-{word}", word) for word in STRENGTHS]
        self.verdict = status_line("verdict")
        with gr.Row(elem_id="votes"):
            self.vote_buttons = [
                gr.Button(
                    label(f"vote_{outcome}"), elem_id=elem_id, interactive=False, min_width=120
                )
                for outcome, elem_id in VOTES
            ]
            self.place_buttons = [
                gr.Button(x, elem_id=f"place-{x.lower()}", visible=False, min_width=90)
                for x in LETTERS
            ]
            self.rest_button = gr.Button(
                label("rest_equal"), elem_id="rest-equal", visible=False, min_width=140
            )
        with gr.Row(elem_id="after"):
            self.count = status_line("count")
            self.strength_buttons = [
                gr.Button(
                    label(word), visible=False, size="sm", scale=0, min_width=84, elem_id=word
                )
                for word in STRENGTHS
            ]
            self.undo_button = gr.Button(
                label("undo"), visible=False, size="sm", scale=0, min_width=72, elem_id="undo"
            )
            self.keys = gr.HTML(label("vote_keys"), elem_id="compare-keys", apply_default_css=False)
        with gr.Row(elem_id="because-space"):  # as high without the box: nothing moves under a hand
            self.because = gr.Textbox(
                label=label("comment"),
                show_label=False,
                container=False,
                max_lines=2,
                visible=False,
                elem_id="because",
                placeholder=label("vote_note_hint"),
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
        for button, strength in zip(self.strength_buttons, self.strengths, strict=True):
            button.click(self.refine, [strength, set_id, self.voted, self.voter], page, **QUICK)
        self.because.submit(self.explain, [self.because, set_id, self.voter], page, **QUICK)
        fields = [set_id, self.voted, self.voter]
        self.undo_button.click(self.undo, fields, page, js=WITHOUT_ORDER, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def unlocks(status: Status, rounds: list[Any]) -> str:
    """What the next vote, or how many more of them, will start."""
    if status.round_id is not None:
        return text("compare.learning_from_votes", number=status.round_id)
    if status.phase == "off":
        return text("compare.learning_off", count=status.waiting)
    if status.paused:
        return text("compare.learning_paused", count=status.waiting)
    number, left = (rounds[0].id if rounds else 0) + 1, status.needed - status.waiting
    if left <= 0:
        return text("compare.round_begins", count=status.waiting, number=number)
    counted = {"waiting": status.waiting, "needed": status.needed}
    return text("compare.votes_left", count=left, number=number, **counted)


def vote_saved(outcome: str, result: VoteResult, strength: str = "") -> str:
    """A saved vote in words, with the versions that wrote the answers."""
    if outcome in ("a", "b"):
        vote = text("compare.better", letter=outcome.upper(), strength=strength)
    else:
        vote = text(f"label.vote_{outcome}")
    saved = text("compare.saved", vote=vote, authors=authors(result.versions))
    if result.same_as_before is None:
        return saved
    repeat = text("compare.repeat_same" if result.same_as_before else "compare.repeat_other")
    return text("compare.saved_repeat", saved=saved, repeat=repeat)


def ranking_saved(places: Sequence[int], result: VoteResult) -> str:
    return text("compare.saved", vote=in_order(places), authors=authors(result.versions))


def authors(versions: Sequence[int]) -> str:
    """Who wrote the answers, as shown."""
    if len(set(versions)) == 1:
        return text("compare.one_author", count=len(versions), version=versions[0])
    letters = dict(zip("abcd", versions, strict=False))
    return text(f"compare.authors_{len(versions)}", **letters)


def in_order(places: Sequence[int]) -> str:
    """Places of A, B, ... in words: "B, then A and C"."""
    letters = LETTERS[: len(places)]
    groups = [
        [letter for letter, p in zip(letters, places, strict=True) if p == place]
        for place in sorted(set(places))
    ]
    told = [_listed(group) for group in groups]
    if len(told) == 1:
        return text("compare.all_ranked_equal", letters=told[0])
    return text("compare.then").join(told)


def _listed(words: Sequence[str]) -> str:
    """One, two or more words: "A", "A and B", "A, B and C"."""
    return text("compare.and").join(part for part in (", ".join(words[:-1]), words[-1]) if part)
