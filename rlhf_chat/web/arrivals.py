"""Ratings from a file, on the Data screen: chosen, looked at, taken in, and sent back.

The page reads the file itself and holds it until the person has seen what is in it, so no copy of
it stays in a temporary folder. Leaves out what is understood: rlhf_chat.talk.elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import gradio as gr

from rlhf_chat.talk.chat import Chat
from rlhf_chat.training.trainer import Trainer
from rlhf_chat.web.quick import EACH, QUICK, quick, sentence
from rlhf_chat.web.words import drawn, said, several, when

UNREAD_SHOWN = 5
PAST_SHOWN = 3  # files of which the import can be undone

Update = dict[Any, Any]


class ArrivalsPanel:
    def __init__(self, chat: Chat, trainer: Trainer, names: Mapping[str, str]) -> None:
        """`names`: what each kind of answer is called on the page."""
        self.chat, self.trainer, self.names = chat, trainer, names

    # ---- acts ----------------------------------------------------------------------------------

    async def act(self, rater: str, event: gr.EventData) -> Update:
        """Look at a file, take in what it holds, or send that back, as the page asks."""
        do, text = str(getattr(event, "do", "")), str(getattr(event, "text", ""))
        try:
            if do == "look":
                return {self.box: await quick(self._look, text), self.note: said()}
            if do == "bring":
                return await quick(self._bring, text, rater)
            await quick(self.chat.arrivals.send_back, str(getattr(event, "origin", "")))
            self.trainer.wake()
            word = said("Undone: what the file brought is gone, words and all.", "good")
            return {self.note: word}
        except Exception as error:
            return {self.box: _shown(), self.note: said(sentence(error), "bad")}

    def _look(self, text: str) -> dict[str, Any]:
        look = self.chat.arrivals.look(text)
        return _shown(
            kinds=[[self.names.get(kind, kind), count] for kind, count in look.kinds.items()],
            unread=[list(one) for one in look.unread[:UNREAD_SHOWN]],
            more=max(0, len(look.unread) - UNREAD_SHOWN),
            left=look.left,
        )

    def _bring(self, text: str, rater: str) -> Update:
        _, new, known = self.chat.arrivals.bring(text, rater)
        if not new:
            told = said("Nothing was new: all of it was here already.")
            return {self.box: _shown(), self.note: told}
        self.trainer.wake()
        word = f"Imported: {several(new, 'new answer')}."
        if known:
            word += f" Here already: {several(known, 'answer')}."
        return {self.box: _shown(), self.note: said(word, "good")}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        """What was taken in last and is still here: it can be undone, also on another day."""
        return {self.past: _shown(rows=[_row(o) for o in self.chat.arrivals.newest(PAST_SHOWN)])}

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out_button(self) -> None:
        self.button = gr.Button("Import", scale=0, min_width=90, elem_id="import")

    def lay_out(self, note: gr.HTML) -> None:
        self.note = note
        self.box = drawn(
            "arrivals",
            _shown(),
            elem_id="arrivals",
        )
        self.past = drawn("imports", _shown(rows=[]), elem_id="imports")

    def wire(self, rater: gr.Textbox) -> list[Any]:
        """Returns the events after which other parts of the page are out of date."""
        self.button.click(None, None, None, js="() => { rlhfImport(); }", **QUICK)
        changed = [self.box, self.note]
        return [
            self.box.select(self.act, rater, changed, **QUICK),
            self.past.select(self.act, rater, changed, **EACH),
        ]


def _shown(**what: Any) -> dict[str, Any]:
    """A value of ours; the id makes the page draw it even if it says the same as before."""
    return {"id": uuid4().hex, **what}


def _row(one: Any) -> dict[str, str]:
    told = f"Imported {when(one.created_at)}: {several(one.conversations, 'conversation')}"
    return {"origin": one.id, "told": told}
