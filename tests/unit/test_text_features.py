"""Properties of the visible side: each measurement moves with what it is named after."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_chat.reward import text_features

PLAIN = "The sea is deep. It covers most of the Earth."


def of(reply: str, name: str, prompt: str = "Tell me about the sea") -> float:
    return float(text_features.measure(prompt, reply)[text_features.NAMES.index(name)])


@pytest.mark.parametrize(
    "name, more",
    [
        ("length", PLAIN + " Many animals live in it."),
        ("lists", "- The sea is deep.\n- It is blue."),
        ("emoji", PLAIN + " 🌊"),
        ("exclamation marks", PLAIN + " Wow!"),
        ("questions", "Why? " + PLAIN),
        ("ends by asking back", PLAIN + " What about you? 🌊"),
        ("hedging", "Perhaps. " + PLAIN),
        ("examples", PLAIN + " For example, whales live there."),
        ("formal words", "Certainly. " + PLAIN),
        ("warm words", "How lovely. " + PLAIN),
        ("code or markup", PLAIN + " `sea`"),
        ("picks up your words", PLAIN + " Tell me, what else?"),
        ("says it does not know", PLAIN + " I do not know more."),
        ("repeats itself", PLAIN + " " + PLAIN),
        ("numbers", PLAIN + " It is 3 or 4 km deep."),
        ("opening remarks", "Certainly, here goes. " + PLAIN),
        ("opening remarks", "How nice that you wrote!\n\n- The sea is deep."),
        ("closing remarks", PLAIN + " I hope this helps!"),
        ("closing remarks", PLAIN + " Have a lovely day."),
        ("early examples", PLAIN + " Imagine a mountain under water."),
        ("stock phrases", PLAIN + " It is really a vital part of it."),
        ("long first sentence", "Wide and blue and full of life, " + PLAIN),
        ("long words", PLAIN + " Cephalopods camouflage themselves extraordinarily."),
    ],
)
def test_a_measurement_rises_with_what_it_is_named_after(name: str, more: str) -> None:
    assert of(more, name) > of(PLAIN, name)


@pytest.mark.parametrize(
    "name, reply",
    [
        ("opening remarks", "The seas are deep. They are salty."),  # says what it is about
        ("opening remarks", "Certainly."),  # is all there is
        ("closing remarks", PLAIN + " What would you like to know?"),  # asks back
        ("closing remarks", PLAIN + " Whales live in it."),
    ],
)
def test_what_belongs_to_the_answer_is_no_remark(name: str, reply: str) -> None:
    assert of(reply, name) == 0


def test_an_example_counts_more_the_earlier_it_comes() -> None:
    early = of("For example, whales live there. " + PLAIN, "early examples")
    late = of(PLAIN + " For example, whales live there.", "early examples")
    assert 1 == early > late > of(PLAIN, "early examples") == 0


CODE = """class Point:
    def __init__(self, x, y):
        self.x = x
        self.y = y

    def moved(self, x, y):
        return Point(self.x + x, self.y + y)

    def turned(self):
        return Point(self.x, self.y)"""


@pytest.mark.parametrize(
    "reply, count",
    [
        (PLAIN, 0),
        ("", 0),
        ("- Snow keeps warm.\n- It looks white.", 0),
        ("- Milk spoils when warm.\n- It is white.\n- It spoils when warm.", 1),
        ("I am small. You are kind. I am small.", 1),
        ("-\n- The sea is deep.\n-", 2),
        ("Yes. No. Yes. 12.5 is more than 12.5.", 0),
        ("No no. " * 9, 3),
        ("---\nA rule is no empty point. 🌊", 0),
        ("1. Rent: 900 dollars per month\n2. Food: 300 dollars per month", 0),
        ("Bake for 20 minutes at 180 C. Turn it. Bake for 10 minutes at 180 C.", 0),
        ("The first is good for beginners. The third one is also very good for beginners.", 0),
        ("Wool keeps warm in winter. I think that it keeps warm in winter.", 1),
        (f"Here it is:\n```python\n{CODE}\n```", 0),
        (f"Here it is:\n```python\n{CODE}", 0),  # cut off
        ("| iron | 8 mg per 100 g |\n| zinc | 8 mg per 100 g |", 0),
    ],
)
def test_flaws_are_empty_or_repeated_sentences(reply: str, count: int) -> None:
    assert text_features.degeneration(reply) == count


@pytest.mark.parametrize(
    "before, after, share",
    [
        (
            "one two three four five six seven eight nine ten",
            "one two three four five six seven eight nine tin",
            0.1,
        ),
        ("今天的天气非常好我们去公圆", "今天的天气非常好我们去公园", 1 / 13),
        ("same", "same", 0.0),
        ("all of it", "something else", 1.0),
    ],
)
def test_the_share_an_edit_changed_is_of_words_or_of_signs(before, after, share) -> None:
    assert text_features.changed_share(before, after) == pytest.approx(share)


def test_a_flaw_is_found_where_it_stands() -> None:
    text = "- Milk spoils.\n-\n- Milk is white. It is so.\n- It spoils. Milk is white!"
    spans = [text[a:b].strip() for a, b in text_features.degeneration_spans(text)]
    assert spans == ["-", "Milk is white!"]


def test_measurements_are_finite_for_any_text() -> None:
    for text in ("", " ", "\n\n", "😀" * 50, "a" * 5000, "...", "?!", "日本語。はい！", "你好。"):
        values = text_features.measure(text, text)
        assert values.shape == (len(text_features.NAMES),) and np.isfinite(values).all()
        assert text_features.degeneration(text) >= 0


def test_variety_is_what_is_not_said_again() -> None:
    assert text_features.distinct(["the sea is deep", "a hill is high"]) == 1.0
    assert text_features.distinct(["the sea is deep", "The sea is high"]) == 4 / 6  # case aside
    assert text_features.distinct(["yes", ""]) == 0.0  # nothing to compare


def test_of_short_replies_what_is_about_long_ones_counts_as_nothing() -> None:
    least = text_features.least_std(short_replies=True)
    for name in text_features.LONG_REPLIES:
        assert least[text_features.NAMES.index(name)] > 100
    assert (least < 1).sum() == len(text_features.NAMES) - len(text_features.LONG_REPLIES)
    assert (text_features.least_std(short_replies=False) < 1).all()
