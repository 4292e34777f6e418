"""How well does the app learn a hidden preference from few, noisy votes?

A simulated rater votes through the same calls as the screens, the app's own trainer learns, and the
hidden preference itself measures the result on prompts nobody trained on: the true win rate of the
live version against the base (ties count half). Votes are Bradley-Terry noisy, scaled so that one
vote agrees with the truth about 80% of the time. Settings are the product's own.

    python -m bench.learning_curve --utility rlhf_chat/simulation/tastes/lists.py:utility \\
        --json out.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from bench.generations import (
    GeneratedReply,
    degenerate,
    held_out_prompts,
    kl_of,
    speak,
    unfinished,
    well_formed,
    win_rate,
)
from bench.kept_abilities import kept_abilities
from bench.simulated_rater import Person, Utility, load_utility, noise_scale
from rlhf_chat.errors import from_stored
from rlhf_chat.training.round_plan import MINUTES, config_for

EVALUATION_PROMPTS = 250
SECONDS = {"pairs": 6, "thumbs": 3, "scores": 5, "rankings": 12, "edits": 20}  # of a person's time
KINDS = (*SECONDS, "mixed")
DEMO_JOBS = min(2, os.cpu_count() or 1)  # a real model takes all cores by itself
RANKED = 4  # drafts in a ranking


# ---------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Settings:
    """What one run is about, beside the seed."""

    utility: str
    kind: str
    labels: tuple[int, ...]
    model: str
    quantization: str
    choose: str = "active"
    flip: float = 0.0
    best_of: int = 1
    raters: int = 1  # people of one taste who answer in turns
    contrary: int = 0  # how many of them, the last ones, turn every answer round
    algorithm: str = ""  # "" is the product's own
    prompts: Path | None = None  # of the evaluation, one per line; None: held_out_prompts
    minutes: float = MINUTES  # of a round with a real model

    @property
    def threads(self) -> int:
        """Of one process."""
        return 1 if self.model == "demo" else min(2, os.cpu_count() or 1)


def people(settings: Settings, utility: Utility, values, differences, seed: int) -> list[Person]:
    """Whoever answers: one taste, each with noise of their own."""
    scale, middle = noise_scale(differences), float(np.mean(values))
    found = []
    for number in range(settings.raters):
        turned = number >= settings.raters - settings.contrary
        rng = random.Random(seed if number == 0 else f"{seed} {number}")
        name = "me" if number == 0 else f"rater {number + 1}"
        found.append(Person(utility, scale, middle, rng, 1.0 if turned else settings.flip, name))
    return found


def run_seed(settings: Settings, seed: int) -> list[dict]:
    """One person, one seed: votes, rounds, measurements at each label count."""
    import torch

    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(settings.threads)
    from rlhf_chat.chat.chat import Chat
    from rlhf_chat.chat.compare import Compare
    from rlhf_chat.chat.raters import Raters
    from rlhf_chat.db import Store
    from rlhf_chat.inference.calibration import calibrate
    from rlhf_chat.inference.model import Model
    from rlhf_chat.inference.self_test import self_test
    from rlhf_chat.training.worker import TrainingWorker
    from rlhf_chat.versions.adapter_store import AdapterStore

    utility = load_utility(settings.utility)
    model = Model.load(settings.model, quantization=settings.quantization)
    self_test(model)
    calibrate(model)
    config = config_for(model, settings.minutes)
    limit = config.ppo.max_new_tokens
    evaluation = held_out_prompts(model, EVALUATION_PROMPTS, settings.prompts)
    base, other = (speak(model, model.base_view(), evaluation, s, limit) for s in (5000, 6000))
    values, others = (
        [utility(p, t) for p, t in zip(evaluation, spoken.texts, strict=True)]
        for spoken in (base, other)
    )
    persons = people(settings, utility, values, np.subtract(values, others), seed)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "feedback.db")
        try:
            config = replace(config, algorithm=settings.algorithm or config.algorithm)
            adapters = AdapterStore(Path(folder) / "adapters")
            worker = TrainingWorker(store, model, adapters, config, seed=seed)
            worker.recover()
            worker.scorer.warm_up()
            chat = Chat(store, model, load_view=worker.versions.view, scorer=worker.scorer)
            compare = Compare(chat)
            compare.drafts.active = settings.choose == "active"
            chat._rng = compare.drafts.rng = random.Random(seed)

            before = None if model.is_demo else kept_abilities(model, model.base_view())

            def measure() -> dict:
                model.set_policy(worker.versions.state(model.live.version))
                record = measured(
                    model, utility, evaluation, base, seed, limit, worker.scorer, settings
                )
                if before is None:
                    return record
                after = kept_abilities(model, model.live)
                return record | {"kept": {"base": before._asdict(), "live": after._asdict()}}

            raters = Raters(store, worker.scorer)
            return list(_rounds(settings, seed, compare, persons, raters, worker, measure))
        finally:
            store.close()


def _rounds(
    settings: Settings,
    seed: int,
    compare,
    persons: Sequence[Person],
    raters,
    worker,
    measure: Callable[[], dict],
) -> Iterator[dict]:
    """Answers up to each label count, then a round and a record of what is served after it."""
    labels, spent, started = 0, 0.0, time.monotonic()
    tiers = {"passed": 0, "provisional": 0, "discarded": 0}
    for target in settings.labels:
        while labels < target:
            person = persons[labels % len(persons)]
            seconds = rate_one(compare, person, kind_of(settings.kind, labels))
            labels, spent = labels + (seconds > 0), spent + seconds
            if worker.scorer.stale:
                worker.scorer.refresh()  # as the app does while nobody waits
        aside = set_aside_suspects(raters)
        worker.idle_tasks.write_ahead(lambda: None)  # likewise
        round_started = time.monotonic()
        status = worker.run_round("ratings")
        round_seconds = time.monotonic() - round_started
        newest = worker.history.rounds(1)[0]
        metrics = worker.history.metrics(newest.id)
        tier = (newest.verdict or {}).get("tier", status)
        tiers[tier] = tiers.get(tier, 0) + 1
        seconds = time.monotonic() - started
        run = f"{settings.utility} seed {seed} labels {target}"
        print(f"{run}: {from_stored(newest.reason)}", file=sys.stderr)
        record = measure()
        print(f"{run}: win rate {record['win_rate']:.3f}, KL {record['kl']:.2f}", file=sys.stderr)
        yield (
            record
            | {"labels": target, "seed": seed, "seconds": round(seconds, 1), **tiers}
            | {"kind": settings.kind, "choose": settings.choose, "flip": settings.flip}
            | {"best_of": settings.best_of, "human_seconds": round(spent)}
            | {"raters": settings.raters, "set_aside": aside}
            | {
                "algorithm": worker.config.algorithm,
                "round_seconds": round(round_seconds, 1),
                "updates": len(metrics.get("loss", [])),
                "by_update": {
                    name: [float(f"{value:.3g}") for _, value in metrics.get(name, [])]
                    for name in ("kl", "score")
                },
                "tokens": worker.config.ppo.max_new_tokens,
                "peak_mb": peak_megabytes(),
            }
        )


def peak_megabytes() -> int:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak // 1000**2 if sys.platform == "darwin" else peak * 1024 // 1000**2


def set_aside_suspects(raters) -> list[str]:
    """Everybody the app would propose to set aside, one after the other, set aside; their names."""
    names = []
    while found := [rater.name for rater in raters.table() if rater.suspect and rater.counts]:
        names += found
        raters.set_aside(found[0])
    return names


def kind_of(kind: str, number: int) -> str:
    """The kind of the next answer; "mixed" takes them in turns."""
    return list(SECONDS)[number % len(SECONDS)] if kind == "mixed" else kind


def rate_one(compare, person: Person, kind: str) -> float:
    """One answer through the app's own calls; how many seconds a person would have needed for it, 0
    if there was nothing to answer."""
    chat, prompt, rater = compare.chat, compare.suggest_prompt(), person.name
    if kind in ("pairs", "rankings"):
        drafts = compare.repeat_pair(rater) if kind == "pairs" else None
        if drafts is None:
            # its last digit says which draft is on the left: by chance, no run would come twice
            set_id = f"{compare.drafts.rng.getrandbits(128):032x}"
            count = 2 if kind == "pairs" else RANKED
            *_, drafts = compare.write(prompt, count, event_id=set_id)
        if not drafts.votable:
            return 0
        if kind == "pairs":
            vote = person.vote(drafts.prompt, *drafts.texts)
            compare.vote(drafts.set_id, vote, rater=rater)
        else:
            compare.rank(drafts.set_id, person.places(prompt, drafts.texts), rater=rater)
        return SECONDS[kind]
    *_, reply = chat.reply(chat.conversations.new(), prompt)
    if kind == "thumbs":
        chat.ratings.rate(reply.message_id, person.thumb(prompt, reply.text), rater=rater)
    elif kind == "scores":
        chat.ratings.score(reply.message_id, person.stars(prompt, reply.text), rater=rater)
    else:
        *_, drafts = compare.write(prompt, 2)
        text = person.edited(prompt, reply.text, drafts.texts)
        if text.strip() == reply.text.strip():
            return 0  # liked as it is
        chat.ratings.correct(reply.message_id, text, rater=rater)
    return SECONDS[kind]


def measured(
    model,
    utility: Utility,
    prompts: list[str],
    base: GeneratedReply,
    seed: int,
    limit: int,
    scorer=None,
    settings: Settings | None = None,
) -> dict:
    from rlhf_chat.reward.text_features import distinct

    drafts = settings.best_of if settings else 1
    live = speak(model, model.live, prompts, 7000 + seed, limit, scorer, drafts)
    win, low, high = win_rate(utility, prompts, live, base)
    return {
        "win_rate": round(win, 4),
        "ci_low": round(low, 4),
        "ci_high": round(high, 4),
        "kl": round(kl_of(model, model.policy, prompts, live), 3),
        "degenerate": round(degenerate(live), 4),
        "degenerate_base": round(degenerate(base), 4),
        "unfinished": round(unfinished(live), 4),
        "unfinished_base": round(unfinished(base), 4),
        "distinct": round(distinct(live.texts), 4),
        "distinct_base": round(distinct(base.texts), 4),
        "well_formed": well_formed(model, prompts, live),
        "well_formed_base": well_formed(model, prompts, base),
    }


def kept_in_words(records: Sequence[dict]) -> str:
    """What the models of these records could do before and after, as means."""

    def mean(which: str, name: str) -> float:
        return float(np.mean([r["kept"][which][name] for r in records]))

    right, followed, loss = ("right", "followed", "median_loss")
    return (
        f"right answers {mean('base', right):.0%} -> {mean('live', right):.0%}, instructions "
        f"{mean('base', followed):.0%} -> {mean('live', followed):.0%}, median loss "
        f"{mean('base', loss):.3f} -> {mean('live', loss):.3f}, degenerate "
        f"{np.mean([r['degenerate_base'] for r in records]):.0%} -> "
        f"{np.mean([r['degenerate'] for r in records]):.0%}"
    )


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
    parser.add_argument("--jobs", type=int, default=0, help="processes")
    parser.add_argument("--choose", choices=("active", "random"), default="active", help="of pairs")
    parser.add_argument("--flip", type=float, default=0.0, help="share of answers turned round")
    parser.add_argument("--best-of", type=int, default=1, help="drafts of each measured reply")
    parser.add_argument("--raters", type=int, default=1, help="people who answer in turns")
    parser.add_argument("--contrary", type=int, default=0, help="of them, who turn answers round")
    parser.add_argument("--algorithm", choices=("ppo", "rloo"), default="", help="of the round")
    parser.add_argument("--prompts", type=Path, help="evaluation prompts, one per line")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of a real model's round")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.jobs = args.jobs or (DEMO_JOBS if args.model == "demo" else 1)
    labels = sorted(int(n) for n in args.labels.split(","))
    load_utility(args.utility)  # so that a typo fails now and not in every process
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    settings = Settings(
        args.utility,
        args.kind,
        tuple(labels),
        args.model,
        args.quantization,
        args.choose,
        args.flip,
        args.best_of,
        args.raters,
        args.contrary,
        args.algorithm,
        args.prompts,
        args.minutes,
    )
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(run_seed, settings, s) for s in seeds]
        records = [record for run in runs for record in run.result()]
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))
    for target in labels:
        part = [r for r in records if r["labels"] == target]
        wins = ", ".join(f"{r['win_rate']:.2f}" for r in part)
        mean = float(np.mean([r["win_rate"] for r in part]))
        kl = float(np.mean([r["kl"] for r in part]))
        spent = float(np.mean([r["human_seconds"] for r in part]))
        print(
            f"{target:5d} labels: win rate {mean:.3f} ({wins}), KL {kl:.2f} nats, "
            f"{spent:.0f} s of a person's time"
        )
        if all("kept" in r for r in part):
            print("      " + kept_in_words(part))
    each = ", ".join(f"{seconds} s for one of {kind}" for kind, seconds in SECONDS.items())
    print(f"A person's time is taken to be {each}.")


if __name__ == "__main__":
    main()
