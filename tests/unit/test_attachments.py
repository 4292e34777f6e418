"""Files with a message: what is taken, and how the model reads them."""

from __future__ import annotations

import pytest

from rlhf_chat.chat.attachments import LARGEST, MOST, Attachment, with_files
from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import AppError
from rlhf_chat.inference.generate import Sampling


def test_a_file_stands_below_the_message_under_its_name():
    file = Attachment.of("C:\\notes\\a b.py", "x = 1\n")
    assert with_files(" Look: ", [file]) == "Look:\n\na b.py:\n```python\nx = 1\n```"
    assert with_files("", [file]).startswith("a b.py:")
    assert with_files("no file", []) == "no file"


def test_a_fence_is_longer_than_any_within():
    told = with_files("", [Attachment.of("a.md", "```py\nx\n```\n`````")])
    assert told.splitlines()[1] == "``````markdown" and told.endswith("\n``````")


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.exe", "MZ", "attachments.type"),
        ("a", "text", "attachments.type"),
        ("a.txt", "a\0b", "attachments.type"),
        ("a.txt", "\ufffd" * 9, "attachments.type"),
        ("a.txt", "x" * (LARGEST + 1), "attachments.too_large"),
        ("a.txt", " \n", "attachments.empty"),
    ],
)
def test_what_cannot_be_sent_is_refused(name, text, code):
    with pytest.raises(AppError) as error:
        Attachment.of(name, text)
    assert error.value.notice.code == code and error.value.notice.params["name"] == name


def test_only_so_many_files_go_with_one_message():
    with pytest.raises(AppError):
        with_files("", [Attachment("a.txt", "x")] * (MOST + 1))


def test_a_file_is_stored_with_its_message_and_one_that_does_not_fit_is_refused(store, toy):
    chat = Chat(store, toy, Sampling(max_new_tokens=6))
    file = Attachment.of("a.txt", "word " * 20)
    conversation = chat.conversations.new()
    list(chat.reply(conversation, "", files=[file]))
    asked = chat.conversations.history(conversation)[0]
    assert asked.content == with_files("", [file])
    tokens, limit = chat.message_tokens(conversation, asked.content)
    assert 20 < tokens <= limit
    with pytest.raises(AppError):
        list(chat.reply(conversation, "", files=[Attachment.of("b.txt", "word " * 9000)]))
    assert len(chat.conversations.history(conversation)) == 2
