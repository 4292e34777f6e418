"""Makes the demo model from a seed: tokenizer, a small Llama trained from scratch, and its card.

    python -m rlhf_chat.demo_model.build --out DIR [--steps N | --minutes M] [--seed S]

The last part of the training sees its weights rounded to NF4, and the rounded weights are what is
saved: loading the model in 4 bits then changes almost nothing. With `--steps` (the default) the
result depends on the seed only, not on the clock. `check` measures it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .corpus import Message, training_conversation

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """Every number of the training."""

    seed: int = 0
    vocab_size: int = 4096
    tokenizer_conversations: int = 20_000
    hidden_size: int = 256
    intermediate_size: int = 640
    layers: int = 4
    heads: int = 4
    max_positions: int = 1024
    steps: int = 3600
    tokens_per_step: int = 4096
    matrix_rate: float = 5e-3
    other_rate: float = 3e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.1
    rounded_share: float = 0.2  # last part of the steps, with weights rounded to NF4
    sharpness: float = 0.64  # the finished model at temperature 1 is the trained one at this
    threads: int = 2
    compiled: bool = True  # a third faster; needs a C++ compiler


def train_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the corpus, with the chat template and its control tokens."""
    rng = random.Random(f"tokenizer {recipe.seed}")
    # Each message with its role, so that the role names become tokens of their own.
    texts = (
        f"{message['role']}\n{message['content']}"
        for _ in range(recipe.tokenizer_conversations)
        for message in training_conversation(rng)
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocab_size,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[IM_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=recipe.max_positions,
        padding_side="left",  # batches of prompts are continued on the right
    )


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model, the same for the same seed."""
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocab_size,
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=recipe.max_positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # On rows this short, plain attention trains faster on a CPU than the fused kernel.
    model.set_attn_implementation("eager")
    return model


class Encoder:
    """Conversations to token ids, and which of them the model must learn to write."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._heads = {role: self._ids(f"{IM_START}{role}\n") for role in ROLES}
        self._end = self._ids(IM_END)
        self._newline = self._ids("\n")

    def _ids(self, text: str) -> list[int]:
        return self._backend.encode(text).ids

    def __call__(self, messages: list[Message]) -> tuple[list[int], list[bool]]:
        """The ids of the whole conversation, and True on what the assistant wrote."""
        ids: list[int] = []
        learned: list[bool] = []
        for message in messages:
            head, text = self._heads[message["role"]], self._ids(message["content"]) + self._end
            ids += head + text + self._newline
            wrote = message["role"] == "assistant"
            learned += [False] * len(head) + [wrote] * len(text) + [False] * len(self._newline)
        return ids, learned


def batches(encode: Encoder, recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of (ids, targets) with about `tokens_per_step` tokens; -100 is not learned.

    Rows of one batch have nearly the same length, so little is padded.
    """
    rng = random.Random(f"train {recipe.seed}")
    while True:
        pool = sorted(
            (encode(training_conversation(rng)) for _ in range(4096)), key=lambda row: len(row[0])
        )
        groups: list[list[tuple[list[int], list[bool]]]] = [[]]
        for row in pool:
            if (len(groups[-1]) + 1) * len(row[0]) > recipe.tokens_per_step and groups[-1]:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from map(_tensors, groups)


def _tensors(rows: list[tuple[list[int], list[bool]]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), -100, dtype=torch.long)
    for i, (row, learned) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        aim = [token if wrote else -100 for token, wrote in zip(row, learned, strict=True)]
        targets[i, : len(row) - 1] = torch.tensor(aim[1:])
    return ids, targets


# The sixteen levels of NF4, as in the QLoRA paper: quantiles of a normal distribution.
NF4_LEVELS = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
])  # fmt: skip
NF4_BLOCK = 64


def round_to_nf4(weight: torch.Tensor) -> torch.Tensor:
    """`weight` as it reads after 4-bit quantisation, block by block."""
    blocks = weight.detach().reshape(-1, NF4_BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    middles = (NF4_LEVELS[1:] + NF4_LEVELS[:-1]) / 2
    return (NF4_LEVELS[torch.bucketize(blocks / scale, middles)] * scale).reshape(weight.shape)


@contextmanager
def rounded(weights: list[torch.Tensor]) -> Iterator[None]:
    """Let `weights` read as NF4 inside the block; gradients found there serve the exact ones."""
    exact = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.copy_(round_to_nf4(weight))
    yield
    with torch.no_grad():
        for weight, before in zip(weights, exact, strict=True):
            weight.copy_(before)


def _linears(model: LlamaForCausalLM) -> list[nn.Linear]:
    """The layers that 4-bit loading quantises: every linear one but the tied output."""
    return [m for m in model.model.modules() if isinstance(m, nn.Linear)]


def _rate(step: int, recipe: Recipe) -> float:
    """Learning rate as a share of its peak: linear warm-up, then a cosine down to zero."""
    if step < recipe.warm_up_steps:
        return (step + 1) / recipe.warm_up_steps
    done = (step - recipe.warm_up_steps) / max(1, recipe.steps - recipe.warm_up_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, which learns this many facts in fewer steps, AdamW for the rest."""
    matrices = [layer.weight for layer in _linears(model)]
    inside = {id(weight) for weight in matrices}
    rest = [p for p in model.parameters() if id(p) not in inside]
    muon = torch.optim.Muon(
        matrices,
        lr=recipe.matrix_rate,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adam = torch.optim.AdamW(
        rest, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    return [muon, adam]


def _loss(model: LlamaForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy on the assistant's tokens; logits are made only where they count."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        learned = targets != -100
        logits = model.lm_head(hidden[learned])
    return nn.functional.cross_entropy(logits.float(), targets[learned])


def train(model: LlamaForCausalLM, encode: Encoder, recipe: Recipe) -> float:
    """Train in place and leave the weights rounded to NF4; returns the last mean loss."""
    optimizers = _optimizers(model, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe))
        for optimizer in optimizers
    ]
    weights = [layer.weight for layer in _linears(model)]
    round_from = int(recipe.steps * (1 - recipe.rounded_share))
    if recipe.compiled:
        model.model.forward = torch.compile(model.model.forward, dynamic=True)
    model.train()
    mean, seen, began = 0.0, 0, time.perf_counter()
    for step, (ids, targets) in zip(range(recipe.steps), batches(encode, recipe), strict=False):
        with rounded(weights) if step >= round_from else nullcontext():
            loss = _loss(model, ids, targets)
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        seen += ids.numel()
        if step % 100 == 99:
            speed = seen / (time.perf_counter() - began)
            print(
                f"step {step + 1}/{recipe.steps}  loss {mean:.4f}  {speed:.0f} tokens/s", flush=True
            )
    with torch.no_grad():
        for weight in weights:
            weight.copy_(round_to_nf4(weight))
    model.eval()
    return mean


def steps_for(minutes: float, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> int:
    """How many steps fit into `minutes` here, by a short trial with a throw-away model."""
    trial = replace(recipe, steps=40, rounded_share=0.5)
    model, encode = new_model(trial, tokenizer), Encoder(tokenizer)
    began = time.perf_counter()
    train(model, encode, trial)
    return max(50, int(minutes * 60 * trial.steps / (time.perf_counter() - began)))


def sharpen(model: LlamaForCausalLM, temperature: float) -> None:
    """Builds a temperature into the weights: logits are linear in the last norm's scale.

    A tiny model puts a little probability on everything; at temperature 1 one reply in ten stumbled
    over that. The choices of style, which are near even, hardly notice.
    """
    with torch.no_grad():
        model.model.norm.weight.div_(temperature)


def save(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    facts: dict[str, object],
) -> None:
    """Write half-precision safetensors, tokenizer, sampling defaults and how it was made."""
    out.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=128,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps")
    parser.add_argument("--minutes", type=float, help="as many steps as fit in this time instead")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--no-compile", action="store_true", help="for want of a C++ compiler")
    args = parser.parse_args()
    recipe = Recipe(seed=args.seed, steps=args.steps, compiled=not args.no_compile)
    torch.set_num_threads(recipe.threads)
    tokenizer = train_tokenizer(recipe)
    model = new_model(recipe, tokenizer)
    if args.minutes:
        steps = steps_for(args.minutes, recipe, tokenizer)
        recipe = replace(recipe, steps=steps)
    began = time.perf_counter()
    loss = train(model, Encoder(tokenizer), recipe)
    sharpen(model, recipe.sharpness)
    size = sum(p.numel() for p in model.parameters())
    made = vars(recipe) | {
        "parameters": size,
        "training_seconds": round(time.perf_counter() - began),
        "last_loss": round(loss, 4),
    }
    save(model, tokenizer, args.out, made)
    print(f"{made}\nsaved to {args.out}")
    print(f"Now measure it: python -m rlhf_chat.demo_model.check --card --model {args.out}")


if __name__ == "__main__":
    main()
