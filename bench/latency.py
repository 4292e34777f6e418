"""Latency of chat: time to the first text of a reply, and the longest pause within it.

Measured idle first, then while rounds run in the worker's thread. Training gives way between two
slices of compute, so a reply may wait for one slice at most; the last line says whether that held.
The settings are the app's own; the browser is not part of it.

    python -m bench.latency --rounds 50 --json out.json
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.db import Store
from rlhf_chat.errors import from_stored
from rlhf_chat.inference.calibration import calibrate
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.self_test import self_test
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.versions.adapter_store import AdapterStore

VOTES = 60  # enough, by a clear rule, that a round has something to learn and takes its full time
PAUSE_SECONDS = (0.1, 0.8)  # between two messages, so that training gets a turn in between


class Timed(NamedTuple):
    """Times of one complete reply."""

    first: float  # seconds to its first text
    pause: float  # the longest between two states of it, in seconds
    tokens_per_second: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest measured value that at least `share` of all values do not exceed."""
    if not values:
        return math.nan
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def summary(replies: Sequence[Timed]) -> dict[str, float]:
    waits, pauses, rates = zip(*replies, strict=True)
    shares = {"p50": 0.50, "p95": 0.95, "max": 1.00}
    told = {name: round(percentile(waits, share), 4) for name, share in shares.items()}
    told |= {f"pause_{n}": round(percentile(pauses, share), 4) for n, share in shares.items()}
    return told | {"replies": len(replies), "tokens_per_second": round(percentile(rates, 0.5), 1)}


def verdict(idle: dict[str, float], busy: dict[str, float], longest_slice: float) -> str:
    extra = busy["p95"] - idle["p95"]
    held = "yes" if extra <= longest_slice else "no"
    return (
        f"p95 during a round is at most one slice above idle: {held} "
        f"({1000 * extra:+.0f} ms; the longest slice was {1000 * longest_slice:.0f} ms)"
    )


def ask(chat: Chat, prompt: str) -> Timed:
    before = started = time.monotonic()
    first, pause = math.nan, 0.0
    for partial in chat.reply(chat.conversations.new(), prompt):
        now = time.monotonic()
        if partial.text and math.isnan(first):
            first = now - started
        elif partial.text:
            pause = max(pause, now - before)
        before = now
    return Timed(first, pause, partial.tokens_per_second)


def ask_many(
    chat: Chat,
    count: int,
    rng: random.Random,
    ready: Callable[[], bool],
    enough: Callable[[], bool] = lambda: True,
) -> list[Timed]:
    """Sends prompts at random moments, `count` of them and more until `enough`; a reply that came
    when not `ready` does not count."""
    replies: list[Timed] = []
    while len(replies) < count or not enough():
        time.sleep(rng.uniform(*PAUSE_SECONDS))
        before = ready()
        reply = ask(chat, Compare(chat).suggest_prompt())
        if before and ready() and not math.isnan(reply.first):
            replies.append(reply)
    return replies


def vote(chat: Chat, count: int) -> None:
    """Ratings by a plain rule, the longer reply is better, so that the round has work to do."""
    done, compare = 0, Compare(chat)
    while done < count:
        *_, pair = compare.write(compare.suggest_prompt())
        if pair.set_id:
            left, right = map(len, pair.texts)
            compare.vote(pair.set_id, "a" if left > right else "b")
            done += 1


def keep_learning(worker: TrainingWorker) -> bool:
    """Whether a round runs; asks for the next one when none does."""
    running = worker.status().round_id is not None
    if not running:
        worker.train_now()
    return running


def measure(
    model: Model, folder: Path, replies: int, votes: int = VOTES, rounds: int = 1, **options
) -> dict:
    """Idle, then until so many rounds have ended. `options` go to the trainer."""
    rng = random.Random(0)
    store = Store(folder / "feedback.db")
    chat = Chat(store, model)
    worker = TrainingWorker(
        store, model, AdapterStore(folder / "adapters"), needed=10**9, **options
    )
    try:
        ask(chat, Compare(chat).suggest_prompt())  # the first one warms up
        idle = summary(ask_many(chat, replies, rng, lambda: True))
        vote(chat, votes)
        worker.start()
        model.lease.longest_slice = 0.0
        busy = summary(
            ask_many(
                chat,
                replies,
                rng,
                lambda: keep_learning(worker),
                lambda: (
                    sum(r.ended_at is not None for r in store.rounds.newest(rounds + 9)) >= rounds
                ),
            )
        )
        longest, reasons = (
            model.lease.longest_slice,
            [str(from_stored(r.reason)) for r in store.rounds.newest()],
        )
    finally:
        worker.close()
        store.close()
    return {
        "idle": idle,
        "round": busy,
        "longest_slice": round(longest, 4),
        "rounds": reasons,
        "verdict": verdict(idle, busy, longest),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--replies", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1, help="at least so many of them")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    model = Model.load(args.model, quantization=args.quantization)
    self_test(model)
    calibrate(model)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(model, Path(folder), args.replies, rounds=args.rounds)
    result |= {"model": args.model}
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))
    for name in ("idle", "round"):
        told = result[name]
        waits = ", ".join(f"{key} {1000 * told[key]:.0f} ms" for key in ("p50", "p95", "max"))
        pauses = ", ".join(f"{k} {1000 * told[f'pause_{k}']:.0f} ms" for k in ("p50", "p95", "max"))
        speed = f"{told['replies']} replies, {told['tokens_per_second']:.0f} tokens/s"
        print(f"{name:5} first token {waits}; longest pause in a reply {pauses}; {speed}")
    print(f"{len(result['rounds'])} rounds")
    print(result["verdict"])
    sys.exit(": no (" in result["verdict"])


if __name__ == "__main__":
    main()
