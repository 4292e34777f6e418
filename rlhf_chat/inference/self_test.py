"""Does the loaded model keep the promises that learning rests on, on this machine?

Typed text cannot forge control tokens, scores are the model's own, a fresh adapter changes nothing,
and gradients survive inference (4-bit kernels on some processors lose them without a word). Left
out: memory and disk (doctor.py).
"""

from __future__ import annotations

import torch

from rlhf_chat.errors import ModelError
from rlhf_chat.inference import lora_modules
from rlhf_chat.inference.calibration import gradient, probe_rows
from rlhf_chat.inference.lm_head import lm_head_of
from rlhf_chat.inference.model import Model


def self_test(model: Model) -> None:
    """Raises ModelError if a fact that learning rests on does not hold on this machine."""
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
    """What lm_head.py makes of the last hidden states is what the model itself says."""
    prompts, _ = probe_rows(model)
    ids = torch.tensor(prompts[:1], device=model.device)
    tree = model.reference.tree
    with model.lease.slice(), torch.no_grad():
        whole = tree(input_ids=ids).logits[0].float()
        ours = lm_head_of(tree, model.config)(
            lora_modules.decoder_of(tree)(ids).last_hidden_state[0]
        ).float()
    if not torch.allclose(whole, ours, atol=1e-4 if model.device.type == "cpu" else 0.1):
        raise ModelError("model.self_test_head")


def _check_adapter_off_is_base(model: Model) -> None:
    prompts, responses = probe_rows(model)
    model.set_policy(model.base_state())
    with model.lease.slice(), torch.no_grad():
        bare = model.forward(model.reference, prompts, responses).logprobs
        with_adapter = model.forward(model.policy, prompts, responses).logprobs
    if not torch.allclose(bare, with_adapter, atol=1e-4 if model.device.type == "cpu" else 5e-2):
        raise ModelError("model.self_test_adapter")


def _check_gradient_survives_inference(model: Model) -> None:
    """LoRA gradients after inference equal those of weights that were never evaluated."""
    prompts, responses = probe_rows(model)
    state = model.base_state()
    generator = torch.Generator().manual_seed(1)
    for name in state:
        if "lora_B" in name:
            state[name] = torch.randn(state[name].shape, generator=generator) * 0.02
    model.set_policy(state)
    before = gradient(model, prompts, responses)
    with model.lease.slice(), torch.inference_mode():
        model.forward(model.policy, prompts, responses)
        model.forward(model.reference, prompts, responses)
    after = gradient(model, prompts, responses)
    model.set_policy(model.base_state())
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=0).item()
    if not cosine > 0.999:
        raise ModelError("model.self_test_gradient", cosine=cosine)
