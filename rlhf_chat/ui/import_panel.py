"""Import on the Data screen: choose a file, preview it, import it, learn from it or undo it.

The page reads the file itself and holds it until the preview has been seen, so no copy of it stays
in a temporary folder.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any, TypedDict
from uuid import uuid4

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.kinds import kind_of
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import (
    error_message,
    js_component,
    outcome_message,
    status_message,
    when,
)
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.language import label, message, text

UNREAD_SHOWN = 5
SCALES = (5, 10, 100)  # best scores to choose from, where a file does not name its own
PAST_SHOWN = 3  # files of which the import can be undone

Update = dict[Any, Any]


class Asked(TypedDict):
    """What a file does not say itself: which of several scores, and the best there is."""

    aspect: str
    scale: int


class ImportPanel:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker

    # ---- acts ----------------------------------------------------------------------------------

    async def act(self, rater: str, event: gr.EventData) -> Update:
        """Look at a file, take in what it holds, or send that back, as the page asks."""
        do, name = str(getattr(event, "do", "")), str(getattr(event, "name", ""))
        try:
            if do == "preview":
                return {
                    self.box: await quick(self._preview, _bytes(event), name, _asked(event)),
                    self.note: status_message(),
                }
            if do == "import":
                return await quick(self._import, _bytes(event), name, rater, _asked(event))
            return {self.note: await quick(self._decide, do, str(getattr(event, "origin", "")))}
        except Exception as error:
            return {self.box: _shown(), self.note: error_message(error)}

    def _decide(self, do: str, origin: str) -> dict[str, str]:
        """Learn from what was imported, or delete it."""
        if do == "accept":
            told = outcome_message(self.chat.imports.accept(origin))
        else:
            self.chat.imports.undo(origin)
            told = status_message(text("imports.undone"), "good")
        self.worker.wake()
        return told

    def _preview(self, contents: bytes, name: str, asked: Asked) -> dict[str, Any]:
        preview = self.chat.imports.preview(contents, name, **asked)
        return _shown(
            kinds=[[_kind_text(kind), count] for kind, count in preview.kinds.items()],
            unread=[[number, message(why)] for number, why in preview.unread[:UNREAD_SHOWN]],
            more=max(0, len(preview.unread) - UNREAD_SHOWN),
            left=preview.left,
            implied=preview.implied,
            aspects=preview.aspects,
            aspect=asked["aspect"] or next(iter(preview.aspects), ""),
            scales=SCALES if preview.lacks_scale or asked["scale"] else [],
            scale=asked["scale"],
        )

    def _import(self, contents: bytes, name: str, rater: str, asked: Asked) -> Update:
        _, new, known = self.chat.imports.import_all(contents, rater, name, **asked)
        if not new:
            told = status_message(text("imports.nothing_new"))
            return {self.box: _shown(), self.note: told}
        word = text("imports.done", count=new)
        if known:
            word = text("imports.done_known", done=word, count=known)
        return {self.box: _shown(), self.note: status_message(word, "good")}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        """What was taken in last and is still here: it can be undone, also on another day."""
        return {self.past: _shown(rows=[_row(o) for o in self.chat.imports.newest(PAST_SHOWN)])}

    # ---- layout and wiring ---------------------------------------------------------------------

    def lay_out_button(self) -> None:
        self.button = gr.Button(
            label("import"),
            scale=0,
            min_width=112,
            elem_id="import",
            elem_classes="lucide-upload",
        )

    def lay_out(self, note: gr.HTML) -> None:
        self.note = note
        self.box = js_component(
            "import_preview",
            _shown(),
            elem_id="import-preview",
        )
        self.past = js_component("past_imports", _shown(rows=[]), elem_id="past-imports")

    def wire(self, rater: gr.Textbox) -> list[Any]:
        """Returns the events after which other parts of the page are out of date."""
        self.button.click(None, None, None, js="() => { rlhfImport(); }", **QUICK)
        changed = [self.box, self.note]
        return [
            self.box.select(self.act, rater, changed, **QUICK),
            self.past.select(self.act, rater, changed, **EACH),
        ]


def _bytes(event: gr.EventData) -> bytes:
    """The file, which the page sends in base64: it may be packed, or in another encoding."""
    try:
        return b64decode(str(getattr(event, "data", "")), validate=True)
    except ValueError:
        raise AppError("imports.no_ratings", reason=Notice("imports.empty")) from None


def _asked(event: gr.EventData) -> Asked:
    """What the file does not say itself, as it was chosen on the page."""
    scale = getattr(event, "scale", 0)
    aspect = str(getattr(event, "aspect", ""))
    return {"aspect": aspect, "scale": scale if scale in SCALES else 0}


def _shown(**what: Any) -> dict[str, Any]:
    """A value of ours; the id makes the page draw it even if it says the same as before."""
    return {"id": uuid4().hex, **what}


def _row(one: Any) -> dict[str, Any]:
    told = text("imports.past", when=when(one.created_at), count=one.conversations)
    return {"origin": one.id, "told": told, "counts": one.counts}


def _kind_text(kind: str) -> str:
    return message(kind_of(kind).label)
