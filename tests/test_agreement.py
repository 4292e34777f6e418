"""Who agrees with whom: known values, chance, and a rater who turns everything round."""

from __future__ import annotations

import random

import numpy as np
import pytest

from rlhf_chat.agreement import agreements, krippendorff_alpha
from rlhf_chat.likelihood import PAIR, evidence
from rlhf_chat.reward import RewardConfig, fit_head
from tests.test_likelihood import row


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
    assert abs(krippendorff_alpha(told(2000, {"x": 0.5, "y": 0.5}))) < 0.06
    opposed = told(50, {"x": 0.5})
    opposed += [(i, "y", "b" if a == "a" else "a") for i, _, a in opposed]
    assert krippendorff_alpha(opposed) < -0.9
    assert krippendorff_alpha(told(20, {"alone": 1})) is None


def test_who_turns_everything_round_is_suspected_and_nobody_else() -> None:
    caught = 0
    for seed in range(40):
        found = agreements(told(24, {"x": 0.85, "y": 0.85, "turned": 0.15}, seed))
        suspects = [a.rater for a in found if a.suspect]
        assert suspects in ([], ["turned"])
        caught += bool(suspects)
    assert caught >= 32


def test_a_few_disagreements_are_no_reason() -> None:
    found = agreements(told(5, {"x": 1, "y": 1, "turned": 0}))
    assert not any(a.suspect for a in found)


def test_setting_the_saboteur_aside_restores_what_was_learned() -> None:
    """200 honest pairs of four people with 10 % noise; one of them turns round a hundred of theirs.
    Accuracy on held-out pairs comes back to within 2 points of never having had them."""
    config, lost, after, clean, shared = RewardConfig(prior_steps=6), [], [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=8)
        test = rng.normal(size=(2000, 8))

        def right(rows, truth=truth, test=test):
            people = len({r[5] for r in rows})
            order = {who: i for i, who in enumerate(sorted({r[5] for r in rows}))}
            rows = [(*r[:5], order[r[5]], *r[6:]) for r in rows]
            weights = fit_head(evidence(8, rows, raters=people), 8, config).weights
            return np.mean((test @ weights > 0) == (test @ truth > 0))

        rows, answers = [], []
        for i in range(60):
            x = rng.normal(size=8)
            for who in range(4) if i < 12 else [i % 3, 3]:  # the first twelve are shared by all
                honest = np.sign(x @ truth) * (1 if rng.random() < 0.9 else -1)
                label = -honest if who == 3 else honest
                rows.append(row(x, PAIR, label, group=i, rater=who))
                answers.append((str(i), str(who), str(label)))
        suspects = [int(a.rater) for a in agreements(answers) if a.suspect]
        assert suspects == [3]
        lost.append(right([(*r[:5], 0, *r[6:]) for r in rows]))  # as if one person had said it all
        shared.append(right(rows))
        after.append(right([r for r in rows if r[5] not in suspects]))
        clean.append(right([r for r in rows if r[5] != 3]))
    assert np.mean(after) >= np.mean(clean) - 0.02
    assert np.mean(after) > np.mean(lost) + 0.02
    assert np.mean(shared) > np.mean(lost) + 0.02  # fitted sensitivities already help
