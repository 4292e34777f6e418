"""Who agrees with whom: known values and chance."""

from __future__ import annotations

import random

import pytest

from rlhf_chat.feedback.agreement import agreements, krippendorff_alpha


def told(items: int, raters: dict[str, float], seed: int = 0) -> list[tuple[str, str, str]]:
    """Each rater is right with the given probability on every item."""
    rng = random.Random(seed)
    return [
        (f"i{i}", name, "a" if rng.random() < right else "b")
        for i in range(items)
        for name, right in raters.items()
    ]


def test_alpha_of_the_textbook_example() -> None:
    """Krippendorff 2011, two observers, binary data: alpha = 0.095."""
    one, other = "0100000000", "1110010010"
    answers = [(str(i), "A", x) for i, x in enumerate(one)]
    answers += [(str(i), "B", x) for i, x in enumerate(other)]
    assert krippendorff_alpha(answers) == pytest.approx(0.095, abs=5e-4)


def test_alpha_is_1_for_agreement_near_0_for_coins_and_below_for_opposites() -> None:
    assert krippendorff_alpha(told(30, {"x": 1, "y": 1})) == 1
    assert krippendorff_alpha(told(2000, {"x": 0.5, "y": 0.5})) == pytest.approx(0, abs=0.06)
    opposed = told(50, {"x": 0.5})
    opposed += [(i, "y", "b" if a == "a" else "a") for i, _, a in opposed]
    alpha = krippendorff_alpha(opposed)
    assert alpha is not None and alpha < -0.9
    assert krippendorff_alpha(told(20, {"alone": 1})) is None


def test_each_person_is_compared_with_each_other_not_with_their_majority() -> None:
    found = agreements([("1", "x", "a"), ("1", "y", "a"), ("1", "z", "b"), ("2", "x", "a")])
    assert [(a.rater, a.items, a.compared, a.agreed) for a in found] == [
        ("z", 1, 2, 0),
        ("x", 1, 2, 1),
        ("y", 1, 2, 1),
    ]
