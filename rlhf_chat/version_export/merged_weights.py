"""Base + adapter as one set of weights: W + scaling B A, computed in float32, one tensor at a time.

Two bases can be meant. The one that was *trained* on has its linear layers in four bits; merged
with their dequantised values, it is what the app serves, but for rounding. The *original* one is as
it is on the disk; the adapter has never seen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from rlhf_chat.errors import ExportError
from rlhf_chat.inference import loading, lora_modules, nf4
from rlhf_chat.inference.model import Model
from rlhf_chat.version_export.source import Source

TRAINED, ORIGINAL = "trained", "original"
BASES = (TRAINED, ORIGINAL)


class MergedWeights:
    """The tensors of a causal LM with an adapter in them, by transformers' names. Tied tensors come
    once."""

    def __init__(self, tree: Any, source: Source) -> None:
        """Raises ExportError where the adapter names a layer that the model has not."""
        self.config = loading.plain_text_config(tree.config)
        self.generation_config = tree.generation_config
        self._tree, self._scaling = tree, source.scaling
        self._factors = source.factors()
        self._owners = dict(_tensors(tree))
        missing = [one for one in self._factors if f"{one}.weight" not in self._owners]
        if missing:
            raise ExportError("export.adapter_other_model", layer=missing[0])

    def names(self) -> list[str]:
        return list(self._owners)

    def shape(self, name: str) -> tuple[int, ...]:
        owner, attribute = self._owners[name]
        if attribute == "weight" and isinstance(owner, torch.nn.Linear):
            return owner.out_features, owner.in_features
        return tuple(getattr(owner, attribute).shape)

    def count(self) -> int:
        """How many weights there are."""
        return sum(math.prod(self.shape(name)) for name in self.names())

    def tensor(self, name: str) -> torch.Tensor:
        """In float32 on the CPU."""
        owner, attribute = self._owners[name]
        if attribute == "weight" and isinstance(owner, torch.nn.Linear):
            weight = nf4.dequantized(owner)
        else:
            weight = getattr(owner, attribute).detach()
        weight = weight.float().cpu()
        if (
            attribute != "weight"
            or (found := self._factors.get(name.removesuffix(".weight"))) is None
        ):
            return weight.contiguous()
        a, b = found
        change = self._scaling * (b @ a)
        return (weight + (change.T if isinstance(owner, Conv1D) else change)).contiguous()

    def inverse_frequencies(self) -> torch.Tensor:
        """Of RoPE, (head size / 2,); empty for models without it."""
        rotary = getattr(lora_modules.decoder_of(self._tree), "rotary_emb", None)
        found: torch.Tensor = (
            torch.empty(0, dtype=torch.float32) if rotary is None else rotary.inv_freq
        )
        return found


def _tensors(tree: Any) -> Iterator[tuple[str, tuple[Any, str]]]:
    """(name, (module, attribute)) of every tensor that is saved, each once."""
    seen: set[int] = set()
    for path, module in tree.named_modules():
        kept = set(module._buffers) - module._non_persistent_buffers_set
        for attribute in [*module._parameters, *sorted(kept)]:
            value = getattr(module, attribute)
            if value is not None and id(value) not in seen:
                seen.add(id(value))
                yield (f"{path}.{attribute}" if path else attribute), (module, attribute)


def merged(source: Source, model: Model, base: str) -> MergedWeights:
    """`base`: trained or original. Raises ModelError where the original weights are not here."""
    if base == TRAINED or source.quantization == "none":
        return MergedWeights(model.reference.tree, source)
    return MergedWeights(loading.load_original(model.name), source)
