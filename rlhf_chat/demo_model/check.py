"""Measures the demo model: grammar, topic and styles of its replies to prompts it never saw.

    python -m rlhf_chat.demo_model.check [--model DIR] [--quantization nf4|none] [--n 500] [--card]

One reply per prompt at temperature 1, judged by the rules in `grammar`, not by a model.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_chat.inference import nf4

from . import WEIGHTS
from .corpus import Message, conversation, prompts
from .grammar import STYLES, on_topic, styles, well_formed
from .model_card import write_card

Quantization = Literal["nf4", "none"]
MAX_NEW_TOKENS = 128
BATCH = 50


@dataclass
class Report:
    """Shares between 0 and 1, and a few replies that did not parse."""

    n: int
    well_formed: float
    on_topic: float
    styles: dict[str, float]
    tokens: list[int] = field(repr=False)
    broken: list[tuple[str, str]] = field(default_factory=list, repr=False)
    off_topic: list[tuple[str, str]] = field(default_factory=list, repr=False)

    @property
    def median_tokens(self) -> int:
        """Length of the middle reply."""
        return sorted(self.tokens)[len(self.tokens) // 2]

    def __str__(self) -> str:
        shares = "  ".join(f"{name} {share:.2f}" for name, share in self.styles.items())
        return (
            f"{self.n} replies: well-formed {self.well_formed:.1%}, on topic {self.on_topic:.1%}\n"
            f"styles: {shares}\n"
            f"reply tokens: median {self.median_tokens}, longest {max(self.tokens)}"
        )


def load(folder: Path = WEIGHTS, quantization: Quantization = "nf4") -> tuple[Any, Any]:
    """The model on the CPU in float32 arithmetic, with 4-bit weights unless told otherwise."""
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        device_map={"": "cpu"},
        quantization_config=nf4.config(torch.float32) if quantization == "nf4" else None,
    )
    nf4.prepare_for_cpu(model)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def replies(
    model: Any,
    tokenizer: Any,
    talks: Sequence[Sequence[Message]],
    seed: int = 0,
) -> list[tuple[str, int]]:
    """One sampled reply at temperature 1 to each talk, and its length in tokens."""
    torch.manual_seed(seed)
    found: list[tuple[str, int]] = []
    for start in range(0, len(talks), BATCH):
        batch = tokenizer.apply_chat_template(
            [list(talk) for talk in talks[start : start + BATCH]], add_generation_prompt=True,
            sanitize_control_tokens=True, padding=True, return_dict=True,
            return_tensors="pt",
        )  # fmt: skip
        out = model.generate(
            **batch, do_sample=True, temperature=1.0, top_p=1.0, top_k=0,
            max_new_tokens=MAX_NEW_TOKENS,
        )  # fmt: skip
        for row in out[:, batch["input_ids"].shape[1] :]:
            ids = row[row != tokenizer.pad_token_id]
            text = tokenizer.decode(ids, skip_special_tokens=True)
            # A reply that never ended is broken however well it reads.
            ended = len(ids) > 0 and ids[-1] == tokenizer.eos_token_id
            found.append((text if ended else text + " (cut off)", len(ids)))
    return found


def judge(talks: Sequence[Sequence[Message]], answers: Sequence[tuple[str, int]]) -> Report:
    """Count what the grammar says about one answer to each talk."""
    formed = [well_formed(talk, text) for talk, (text, _) in zip(talks, answers, strict=True)]
    topical = [on_topic(talk, text) for talk, (text, _) in zip(talks, answers, strict=True)]
    named = [styles(text) for text, _ in answers]
    report = Report(
        n=len(answers),
        well_formed=sum(formed) / len(formed),
        on_topic=sum(topical) / len(topical),
        styles={name: sum(style[name] for style in named) / len(named) for name in STYLES},
        tokens=[length for _, length in answers],
    )
    for talk, (text, _), ok, topic in zip(talks, answers, formed, topical, strict=True):
        if not topic:
            asked = " / ".join(message["content"] for message in talk if message["role"] == "user")
            (report.off_topic if ok else report.broken).append((asked, text))
    return report


def single_turns(n: int, seed: int = 1) -> list[list[Message]]:
    """Held-out prompts, each a talk of its own."""
    return [[{"role": "user", "content": text}] for text in prompts("held_out", n, seed)]


def follow_ups(n: int, seed: int = 1) -> list[list[Message]]:
    """Held-out conversations of two to four prompts, up to the last prompt."""
    rng = random.Random(f"follow-ups {seed}")
    return [conversation(rng, "held_out", turns=(2, 3, 4))[:-1] for _ in range(n)]


def measure(
    folder: Path,
    quantization: Quantization,
    sets: dict[str, list[list[Message]]],
    seed: int,
    show: int = 0,
) -> dict[str, Report]:
    """Load the model once; print and return a report on each set of prompts."""
    model, tokenizer = load(folder, quantization)
    reports = {}
    for name, talks in sets.items():
        began = time.perf_counter()
        answers = replies(model, tokenizer, talks, seed)
        reports[name] = report = judge(talks, answers)
        print(
            f"== {name}, {quantization}, {time.perf_counter() - began:.0f} s\n{report}", flush=True
        )
        for asked, text in report.broken[:show]:
            print(f"  broken: {asked[:200]!r} -> {text!r}")
        for asked, text in report.off_topic[:show]:
            print(f"  off topic: {asked[:200]!r} -> {text!r}")
        for talk, (text, _) in list(zip(talks, answers, strict=True))[:show]:
            print(f"  {talk[-1]['content'][:200]!r} -> {text!r}")
    return reports


def main() -> None:
    """Print the report, and write the model card when asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--n", type=int, default=500, help="single-turn prompts")
    parser.add_argument("--turns", type=int, default=200, help="conversations with follow-ups")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="print this many failures and replies")
    parser.add_argument("--card", action="store_true", help="measure both and write README.md")
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(2)
    sets = {"single turn": single_turns(args.n, args.seed)}
    sets["follow-up"] = follow_ups(args.turns, args.seed)
    kinds: tuple[Quantization, ...] = ("nf4", "none") if args.card else (args.quantization,)
    reports: dict[tuple[str, str], dict[str, object]] = {
        (kind, name): vars(report) | {"median_tokens": report.median_tokens}
        for kind in kinds
        for name, report in measure(args.model, kind, sets, args.seed, args.show).items()
    }
    if args.card:
        write_card(args.model, reports)


if __name__ == "__main__":
    main()
