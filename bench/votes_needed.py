"""Votes until the reward model knows a preference: pairs chosen actively or at random.

The base writes its drafts once. Then simulated raters vote on pairs of them, chosen as on the
Compare screen, and after every few votes the reward head picks the best of eight drafts for prompts
nobody voted on; the hidden preference says how often that beats one more draft. All runs share the
drafts, so many seeds are cheap. Nothing is trained: this measures what votes teach the reward
model, while learning_curve.py measures the trained versions.

    python -m bench.votes_needed --seeds 24 --json out.json
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
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.generations import held_out_prompts
from bench.simulated_rater import Person, load_utility, noise_scale
from rlhf_chat.reward.reward_model import FeatureMap

TASTES = ("short_and_plain", "warm_with_emoji", "lists", "asks_back", "never_sure")
AT = (4, 7, 10, 14, 20, 28, 36, 50)  # votes after which the head is tried
PROMPTS, BEST_OF, WRITTEN = 120, 8, 10  # held-out prompts, drafts to pick from, drafts of each
TOGETHER = 8  # prompts in one batch
GOAL = 0.80


@dataclass(frozen=True)
class Candidates:
    """The base's drafts for one prompt, with head features (WRITTEN, D), centred."""

    prompt: str
    texts: list[str]
    x: np.ndarray


@dataclass(frozen=True)
class Material:
    """What all runs share."""

    asked: list[Candidates]  # to vote on
    held_out: list[Candidates]  # to be measured on
    feature_map: FeatureMap


def written(model, count: int = 400) -> Material:
    """Drafts of suggested and of held-out prompts, measured as the app measures them."""
    from rlhf_chat.db import Store
    from rlhf_chat.feedback.replies import Prompt, Reply
    from rlhf_chat.inference.generate import Sampling
    from rlhf_chat.reward import prompt_sets
    from rlhf_chat.reward.features import FeatureExtractor
    from rlhf_chat.reward.scorer import RewardModelCache

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "feedback.db")
        extractor = FeatureExtractor(store, model)
        current = RewardModelCache(extractor)
        current.warm_up()
        scorer = current.get()
        assert scorer

        def draft(texts: list[str], seed: int) -> list[Candidates]:
            found = []
            for start in range(0, len(texts), TOGETHER):
                asked: list[Prompt] = [extractor.prompt(t) for t in texts[start : start + TOGETHER]]
                rows = model.sample(
                    model.reference,
                    [p.ids for p in asked for _ in range(WRITTEN)],
                    Sampling(max_new_tokens=96),
                    seed=seed + start,
                )
                for i, prompt in enumerate(asked):
                    part = rows[i * WRITTEN : (i + 1) * WRITTEN]
                    replies = [Reply(prompt, tuple(r.ids), model.decode(r.ids)) for r in part]
                    x = current.features(scorer, replies)
                    found.append(Candidates(prompt.text, [r.text for r in replies], x))
            return found

        asked = prompt_sets.suggestions(model.is_demo)[:count]
        held_out = held_out_prompts(model, min(PROMPTS, count))
        material = Material(draft(asked, 100), draft(held_out, 90_000), scorer.feature_map)
        store.close()
    return material


