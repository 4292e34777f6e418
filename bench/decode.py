"""Decoding speed, compared with transformers' `generate` for the same 4-bit model and adapter.

Both sides write the same number of tokens from the same prompts with the same adapter and plain
sampling, alternating, after one warm-up each; the median is reported. "generate" is the base with
its adapter as PEFT makes it; "ours" is the model that the app serves. Loading is not measured.

    python -m bench.decode --json out.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from rlhf_chat.inference.decode_batch import left_pad
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model

QUESTIONS = (
    "Hello!",
    "How are you today?",
    "Tell me about the sea.",
    "What is a good book?",
    "Can you help me with a list?",
    "Where do birds go in winter?",
    "Why is the sky blue?",
    "I am tired.",
)


def adapter(model: Model, size: float = 0.02) -> dict[str, torch.Tensor]:
    """An adapter whose weights are not zero, as after training."""
    generator = torch.Generator().manual_seed(3)
    state = model.base_state()
    for name, value in state.items():
        if "lora_B" in name:
            state[name] = torch.randn(value.shape, generator=generator) * size
    return state


def prompts_for(model: Model, rows: int) -> list[list[int]]:
    texts = [QUESTIONS[i % len(QUESTIONS)] for i in range(rows)]
    return [model.encode([{"role": "user", "content": text}]) for text in texts]


def synchronised(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def theirs(model: Model, rows: int, tokens: int) -> None:
    ids, mask, _ = left_pad(prompts_for(model, rows), model.pad_id, model.device)
    with torch.inference_mode():
        out = model.policy.tree.generate(
            input_ids=ids,
            attention_mask=mask,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=model.pad_id,
        )
    assert out.shape[1] - ids.shape[1] == tokens


def ours(model: Model, rows: int, tokens: int) -> None:
    ends, model.end_ids = model.end_ids, frozenset()  # both sides write the same number of tokens
    try:
        responses = model.sample(
            model.live, prompts_for(model, rows), Sampling(max_new_tokens=tokens), seed=1
        )
    finally:
        model.end_ids = ends
    assert all(len(r.ids) == tokens for r in responses)


def measure(model: Model, rows: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Medians of alternating runs, in tokens a second over all rows."""
    sides: dict[str, Callable[[Model, int, int], None]] = {"ours": ours, "generate": theirs}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for write in sides.values():
        write(model, rows, tokens)
    for _ in range(repeats):
        for name, write in sides.items():
            started = synchronised(model.device)
            write(model, rows, tokens)
            seconds[name].append(synchronised(model.device) - started)
    rates = {name: rows * tokens / statistics.median(s) for name, s in seconds.items()}
    return {"rows": rows, "tokens": tokens, **rates, "ratio": rates["ours"] / rates["generate"]}


def ready(model: Model) -> Model:
    """The same adapter on both sides: in the training tree for `generate`, served for ours."""
    state = adapter(model)
    model.set_policy(state)
    model.serve(model.make_view(1, state))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    model = ready(Model.load(args.model))
    records = [measure(model, rows, args.tokens, args.repeats) for rows in (1, 16)]
    for record in records:
        print(
            f"{record['rows']:2} rows: ours {record['ours']:6.0f} tokens/s, generate "
            f"{record['generate']:6.0f}, {record['ratio']:.2f} times",
            flush=True,
        )
    if args.json:
        told = {"model": args.model, "threads": args.threads, "records": records}
        args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
