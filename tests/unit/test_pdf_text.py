"""The text of PDF files, and what is said of those that have none."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from rlhf_chat.chat import pdf_text
from rlhf_chat.errors import AppError
from rlhf_chat.ui.attachments_panel import AttachmentsPanel
from tests.pdf_files import pdf


def refused(data: bytes) -> str:
    with pytest.raises(AppError) as error:
        pdf_text.pages("a.pdf", data)
    assert error.value.notice.params["name"] == "a.pdf"
    return error.value.notice.code


def test_each_page_is_read() -> None:
    assert pdf_text.pages("a.pdf", pdf("One two", "", "Three")) == ["One two", "", "Three"]


def test_what_cannot_be_read_is_refused_in_its_own_words(monkeypatch) -> None:
    assert refused(pdf("secret", password="word")) == "attachments.pdf_encrypted"
    assert refused(pdf("", "")) == "attachments.pdf_scanned"
    for data in (b"", b"%PDF-1.7 no more", pdf("text")[:200], b"\0" * 999):
        assert refused(data) == "attachments.pdf_damaged"
    monkeypatch.setattr(pdf_text, "LARGEST", 10)
    assert refused(pdf("text")) == "attachments.pdf_too_large"


class Counted:
    """A chat in which each word is a token and `limit` of them fit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def message_tokens(self, conversation_id: str, text: str) -> tuple[int, int]:
        return text.count("word"), self.limit


@pytest.mark.parametrize(("limit", "count"), [(100, 5), (50, 5), (49, 4), (20, 2), (10, 1), (3, 1)])
def test_as_many_pages_are_taken_as_fit(limit: int, count: int) -> None:
    chat: Any = Counted(limit)
    panel = AttachmentsPanel(chat)
    data = base64.b64encode(pdf(*["word " * 10] * 5)).decode()
    (file,) = panel._with([], {"name": "a.pdf", "data": data}, "")
    assert file["text"].count("word") == 10 * count
    assert file["note"] == f"pages 1 to {count} of 5"