def one(material: Material, name: str, choose: str, seed: int) -> dict:
    """One rater, one way of choosing pairs: the best-of-eight win rate and the p-value of the
    signal at each number of votes in AT."""
    from rlhf_chat.reward import likelihood, reward_model
    from rlhf_chat.reward.scorer import RewardModel, ScoringConfig

    utility = load_utility(f"rlhf_chat/simulation/tastes/{name}.py:utility")
    worth = [np.array([utility(d.prompt, t) for t in d.texts]) for d in material.held_out]
    scale = noise_scale([float(w[0] - w[1]) for w in worth])
    middle = float(np.mean([w.mean() for w in worth]))
    rng = random.Random(f"{seed} {choose}")
    person = Person(utility, scale, middle, rng)
    config, feature_map = reward_model.RewardConfig(), material.feature_map
    named, dim = feature_map.named, material.asked[0].x.shape[1]
    rows: list[tuple] = []
    head = reward_model.fit_head(likelihood.make_dataset(dim), named, config)
    wins: list[float] = []
    p_values: list[float] = []
    while len(rows) < AT[-1]:
        group = rng.randrange(len(material.asked))
        rows += vote(material.asked[group], group, person, head, choose == "active", rng)
        dataset = likelihood.make_dataset(dim, rows)  # type: ignore[arg-type]
        head = reward_model.fit_head(dataset, named, config)
        if len(rows) in AT and len(rows) > (AT[len(wins) - 1] if wins else 0):
            scorer = RewardModel(
                head, feature_map, ScoringConfig(), ScoringConfig().degeneration_penalty
            )  # type: ignore[arg-type]
            wins.append(won(scorer, material.held_out, worth))
            variances = reward_model.SOLE_FACTOR * reward_model.prior_variances(config, named, dim)
            p = reward_model.permutation_p(dataset, 499, np.random.default_rng(0), variances)
            p_values.append(p)
    told = {"votes": AT, "win_rate": wins, "p_value": p_values}
    return {"person": name, "choose": choose, "seed": seed} | told


def vote(drafts: Candidates, group: int, person: Person, head, active: bool, rng) -> list[tuple]:
    """The dataset row of one vote; None where all drafts are the same."""
    from rlhf_chat.reward import active_sampling, reward_model
    from rlhf_chat.reward.likelihood import COMPARISON, LAPSE

    some = rng.sample(range(WRITTEN), active_sampling.DRAFTS)
    some = list({drafts.texts[i]: i for i in reversed(some)}.values())[::-1]
    if len(some) < 2:
        return []
    chosen = [0, 1]
    if active and rng.random() >= active_sampling.RANDOM_SHARE:
        chosen = active_sampling.max_variance(drafts.x[some], head.covariance)
    a, b = (some[i] for i in rng.sample(chosen, 2))
    label = {"a": 1.0, "b": -1.0}.get(person.vote(drafts.prompt, drafts.texts[a], drafts.texts[b]))
    apart = reward_model.bounded(drafts.x[a] - drafts.x[b])
    return [(apart, COMPARISON, label or 0.0, 1.0, group, 0, 1.0, LAPSE)]


def won(scorer, held_out: list[Candidates], worth: list[np.ndarray]) -> float:
    """How often the reward head's best of eight drafts beats one more; ties count half."""
    wins = []
    for drafts, w in zip(held_out, worth, strict=True):
        scores = scorer.score(drafts.x[:BEST_OF]) - scorer.penalty(drafts.texts[:BEST_OF])
        best, other = w[int(scores.argmax())], w[BEST_OF]
        wins.append(float(best > other) + 0.5 * float(best == other))
    return float(np.mean(wins))


def votes_to(goal: float, wins: list[float]) -> float:
    """Votes at which the mean curve crosses the goal, by straight lines; inf if it does not."""
    before = (0, 0.5)
    for at, win in zip(AT, wins, strict=True):
        if win >= goal:
            return before[0] + (goal - before[1]) / (win - before[1]) * (at - before[0])
        before = (at, win)
    return float("inf")


_material: Material | None = None


def _keep(material: Material) -> None:
    global _material
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _material = material


def _run(job: tuple[str, str, int]) -> dict:
    assert _material
    return one(_material, *job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # for the workers; each has one core
    import torch

    from rlhf_chat.inference.model import Model

    torch.set_num_threads(1)
    material = written(Model.load("demo"))
    jobs = [(p, c, s) for s in range(args.seeds) for p in TASTES for c in ("active", "random")]
    context = get_context("spawn")
    with ProcessPoolExecutor(
        args.jobs, mp_context=context, initializer=_keep, initargs=(material,)
    ) as pool:
        records = list(pool.map(_run, jobs, chunksize=4))
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
