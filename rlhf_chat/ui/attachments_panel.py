"""Files above the message box: the page reads them (static/attachments.js), the server says what
they take, and Send sends them with the message.
"""

from __future__ import annotations

import base64
import bisect
from typing import Any

import gradio as gr

from rlhf_chat.chat import pdf_text
from rlhf_chat.chat.attachments import LARGEST, TYPES, Attachment, check_count, with_files
from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import AppError
from rlhf_chat.ui.components import error_message, js_component
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.language import text

NOTHING: dict[str, Any] = {"files": [], "told": "", "over": False}

Update = dict[Any, Any]


class AttachmentsPanel:
    """`note` is the line under the chat."""

    note: gr.HTML

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    async def change(
        self, value: dict[str, Any], view: dict[str, Any], event: gr.EventData
    ) -> Update:
        """Adds the files that were chosen, or takes one away."""
        files = list(value["files"])
        dropped = getattr(event, "drop", None)
        if dropped is not None:
            files = [file for i, file in enumerate(files) if i != int(dropped)]
        update: Update = {}
        for chosen in getattr(event, "add", None) or []:
            try:
                files = await quick(self._with, files, chosen, view["conversation"])
            except Exception as error:
                update[self.note] = error_message(error)
        return {self.files: await quick(self._counted, files, view["conversation"]), **update}

    def _with(
        self, files: list[dict[str, str]], chosen: dict[str, Any], conversation_id: str
    ) -> list[dict[str, str]]:
        """`files` and one more; of a PDF file as many pages, from the first, as fit."""
        name = str(chosen["name"])
        if chosen.get("over"):
            raise AppError("attachments.too_large", name=name, limit=LARGEST)
        check_count(len(files) + 1)
        if "data" not in chosen:
            file = Attachment.of(name, str(chosen["text"]))
            return [*files, {"name": file.name, "text": file.text, "note": ""}]
        pages = pdf_text.pages(name, base64.b64decode(str(chosen["data"])))

        def of(count: int) -> list[dict[str, str]]:
            file = Attachment.of(name, "\n\n".join(filter(None, pages[:count]))[:LARGEST])
            told = {"count": count, "total": len(pages)}
            return [*files, {**vars(file), "note": text("attachments.pages", **told)}]

        def too_many(count: int) -> bool:
            return bool(self._counted(of(count), conversation_id)["over"])

        first = next(i for i, page in enumerate(pages, 1) if page)  # those before it are empty
        fits = bisect.bisect_left(range(first + 1, len(pages) + 1), True, key=too_many)
        return of(first + fits)

    def _counted(self, files: list[dict[str, str]], conversation_id: str) -> dict[str, Any]:
        if not files:
            return NOTHING
        content = with_files("", attached({"files": files}))
        tokens, limit = self.chat.message_tokens(conversation_id, content)
        key = "attachments.over" if tokens > limit else "attachments.tokens"
        told = text(key, tokens=tokens, limit=limit)
        return {"files": files, "told": told, "over": tokens > limit}

    def lay_out(self) -> None:
        self.files = js_component("attachments", NOTHING, elem_id="attachments")

    def lay_out_button(self) -> None:
        self.button = gr.Button(
            "", elem_id="attach", elem_classes="lucide-paperclip", scale=0, min_width=36
        )

    def wire(self, view: gr.HTML) -> None:
        taken = ",".join(f".{suffix}" for suffix in TYPES)
        self.button.click(None, js=f"() => {{ rlhfAttach('{taken}'); }}", **QUICK)
        self.files.select(self.change, [self.files, view], [self.files, self.note], **EACH)


def attached(value: dict[str, Any]) -> list[Attachment]:
    """The files of the page's value, checked again: the page may send anything."""
    return [Attachment.of(str(file["name"]), str(file["text"])) for file in value["files"]]
