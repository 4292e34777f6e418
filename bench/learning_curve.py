"""How well does the app learn a hidden preference from few, noisy votes?

A simulated person rates through the same `chat` calls as the screens, the same trainer learns, and
the result is measured with the hidden preference itself on prompts nobody trained on: the true win
rate of what is served against the base (ties half). Votes are Bradley-Terry noisy, scaled so that
one vote agrees with the truth about 80% of the time.

    python -m bench.learning_curve --utility bench/people/lists.py:utility --json out.json

Left out: any tuning; the settings are the product's own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import math
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

Utility = Callable[[str, str], float]

AGREEMENT = 0.80  # how often one vote agrees with the truth
EVALUATION_PROMPTS = 250
KINDS = ("pairs", "thumbs", "mixed")


def load_utility(spec: str) -> Utility:
    """FILE.py:FUNCTION -> the function. Raises SystemExit with one sentence."""
    file, _, name = spec.partition(":")
    path = Path(file)
    if not path.is_file() or not name:
        raise SystemExit(f"--utility wants FILE.py:FUNCTION, and there is no such file: {spec}")
    sys.path.insert(0, str(Path.cwd()))
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec and module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise SystemExit(f"{file} has no function {name}.")
    return getattr(module, name)


# ---------------------------------------------------------------------- the simulated person


@dataclass
class Person:
    """Votes by a hidden utility with Bradley-Terry noise of a fixed scale."""

    utility: Utility
    scale: float
    middle: float  # utility of an average reply: what a thumb compares with
    rng: random.Random

    def vote(self, prompt: str, left: str, right: str) -> str:
        difference = self.scale * (self.utility(prompt, left) - self.utility(prompt, right))
        if difference == 0:
            return "tie"
        return "a" if self.rng.random() < _sigmoid(difference) else "b"

    def thumb(self, prompt: str, reply: str) -> int:
        margin = self.scale * (self.utility(prompt, reply) - self.middle)
        return 1 if self.rng.random() < _sigmoid(margin) else -1


def noise_scale(differences: Sequence[float]) -> float:
    """The factor k for which sigmoid(k |d|) is AGREEMENT on average over differing pairs."""
    d = np.abs([x for x in differences if x != 0])
    if not len(d):
        return 1.0
    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = math.sqrt(low * high)
        agreement = float(np.mean(0.5 * (1 + np.tanh(0.5 * middle * d))))
        low, high = (middle, high) if agreement < AGREEMENT else (low, middle)
    return low


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(0.5 * x))


# ---------------------------------------------------------------------- measuring


@dataclass
class Spoken:
    """Replies of one version to the evaluation prompts."""

    texts: list[str]
    ended: list[bool]
    ids: list[list[int]]


def speak(model, view, prompts: Sequence[str], seed: int, max_new_tokens: int) -> Spoken:
    from rlhf_chat.decode import Sampling

    ids = [model.encode([{"role": "user", "content": p}]) for p in prompts]
    responses = []
    for start in range(0, len(ids), 64):
        responses += model.sample(
            view,
            ids[start : start + 64],
            Sampling(max_new_tokens=max_new_tokens),
            seed=seed + start,
        )
    return Spoken(
        [model.decode(r.ids) for r in responses],
        [r.finished for r in responses],
        [r.ids for r in responses],
    )


def kl_of(model, view, prompts: Sequence[str], spoken: Spoken) -> float:
    """Mean sequence KL(view || base) in nats, from the view's own samples."""
    import torch

    ids = [model.encode([{"role": "user", "content": p}]) for p in prompts]
    total = 0.0
    for start in range(0, len(ids), 32):
        part = slice(start, start + 32)
        with model.lease.slice(), torch.no_grad():
            ours = model.forward(view, ids[part], spoken.ids[part]).logprobs.sum()
            base = model.forward(model.reference, ids[part], spoken.ids[part]).logprobs.sum()
        total += float(ours - base)
    return total / len(ids)


def degenerate(spoken: Spoken) -> float:
    """Share of replies that are empty, do not end, or repeat themselves."""
    from rlhf_chat.style import repeated_share

    bad = [
        not text.strip() or not ended or repeated_share(text.lower().split(), 3) > 0.2
        for text, ended in zip(spoken.texts, spoken.ended, strict=True)
    ]
    return float(np.mean(bad))


def well_formed(model, prompts: Sequence[str], spoken: Spoken) -> float | None:
    if not model.is_demo:
        return None
    from rlhf_chat.demo import grammar

    parsed = [grammar.well_formed(p, t) for p, t in zip(prompts, spoken.texts, strict=True)]
    return float(np.mean(parsed))


