"""How many votes until the taste is known? Active against random choice of pairs, no training.

A simulated person votes as on the Compare screen. After every few votes the reward head picks the
best of eight drafts of the base for prompts nobody voted on, and the hidden preference says how
often that beats a plain reply of the base. Drafts are made once a run and shared, so only what the
votes taught differs.

    python -m bench.votes_needed --seeds 5 --json out.json

Left out: PPO (learning_curve.py), so this says what a vote teaches, not what a version becomes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.learning_curve import (
    Person,
    held_out_prompts,
    load_utility,
    noise_scale,
    rate_one,
    speak,
)

PEOPLE = ("short_and_plain", "warm_with_emoji", "lists", "asks_back", "never_sure")
AT = (4, 7, 10, 14, 20, 28, 36, 50)  # votes after which the head is tried
PROMPTS, DRAFTS = 120, 8
GOAL = 0.80


def run(seed: int) -> list[dict]:
    """Every person, both ways of choosing: the best-of-eight win rate over the base, and the
    p-value of the signal, at each number of votes in AT."""
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import torch

    from rlhf_chat.evidence import Prompt, Reply
    from rlhf_chat.model import Model

    torch.set_num_threads(1)
    model = Model.load("demo")
    asked = [str(p) for p in held_out_prompts(model, PROMPTS)]
    base = speak(model, model.reference, asked, 5000, 96).texts
    drafts = speak(model, model.reference, [p for p in asked for _ in range(DRAFTS)], 6000, 96)
    prompts = [Prompt(tuple(model.encode([{"role": "user", "content": p}])), p) for p in asked]
    replies = [
        [Reply(p, tuple(drafts.ids[n]), drafts.texts[n]) for n in range(i, i + DRAFTS)]
        for i, p in zip(range(0, PROMPTS * DRAFTS, DRAFTS), prompts, strict=True)
    ]
    known: dict = {}  # what the base says is the same for everybody
    return [
        {"person": person, "choose": choose, "seed": seed}
        | one(model, person, choose, seed, base, replies, known)
        for person in PEOPLE
        for choose in ("active", "random")
    ]


def one(model, person_name, choose, seed, base, replies, known) -> dict:
    from rlhf_chat import evidence, reward
    from rlhf_chat.chat import Chat
    from rlhf_chat.compare import Compare
    from rlhf_chat.evidence import Gauge
    from rlhf_chat.store import Store
    from rlhf_chat.taste import CurrentTaste

    utility = load_utility(f"bench/people/{person_name}.py:utility")
    worth = np.array([[utility(r.prompt.text, r.text) for r in part] for part in replies])
    plain = np.array([utility(p[0].prompt.text, t) for p, t in zip(replies, base, strict=True)])
    scale = noise_scale((worth[:, 0] - plain).tolist())
    person = Person(utility, scale, float(plain.mean()), random.Random(seed))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "feedback.db")
        gauge = Gauge(store, model)
        gauge._references = known
        current = CurrentTaste(gauge)
        current.warm_up()
        compare = Compare(Chat(store, model, taste=current))
        compare.active, compare._rng = choose == "active", random.Random(seed)
        if "measured" not in known:
            taste = current.get()
            known["measured"] = [current.features(taste, part) for part in replies]
        quick = reward.RewardConfig(permutations=499, folds=2)
        votes, wins, p_values = 0, [], []
        for target in AT:
            while votes < target:
                votes += rate_one(compare, person, "pairs") > 0
            taste = current.get()
            scores = np.stack([taste.score(x) for x in known["measured"]])
            scores -= np.stack([taste.charge([r.text for r in part]) for part in replies])
            chosen = worth[np.arange(PROMPTS), scores.argmax(1)]
            wins.append(float(np.mean((chosen > plain) + 0.5 * (chosen == plain))))
            said = evidence.build(
                evidence.take_snapshot(store), gauge, taste.feature_map, 96, 0.5, lambda: None
            )
            p_values.append(reward.fit(said, taste.feature_map.named, quick, 0).p_value)
        store.close()
    return {"votes": AT, "win_rate": wins, "p_value": p_values}


def votes_to(goal: float, wins: list[float]) -> float:
    """Votes at which the mean curve crosses the goal, by straight lines; inf if it does not."""
    before = (0, 0.5)
    for at, win in zip(AT, wins, strict=True):
        if win >= goal:
            return before[0] + (goal - before[1]) / (win - before[1]) * (at - before[0])
        before = (at, win)
    return float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        records = [record for part in pool.map(run, range(args.seeds)) for record in part]
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))
    needed = {}
    for choose in ("active", "random"):
        mean = np.mean([r["win_rate"] for r in records if r["choose"] == choose], axis=0)
        needed[choose] = votes_to(GOAL, list(mean))
        told = ", ".join(f"{at}: {win:.3f}" for at, win in zip(AT, mean, strict=True))
        print(f"{choose:7} {told}; {GOAL:.0%} after {needed[choose]:.1f} votes")
        p = np.array([r["p_value"] for r in records if r["choose"] == choose])
        seen = ", ".join(f"{at}: {x:.2f}" for at, x in zip(AT, (p <= 0.15).mean(0), strict=True))
        print(f"        share with a signal (p <= .15) {seen}")
    print(f"active needs {1 - needed['active'] / needed['random']:.0%} fewer votes than random")


if __name__ == "__main__":
    main()
