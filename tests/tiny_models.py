"""A toy that obeys the real interface: a tiny random Llama with a ChatML tokenizer, made on the
spot, and settings small enough that a whole round takes a second or two."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench import random_weights
from rlhf_chat.reward.reward_model import RewardConfig
from rlhf_chat.reward.scorer import ScoringConfig
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.gate import GateConfig
from rlhf_chat.training.ppo import PPOConfig

WORDS = "hello how are you today I am well thank you tell me about the sea it is deep and blue"


def make_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = random_weights.tokenizer(WORDS, 320)
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_toy(folder: Path) -> Path:
    """Random weights, but spread enough that next-token probabilities differ clearly."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def tiny_round_config(**gate: object) -> RoundConfig:
    """One short round; the gate's limits are wide, because a random model speaks gibberish."""
    limits = {
        "min_labels": 2,
        "provisional_p": 99.0,  # at every look
        "passed_p": 0.02,
        "max_extra_low_logprob": 1.0,
        "max_extra_degeneration": 1.0,
        "max_extra_unfinished": 1.0,
        "min_distinct_share": 0.0,
        "length_range": (0.0, 100.0),
        "max_kl_over_target": 100.0,
    } | gate
    return RoundConfig(
        scorer=ScoringConfig(rollout_prompts=4, further_prompts=2, probe_prompts=4),
        probe_samples=2,
        bootstrap_heads=2,
        ppo=PPOConfig(updates=1, rollouts=8, group=2, max_new_tokens=12, ppo_epochs=1),
        reward=RewardConfig(permutations=49, prior_steps=2, folds=2),
        gate=GateConfig(**limits),  # type: ignore[arg-type]
    )