def win_rate(
    utility: Utility, prompts: Sequence[str], ours: Spoken, base: Spoken
) -> tuple[float, float, float]:
    """True win rate against the base, ties half, with a 95% interval over prompts."""
    wins = []
    for prompt, a, b in zip(prompts, ours.texts, base.texts, strict=True):
        difference = utility(prompt, a) - utility(prompt, b)
        wins.append(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0)
    mean = float(np.mean(wins))
    half = 1.96 * float(np.std(wins, ddof=1)) / math.sqrt(len(wins))
    return mean, max(0.0, mean - half), min(1.0, mean + half)


# ---------------------------------------------------------------------- one run


def held_out_prompts(model, count: int) -> list[str]:
    if model.is_demo:
        from rlhf_chat.demo import corpus

        return corpus.prompts("held_out", count, 99)
    from rlhf_chat import prompts

    return prompts.probe(False, count)


def run_seed(
    spec: str, kind: str, labels: list[int], seed: int, model_name: str, quantization: str
) -> list[dict]:
    """One person, one seed: votes, rounds, measurements at each label count."""
    import torch

    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)
    from rlhf_chat.adapters import Shelf
    from rlhf_chat.chat import Chat
    from rlhf_chat.model import Model
    from rlhf_chat.store import Store
    from rlhf_chat.trainer import Trainer

    utility = load_utility(spec)
    model = Model.load(model_name, quantization=quantization)
    model.self_test()
    model.calibrate()
    limit = 96 if model.is_demo else 256
    evaluation = held_out_prompts(model, EVALUATION_PROMPTS)
    base = speak(model, model.reference, evaluation, 5000, limit)
    other = speak(model, model.reference, evaluation, 6000, limit)
    values = [utility(p, t) for p, t in zip(evaluation, base.texts, strict=True)]
    differences = [
        v - utility(p, t) for v, p, t in zip(values, evaluation, other.texts, strict=True)
    ]
    person = Person(utility, noise_scale(differences), float(np.mean(values)), random.Random(seed))

    records = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "feedback.db")
        try:
            chat = Chat(store, model)
            chat._rng = random.Random(seed)
            trainer = Trainer(store, model, Shelf(Path(folder) / "adapters"), seed=seed)
            trainer.recover()
            told = 0
            started = time.monotonic()
            tiers = {"proved": 0, "provisional": 0, "discarded": 0}
            for target in labels:
                while told < target:
                    told += rate_one(chat, person, kind, told)
                status = trainer.run_round("ratings")
                newest = trainer.rounds(1)[0]
                tier = (newest.verdict or {}).get("tier", status)
                tiers[tier] = tiers.get(tier, 0) + 1
                seconds = time.monotonic() - started
                records.append(
                    measured(model, utility, evaluation, base, seed, limit)
                    | {"labels": target, "seed": seed, "seconds": round(seconds, 1), **tiers}
                )
                print(f"{spec} seed {seed} labels {target}: {newest.reason}", file=sys.stderr)
        finally:
            store.close()
    return records


def rate_one(chat, person: Person, kind: str, number: int) -> int:
    """One rating through the app's own calls; returns how many labels it was (0 if not votable)."""
    prompt = chat.suggest_prompt()
    if kind == "pairs" or (kind == "mixed" and number % 2 == 0):
        *_, pair = chat.compare(prompt)
        if not pair.votable:
            return 0
        chat.prefer(pair.pair_id, person.vote(prompt, pair.left, pair.right))
        return 1
    conversation = chat.new_conversation()
    *_, partial = chat.reply(conversation, prompt)
    chat.rate(partial.message_id, person.thumb(prompt, partial.text))
    return 1


def measured(
    model, utility: Utility, prompts: list[str], base: Spoken, seed: int, limit: int
) -> dict:
    live = speak(model, model.live, prompts, 7000 + seed, limit)
    win, low, high = win_rate(utility, prompts, live, base)
    return {
        "win_rate": round(win, 4),
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
        "kl": round(kl_of(model, model.live, prompts, live), 3),
        "degenerate": round(degenerate(live), 4),
        "degenerate_base": round(degenerate(base), 4),
        "well_formed": well_formed(model, prompts, live),
        "well_formed_base": well_formed(model, prompts, base),
    }


# ---------------------------------------------------------------------- command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utility", required=True, help="FILE.py:FUNCTION(prompt, reply) -> float")
    parser.add_argument("--kind", choices=KINDS, default="pairs")
    parser.add_argument("--labels", default="10,36,100")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    labels = sorted(int(n) for n in args.labels.split(","))
    load_utility(args.utility)  # a typo is told now, not in every worker
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    job = (args.utility, args.kind, labels)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(run_seed, *job, s, args.model, args.quantization) for s in seeds]
        records = [record for run in runs for record in run.result()]
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))
    for target in labels:
        part = [r for r in records if r["labels"] == target]
        wins = ", ".join(f"{r['win_rate']:.2f}" for r in part)
        mean = float(np.mean([r["win_rate"] for r in part]))
        kl = float(np.mean([r["kl"] for r in part]))
        print(f"{target:5d} labels: win rate {mean:.3f} ({wins}), KL {kl:.2f} nats")


if __name__ == "__main__":
    main()
