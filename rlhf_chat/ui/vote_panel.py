"""Votes on Compare: a vote or a ranking, its strength, a note, and undo.

A part of the Compare screen. Two answers get a vote, also while they are still being written
(shown_sets.py); three or four are pressed in order, best first. What was voted on last stays at
hand while the next answers are read: its versions, its strength, a note, and Undo. Writing the
answers is in compare_screen.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from rlhf_chat.chat.compare import OUTCOMES, Compare, VoteResult
from rlhf_chat.chat.raters import checked_name
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import (
    error_message,
    hidden,
    not_saved_message,
    status_line,
    status_message,
)
from rlhf_chat.ui.handlers import QUICK, quick, with_event_id
from rlhf_chat.ui.language import label, message, text
from rlhf_chat.ui.shown_sets import EarlyVote, PlacesGiven, ShownSets

VOTES = tuple((o, f"vote-{o.removeprefix('both_')}") for o in OUTCOMES)  # outcome, element id
STRENGTHS = ("slightly", "much")
LETTERS = "ABCD"
# The page itself keeps the order so far, and the id of the click: static/voting.js.
WITH_ORDER = "(...inputs) => window.rlhfPlace(inputs)"
WITHOUT_ORDER = "(...inputs) => window.rlhfUnplace(inputs)"
# Once the page shows all of an answer to it: the next set, if that was asked for.
AFTERWARDS: dict[str, Any] = {
    "fn": None,
    "js": "() => { window.rlhfNext && window.rlhfNext(); }",
    **QUICK,
}

Update = dict[Any, Any]


def asking(count: int) -> str:
    """What the person is asked to do with so many answers."""
    return text("compare.which_better" if count == 2 else "compare.rank_in_order")


class VotePanel:
    """`then` says what the screen shows after a saved answer; it gets what the screen wired for it,
    unread here (`after`). `bring_back(set_id, shown_id)` shows a set again in place of another."""

    def __init__(
        self,
        compare: Compare,
        worker: TrainingWorker,
        sets: ShownSets,
        then: Callable[..., Update],
        bring_back: Callable[[str, str], Update],
    ) -> None:
        self.compare, self.worker, self.sets = compare, worker, sets
        self._then, self._bring_back = then, bring_back
        self.places = PlacesGiven()

    # ---- acts ----------------------------------------------------------------------------------

    async def vote(
        self,
        outcome: str,
        set_id: str,
        event_id: str,
        shown_id: str = "",
        rater: str = "me",
        *after: Any,
    ) -> Update:
        """Of a pair that is whole: stored. Of one that is still being written: kept until then."""
        early = EarlyVote(outcome, checked_name(rater), event_id)
        if not set_id:
            shown = self.sets.get(shown_id)
            found = shown.vote(early) if shown else None
            if found == "":  # the answers' own updates show it: this one could come after the last
                return {self.asking: gr.skip()}
            if not found:
                return {self.asking: status_message(text("compare.wait_for_both"), "bad")}
            set_id = found
        return await quick(self.stored, early, set_id, *after)

    def stored(self, vote: EarlyVote, set_id: str, *after: Any) -> Update:
        """After COMMIT, or with what went wrong."""
        try:
            revealed = self.compare.vote(
                set_id, vote.outcome, event_id=vote.event_id or None, rater=vote.rater
            )
            self.worker.wake()
        except Exception as error:
            return self._not_saved(error)
        return {
            **self.shown(2, False, vote.outcome),
            **self._strengths(vote.outcome in ("a", "b")),
            **self._saved(vote_saved(vote.outcome, revealed), set_id, vote.outcome, vote.rater),
            **self._then(set_id, *after),
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
            return {self.asking: status_message(text("compare.wait_for_all"), "bad")}
        rater, count = checked_name(rater), 0
        given = len(order) + 1 if letter else len(LETTERS)  # by this click and those before it
        self.places.note(event_id, given)
        try:
            count = await quick(self._drafts, set_id)
            if self.places.overtaken(event_id, given):
                return {self.asking: gr.skip()}
            order += letter if letter in LETTERS[:count] and letter not in order else ""
            left = [other for other in LETTERS[:count] if other not in order]
            if letter and len(left) > 1:
                return {
                    **self._ranked(count, order),
                    self.asking: status_message(
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
            self.order: "",
            **self._strengths(False),
            **self._saved(ranking_saved(places, revealed), set_id, "ranking", rater),
            **await quick(self._then, set_id, *after),
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

    async def undo(
        self,
        set_id: str,
        shown_id: str,
        order: str,
        voted_set: str,
        voted: str,
        voter: str = "me",
    ) -> Update:
        """The last thing that was said: a vote that waits for its answers, places given so far, or
        a saved answer, which brings back what it was about."""
        shown = self.sets.get(shown_id)
        if shown and not set_id and shown.withdraw():
            asked = {self.asking: status_message(asking(2))}
            return {**self.opened(""), **self.taken_back(), **asked}
        try:
            if order:
                count = await quick(self._drafts, set_id)
                visible = gr.update(value=text("label.undo"), visible=bool(voted_set))
                told = {self.asking: status_message(asking(count)), self.undo_button: visible}
                return {**self.shown(count, True), **told}
            if not voted:
                return {self.undo_button: gr.update(value=text("label.undo"), visible=False)}
            await quick(self.compare.withdraw, voted_set, rater=voter)
            return {
                **await quick(self._bring_back, voted_set, shown_id),
                **self.forgotten(),
                self.verdict: status_message(text("compare.withdrawn")),
                self.count: await self.recount(),
            }
        except Exception as error:
            return {self.verdict: error_message(error)}

    def _drafts(self, set_id: str) -> int:
        return len(self.compare.shown(set_id).texts)

    async def recount(self) -> dict[str, Any]:
        """What the next vote unlocks."""
        return await quick(self.counted)

    def counted(self) -> dict[str, Any]:
        return status_message(message(self.worker.status().sentence_for_people))

    # ---- what is shown -------------------------------------------------------------------------

    def forgotten(self) -> Update:
        """Nothing that was said before can be changed any more."""
        return {
            **self._strengths(False),
            self.voted: "",
            self.voted_set: "",
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
        return {**votes, **self._ranked(count, "", open_)}

    def opened(self, chosen: str, open_: bool = True) -> Update:
        """Votes on two, possible from now on."""
        return {
            button: gr.update(
                interactive=open_, variant="primary" if outcome == chosen else "secondary"
            )
            for button, (outcome, _) in zip(self.vote_buttons, VOTES, strict=True)
        }

    def kept_early(self, outcome: str) -> Update:
        """A vote before the answers are whole. It can be changed, or undone, until then; what was
        said of the pair before it cannot."""
        return {
            **self.opened(outcome),
            **self.forgotten(),
            self.verdict: status_message(),
            **self.waits(outcome),
        }

    def taken_back(self) -> Update:
        """A vote that waited for its answers was withdrawn. Every update of the answers says so:
        one that was on its way, and shows the vote as given, may be drawn after that of Undo."""
        return {**self.forgotten(), self.verdict: status_message(text("compare.withdrawn"))}

    def waits(self, outcome: str) -> Update:
        """What is said of a vote that waits for its answers, and Undo: whichever update shows the
        vote as given, it can be taken back from then on."""
        return {
            self.asking: status_message(text("compare.saved_when_whole", vote=_told(outcome))),
            self.undo_button: gr.update(value=text("label.undo"), visible=True),
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

    def _saved(self, saved: str, set_id: str, voted: str, rater: str) -> Update:
        return {
            self.voted: voted,
            self.voted_set: set_id,
            self.voter: rater,
            self.asking: status_message(),
            self.verdict: status_message(saved, "good"),
            self.undo_button: gr.update(value=text("label.undo"), visible=True),
            self.because: gr.update(value="", visible=True),
        }

    def _not_saved(self, error: Exception) -> Update:
        return {self.verdict: not_saved_message(error)}

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out_under(self, letter: str) -> None:
        """The buttons under one answer: its vote, of two, or its place, of more."""
        if letter == "A":
            self.vote_buttons: list[Any] = []
            self.place_buttons: list[Any] = []
        if letter in "AB":
            self._lay_out_vote(*VOTES["AB".index(letter)])
        place = gr.Button(letter, elem_id=f"place-{letter.lower()}", visible=False, min_width=90)
        self.place_buttons.append(place)

    def _lay_out_vote(self, outcome: str, elem_id: str) -> None:
        button = gr.Button(
            label(f"vote_{outcome}"), elem_id=elem_id, interactive=False, min_width=90
        )
        self.vote_buttons.append(button)

    def lay_out(self) -> None:
        """What is below the answers."""
        self.order, self.voted, self.voter = hidden("order"), hidden("voted"), hidden("voter")
        self.voted_set = hidden("voted-set")
        self.letters = [hidden(f"letter-{x}", x) for x in (*LETTERS, "")]
        self.outcomes = [hidden(f"outcome-{outcome}", outcome) for outcome, _ in VOTES]
        self.strengths = [hidden(f"strength-{word}", word) for word in STRENGTHS]
        with gr.Row(elem_id="votes"):
            self.asking = status_line("asking")
            for vote in VOTES[2:]:
                self._lay_out_vote(*vote)
            self.rest_button = gr.Button(
                label("rest_equal"), elem_id="rest-equal", visible=False, min_width=140
            )
        with gr.Row(elem_id="after"):
            self.verdict = status_line("verdict")
            self.because = gr.Textbox(
                label=label("comment"),
                show_label=False,
                container=False,
                max_lines=2,
                visible=False,
                elem_id="because",
                placeholder=label("vote_note_hint"),
            )
            self.strength_buttons = [
                gr.Button(
                    label(word), visible=False, size="sm", scale=0, min_width=84, elem_id=word
                )
                for word in STRENGTHS
            ]
            self.undo_button = gr.Button(
                label("undo"), visible=False, size="sm", scale=0, min_width=72, elem_id="undo"
            )

    def lay_out_count(self) -> None:
        self.count = status_line("count")

    @property
    def page(self) -> list[Any]:
        return [
            self.asking,
            self.verdict,
            self.count,
            self.order,
            self.voted,
            self.voted_set,
            self.voter,
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
        shown_id: gr.Textbox,
        rater: gr.Textbox,
        after: list[Any],
        page: list[Any],
    ) -> None:
        """`after`: what the screen wants to know after a saved answer; `page`: all that an answer
        may change."""
        for button, outcome in zip(self.vote_buttons, self.outcomes, strict=True):
            fields = [outcome, set_id, event_id, shown_id, rater, *after]
            voted = button.click(self.vote, fields, page, js=with_event_id(2), **QUICK)
            voted.then(**AFTERWARDS)
        for button, letter in zip(
            [*self.place_buttons, self.rest_button], self.letters, strict=True
        ):
            fields = [letter, set_id, event_id, self.order, rater, *after]
            button.click(self.place, fields, page, js=WITH_ORDER, **QUICK).then(**AFTERWARDS)
        last = self.voted_set
        for button, strength in zip(self.strength_buttons, self.strengths, strict=True):
            button.click(self.refine, [strength, last, self.voted, self.voter], page, **QUICK)
        self.because.submit(self.explain, [self.because, last, self.voter], page, **QUICK)
        fields = [set_id, shown_id, self.order, last, self.voted, self.voter]
        self.undo_button.click(self.undo, fields, page, js=WITHOUT_ORDER, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def vote_saved(outcome: str, result: VoteResult, strength: str = "") -> str:
    """A saved vote in words, with the versions that wrote the answers."""
    vote = _told(outcome, strength)
    saved = text("compare.saved", vote=vote, authors=authors(result.versions))
    if result.same_as_before is None:
        return saved
    repeat = text("compare.repeat_same" if result.same_as_before else "compare.repeat_other")
    return text("compare.saved_repeat", saved=saved, repeat=repeat)


def _told(outcome: str, strength: str = "") -> str:
    """A vote in words."""
    if outcome in ("a", "b"):
        return text("compare.better", letter=outcome.upper(), strength=strength)
    return text(f"label.vote_{outcome}")


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
