"""A forward pass for replies on a CPU: Llama-like models, adapter merged, in few operations.

On a CPU a small model spends most of a token not in its products but in calling some seven hundred
operations. Here each layer is two norms, four products (query, key and value are one; gate and up
are one; the residual is added by the product itself), a rotation and the attention. Weights are
laid out once as the CPU's kernels like them and kept in that form only.

It writes and reads the same caches as transformers' model and answers the same call, so decoding
does not know which of the two it asks (decode_batch.py). Equal to the model but for rounding, so it
samples; log-probs come from the model itself. `build` returns None for what it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn import functional

KNOWN = ("llama", "mistral", "qwen2", "qwen3")
ROWS = 16  # at once that packed weights are laid out for
FEW_ROWS = 4  # up to this many, reading the weights takes longer than multiplying them

# Linear layers that read the same input -> their product as one, with the adapter in it.
Packed = Callable[[Sequence[Any]], "PackedLinear"]


class PackedLinear(torch.nn.Module):
    """x (..., in) -> (..., out), with a weight that only the CPU's kernels can read.

    Where those are missing the plain weight is used. For a few rows, such as the reply that a
    person waits for, a bfloat16 weight is kept in int8 as well, one scale per output: half the
    bytes to read, with a rounding error of .8%, a tenth of what the 4 bits of the base cost
    (docs/LOG.md). It is made when it is first needed, so that rollouts never pay for it.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = bias
        self.packed: torch.Tensor | None = None
        self.int8: tuple[torch.Tensor, torch.Tensor] | None = None  # (out, in), (out,)
        self.weight: torch.Tensor | None = weight
        if torch.backends.mkldnn.is_available() and weight.device.type == "cpu":
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
            self.weight = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.packed is None:
            return functional.linear(x, self.weight, self.bias)  # type: ignore[arg-type]
        if self._takes_int8(x):
            return self._int8_product(x)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, "none", [], ""
        )
        return result

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """residual + what `forward` gives, in one call where the kernels can."""
        if self.packed is None:
            return residual + functional.linear(x, self.weight, self.bias)  # type: ignore[arg-type]
        if self._takes_int8(x):
            return residual + self._int8_product(x)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, residual, self.packed, self.bias, "add"
        )
        return result

    def _takes_int8(self, x: torch.Tensor) -> bool:
        return x.dtype == torch.bfloat16 and x.numel() <= FEW_ROWS * self.in_features

    def _int8_product(self, x: torch.Tensor) -> torch.Tensor:
        if self.int8 is None:
            assert self.packed is not None
            self.int8 = to_int8(self.packed.to_dense())
        product = torch._weight_int8pack_mm(x.reshape(-1, self.in_features), *self.int8)
        product = product.view(*x.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, in) bfloat16 -> the same in int8, and the scale of each output (out,) bfloat16."""
    scale = (weight.abs().amax(1).float() / 127).clamp(min=1e-12).to(torch.bfloat16)
    levels = (weight / scale[:, None]).float().round().clamp(-127, 127)
    return levels.to(torch.int8), scale


class FusedLayer(torch.nn.Module):
    """One decoder layer: attention and MLP, each after a norm and added to what came in."""

    def __init__(self, layer: Any, config: Any, packed: Packed) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.head_dim = int(attention.head_dim)
        self.heads = attention.q_proj.out_features // self.head_dim
        self.groups = attention.k_proj.out_features // self.head_dim
        self.scale = float(attention.scaling)
        self.qkv = packed([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = packed([attention.o_proj])
        self.gate_up = packed([mlp.gate_proj, mlp.up_proj])
        self.down = packed([mlp.down_proj])
        self.norm_in, self.norm_mlp = layer.input_layernorm, layer.post_attention_layernorm
        self.eps = float(config.rms_norm_eps)
        self.q_norm = getattr(attention, "q_norm", None)
        self.k_norm = getattr(attention, "k_norm", None)

    def forward(
        self,
        x: torch.Tensor,
        rotation: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor,
        cache: Any,
        number: int,
    ) -> torch.Tensor:
        """x (B, N, H), rotation cos and signed sin (B, 1, N, D), mask (B, 1, N, T) -> (B, N, H)."""
        rows, tokens, _ = x.shape
        joined = self.qkv(self._norm(x, self.norm_in))
        states = joined.view(rows, tokens, -1, self.head_dim).transpose(1, 2)
        turned = states[:, : self.heads + self.groups]
        if self.q_norm is not None and self.k_norm is not None:
            q, k = turned.split([self.heads, self.groups], 1)
            turned = torch.cat([self._norm(q, self.q_norm), self._norm(k, self.k_norm)], 1)
        turned = _rotated(turned, *rotation)
        keys, values = cache.update(
            turned[:, self.heads :], states[:, self.heads + self.groups :], number
        )
        seen = self._attention(turned[:, : self.heads], keys, values, mask)
        x = self.out.add_to(x, seen.transpose(1, 2).reshape(rows, tokens, -1))
        gate, up = self.gate_up(self._norm(x, self.norm_mlp)).chunk(2, -1)
        return self.down.add_to(x, functional.silu(gate) * up)

    def _attention(
        self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """q (B, heads, N, D), keys and values (B, groups, T, D) -> (B, heads, N, D)."""
        rows, _, tokens, width = q.shape
        if tokens == 1:  # heads of a group as if they were tokens: no copy of keys for each
            grouped = q.reshape(rows, self.groups, -1, width)
            seen = functional.scaled_dot_product_attention(
                grouped, keys, values, attn_mask=mask, scale=self.scale
            )
            return seen.reshape(rows, self.heads, 1, width)
        return functional.scaled_dot_product_attention(
            q,
            keys,
            values,
            attn_mask=mask,
            scale=self.scale,
            enable_gqa=self.groups != self.heads,
        )

    def _norm(self, x: torch.Tensor, norm: Any) -> torch.Tensor:
        return _rms_norm(x, norm, self.eps)


class FusedDecoder(torch.nn.Module):
    """The whole model, answering transformers' call with `logits` (B, 1, V) of the next token."""

    def __init__(self, tree: Any, packed: Packed) -> None:
        super().__init__()
        inner = tree.model
        self.config = tree.config
        self.embeddings = inner.embed_tokens
        self._rotary: Any = inner.rotary_emb.forward
        self.layers = torch.nn.ModuleList(
            FusedLayer(layer, tree.config, packed) for layer in inner.layers
        )
        self.norm = inner.norm
        self.head = packed([tree.get_output_embeddings()])

    def forward(
        self,
        *,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values: Any,
        logits_to_keep: int = 1,
        **_: Any,
    ) -> SimpleNamespace:
        """ids and positions (B, N), mask (B, 1, N, T) True where a token may look."""
        x = self.embeddings(input_ids)
        cos, sin = self._rotary(x, position_ids)
        half = cos.shape[-1] // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], -1)
        rotation = cos[:, None], signed[:, None]
        for number, layer in enumerate(self.layers):
            x = layer(x, rotation, attention_mask, past_key_values, number)
        last = _rms_norm(x[:, -logits_to_keep:], self.norm, float(self.config.rms_norm_eps))
        return SimpleNamespace(logits=self.head(last))


