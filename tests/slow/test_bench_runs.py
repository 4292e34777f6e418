"""Whole runs of the benchmarks with the toy: twice the same, and replies timed beside a round."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from bench import latency, learning_curve
from bench.simulated_rater import Person
from rlhf_chat.chat.chat import Chat
from rlhf_chat.inference.generate import Sampling
from tests.integration.test_bench import short_runs  # noqa: F401
from tests.tiny_models import tiny_round_config


def test_the_same_seed_is_the_same_run(short_runs, toy_folder, monkeypatch):  # noqa: F811
    settings = learning_curve.Settings(short_runs, "pairs", (12,), str(toy_folder), "none")
    votes, vote = [], Person.vote

    def voted(self, prompt, *shown):
        votes.append((prompt, *shown, vote(self, prompt, *shown)))
        return votes[-1][-1]

    monkeypatch.setattr(Person, "vote", voted)
    one, again = (learning_curve.run_seed(settings, 3) for _ in range(2))
    measured = {"seconds": 0, "round_seconds": 0, "peak_mb": 0}  # of the machine, not the run
    assert [r | measured for r in one] == [r | measured for r in again]
    assert votes[: len(votes) // 2] == votes[len(votes) // 2 :] and len(votes) >= 24


def test_latency_is_measured_idle_and_during_a_round(tmp_path, toy, monkeypatch):
    monkeypatch.setattr(latency, "PAUSE_SECONDS", (0.0, 0.02))
    config = tiny_round_config()
    config = replace(config, ppo=replace(config.ppo, updates=30))
    toy.microbatch_rows = 8
    init: Any = Chat.__init__
    short = Sampling(max_new_tokens=8)
    monkeypatch.setattr(Chat, "__init__", lambda self, *a, **k: init(self, *a, short, **k))
    result = latency.measure(toy, tmp_path, 3, 6, 2, config=config)
    assert result["idle"]["replies"] == 3 <= result["round"]["replies"]
    for part in ("idle", "round"):
        assert 0 < result[part]["p50"] <= result[part]["p95"] <= result[part]["max"]
        assert 0 < result[part]["pause_p50"] <= result[part]["pause_max"]
        assert result[part]["tokens_per_second"] > 0
    assert result["longest_slice"] > 0 and len(result["rounds"]) >= 2
    assert json.loads(json.dumps(result))
