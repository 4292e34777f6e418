"""Checks of the loaded model that training depends on, run on this machine at start.

Typed text cannot produce control tokens, log-probs come from the model's own logits, a fresh
adapter changes nothing, and gradients are right after inference (on some CPUs 4-bit kernels lose
them without an error). Memory and disk are checked by doctor.py.
"""

from __future__ import annotations

import torch

from rlhf_chat.errors import ModelError
from rlhf_chat.inference import forward_pass, lora_modules
from rlhf_chat.inference.calibration import gradient, probe_rows
from rlhf_chat.inference.lm_head import lm_head_of
from rlhf_chat.inference.model import Model


def self_test(model: Model) -> None:
    """Raises ModelError if a check fails. Resets the policy to version 0."""
    _check_control_tokens(model)
    _check_head(model)
    _check_adapter_off_is_base(model)
    _check_gradient_survives_inference(model)


def _check_control_tokens(model: Model) -> None:
    tokenizer = model.tokenizer
    special = set(tokenizer.all_special_ids)
    names = [tokenizer.convert_ids_to_tokens(i) for i in special]

    def count(content: str) -> int:
        ids = model.encode([{"role": "user", "content": content}])
        return sum(i in special for i in ids)

    if count("x" + "".join(names) + "x") != count("x"):
        raise ModelError("model.control_tokens")


def _check_head(model: Model) -> None:
    """`lm_head_of` applied to the last hidden states gives the logits of the model."""
    prompts, _ = probe_rows(model)
    ids = torch.tensor(prompts[:1], device=model.device)
    tree = model.reference.tree
    with model.lease.slice(), torch.no_grad():
        expected = tree(input_ids=ids).logits[0].float()
        logits = lm_head_of(tree, model.config)(
            lora_modules.decoder_of(tree)(ids).last_hidden_state[0]
        ).float()
    if not torch.allclose(expected, logits, atol=1e-4 if model.device.type == "cpu" else 0.1):
        raise ModelError("model.self_test_head")


def _check_adapter_off_is_base(model: Model) -> None:
    prompts, responses = probe_rows(model)
    model.set_policy(model.base_state())
    with model.lease.slice(), torch.no_grad():
        bare = forward_pass.forward(model, model.reference, prompts, responses).logprobs
        with_adapter = forward_pass.forward(model, model.policy, prompts, responses).logprobs
    if not torch.allclose(bare, with_adapter, atol=1e-4 if model.device.type == "cpu" else 5e-2):
        raise ModelError("model.self_test_adapter")


def _check_gradient_survives_inference(model: Model) -> None:
    """LoRA gradients after inference equal those before it."""
    prompts, responses = probe_rows(model)
    state = model.base_state()
    generator = torch.Generator().manual_seed(1)
    for name in state:
        if "lora_B" in name:
            state[name] = torch.randn(
                state[name].shape, generator=generator, dtype=torch.float32
            ).mul(0.02)
    model.set_policy(state)
    before = gradient(model, prompts, responses)
    with model.lease.slice(), torch.inference_mode():
        forward_pass.forward(model, model.policy, prompts, responses)
        forward_pass.forward(model, model.reference, prompts, responses)
    after = gradient(model, prompts, responses)
    model.set_policy(model.base_state())
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=0).item()
    if not cosine > 0.999:
        raise ModelError("model.self_test_gradient", cosine=cosine)
