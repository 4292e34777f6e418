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


def run(person_name: str, choose: str, seed: int) -> list[float]:
    """Best-of-eight win rate over the base at each number of votes in AT."""
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    from rlhf_chat.adapters import Shelf
    from rlhf_chat.chat import Chat
    from rlhf_chat.evidence import Prompt, Reply
    from rlhf_chat.model import Model
    from rlhf_chat.store import Store
    from rlhf_chat.trainer import Trainer

    torch.set_num_threads(1)
    utility = load_utility(f"bench/people/{person_name}.py:utility")
    model = Model.load("demo")
    asked = held_out_prompts(model, PROMPTS)
    base = speak(model, model.reference, asked, 5000, 96)
    drafts = speak(model, model.reference, [p for p in asked for _ in range(DRAFTS)], 6000, 96)
    worth = np.array(
        [utility(p, t) for p, t in zip(np.repeat(asked, DRAFTS), drafts.texts, strict=True)]
    ).reshape(PROMPTS, DRAFTS)
    plain = np.array([utility(p, t) for p, t in zip(asked, base.texts, strict=True)])
    scale = noise_scale((worth[:, 0] - plain).tolist())
    person = Person(utility, scale, float(plain.mean()), random.Random(seed))
    prompts = [
        Prompt(tuple(model.encode([{"role": "user", "content": str(p)}])), str(p)) for p in asked
    ]
    replies = [
        [
            Reply(p, tuple(drafts.ids[i * DRAFTS + k]), drafts.texts[i * DRAFTS + k])
            for k in range(DRAFTS)
        ]
        for i, p in enumerate(prompts)
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "feedback.db")
        trainer = Trainer(store, model, Shelf(Path(folder) / "adapters"), seed=seed)
        trainer.taste.warm_up()
        chat = Chat(store, model, taste=trainer.taste)
        chat.active, chat._rng = choose == "active", random.Random(seed)
        taste = trainer.taste.get()
        measured = [trainer.taste.features(taste, part) for part in replies]
        votes, wins = 0, []
        for target in AT:
            while votes < target:
                votes += rate_one(chat, person, "pairs") > 0
            taste = trainer.taste.get()
            scores = np.stack([taste.score(x) for x in measured])
            scores -= np.stack([taste.charge([r.text for r in part]) for part in replies])
            chosen = worth[np.arange(PROMPTS), scores.argmax(1)]
            wins.append(float(np.mean((chosen > plain) + 0.5 * (chosen == plain))))
        store.close()
    return wins


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
    jobs = [(p, c, s) for s in range(args.seeds) for p in PEOPLE for c in ("active", "random")]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        curves = list(pool.map(run, *zip(*jobs, strict=True)))
    records = [
        {"person": p, "choose": c, "seed": s, "votes": AT, "win_rate": wins}
        for (p, c, s), wins in zip(jobs, curves, strict=True)
    ]
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))
    needed = {}
    for choose in ("active", "random"):
        mean = np.mean([r["win_rate"] for r in records if r["choose"] == choose], axis=0)
        needed[choose] = votes_to(GOAL, list(mean))
        told = ", ".join(f"{at}: {win:.3f}" for at, win in zip(AT, mean, strict=True))
        print(f"{choose:7} {told}; {GOAL:.0%} after {needed[choose]:.1f} votes")
    print(f"active needs {1 - needed['active'] / needed['random']:.0%} fewer votes than random")


if __name__ == "__main__":
    main()
