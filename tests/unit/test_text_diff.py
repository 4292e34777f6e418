"""Two texts with their difference marked: each is still whole, and nothing becomes script."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_chat.ui.text_diff import marked

TEXTS = st.text(st.sampled_from("ab <>&${}`\\.\n江河"), max_size=60)


def plain(html: str) -> str:
    return unescape(re.sub("</?(?:ins|del)>", "", html))


@given(TEXTS, TEXTS)
def test_each_side_is_its_whole_text_and_only_our_marks_are_tags(old: str, new: str) -> None:
    before, after = marked(old, new)
    assert (plain(before), plain(after)) == (old, new)
    for html, tag in ((before, "del"), (after, "ins")):
        assert set(re.findall("<[^>]*>", html)) <= {f"<{tag}>", f"</{tag}>"}
        assert not re.search(r"[${`\\]", html)


@given(TEXTS)
def test_equal_texts_have_no_marks(text: str) -> None:
    assert "<" not in "".join(marked(text, text))


@pytest.mark.parametrize(
    ("old", "new", "before", "after"),
    [
        ("Tea is hot.", "Tea is hot!", "Tea is hot<del>.</del>", "Tea is hot<ins>!</ins>"),
        ("一条大河。", "一条小河。", "一条<del>大</del>河。", "一条<ins>小</ins>河。"),
        ("all of it", "", "<del>all of it</del>", ""),
        # one word in common in the middle of other words is no common ground
        ("red the fox", "blue the cow", "<del>red the fox</del>", "<ins>blue the cow</ins>"),
    ],
)
def test_what_differs_is_marked(old: str, new: str, before: str, after: str) -> None:
    assert marked(old, new) == (before, after)
