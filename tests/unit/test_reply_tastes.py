"""Properties of the hidden tastes for real replies: each ranks what it is named after, none is best
for an empty reply, and all work on a reply that was cut."""

from __future__ import annotations

import ast
import itertools
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import reply_tastes
from bench.reply_tastes import CONTROLS, TASTES, coin
from bench.simulated_rater import load_utility

PROMPT = "How do I make good tea?"
PLAIN = (
    "Boil fresh water and warm the pot with a little of it. Put in one spoon of leaves for each "
    "cup, pour on the water and wait for four minutes. Pour the tea through a sieve."
)
STEPS = (
    "1. Boil fresh water.\n2. Warm the pot with a little of it.\n3. Put in one spoon of leaves for "
    "each cup.\n4. Pour on the water, then wait for four minutes."
)
BULLETS = (
    "## Tea\n- **Water**: boil it fresh.\n- **Pot**: warm it.\n"
    "- **Leaves**: one spoon for each cup."
)
TO_YOU = (
    "You boil your water and warm your pot with a little of it. You put in one spoon for each cup "
    "that you want, and you wait until it is as strong as you like it."
)
GRAND = (
    "Preparing exceptional tea necessitates considerable attention regarding temperature, "
    "appropriate quantities, infusion duration, ceramic equipment and sufficiently oxygenated "
    "water."
)
EXAMPLE = (
    "For example, one spoon of Assam in a warm pot, four minutes, no milk. Other leaves need more "
    "or less time. Boil fresh water, and pour the tea through a sieve."
)
LATE_EXAMPLE = PLAIN + " Some leaves need more time, for example Assam."
FILLER = (
    "Certainly! Great question! Making good tea is really very important. "
    + PLAIN
    + " I hope this "
    "helps! Let me know if you have any more questions."
)
ASKING = PLAIN + " Which kind of tea do you have at home?"
CUT_QUESTION = PLAIN + " Which kind of tea do you have at"
LONG = f"{PLAIN} {GRAND} {PLAIN}"
ORDINARY = (PLAIN, STEPS, BULLETS, TO_YOU, GRAND, EXAMPLE, FILLER, ASKING, LONG)
TOO_SHORT = ("", " ", "\n\n", "?", "You.", "1.", "1. 2. 3.", "E.g.", "- a", "Tea?", "OK", "42")
EVERYTHING = st.text(max_size=400) | st.lists(st.sampled_from(ORDINARY), max_size=3).map(" ".join)


@pytest.mark.parametrize(
    "name, good, bad",
    [
        ("short", PLAIN, LONG),
        ("stepwise", STEPS, PLAIN),
        ("stepwise", STEPS, BULLETS),
        ("stepwise", STEPS, "\n".join(reversed(STEPS.split("\n")))),
        ("stepwise", "**Step 1: Boil the water**\nUntil it sings.\n**Step 2: Wait**", PLAIN),
        ("stepwise", "First boil the water. Next warm the pot. Finally add the leaves.", GRAND),
        ("prose", PLAIN, STEPS),
        ("prose", PLAIN, BULLETS),
        ("prose", PLAIN, PLAIN.replace("water", "`water`")),
        ("prose", PLAIN, PLAIN.replace(". ", ".\n")),
        ("addresses_me", TO_YOU, PLAIN),
        ("addresses_me", "You'll need your pot. " + PLAIN, PLAIN),
        ("plain_words", PLAIN, GRAND),
        ("plain_words", TO_YOU, FILLER),
        ("examples_first", EXAMPLE, LATE_EXAMPLE),
        ("examples_first", LATE_EXAMPLE, PLAIN),
        ("no_filler", PLAIN, FILLER),
        ("no_filler", PLAIN, "Sure, here is how. " + PLAIN),
        ("no_filler", PLAIN, PLAIN + " I hope this helps."),
        ("no_filler", PLAIN, "To make good tea, you make it with care. " + PLAIN),
        ("asks_back", ASKING, PLAIN),
        ("asks_back", CUT_QUESTION, PLAIN),
        ("asks_back", ASKING, CUT_QUESTION),
        ("asks_back", ASKING, "Which kind of tea do you have at home? " + PLAIN),
        ("asks_back", PLAIN + " Tell me which tea it is.", PLAIN),
    ],
)
def test_a_good_example_is_worth_more_than_a_bad_one(name: str, good: str, bad: str) -> None:
    taste = getattr(reply_tastes, name)
    assert taste(PROMPT, good) > taste(PROMPT, bad) + 0.05


@pytest.mark.parametrize("taste", TASTES, ids=lambda t: t.__name__)
def test_an_empty_or_very_short_reply_is_worse_than_every_ordinary_one(taste) -> None:
    worst = min(taste(PROMPT, reply) for reply in ORDINARY)
    best = max(taste(PROMPT, reply) for reply in ORDINARY)
    for reply in TOO_SHORT:
        assert taste(PROMPT, reply) < best - 0.5, reply
    for reply in ("", " ", "\n\n"):
        assert taste(PROMPT, reply) < worst, reply


@pytest.mark.parametrize("taste", (*TASTES, *CONTROLS), ids=lambda t: t.__name__)
def test_ordinary_replies_differ(taste) -> None:
    values = [taste(PROMPT, reply) for reply in ORDINARY]
    pairs = list(itertools.combinations(values, 2))
    assert sum(abs(a - b) > 1e-3 for a, b in pairs) >= 0.85 * len(pairs)


@pytest.mark.parametrize("taste", (*TASTES, *CONTROLS), ids=lambda t: t.__name__)
@given(reply=EVERYTHING, prompt=st.sampled_from(["", PROMPT]), at=st.integers(0, 400))
def test_a_value_is_finite_bounded_and_the_same_again_wherever_a_reply_is_cut(
    taste, reply: str, prompt: str, at: int
) -> None:
    for text in (reply, reply[:at]):
        value = taste(prompt, text)
        assert math.isfinite(value) and abs(value) < 8
        assert value == taste(prompt, text)


@pytest.mark.parametrize("taste", TASTES, ids=lambda t: t.__name__)
def test_a_word_less_at_the_end_changes_little(taste) -> None:
    """Except for the question that asks_back waits for."""
    words = re.findall(r"\s*\S+", PLAIN)
    values = [taste(PROMPT, "".join(words[:n])) for n in range(12, len(words))]
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) < 0.4


def test_the_coin_has_nothing_to_do_with_the_reply() -> None:
    values = [coin(PROMPT, f"{PLAIN} {n}") for n in range(400)]
    assert 0.45 < sum(values) / len(values) < 0.55
    assert all(0 <= value < 1 for value in values) and len(set(values)) == 400
    assert coin(PROMPT, "") < min(values)


def test_tastes_share_no_code_with_the_product_and_say_what_they_want_in_a_line() -> None:
    source = Path(reply_tastes.__file__).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "rlhf_chat" not in ast.unparse(node)
    for taste in (*TASTES, *CONTROLS):
        assert taste.__doc__ and "\n" not in taste.__doc__, taste.__name__
    assert len(TASTES) >= 8


def test_the_learning_curve_can_load_each() -> None:
    for taste in (*TASTES, *CONTROLS):
        loaded = load_utility(f"{reply_tastes.__file__}:{taste.__name__}")
        assert loaded(PROMPT, PLAIN) == taste(PROMPT, PLAIN)
