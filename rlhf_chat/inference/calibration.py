"""A loaded model tried out: its gradient on a few rows, and how many rows fit one training slice.

Left out: whether the gradient is right (self_test.py), predictions before loading
(memory_estimate.py).
"""

from __future__ import annotations

import time

import torch

from rlhf_chat.inference import memory
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.lease import SLICE_SECONDS
from rlhf_chat.inference.memory_estimate import Workload
from rlhf_chat.inference.model import Model

LEAST_ROWS, MOST_ROWS = 4, 32  # of a training slice, where memory allows
HARDLY_MORE = 1.5  # times what a single row takes
DEMO_TOKENS = 96  # prompt and response of the bundled model
ROWS_AT_ONCE = 8  # replies of the decoding step that is timed: as many as Compare drafts
STEPS_TRIED = 24
ENOUGH_SECONDS = 1.0  # of trials: what takes longer needs no repeating


def probe_rows(model: Model) -> tuple[list[list[int]], list[list[int]]]:
    """Two short prompts and responses to try things on."""
    prompt = model.encode([{"role": "user", "content": "Hello, how are you?"}])
    response = model.tokenizer.encode("I am well, thank you.", add_special_tokens=False)
    return [prompt, prompt], [response, response[:3]]


def gradient(model: Model, prompts: list[list[int]], responses: list[list[int]]) -> torch.Tensor:
    """Of the summed log-probs, for all policy parameters in one row, float64 on the CPU. None is
    left behind, and none that was there before is counted."""
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
    """Measures how many training rows fit one slice, and memory beside chat: a power of two,
    so that it is stable. `tokens` is how long prompt and response are taken to be together; 0: as
    long as what is practised on.

    No slice is shorter than a single row takes, and where launching kernels takes the time, more
    rows are free: a slice may last half as long again as one row does.
    """
    prompts, responses = probe_rows(model)
    load = Workload()
    half = (tokens or (DEMO_TOKENS if model.is_demo else load.prompt + load.response)) // 2
    prompt, response = (prompts[0] * half)[:half], (responses[0] * half)[:half]

    def step(rows: int) -> None:
        gradient(model, [prompt] * rows, [response] * rows)

    def taken(rows: int, checkpointing: bool) -> int:
        model.checkpointing = checkpointing
        return memory.taken_by(lambda: step(rows), model.device)

    def fastest(rows: int) -> float:
        seconds: list[float] = []
        while len(seconds) < 3 and sum(seconds) < ENOUGH_SECONDS:
            started = _clock(model.device)
            step(rows)
            seconds.append(_clock(model.device) - started)
        return min(seconds)

    on_card = model.device.type == "cuda"
    room = memory.free(model.device) - (memory.CHAT_RESERVE if on_card else 0)
    fits, model.checkpointing = memory.rows_that_fit(taken, room, MOST_ROWS)
    rows, aim = 1, max(SLICE_SECONDS, HARDLY_MORE * fastest(1))
    while 2 * rows <= fits and fastest(2 * rows) <= aim:
        rows *= 2
    least = LEAST_ROWS if on_card or model.is_demo else 1  # chat waits for a slice
    model.rows_per_slice = min(max(rows, least), fits)
    model.train_token_seconds = fastest(model.rows_per_slice) / (model.rows_per_slice * 2 * half)
    model.step_seconds = decoding_step(model)


def decoding_step(model: Model) -> float:
    """Seconds of compute of one decoding step of ROWS_AT_ONCE replies: the fastest of a few, so
    that what else the machine does has no part in it."""
    prompts, _ = probe_rows(model)
    stream = model.stream(
        model.live, prompts[:1] * ROWS_AT_ONCE, Sampling(max_new_tokens=STEPS_TRIED), seed=0
    )
    best = float("inf")
    next(stream, None)  # reads the prompts
    started, length = time.perf_counter(), 1
    for responses in stream:
        now, longest = time.perf_counter(), max(len(r.ids) for r in responses)
        best = min(best, (now - started) / max(longest - length, 1))
        started, length = now, longest
    return best if best < float("inf") else 0.0


def _clock(device: torch.device) -> float:
    """Seconds of compute; on a CPU our own, because what else it is doing is not our size."""
    if device.type != "cuda":
        return time.thread_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()