def is_known(config: Any) -> bool:
    """Whether this architecture has a fused form here: all layers attend to everything before."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return (
        config.model_type in KNOWN
        and kinds == {"full_attention"}
        and config.hidden_act == "silu"
        and not getattr(config, "sliding_window", None)
    )


def build(tree: Any, packed: Packed) -> FusedDecoder | None:
    """The fused form of a model, or None where its architecture is not one of those known here."""
    return FusedDecoder(tree, packed).eval() if is_known(tree.config) else None


def joined(
    linears: Sequence[Any], weight_of: Callable[[Any], torch.Tensor] = lambda linear: linear.weight
) -> PackedLinear:
    """Layers that read the same input as one product. `weight_of`: of a layer, (out, in)."""
    weight = torch.cat([weight_of(linear) for linear in linears])
    biases = [linear.bias for linear in linears]
    bias = None if biases[0] is None else torch.cat([b.detach() for b in biases])
    return PackedLinear(weight, bias)


def _rms_norm(x: torch.Tensor, norm: Any, eps: float) -> torch.Tensor:
    return functional.rms_norm(x, (x.shape[-1],), norm.weight, eps)


def _rotated(x: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """x (B, H, N, D) turned by position (RoPE, Su et al. 2021): the halves of D swapped."""
    return x * cos + x.roll(x.shape[-1] // 2, -1) * signed_sin
