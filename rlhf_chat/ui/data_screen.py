"""The Data screen: every rating that counts, to search, filter, change, withdraw, delete, export.

An export is put together by the page itself, so no copy of it stays in a temporary folder. Import
is in import_panel.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import gradio as gr

from rlhf_chat.chat import exporters
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.raters import ME
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.kinds import kind_of, kinds
from rlhf_chat.feedback.kinds.correction import Correction
from rlhf_chat.locale import has
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import (
    error_message,
    js_component,
    not_saved_message,
    outcome_message,
    status_line,
    status_message,
    version_label,
    when,
)
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.import_panel import ImportPanel
from rlhf_chat.ui.language import label, message, text
from rlhf_chat.ui.lapsed_panel import LapsedPanel
from rlhf_chat.ui.rating_panel import reason_text

GONE = {"comparison": "data.deleted_vote", "ranking": "data.deleted_ranking"}
EXPORTS = {  # what a file is called, and what is told of it
    "lines": ("rlhf-chat-feedback.jsonl", "data.download_ratings"),
    "table": ("rlhf-chat-feedback.csv", "data.download_ratings"),
    "pairs": ("rlhf-chat-preferences.jsonl", "data.download_pairs"),
    "labels": ("rlhf-chat-labels.jsonl", "data.download_labels"),
}
EXPORTED_AT_ONCE = 500  # ratings in one part of an export
SHOWN = 50  # rows on the page; "Show more" doubles them
Update = dict[Any, Any]


class DataScreen:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker
        self.imports, self.lapsed = ImportPanel(chat, worker), LapsedPanel(worker)

    # ---- acts ----------------------------------------------------------------------------------

    async def act(
        self, words: str, kind: str, answer: str, shown: float, event: gr.EventData
    ) -> Update:
        """Change, take back or delete one answer."""
        do, id = str(getattr(event, "do", "")), str(getattr(event, "id", ""))
        choice = str(getattr(event, "value", ""))
        try:
            if do == "rebuild_all":
                done = await quick(self._without, words, kind, answer)
                word = outcome_message(done, during=self.worker.status())
            else:
                word = await quick(self._change, do, id, choice)
        except Exception as error:
            word = not_saved_message(error)
        return {self.note: word, **await quick(self.panel, words, kind, answer, shown)}

    def _without(self, *what: str) -> Notice:
        """Retrains without the ratings that were found."""
        return self.worker.retrain_without([told.id for told in self.chat.ratings.all(*what)])

    def _change(self, do: str, id: str, choice: str) -> dict[str, Any]:
        told = self.chat.ratings.one(id)
        if told is None:
            return status_message(text("data.gone"), "bad")
        if do == "delete":
            whole = self._in_chats([told])  # as the page has asked
            self.chat.conversations.delete(told.conversation_id)
            gone = "data.deleted_chat" if whole else GONE[told.kind]
            return status_message(text(gone), "good")
        if do == "rebuild":
            return outcome_message(
                self.worker.retrain_without([told.id]), during=self.worker.status()
            )
        self.chat.ratings.change(told, "withdrawn" if do == "withdraw" else choice)
        self.worker.wake()
        if do == "withdraw":
            erased = told.kind == Correction.code
            key = "data.withdrawn_correction" if erased else "data.withdrawn"
            return status_message(text(key), "good")
        return status_message(text("data.saved", rating=answer_text(choice)), "good")

    def _in_chats(self, rows: Sequence[Any]) -> set[str]:
        """Ids of those that are deleted with a whole chat. Votes and rankings go with the drafts of
        Compare that they are about, but a program can give them on replies of a chat, too."""
        chats = self.chat.conversations.chats_among({told.conversation_id for told in rows})
        return {t.id for t in rows if t.kind not in GONE or t.conversation_id in chats}

    async def refresh(self, words: str, kind: str, answer: str, shown: float) -> Update:
        return await quick(self.panel, words, kind, answer, shown)

    async def show_more(self, words: str, kind: str, answer: str, shown: float) -> Update:
        more = int(shown or SHOWN) * 2
        return {self.shown: more, **await quick(self.panel, words, kind, answer, more)}

    # The page asks for an export part by part, so that no part is large; it names what it has.

    async def export_lines(self, *what: str) -> Update:
        return await self._export("lines", what)

    async def export_table(self, *what: str) -> Update:
        return await self._export("table", what)

    async def export_pairs(self, *what: str) -> Update:
        return await self._export("pairs", what)

    async def export_labels(self, *what: str) -> Update:
        return await self._export("labels", what)

    async def export_more(self, event: gr.EventData) -> Update:
        """The next part of an export, as the page names it."""
        what = tuple(map(str, getattr(event, "what", None) or ("", "", "")))[:3]
        place = [int(getattr(event, name, None) or 0) for name in ("next", "part", "count")]
        id = str(getattr(event, "id", ""))
        return await self._export(str(getattr(event, "form", "")), what, id, *place)

    async def _export(
        self,
        form: str,
        what: tuple[str, ...],
        id: str = "",
        before: int = 0,
        part: int = 0,
        count: int = 0,
    ) -> Update:
        """`before`: where this part begins; `count`: how many rows came before it."""
        if form not in EXPORTS:
            return {self.note: status_message(text("common.choose_shown"), "bad")}
        name, told = EXPORTS[form]
        try:
            page = await quick(
                self.chat.ratings.page, *what, limit=EXPORTED_AT_ONCE, before=before or None
            )
            contents, rows = await quick(self._exported, form, page.rows, part == 0)
        except Exception as error:
            return {self.note: error_message(error)}
        made = {"name": name, "text": contents, "id": id or uuid4().hex, "part": part}
        made |= {"form": form, "what": list(what), "next": page.next, "count": count + rows}
        tone = "quiet" if page.next else "good"
        return {self.file: made, self.note: status_message(text(told, count=count + rows), tone)}

    def _exported(self, form: str, rows: list[Any], first: bool) -> tuple[str, int]:
        """The text of a part, and how many rows it has."""
        if form == "table":
            return exporters.csv_table(rows, heading=first), len(rows)
        made = self.chat.ratings.export(form, rows)
        return exporters.json_lines(made), len(made)

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self, words: str = "", kind: str = "", answer: str = "", shown: float = 0) -> Update:
        try:
            limit = int(shown or SHOWN)
            page = self.chat.ratings.page(words or "", kind or "", answer or "", limit=limit)
            whole = self._in_chats(page.rows)
            left = self.chat.damaged() or self.chat.not_erased()
            return {
                self.kept: status_message(message(left), "bad" if left else "quiet"),
                self.table: {
                    "rows": [_row(f, whole=f.id in whole) for f in page.rows],
                    "found": page.found,
                    "filtered": bool(words or kind or answer),
                    "counts": _counts(self.chat.ratings.tally()),
                },
                self.more_button: gr.update(
                    value=text("label.show_more"), visible=page.next is not None
                ),
                **self.imports.panel(),
                self.lapsed.box: self.lapsed.value(),
            }
        except Exception as error:
            return {self.note: error_message(error)}

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Row(elem_id="data-head"):
            self.words = gr.Textbox(
                label=label("search_ratings"),
                show_label=False,
                container=False,
                max_lines=1,
                placeholder=label("search_ratings_hint"),
                elem_id="data-search",
                scale=1,
            )
            codes = {kind.code: f"kind_{kind.code}" for kind in kinds()}
            self.kind = self._menu("kind", {"": "kind_all", **codes})
            answers = {a: f"rating_{a}" for kind in kinds() for a in kind.answers}
            self.answer = self._menu("rating", {"": "rating_any", **answers})
            self.imports.lay_out_button()
            self.lines_button = gr.Button(label("export_jsonl"), scale=0, min_width=112)
            self.csv_button = gr.Button(label("export_csv"), scale=0, min_width=100)
            self.pairs_button = gr.Button(label("export_trl"), scale=0, min_width=120)
            self.labels_button = gr.Button(label("export_kto"), scale=0, min_width=120)
        self.lapsed.lay_out()
        self.kept = status_line("data-kept")
        self.note = status_line("data-note")
        self.imports.lay_out(self.note)
        self.table = js_component(
            "data",
            {"rows": [], "found": 0, "filtered": False, "counts": []},
            elem_id="data",
        )
        self.more_button = gr.Button(
            label("show_more"), visible=False, size="sm", elem_id="data-more"
        )
        self.shown = gr.Number(SHOWN, visible=False, label="rows shown")
        self.file = js_component(
            "download",
            {},
            elem_id="data-file",
            visible="hidden",
        )

    @staticmethod
    def _menu(name: str, choices: dict[str, str]) -> gr.Dropdown:
        """`choices`: value -> name of its label."""
        return gr.Dropdown(
            [(label(word), value) for value, word in choices.items()],
            value="",
            label=label(name),
            show_label=False,
            container=False,
            filterable=False,
            elem_id="data-kind" if name == "kind" else "data-answer",
            scale=0,
            min_width=150,
        )

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, rater: gr.Textbox, rater_changed: Any = None) -> None:
        """`rater_changed`: the event that excludes a rater or includes one again."""
        shown = [self.table, self.more_button, self.imports.past, self.lapsed.box]
        self.page = [self.note, self.kept, *shown]
        self.lapsed.wire()
        if rater_changed:
            self.lapsed.after(rater_changed)
        what: list[Any] = [self.words, self.kind, self.answer]
        self.filters = [*what, self.shown]
        self.table.select(self.act, self.filters, self.page, **EACH)
        gr.on(
            [self.words.change, self.kind.input, self.answer.input],
            self.refresh,
            self.filters,
            self.page,
            trigger_mode="always_last",
            **QUICK,
        )
        self.more_button.click(self.show_more, self.filters, [self.shown, *self.page], **QUICK)
        self.lines_button.click(self.export_lines, what, [self.file, self.note], **QUICK)
        for event in self.imports.wire(rater):
            # The refresh of a preview may still run when the import ends: it must not be the last.
            event.then(self.refresh, self.filters, self.page, trigger_mode="always_last", **QUICK)
        self.file.select(self.export_more, None, [self.file, self.note], **EACH)
        self.csv_button.click(self.export_table, what, [self.file, self.note], **QUICK)
        self.pairs_button.click(self.export_pairs, what, [self.file, self.note], **QUICK)
        self.labels_button.click(self.export_labels, what, [self.file, self.note], **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def answer_text(answer: str) -> str:
    return text(key) if has(key := f"label.rating_{answer}") else answer


def _row(told: Any, *, whole: bool) -> dict[str, Any]:
    """`whole`: deleting it deletes the chat that it is in."""
    kind = kind_of(told.kind)
    return {
        "id": told.id,
        "whole": whole,
        "kind": told.kind,
        "value": told.answer,
        "answer": answer_text(told.answer),
        "choices": [[value, answer_text(value)] for value in kind.answers],
        "prompt": told.prompt or "",
        "reply": told.reply,
        "other": told.other,
        "pair": kind.has_other,
        "better": kind.better_side(told),
        "by": version_label(told.version),
        "other_by": text("data.you") if kind.other_by_rater else version_label(told.other_version),
        "order": [
            {"place": p.place, "by": version_label(p.version), "reply": p.reply} for p in told.order
        ],
        "reason": reason_text(told.reason),
        "comment": told.comment,
        "at": when(told.created_at),
        "rater": "" if told.rater == ME else told.rater,
    }


def _counts(tally: dict[str, int]) -> list[list[Any]]:
    """(name, number) of each rating given, the most common first."""
    return [[answer_text(value), count] for value, count in Counter(tally).most_common()]
