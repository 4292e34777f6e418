"""Memory and speed on a graphics card with models of real shapes, without a download.

Random weights of the presets' shapes are made on the device, quantised layer by layer, and used as
the app uses them: module trees that share weights, gradients, chat, rounds, under memory limits
that stand for cards of 6 to 24 GB. With random weights nothing can be said about quality.

    python -m bench.gpu --json out.json

On a CPU it runs with a toy shape as a smoke test; those figures say nothing about a card.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig

from bench import decode as decode_bench
from bench import random_weights
from rlhf_chat.doctor import preflight
from rlhf_chat.inference import forward_pass, memory, presets
from rlhf_chat.inference.calibration import calibrate
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.memory_estimate import GIB, Workload
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.self_test import self_test
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.ppo_trainer import PPOTrainer

CAPS = (6, 8, 12, 16, 24)  # GB
SHAPES = ("tiny", "small", "good", "large")
Record = dict[str, Any]  # of numbers, for JSON


@contextmanager
def capped(gigabytes: float | None, device: torch.device) -> Iterator[None]:
    """Limits this process to so much of the card's memory."""
    if device.type != "cuda" or gigabytes is None:
        yield
        return
    whole = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(min(gigabytes * GIB / whole, 1.0), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def peak(device: torch.device, work: Callable[[], object]) -> float:
    """Peak memory during `work` in GB, including what was allocated before."""
    if device.type != "cuda":
        work()
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / GIB


def twins(model: Model, tries: int) -> Record:
    """Replies and gradients while the other tree computes, compared with those made alone. Every
    reply prefills its whole prompt: in half precision a shorter prefill rounds differently."""
    prompt = model.encode([{"role": "user", "content": "Tell me about the sea."}])
    limit, response = Sampling(temperature=0.0, max_new_tokens=8), list(range(10, 18))

    def reply() -> list[int]:
        model._prefix_cache.clear()
        *_, (last,) = model.stream(model.live, [prompt], limit, seed=0)
        return list(last.ids)

    def gradient() -> torch.Tensor:
        with model.lease.slice(), torch.enable_grad():
            out = forward_pass.forward(model, model.policy, [prompt] * 2, [response] * 2)
            params = model.policy_parameters()
            grads = torch.autograd.grad(out.logprobs.sum(), params)
        return torch.cat([g.flatten() for g in grads])

    first_reply, slope = reply(), gradient()
    wrong, stop = [0], threading.Event()

    def learn() -> None:
        while not stop.is_set():
            wrong[0] += not bool(torch.allclose(gradient(), slope, rtol=1e-3, atol=1e-5))

    thread = threading.Thread(target=learn)
    thread.start()
    try:
        wrong_replies = sum(reply() != first_reply for _ in range(tries))
    finally:
        stop.set()
        thread.join()
    return {"replies": tries, "wrong_replies": wrong_replies, "wrong_gradients": wrong[0]}


def first_token(model: Model, tries: int) -> list[float]:
    """Seconds from the request to the first token."""
    prompt = model.encode([{"role": "user", "content": "Tell me about the sea." * 4}])
    waits = []
    for i in range(tries):
        started = time.perf_counter()
        stream = model.stream(model.live, [prompt], Sampling(max_new_tokens=4), seed=i)
        next(stream)
        waits.append(time.perf_counter() - started)
        stream.close()
    return waits


def percentiles(seconds: list[float]) -> Record:
    ordered = sorted(seconds)
    at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {k: ordered[min(int(share * len(ordered)), len(ordered) - 1)] for k, share in at.items()}


def learner_for(
    model: Model, tokens: int, rollouts: int, epochs: int = 2
) -> tuple[PPOTrainer, list[list[int]]]:
    config = PPOConfig(
        rollouts=rollouts,
        max_new_tokens=tokens,
        ppo_epochs=epochs,
        target_approxkl=1e9,  # never the end of an update
        max_clipfrac=1.0,
    )
    ppo_trainer = PPOTrainer(model, config, target=1.0, score_std=1.0, floor=-9.0)
    prompts = decode_bench.prompts_for(model, rollouts // config.group)
    return ppo_trainer, [p for p in prompts for _ in range(config.group)]


class Enough(Exception):
    """Raised to end an update early."""


def update(
    ppo_trainer: PPOTrainer,
    prompts: list[list[int]],
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> Record:
    """Times of one round's update, by part."""
    model, ends = ppo_trainer.model, ppo_trainer.model.end_ids
    model.end_ids = frozenset()  # every response has its full length
    try:
        started = decode_bench.synchronised(model.device)
        rollouts, _ = ppo_trainer.collect(
            prompts, range(len(prompts)), lambda n, r, p: np.arange(len(r)) % 3.0, seed, check
        )
        collected = decode_bench.synchronised(model.device)
        ppo_trainer.update(rollouts, seed, check)
        ended = decode_bench.synchronised(model.device)
    finally:
        model.end_ids = ends
    return {"collect": collected - started, "update": ended - collected, "all": ended - started}


def waiting(model: Model, tries: int, tokens: int, rollouts: int) -> Record:
    """Time to the first token: alone, and while updates run one after the other."""
    first_token(model, 2)
    idle = first_token(model, tries)
    ppo_trainer, prompts = learner_for(model, tokens, rollouts)
    stop = threading.Event()
    model.lease.longest_slice = 0.0

    def check() -> None:
        if stop.is_set():
            raise Enough

    def run_ppo() -> None:
        seed = 0
        with suppress(Enough):
            while True:
                update(ppo_trainer, prompts, seed, check)
                seed += 1

    thread = threading.Thread(target=run_ppo)
    thread.start()
    try:
        busy = []
        for _ in range(tries):
            time.sleep(0.2)
            busy += first_token(model, 1)
    finally:
        stop.set()
        thread.join()
    return {
        "idle": percentiles(idle),
        "round": percentiles(busy),
        "longest_slice": model.lease.longest_slice,
    }


def bandwidth(device: torch.device, size: int = 1 << 28) -> float:
    """Memory bandwidth of the device, reading and writing, in GB/s."""
    one = torch.ones(size if device.type == "cuda" else size >> 6, dtype=torch.uint8, device=device)
    other = torch.empty_like(one)
    other.copy_(one)
    seconds = []
    for _ in range(5):
        started = decode_bench.synchronised(device)
        other.copy_(one)
        seconds.append(decode_bench.synchronised(device) - started)
    return 2 * one.numel() / min(seconds) / GIB


def weight_bytes(model: Model) -> int:
    """Bytes read for one token: every weight once."""
    tensors = {p.data_ptr(): p for p in model.reference.tree.parameters()}
    return sum(p.numel() * p.element_size() for p in tensors.values())


def examine(
    name: str,
    config: PreTrainedConfig,
    device: torch.device,
    quick: bool,
    caps: tuple[int, ...],
    save: Callable[[Record], None],
) -> Record:
    """All measurements of one shape, saved one by one, so that an early end loses little."""
    tokens, rollouts, tries = (8, 4, 3) if quick else (128, 32, 12)
    started = time.perf_counter()
    record: Record = {"model": name}

    def told(part: str, value: Any) -> None:
        record[part] = value
        print(f"{name} {time.perf_counter() - started:5.1f} s {part}: {value}", flush=True)
        save(record)

    memory.release_unused(device)
    made: list[Model] = []
    told("peak_load", peak(device, lambda: made.append(random_weights.make(name, config, device))))
    model = made.pop()
    self_test(model)
    told("self_test", "passed")
    decode_bench.ready(model)
    told("caps", under_caps(model, config, caps, tokens, rollouts))
    model.rows_per_batch = rollouts
    calibrate(model, tokens + 32)
    told("micro_batch", model.microbatch_rows)
    told("checkpointing", model.checkpointing)
    ppo_trainer, prompts = learner_for(model, tokens, rollouts)
    parts = [update(ppo_trainer, prompts, i) for i in range(1 if quick else 3)][-2:]
    told("update_seconds", {k: statistics.median(p[k] for p in parts) for k in parts[0]})
    told("decode", [decode_bench.measure(model, 1, tokens // 4, 1)])
    told("first_token", waiting(model, tries, tokens, rollouts))
    told("twins", twins(model, tries))
    record["decode"].append(decode_bench.measure(model, 16, tokens // 4, 1))
    told("decode", record["decode"])
    # what reading the weights alone would allow
    limit = bandwidth(device) * GIB / weight_bytes(model)
    told("bandwidth_tokens_per_second", limit)
    return record


def under_caps(
    model: Model, config: PreTrainedConfig, caps: tuple[int, ...], tokens: int, rollouts: int
) -> list[Record]:
    """Predicted memory for each card size, and measured where the size changes the way to run."""
    records: list[Record] = []
    on_cpu = model.device.type == "cpu"
    for gigabytes in sorted(caps):
        told = preflight(model.name, config, "nf4", gigabytes * GIB, on_cpu=on_cpu)
        record: Record = {"cap": gigabytes, "predicted": told.need.as_dict(), "fits": told.fits}
        record["load"] = asdict(told.load)
        if told.fits and not any(r["load"] == record["load"] and r["fits"] for r in records):
            record |= under_cap(model, told.load, gigabytes, tokens, rollouts)
        records.append(record)
    return records


def under_cap(model: Model, load: Workload, gigabytes: int, tokens: int, rollouts: int) -> Record:
    """Peaks of chat and of one update on a card of this size."""
    device = model.device
    record: Record = {}
    model.rows_per_batch = min(load.rollouts, rollouts)
    model.microbatch_rows, model.checkpointing = load.microbatch, load.checkpointing
    rollouts = min(2 * load.rollouts, rollouts)  # two batches have the peak of ten
    ppo_trainer, prompts = learner_for(model, tokens, rollouts, epochs=1)
    model._prefix_cache.clear()
    memory.release_unused(device)
    with capped(gigabytes, device):
        try:
            record["held"] = peak(device, lambda: None)
            record["peak_chat"] = peak(device, lambda: first_token(model, 1))
            record["peak_round"] = peak(device, lambda: update(ppo_trainer, prompts, 1))
        except torch.OutOfMemoryError:
            record["out_of_memory"] = True
    record |= {"micro_batch": model.microbatch_rows, "checkpointing": model.checkpointing}
    memory.release_unused(device)
    return record


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", nargs="*", default=SHAPES, choices=list(presets.BY_NAME))
    parser.add_argument("--caps", nargs="*", type=int, default=CAPS, help="GB")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    on_card = torch.cuda.is_available()
    device = torch.device("cuda" if on_card else "cpu")
    named = (
        {n: presets.BY_NAME[n].config() for n in args.shapes}
        if on_card
        else {"toy": random_weights.toy()}
    )
    card = torch.cuda.get_device_name(device) if on_card else "none: a toy on the CPU"
    told: Record = {
        "card": card,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "bandwidth_gb_per_second": bandwidth(device),
        "models": [],
    }
    done: list[Record] = []

    def save(record: Record) -> None:  # after each part, so that nothing is lost
        told["models"] = [*done, record]
        if args.json:
            args.json.write_text(json.dumps(told, indent=1) + "\n")

    for name, config in named.items():
        quick = args.quick or not on_card
        try:
            record = examine(name, config, device, quick, tuple(args.caps), save)
        except torch.OutOfMemoryError:
            record = {"model": name, "out_of_memory": True}
            save(record)
        done.append(record)


if __name__ == "__main__":
    main()
