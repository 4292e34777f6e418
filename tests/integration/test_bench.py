"""The benchmarks measure what they say: the simulated person, the win rate, the percentiles.
Left out: the numbers themselves, which need the bundled model and minutes."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import latency, learning_curve, load, votes_needed
from bench.generations import GeneratedReply, degenerate, unfinished, win_rate
from bench.simulated_rater import AGREEMENT, Person, load_utility, noise_scale
from rlhf_chat.chat.chat import Chat
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.reward import reward_model, text_features
from tests.tiny_models import tiny_round_config

LENGTH = "def utility(prompt, reply):\n    return float(len(reply))\n"


def spoken(texts: list[str]) -> GeneratedReply:
    return GeneratedReply(texts, [True] * len(texts), [[1]] * len(texts))


# ---------------------------------------------------------------------- the simulated person


@pytest.mark.parametrize("spread", [0.01, 1.0, 300.0])
def test_one_vote_agrees_with_the_truth_four_times_in_five(spread):
    rng = np.random.default_rng(0)
    worth = {str(i): float(v) for i, v in enumerate(rng.normal(0, spread, 4000))}
    differences = [worth[str(i)] - worth[str(i + 1)] for i in range(0, 4000, 2)]
    scale = noise_scale([*differences, 0.0, 0.0])  # ties say nothing about the scale
    person = Person(lambda _, reply: worth[reply], scale, 0.0, random.Random(1))
    votes = [person.vote("", str(i), str(i + 1)) for i in range(0, 4000, 2)]
    agreed = [(v == "a") == (d > 0) for v, d in zip(votes, differences, strict=True)]
    assert abs(float(np.mean(agreed)) - AGREEMENT) < 0.03
    assert person.vote("", "1", "1") == "tie"
    assert noise_scale([0.0, 0.0]) == noise_scale([]) == 1.0


def test_a_thumb_compares_with_the_average_reply():
    person = Person(lambda _, reply: float(reply), 2.0, 10.0, random.Random(0))
    up = [person.thumb("", "11") for _ in range(500)].count(1)
    assert 0.80 < up / 500 < 0.95  # sigmoid(2) = 0.88
    assert {person.thumb("", "99") for _ in range(20)} == {1}
    assert {person.thumb("", "-99") for _ in range(20)} == {-1}


# ---------------------------------------------------------------------- measuring


def test_win_rate_counts_ties_half_and_has_an_interval():
    utility = lambda prompt, reply: float(len(reply))  # noqa: E731
    prompts = ["p"] * 4
    base = spoken(["xx"] * 4)
    mean, low, high = win_rate(utility, prompts, spoken(["x", "xx", "xx", "xxx"]), base)
    assert mean == 0.5 and 0 < low < mean < high < 1
    assert mean - low == pytest.approx(1.96 * np.std([0, 0.5, 0.5, 1], ddof=1) / 2)
    assert win_rate(utility, prompts, spoken(["xxx"] * 4), base) == (1.0, 1.0, 1.0)
    assert win_rate(utility, prompts, base, base) == (0.5, 0.5, 0.5)


def test_degenerate_replies_are_counted():
    told = GeneratedReply(
        ["fine words", " ", "on and on", "a b c " * 9, "It is so. Yes, it is so."],
        [True, True, False, True, True],
        [],
    )
    assert degenerate(told) == pytest.approx(0.6)
    assert unfinished(told) == pytest.approx(0.2)


@pytest.mark.parametrize("spec", ["nowhere.py:utility", "{file}", "{file}:missing"])
def test_a_wrong_utility_is_one_sentence(tmp_path, spec):
    file = tmp_path / "person.py"
    file.write_text(LENGTH)
    with pytest.raises(SystemExit) as error:
        load_utility(spec.format(file=file))
    assert isinstance(error.value.code, str) and "\n" not in error.value.code


def test_the_people_of_the_repository_can_be_loaded():
    for file in sorted((Path(learning_curve.__file__).parent / "people").glob("*.py")):
        if not file.name.startswith("_"):
            value = load_utility(f"{file}:utility")("Hello?", "Hello. - one\n- two")
            assert math.isfinite(float(value)), file


def a_person(utility=lambda p, r: float(len(r)), **options) -> Person:
    return Person(utility, 1.0, 10.0, random.Random(0), **options)


def test_answers_follow_the_hidden_preference_whatever_their_kind():
    person, long, short = a_person(), "x" * 14, "x" * 6
    assert sum(person.thumb("p", long) - person.thumb("p", short) for _ in range(100)) > 100
    assert sum(person.stars("p", long) - person.stars("p", short) for _ in range(100)) > 150
    places = [person.places("p", [short, long, "x" * 10]) for _ in range(100)]
    assert all(sorted(p) == [0, 1, 2] for p in places)
    assert sum(p == [2, 0, 1] for p in places) > 80


def test_flipped_answers_are_turned_round():
    clean, flipped = a_person(), a_person(flip=1.0)
    long, short = "x" * 30, "x"
    assert clean.vote("p", long, short) == "a" and flipped.vote("p", long, short) == "b"
    assert clean.thumb("p", long) == 1 and flipped.thumb("p", long) == -1
    assert clean.stars("p", long) == 5 and flipped.stars("p", long) == 1
    assert clean.places("p", [long, short]) == [0, 1] and flipped.places("p", [long, short]) == [
        1,
        0,
    ]


def test_an_edit_makes_a_reply_better_or_leaves_it():
    liked = a_person(lambda p, r: r.count("!") - 0.1 * len(r))
    text = "One thing. Another thing. A third."
    edited = liked.edited("p", text, ["Something else! Yes!"])
    assert liked.utility("p", edited) > liked.utility("p", text)
    assert a_person(lambda p, r: float(r == text)).edited("p", text, ["No."]) == text


@pytest.fixture
def short_runs(tmp_path, monkeypatch):
    """Shorter replies and rounds; the rest is a run as it is. The person who answers."""
    file = tmp_path / "person.py"
    file.write_text(LENGTH)
    monkeypatch.setattr(learning_curve, "EVALUATION_PROMPTS", 6)
    real = learning_curve.speak
    monkeypatch.setattr(
        learning_curve, "speak", lambda m, v, p, seed, _, *rest: real(m, v, p, seed, 8, *rest)
    )
    monkeypatch.setattr(learning_curve, "config_for", lambda model, minutes: tiny_round_config())
    init: Any = Chat.__init__
    short = Sampling(max_new_tokens=8)

    def shorter(self: Chat, *args: Any, load_view: Any, **more: Any) -> None:
        """`load_view`: without it no version but the live one could answer after a round."""
        init(self, *args, short, load_view, **more)

    monkeypatch.setattr(Chat, "__init__", shorter)
    return f"{file}:utility"


def test_one_run_writes_one_record_per_label_count(short_runs, toy_folder):
    """The whole run with the toy: what the record says and that it can be written as JSON."""
    settings = learning_curve.Settings(
        short_runs, "mixed", (5, 10), str(toy_folder), "none", best_of=2
    )
    records = learning_curve.run_seed(settings, 3)
    assert [r["labels"] for r in records] == [5, 10] and {r["seed"] for r in records} == {3}
    wanted = {"win_rate", "ci_low", "ci_high", "kl", "degenerate", "degenerate_base", "seconds"}
    wanted |= {"labels", "seed", "passed", "provisional", "discarded", "well_formed"}
    wanted |= {"distinct", "distinct_base"}
    wanted |= {"kind", "choose", "flip", "human_seconds", "best_of", "well_formed_base"}
    assert [r["human_seconds"] for r in records] == [46, 92]  # each kind once, then twice
    for record in records:
        assert wanted <= set(record)
        assert 0 <= record["ci_low"] <= record["win_rate"] <= record["ci_high"] <= 1
        assert json.loads(json.dumps(record)) == record
    assert sum(records[-1][k] for k in ("passed", "provisional", "discarded")) == 2
    if records[0]["discarded"]:
        assert records[0]["kl"] == 0  # the base is still what answers


# ---------------------------------------------------------------------- latency


def test_percentile_is_a_measured_value():
    values = [float(v) for v in range(1, 101)]
    random.Random(0).shuffle(values)
    assert [latency.percentile(values, s) for s in (0.0, 0.5, 0.95, 1.0)] == [1, 50, 95, 100]
    assert latency.percentile([3.0], 0.95) == 3.0
    assert math.isnan(latency.percentile([], 0.5))


def test_the_verdict_compares_with_one_slice():
    idle, busy = {"p95": 0.100}, {"p95": 0.180}
    assert ": yes (+80 ms" in latency.verdict(idle, busy, 0.15)
    assert ": no (+80 ms" in latency.verdict(idle, busy, 0.05)


# ---------------------------------------------------------------------- votes needed


@pytest.mark.parametrize("choose", ["active", "random"])
def test_votes_teach_the_head_to_pick_what_the_person_likes(choose, monkeypatch):
    """Drafts that differ in length alone, and a person who wants them short."""
    monkeypatch.setattr(votes_needed, "AT", (6, 24))
    rng = np.random.default_rng(0)
    named = len(text_features.NAMES)

    def drafts(i: int) -> votes_needed.Candidates:
        words = rng.permutation(np.arange(4, 4 + votes_needed.WRITTEN))
        x = np.zeros((votes_needed.WRITTEN, named))
        x[:, text_features.LENGTH] = (words - words.mean()) / 3
        texts = [" ".join([f"w{i}"] * int(n)) for n in words]
        return votes_needed.Candidates(f"prompt {i}", texts, x)

    ones = np.ones(named)
    feature_map = reward_model.FeatureMap(ones, ones, np.zeros(1), np.zeros((1, 0)))
    material = votes_needed.Material(
        [drafts(i) for i in range(30)], [drafts(i) for i in range(30)], feature_map
    )
    told = votes_needed.one(material, "short_and_plain", choose, seed=0)
    assert told["votes"] == (6, 24) and len(told["win_rate"]) == len(told["p_value"]) == 2
    assert told["win_rate"][-1] > 0.8 and told["p_value"][-1] < 0.15
    assert votes_needed.votes_to(0.6, [0.55, 0.65]) == pytest.approx(15)
    assert votes_needed.votes_to(0.9, [0.55, 0.65]) == float("inf")


def test_the_load_bench_times_everything_it_names(capsys):
    load.main(["--messages", "200", "--ratings", "40", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["messages"], found["ratings"]) == (200, 40)
    assert all(found[name] > 0 for name in ("start", "export", "rating_p95", "snapshot", "raters"))
    assert set(found["search"]) == {"", *load.TERMS} and found["memory_mb"]["export"] > 10
