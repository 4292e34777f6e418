"""GGUF files: the merged model in 16, 8 or 4 bits, and the adapter alone.

The package `gguf` writes the container and quantises. Tensors are computed, quantised and written
one after the other, so that a large model needs no second copy in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Quantisation
from gguf import GGUFWriter, LlamaFileType, quants
from transformers import AutoModelForCausalLM

from rlhf_chat.inference.generate import Sampling
from rlhf_chat.version_export import gguf_architecture
from rlhf_chat.version_export.gguf_architecture import TensorNames, ordered
from rlhf_chat.version_export.merge_gap import Turn, no_turn
from rlhf_chat.version_export.merged_weights import MergedWeights
from rlhf_chat.version_export.source import Source

TYPES: dict[
    str, tuple[Quantisation, Quantisation, LlamaFileType]
] = {  # name -> of matrices, of embeddings and head, of the file
    "f16": (Quantisation.F16, Quantisation.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (Quantisation.Q8_0, Quantisation.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (Quantisation.Q4_0, Quantisation.Q8_0, LlamaFileType.MOSTLY_Q4_0),
}
EMBEDDINGS = ("token_embd.weight", "output.weight")
ROPE_FACTORS = "rope_freqs.weight"

OnShare = Callable[[float], None]  # is told the share that is done


@dataclass(frozen=True)
class About:
    """What the file says of itself."""

    name: str
    licence: str  # as the hub spells it; "" if unknown
    description: str
    sampling: Sampling


def write_model(
    file: Path,
    weights: MergedWeights,
    kind: str,
    about: About,
    add_tokenizer: Callable[[GGUFWriter], None],
    on_share: OnShare = lambda share: None,
    turn: Turn = no_turn,
) -> None:
    """`kind` is one of TYPES. Raises ExportError for an architecture that is not known."""
    config = weights.config
    known = gguf_architecture.architecture(config)
    names = TensorNames(config)
    writer = GGUFWriter(str(file), gguf.MODEL_ARCH_NAMES[known.code])
    writer.add_type(gguf.GGUFType.MODEL)
    _add_about(writer, about)
    gguf_architecture.add_numbers(writer, config)
    writer.add_file_type(TYPES[kind][2])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer)
    named = {name: names.name(name) for name in weights.names()}
    kinds = {n: _quantisation(kind, named[n], weights.shape(n)) for n in named}
    factors = gguf_architecture.rope_factors(config, weights.inverse_frequencies())
    if factors is not None:
        _announce(writer, ROPE_FACTORS, factors.shape, Quantisation.F32)
    for name, given in named.items():
        _announce(writer, given, weights.shape(name), kinds[name])
    _begin(writer)
    if factors is not None:
        writer.write_tensor_data(factors)
    for done, name in enumerate(named):
        with turn():
            rows = ordered(config, name, weights.tensor(name))
            writer.write_tensor_data(quants.quantize(rows.numpy(), kinds[name]))
        on_share((done + 1) / len(named))
    writer.close()


def write_adapter(file: Path, config: Any, source: Source, about: About) -> None:
    """The adapter alone, in float16. Its scaling is alpha / r, as PEFT's."""
    known, names = gguf_architecture.architecture(config), TensorNames(config)
    writer = GGUFWriter(str(file), gguf.MODEL_ARCH_NAMES[known.code])
    writer.add_type(gguf.GGUFType.ADAPTER)
    _add_about(writer, about)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(source.config["lora_alpha"]))
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for layer, (a, b) in source.factors().items():
        given = names.name(f"{layer}.weight")
        writer.add_tensor(f"{given}.lora_a", a.numpy().astype(np.float16))
        rows = ordered(config, f"{layer}.weight", b)
        writer.add_tensor(f"{given}.lora_b", rows.numpy().astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_about(writer: GGUFWriter, about: About) -> None:
    writer.add_name(about.name)
    writer.add_description(about.description)
    if about.licence:
        writer.add_license(about.licence)
    writer.add_sampling_temp(about.sampling.temperature)
    writer.add_sampling_top_p(about.sampling.top_p)
    writer.add_sampling_top_k(about.sampling.top_k)


def _quantisation(kind: str, name: str, shape: tuple[int, ...]) -> Quantisation:
    """Vectors stay in float32; rows that no block divides are kept in 16 bits."""
    if len(shape) < 2:
        return Quantisation.F32
    matrices, embeddings, _ = TYPES[kind]
    wanted = embeddings if name in EMBEDDINGS else matrices
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    return wanted if shape[-1] % block == 0 else Quantisation.F16


def _announce(writer: GGUFWriter, name: str, shape: tuple[int, ...], kind: Quantisation) -> None:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    weights = int(np.prod(shape))
    writer.add_tensor_info(
        name, list(shape), np.dtype(np.float32), weights // block * size, raw_dtype=kind
    )


def _begin(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def read(file: Path, config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The model in a file that was written here, dequantised on the CPU."""
    names = TensorNames(config)
    stored = {str(tensor.name): tensor for tensor in gguf.GGUFReader(file).tensors}
    made: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for name, parameter in made.named_parameters():
        tensor = stored[names.name(name)]
        values = torch.from_numpy(np.array(quants.dequantize(tensor.data, tensor.tensor_type)))
        places = ordered(config, name, torch.arange(len(parameter)))
        with torch.no_grad():
            parameter[places] = values.reshape(parameter.shape).to(dtype)
    return made.eval()
