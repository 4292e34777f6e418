"""What is predicted before loading is what is taken: each part within 10% of the real tensors, on
shapes that differ in what weighs most. Counted on a CPU; left out: the driver's own share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    Gemma2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from rlhf_chat.inference import lora_modules, nf4, presets
from rlhf_chat.inference.decode_batch import left_pad
from rlhf_chat.inference.memory_estimate import (
    COMFORTABLE,
    GIB,
    MINIMAL,
    Workload,
    cache_bytes,
    predict,
    saved_bytes,
)
from rlhf_chat.inference.model import Model
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.ppo_trainer import PPOTrainer
from tests.families import FAMILIES
from tests.tiny_models import make_tokenizer

LOAD = Workload(
    context=200, prompt=12, response=20, rollouts=6, microbatch=4, on_cpu=True, reserve=0
)
WAYS = (COMFORTABLE, MINIMAL)
SIZE: Any = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
SHAPES: dict[str, PreTrainedConfig] = {
    "wide vocabulary, tied": Qwen3Config(
        vocab_size=9000,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        tie_word_embeddings=True,
        **SIZE,
    ),
    "deep, untied": LlamaConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=8,
        tie_word_embeddings=False,
        **SIZE,
    ),
    "windows and caps": Gemma2Config(
        vocab_size=3000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        sliding_window=16,
        **SIZE,
    ),
}


def bytes_of(tensors) -> int:
    """Of distinct tensors: what two share is counted once."""
    distinct = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(distinct.values())


def frozen_tensors(tree: torch.nn.Module) -> list[torch.Tensor]:
    found = [p for name, p in tree.named_parameters() if "lora_" not in name] + list(tree.buffers())
    for module in tree.modules():
        if isinstance(module, Linear4bit):
            state: Any = getattr(module.weight, "quant_state")  # noqa: B009
            found += [state.absmax, state.code, state.offset]
            found += [state.state2.absmax, state.state2.code]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_every_part_is_predicted_within_a_tenth(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nf4, "MAX_DEQUANTIZED_BYTES", 0)  # four bits only, as on a card
    tokenizer = make_tokenizer(tmp_path)
    config = SHAPES[shape]
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    config.bos_token_id = None
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    predicted = predict(config, "nf4", LOAD)
    model = Model.load(str(tmp_path))
    measured = {"weights": bytes_of(frozen_tensors(model.reference.tree))}

    prompts, responses = [[5] * LOAD.prompt] * 4, [[6] * LOAD.response] * 4
    rows = [p + r for p, r in zip(prompts, responses, strict=True)]
    ids, mask, positions = left_pad(rows, 0, model.device)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    widest = max(4 * m.in_features * m.out_features for m in linears(model))
    measured["training"] = saved_bytes(model.policy.tree, inputs) + widest
    for part, batch, tokens in (("chat", 1, 200), ("rollouts", 6, 32)):
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model.reference.tree(
                input_ids=torch.ones(batch, tokens, dtype=torch.long), past_key_values=cache
            )
        measured[part] = cache_bytes(cache)

    measured["adapters"] = adapter_bytes(model)
    told = {part: (getattr(predicted, part), value) for part, value in measured.items()}
    for part, (guess, value) in told.items():
        assert guess == pytest.approx(value, rel=0.1), f"{part}: {told}"
    whole = sum(measured[p] for p in ("weights", "adapters", "chat"))
    whole += max(measured["rollouts"], measured["training"] + predicted.logits)
    assert predicted.total == pytest.approx(whole, rel=0.1)


def linears(model: Model) -> list[Linear4bit]:
    return [m for m in model.reference.tree.modules() if isinstance(m, Linear4bit)]


def adapter_bytes(model: Model) -> int:
    """After a real update, with a version being served: every tensor that adapters brought."""
    config = PPOConfig(rollouts=2, ppo_epochs=1, minibatches=1, max_new_tokens=4)
    ppo_trainer = PPOTrainer(model, config, target=1.0, score_std=1.0, floor=-9.0)
    model.serve(model.make_view(1, model.policy_state()))
    prompt = model.encode([{"role": "user", "content": "hello"}])
    rollouts, _ = ppo_trainer.collect(
        [prompt] * 2, [0, 1], lambda *_, **__: np.array([0.0, 1.0]), 1
    )
    ppo_trainer._zero_grad = lambda: None  # type: ignore[method-assign]  # as in mid-step
    ppo_trainer.update(rollouts, 1)
    params = model.policy_parameters()
    held = [
        *lora_modules.adapter_params(model.policy.tree).values(),
        *(p.grad for p in params),
        *lora_modules.adapter_params(model.live.tree).values(),
    ]
    for state in ppo_trainer.optimizer.state.values():
        held += [v for v in state.values() if isinstance(v, torch.Tensor) and v.dim()]
    return bytes_of(held)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_predicted(family: str, family_folder: Callable[[str], Path]) -> None:
    model = Model.load(str(family_folder(family)), quantization="none")
    parts = predict(model.config, "nf4", LOAD).as_dict()
    assert all(v > 0 for k, v in parts.items() if k != "reserve")


def test_less_is_asked_with_less_to_do() -> None:
    config = presets.BY_NAME["tiny"].config()
    whole = predict(config, "nf4")
    fewer = predict(config, "nf4", replace(Workload(), rollouts=8))
    spared = predict(config, "nf4", replace(Workload(), checkpointing=True))
    assert fewer.rollouts * 8 == pytest.approx(whole.rollouts, rel=0.01)
    assert spared.training < whole.training / 3
    assert predict(config, "none").weights > 2 * whole.weights


def test_the_presets_have_the_sizes_that_they_say() -> None:
    for preset in presets.TABLE:
        plain = predict(preset.config(), "none", replace(Workload(), rollouts=1, context=8))
        assert plain.weights / 2e9 == pytest.approx(preset.billions, rel=0.08), preset.name
        assert preset.licence == "Apache 2.0"


def test_the_guide_says_what_is_predicted() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "real-models.md").read_text()
    told = re.findall(r"^\| `(\w+)` \| (\S+) \| .*? \| (\S+) GiB \| (\S+) GiB \|$", guide, re.M)
    needed = [
        (p.name, p.hub, *(f"{presets.need(p, 'nf4', way).total / GIB:.1f}" for way in WAYS))
        for p in presets.TABLE
    ]
    assert told == needed


# ---------------------------------------------------------------------- auto


def no(_: str) -> bool:
    return False


def yes(_: str) -> bool:
    return True


@pytest.mark.parametrize(
    "gib, name", [(4, "small"), (5, "middle"), (8, "good"), (12, "large"), (24, "large")]
)
def test_auto_takes_the_largest_that_fits_and_says_why(gib: float, name: str) -> None:
    hub, why = presets.choose(int(gib * GIB), here=no, reachable=yes)
    assert hub == presets.BY_NAME[name].hub
    assert hub in why and f"{gib:.1f} GiB" in why and "Apache 2.0" in why and "\n" not in why


def test_auto_without_card_room_or_network_is_the_bundled_model_with_a_reason() -> None:
    assert presets.choose(None)[0] == "demo" and "No graphics card" in presets.choose(None)[1]
    assert presets.choose(1 * GIB, reachable=yes)[0] == "demo"
    hub, why = presets.choose(8 * GIB, here=no, reachable=no)
    assert hub == "demo" and "--model good" in why and "cannot be reached" in why


def test_auto_offline_takes_what_is_cached() -> None:
    cached = presets.BY_NAME["tiny"].hub
    hub, why = presets.choose(8 * GIB, here=lambda h: h == cached, reachable=no)
    assert hub == cached and "cached" in why


def test_nothing_is_looked_up_when_the_hub_is_switched_off(monkeypatch) -> None:
    monkeypatch.setattr(presets, "is_offline_mode", lambda: True)
    monkeypatch.setattr(presets, "HfApi", None)
    assert not presets.hub_answers("Qwen/Qwen3-0.6B")
