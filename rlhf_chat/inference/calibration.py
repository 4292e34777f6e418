"""Measurements on the loaded model: rows per training slice, seconds per token.

memory_estimate.py predicts memory before anything is loaded; self_test.py checks correctness.
"""

from __future__ import annotations

import time

import torch

from rlhf_chat.inference import memory
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.lease import SLICE_SECONDS
from rlhf_chat.inference.memory_estimate import Workload
from rlhf_chat.inference.model import Model

MIN_ROWS, MAX_ROWS = 4, 32  # of a training slice, where memory allows
MAX_SLICE_RATIO = 1.5  # seconds of a slice / seconds of a single row, where rows are cheap
DEMO_TOKENS = 96  # prompt + response of the bundled model
DECODE_ROWS = 8  # batch size of the timed decode steps: the most drafts that Compare generates
DECODE_STEPS = 24
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
        total = model.forward(model.policy, prompts, responses).logprobs.sum()
        grads = torch.autograd.grad(total, params, allow_unused=True)
        parts = [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(params, grads, strict=True)
        ]
    return torch.cat(parts).double().cpu()


def calibrate(model: Model, tokens: int = 0) -> None:
    """Sets `rows_per_slice`, `checkpointing`, `train_token_seconds` and `step_seconds` of `model`.

    `rows_per_slice` is the largest power of two that fits into memory beside chat and into
    max(SLICE_SECONDS, MAX_SLICE_RATIO * seconds of one row): where kernel launches dominate,
    further rows cost almost nothing. `tokens` is the assumed length of prompt + response; 0 takes
    that of the default workload.
    """
    prompts, responses = probe_rows(model)
    workload = Workload()
    half = (tokens or (DEMO_TOKENS if model.is_demo else workload.prompt + workload.response)) // 2
    prompt, response = (prompts[0] * half)[:half], (responses[0] * half)[:half]

    def step(rows: int) -> None:
        gradient(model, [prompt] * rows, [response] * rows)

    def peak_bytes(rows: int, checkpointing: bool) -> int:
        model.checkpointing = checkpointing
        return memory.peak_bytes(lambda: step(rows), model.device)

    def fastest(rows: int) -> float:
        seconds: list[float] = []
        while len(seconds) < 3 and sum(seconds) < MAX_TIMING_SECONDS:
            started = _clock(model.device)
            step(rows)
            seconds.append(_clock(model.device) - started)
        return min(seconds)

    on_gpu = model.device.type == "cuda"
    available = memory.free(model.device) - (memory.CHAT_RESERVE if on_gpu else 0)
    fits, model.checkpointing = memory.rows_that_fit(peak_bytes, available, MAX_ROWS)
    rows, max_seconds = 1, max(SLICE_SECONDS, MAX_SLICE_RATIO * fastest(1))
    while 2 * rows <= fits and fastest(2 * rows) <= max_seconds:
        rows *= 2
    min_rows = MIN_ROWS if on_gpu or model.is_demo else 1  # a reply may wait for a whole slice
    model.rows_per_slice = min(max(rows, min_rows), fits)
    model.train_token_seconds = fastest(model.rows_per_slice) / (model.rows_per_slice * 2 * half)
    model.step_seconds = decode_step_seconds(model)


def decode_step_seconds(model: Model) -> float:
    """Seconds of one decode step of DECODE_ROWS replies. The fastest of DECODE_STEPS, which leaves
    out the effect of other processes; 0.0 if nothing was decoded."""
    prompts, _ = probe_rows(model)
    stream = model.stream(
        model.live, prompts[:1] * DECODE_ROWS, Sampling(max_new_tokens=DECODE_STEPS), seed=0
    )
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
