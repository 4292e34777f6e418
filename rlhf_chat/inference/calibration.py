"""Measurements on the loaded model: rows of a micro-batch, seconds per token.

memory_estimate.py predicts memory before anything is loaded; self_test.py checks correctness.
"""

from __future__ import annotations

import time
from typing import Protocol

import torch

from rlhf_chat.inference import forward_pass, memory
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.lease import SLICE_SECONDS
from rlhf_chat.inference.memory_estimate import Workload
from rlhf_chat.inference.model import Model

MIN_ROWS, MAX_ROWS = 4, 32  # of a micro-batch on a GPU, which is one slice, where memory allows
MAX_SLICE_RATIO = 1.5  # seconds of a slice / seconds of a single row, where rows are cheap
# On a CPU, where a micro-batch pauses between its layers. More rows take more memory, and no less
# time: an update with the pocket model 36, 30, 25, 26, 24 s for 1, 2, 4, 8, 16 (docs/LOG.md).
CPU_ROWS = 4
SHORT_TOKENS = 96  # prompt + response of the bundled model, and of a round on a CPU
DECODE_ROWS = 8  # batch size of the timed decode steps: the most drafts that Compare generates
DECODE_STEPS = 24
ROLLOUT_ROWS, ROLLOUT_STEPS = 64, 6  # as many replies as an update samples
MAX_TIMING_SECONDS = 1.0  # repeat a timing until it has taken this long, at most three times


def probe_rows(model: Model) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of two short prompts and responses of unequal length."""
    prompt = model.encode([{"role": "user", "content": "Hello, how are you?"}])
    response = model.tokenizer.encode("I am well, thank you.", add_special_tokens=False)
    return [prompt, prompt], [response, response[:3]]


def gradient(model: Model, prompts: list[list[int]], responses: list[list[int]]) -> torch.Tensor:
    """d(sum of response log-probs) / d(policy parameters), flattened: (P,) float64 on the CPU.
    Reads and writes no `.grad`."""
    params = model.policy_parameters()
    with model.lease.slice(), torch.enable_grad():
        total = forward_pass.forward(model, model.policy, prompts, responses).logprobs.sum()
        grads = torch.autograd.grad(total, params, allow_unused=True)
        parts = [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(params, grads, strict=True)
        ]
    return torch.cat(parts).double().cpu()


def calibrate(model: Model, tokens: int = 0) -> None:
    """Sets `microbatch_rows`, `checkpointing` and the measured speeds of `model`.

    `tokens` is the assumed length of prompt + response; 0 takes that of the usual workload. On a
    GPU a micro-batch has the largest power of two of rows that fits into memory beside chat and
    into max(SLICE_SECONDS, MAX_SLICE_RATIO * seconds of one row): where kernel launches dominate,
    further rows cost almost nothing.
    """
    on_gpu = model.device.type == "cuda"
    workload = Workload()
    usual = workload.prompt + workload.response if on_gpu and not model.is_demo else SHORT_TOKENS
    steps = TimedSteps(model, (tokens or usual) // 2)
    available = memory.free(model.device) - (memory.CHAT_RESERVE if on_gpu else 0)
    fits, model.checkpointing = memory.rows_that_fit(steps.peak_bytes, available, MAX_ROWS)
    rows = rows_in_time(steps, fits) if on_gpu else CPU_ROWS
    model.microbatch_rows = min(rows, fits)
    model.train_token_seconds = steps.seconds_per_token(model.microbatch_rows)
    model.step_seconds = decode_step_seconds(model)
    # On a GPU a step costs alike, whatever the rows.
    step = model.step_seconds if on_gpu else decode_step_seconds(model, ROLLOUT_ROWS, ROLLOUT_STEPS)
    model.sampled_token_seconds = step / ROLLOUT_ROWS


class TimedRows(Protocol):
    def seconds(self, rows: int) -> float:
        """Of one training step with so many rows."""


class TimedSteps:
    """Training steps over rows of `half` prompt and `half` response tokens, to be timed."""

    def __init__(self, model: Model, half: int) -> None:
        prompts, responses = probe_rows(model)
        self.model, self.half = model, half
        self.prompt, self.response = (prompts[0] * half)[:half], (responses[0] * half)[:half]

    def run(self, rows: int) -> None:
        gradient(self.model, [self.prompt] * rows, [self.response] * rows)

    def peak_bytes(self, rows: int, checkpointing: bool) -> int:
        self.model.checkpointing = checkpointing
        return memory.peak_bytes(lambda: self.run(rows), self.model.device)

    def seconds(self, rows: int) -> float:
        """The fastest of up to three."""
        seconds: list[float] = []
        while len(seconds) < 3 and sum(seconds) < MAX_TIMING_SECONDS:
            started = _clock(self.model.device)
            self.run(rows)
            seconds.append(_clock(self.model.device) - started)
        return min(seconds)

    def seconds_per_token(self, rows: int) -> float:
        return self.seconds(rows) / (rows * 2 * self.half)


def rows_in_time(steps: TimedRows, fits: int) -> int:
    """Of a micro-batch on a GPU; `fits`: as many as memory allows."""
    rows, max_seconds = 1, max(SLICE_SECONDS, MAX_SLICE_RATIO * steps.seconds(1))
    while 2 * rows <= fits and steps.seconds(2 * rows) <= max_seconds:
        rows *= 2
    return max(rows, MIN_ROWS)


def decode_step_seconds(model: Model, rows: int = DECODE_ROWS, steps: int = DECODE_STEPS) -> float:
    """Seconds of one decode step of so many replies. The fastest, which leaves out the effect of
    other processes; 0.0 if nothing was decoded."""
    prompts, _ = probe_rows(model)
    stream = model.stream(model.live, prompts[:1] * rows, Sampling(max_new_tokens=steps), seed=0)
    best = float("inf")
    next(stream, None)  # prefill
    started, length = time.perf_counter(), 1
    for responses in stream:
        now, longest = time.perf_counter(), max(len(r.ids) for r in responses)
        best = min(best, (now - started) / max(longest - length, 1))
        started, length = now, longest
    return best if best < float("inf") else 0.0


def _clock(device: torch.device) -> float:
    """Seconds: wall time after synchronising on a GPU, else CPU time of this thread, which other
    processes do not lengthen."""
    if device.type != "cuda":
        return time.thread_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
