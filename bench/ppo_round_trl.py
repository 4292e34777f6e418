"""TRL's side of `bench.ppo_round`: the same update by its PPOTrainer, in an environment of its own.

Run by path with that environment's interpreter; imports nothing of ours. The first JSON line says
what to do; then each line `go` makes one update (sampling, reference, reward, values, PPO epochs)
and one JSON line out says how long it took. Loading and the wait between updates are not counted.
Checkpoints, evaluation, sample tables and progress bars are switched off.

TRL asks for a reward model and a value model of their own. Here both are one linear layer on the
very tensors of the frozen base, the lightest thing its interface accepts: it still runs the trunk
for the value and for the reward, where ours reads the states of the policy and the reference.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import time
import warnings
from typing import Any, TextIO

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    TrainerCallback,
)

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
from trl.experimental.ppo import PPOConfig, PPOTrainer

Job = dict[str, Any]


class LinearOnTrunk(torch.nn.Module):
    """A reward or value model as TRL wants it: a trunk under a named attribute, and `score`."""

    base_model_prefix = "trunk"

    def __init__(self, trunk: torch.nn.Module, weight: list[float]) -> None:
        super().__init__()
        self.trunk = trunk
        self.score = torch.nn.Linear(len(weight), 1, bias=False)
        with torch.no_grad():
            self.score.weight.copy_(torch.tensor(weight)[None])


class OneAtATime(TrainerCallback):
    """Holds the training loop between updates until the other process says `go`."""

    def __init__(self, out: TextIO, counts: dict[str, int]) -> None:
        self.out = out
        self.counts = counts
        self.clock = self.cpu = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.wait()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        report = {
            "seconds": time.perf_counter() - self.clock,
            "cpu_seconds": time.process_time() - self.cpu,
            "score": state.log_history[-1]["objective/scores"],
            **self.counts,
        }
        print(json.dumps(report), file=self.out, flush=True)
        if state.global_step < state.max_steps:
            self.wait()

    def wait(self) -> None:
        if sys.stdin.readline().strip() != "go":
            raise SystemExit("the benchmark ended early")
        self.counts.update(tokens=0, steps=0)
        self.clock, self.cpu = time.perf_counter(), time.process_time()


def load(job: Job) -> tuple[torch.nn.Module, torch.nn.Module, Any]:
    """(policy with LoRA, bare base over the same tensors, tokenizer)."""
    quantization = None
    if job["quantization"] == "nf4":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    base = AutoModelForCausalLM.from_pretrained(
        job["model"],
        dtype=torch.float32,
        device_map={"": "cpu"},
        quantization_config=quantization,
    )
    for module in base.modules():  # else 4-bit LoRA gradients vanish after the first inference
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    base.requires_grad_(False)
    tensors = [*base.parameters(), *base.buffers()]
    bare = copy.deepcopy(base, memo={id(t): t for t in tensors})
    lora = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **job["lora"])
    tokenizer = AutoTokenizer.from_pretrained(job["model"], padding_side="left")
    return get_peft_model(base, lora), bare, tokenizer


def count_tokens(policy: Any, pad: int, counts: dict[str, int]) -> None:
    """Counts what `generate` samples, to show that both sides write equally long responses."""
    generate = policy.generate

    def counting(*args: Any, **kwargs: Any) -> Any:
        out = generate(*args, **kwargs)
        responses = out.sequences[:, kwargs["input_ids"].shape[1] :]
        counts["tokens"] += int((responses != pad).sum())
        return out

    policy.generate = counting


def configured(job: Job, folder: str) -> PPOConfig:
    rows, shared = len(job["prompts"]), job["settings"]
    return PPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        num_sample_generations=0,
        seed=job["seed"],
        total_episodes=rows * job["updates"],
        # One optimiser step per minibatch: micro-batch = minibatch, no accumulation.
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=1,
        num_mini_batches=shared["minibatches"],
        num_ppo_epochs=shared["ppo_epochs"],
        local_rollout_forward_batch_size=rows,
        response_length=shared["max_new_tokens"],
        stop_token="eos",
        temperature=1.0,
        missing_eos_penalty=shared["missing_end_penalty"],
        kl_coef=shared["kl_coef"],
        cliprange=shared["cliprange"],
        cliprange_value=shared["cliprange_value"],
        gamma=shared["gamma"],
        lam=shared["lam"],
    )


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # TRL prints; the line to the other process stays clean
    warnings.filterwarnings("ignore")
    job = json.loads(sys.stdin.readline())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    policy, bare, tokenizer = load(job)
    trunk: Any = bare
    reward = LinearOnTrunk(trunk.get_decoder(), job["head"]).requires_grad_(False)
    value = LinearOnTrunk(trunk.get_decoder(), [0.0] * len(job["head"]))
    trained = [*policy.parameters(), *value.score.parameters()]
    optimizer = torch.optim.AdamW(
        [p for p in trained if p.requires_grad],
        lr=job["settings"]["learning_rate"],
        eps=job["settings"]["adam_eps"],
        weight_decay=0.0,
    )
    counts: dict[str, int] = {}
    count_tokens(policy, tokenizer.pad_token_id, counts)
    optimizer.register_step_post_hook(
        lambda *_: counts.update(steps=counts["steps"] + 1)  # what was really taken
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=configured(job, folder),
            processing_class=tokenizer,
            model=policy,
            ref_model=None,  # the policy with its adapter off
            reward_model=reward,
            value_model=value,
            train_dataset=Dataset.from_list([{"input_ids": ids} for ids in job["prompts"]]),
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
            callbacks=[OneAtATime(out, counts)],
        )
        trainer.train()


if __name__ == "__main__":
    main()
