"""Time of one PPO update, compared with TRL's PPOTrainer doing the same work in the same run.

An update is 32 rollouts and 4 PPO epochs: sampling, reference, reward, values, 8 optimiser steps.
Both sides are warmed up and alternate with the same number of threads; the median is reported, in
seconds of wall time and of processor time (which means more on a busy machine).

    python -m bench.ppo_round --trl-python /path/to/trl-environment/bin/python

TRL removed PPO after 1.12.0, so it needs an environment of its own: trl==1.12.0 and datasets beside
what requirements.txt names. Without it only our side is timed.

The same: model, prompts, end token, limit of 48 tokens, temperature 1, LoRA on all linear layers,
4-bit or float32 weights, reward (a random linear layer on the frozen base's last state), penalties,
KL coefficient, GAE, clipping, AdamW, 2 optimiser steps an epoch on 16 rows each. The learning rate
is tiny on both sides, which costs no less time and keeps the responses as long as the base's.

Not the same: the random numbers, hence the sampled tokens (counts are printed). Our values and
scores reuse states that other passes compute; TRL runs the trunk again for each, as its interface
asks. Ours clips gradients, has a pass for old log-probs, and splits minibatches as the app does.
Loading is not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from rlhf_chat.demo_model import corpus
from rlhf_chat.inference.calibration import calibrate
from rlhf_chat.inference.loading import DEMO
from rlhf_chat.inference.model import Model
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.ppo_trainer import PPOTrainer

SEED, KL_COEF = 11, 0.05
CONFIG = PPOConfig(
    rollouts=32,
    ppo_epochs=4,
    minibatches=2,
    learning_rate=1e-6,
    value_learning_rate=1e-6,
    warmup_steps=0,
    lam=0.95,
    max_new_tokens=48,
    fluency_coef=0.0,  # TRL has none
    target_approxkl=math.inf,  # all epochs, always
    max_clipfrac=1.0,
)

Record = dict[str, Any]


class Ours:
    """Runs one update of ours at a time."""

    def __init__(self, model: Model, prompts: list[list[int]], head: np.ndarray) -> None:
        model.set_policy(model.base_state())
        self.prompts, self.head, self.seed = prompts, head, SEED
        # initial_kl_coef divides by sqrt(2 * target): this makes it KL_COEF
        self.ppo_trainer = PPOTrainer(
            model, CONFIG, target=1.0, score_std=KL_COEF * math.sqrt(2), floor=-math.inf
        )

    def score(self, numbers: Any, responses: Any, pooled: torch.Tensor) -> np.ndarray:
        return np.split(pooled.numpy(), 4, axis=1)[2] @ self.head  # last token, final layer

    def update(self) -> Record:
        self.seed += 1
        steps, clock, cpu = self.ppo_trainer.steps, time.perf_counter(), time.process_time()
        rollouts, stats = self.ppo_trainer.collect(
            self.prompts, range(len(self.prompts)), self.score, self.seed
        )
        self.ppo_trainer.update(rollouts, self.seed)
        return {
            "seconds": time.perf_counter() - clock,
            "cpu_seconds": time.process_time() - cpu,
            "tokens": int(rollouts.mask.sum()),
            "steps": self.ppo_trainer.steps - steps,
            "score": stats["score"],
        }


class Theirs:
    """Runs one update of TRL at a time, in a child process. Raises SystemExit when it dies."""

    def __init__(self, python: str, job: Record) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the child)
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("ppo_round_trl.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.say(json.dumps(job))

    def say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # reading its answer will tell
            print(line, file=self.process.stdin, flush=True)

    def update(self) -> Record:
        assert self.process.stdout
        self.say("go")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise SystemExit("The TRL side stopped:\n" + self.errors.read()[-3000:])
        return json.loads(line)


def job_for(model: Model, prompts: list[list[int]], head: np.ndarray, args: Any) -> Record:
    """The child's settings, as JSON."""
    r, alpha = model.adapter.r, model.adapter.lora_alpha
    return {
        "model": str(DEMO),
        "quantization": model.quantization,
        "threads": args.threads,
        "seed": SEED,
        "updates": args.repeats + 1,
        "prompts": prompts,
        "head": head.tolist(),
        "lora": {"r": r, "lora_alpha": alpha, "lora_dropout": 0.0},
        "settings": {**dataclasses.asdict(CONFIG), "kl_coef": KL_COEF},
    }


def compare(quantization: str, args: Any) -> Record:
    """Medians over alternating updates of both sides."""
    model = Model.load("demo", quantization=quantization)
    calibrate(model)
    # No larger than a minibatch: the number of optimiser steps must not depend on the machine.
    model.microbatch_rows = min(args.rows or model.microbatch_rows, 32 // CONFIG.minibatches)
    texts = corpus.prompts("train", 32, SEED)
    prompts = [model.encode([{"role": "user", "content": text}]) for text in texts]
    head = np.random.default_rng(SEED).normal(0, 0.06, model.config.hidden_size)
    sides: dict[str, Ours | Theirs] = {"ours": Ours(model, prompts, head)}
    if args.trl_python:
        sides["trl"] = Theirs(args.trl_python, job_for(model, prompts, head, args))
    for side in sides.values():
        side.update()  # warm-up: lazy imports, first allocations, the child's loading
    runs = [{name: side.update() for name, side in sides.items()} for _ in range(args.repeats)]
    if isinstance(theirs := sides.get("trl"), Theirs):
        theirs.process.communicate()  # it leaves by itself after its last update
    record: Record = {"quantization": quantization, "threads": args.threads, "runs": runs}
    record["micro_batch"] = model.microbatch_rows
    for key in ("seconds", "cpu_seconds", "tokens", "steps", "score"):
        record[key] = {name: statistics.median(run[name][key] for run in runs) for name in sides}
    return record


def told(record: Record) -> str:
    seconds, cpu, rows = record["seconds"], record["cpu_seconds"], record["micro_batch"]
    lines = [f"{record['quantization']}, {record['threads']} thread(s), micro-batches of {rows}"]
    lines += [
        f"  {name:4s} {seconds[name]:6.2f} s, {cpu[name]:6.2f} s of processor time, "
        f"{record['steps'][name]:.0f} optimiser steps, {record['tokens'][name]:.0f} tokens, "
        f"score {record['score'][name]:+.2f}"
        for name in seconds
    ]
    end = "  TRL was not timed: give --trl-python"
    if "trl" in seconds:
        ratio, by_cpu = seconds["trl"] / seconds["ours"], cpu["trl"] / cpu["ours"]
        end = f"  TRL takes {ratio:.2f} times as long ({by_cpu:.2f} by processor time)"
    return "\n".join([*lines, end])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trl-python", help="interpreter of an environment with trl==1.12.0")
    parser.add_argument("--quantization", choices=("nf4", "none", "both"), default="both")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, help="our micro-batch; default: as the app calibrates")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    records = []
    for kind in ("nf4", "none") if args.quantization == "both" else (args.quantization,):
        records.append(compare(kind, args))
        print(told(records[-1]), flush=True)
        if args.json:
            args.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
