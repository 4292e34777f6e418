"""Loads a model: name -> files -> frozen base (NF4 by default) and tokenizer.

A name is `demo`, `pocket`, a folder, a GGUF file, an Ollama model or a hub id. Models that cannot
chat and learn here are refused with a reason, before any weights are read. Reads safetensors and
GGUF only, and never runs code from a model repository.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import constants, is_offline_mode
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from rlhf_chat.errors import ModelError, Notice
from rlhf_chat.inference import (
    chat_template,
    gguf,
    local_models,
    nf4,
    precision,
    presets,
    weight_files,
)
from rlhf_chat.inference.model_cache import converted

log = logging.getLogger(__name__)

DEMO = Path(__file__).parent.parent / "demo_model" / "weights"
CAUSAL_LM_SUFFIXES = ("CausalLM", "LMHeadModel", "ForConditionalGeneration")
TEXT_KEY_MAPPING = {  # weight names of the language model in multimodal checkpoints
    r"^(model\.)?language_model\.lm_head": "lm_head",
    r"^(model\.)?language_model\.(?!lm_head)(model\.)?": "model.",
}
RECURRENT = ("mamba", "rwkv", "recurrent", "xlstm", "zamba", "jamba", "falcon_h1", "nemotron_h")
# What is hashed of a weight file: its beginning, and evenly spaced blocks of the rest to its end.
HASHED_START_BYTES = 16 << 20
BLOCKS, BLOCK_BYTES = 64, 256 << 10

Report = Callable[[str], None]  # is told the code of each step when it begins


def no_report(step: str) -> None:
    """A `Report` that nobody reads."""


class Loaded(NamedTuple):
    """A base model and its tokenizer."""

    base: Any  # a transformers causal LM, its linear layers in NF4 if requested
    tokenizer: Any
    base_hash: str  # 16 hex digits that identify the weights


def load(
    name: str,
    quantization: str = "nf4",
    device: str | None = None,
    report: Report = no_report,
) -> Loaded:
    """Loads the model `name`. `quantization`: nf4 or none. `device`: default cuda if there is one.
    Reports `reading` and `packing`, or `fetching` alone for a model that is downloaded while it is
    loaded. Raises ModelError."""
    if quantization not in ("nf4", "none"):
        raise ModelError("model.unknown_quantization", given=quantization)
    path = resolve(name)
    local = Path(path).exists()
    if local:
        hf_logging.disable_progress_bar()  # useful for downloads only
    if not local and not presets.is_here(path):
        report("fetching")
        report = no_report
    report("reading")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    config = configuration(name)
    refuse_unsuitable(name, config, quantization)
    dtype = torch.bfloat16 if device.startswith("cuda") else precision.cpu_dtype(config)
    if gguf.is_gguf(path):
        base, tokenizer = _load_gguf(name, Path(path), config, quantization, dtype, device, report)
    else:
        base, tokenizer = _load_folder(name, path, config, quantization, dtype, device, report)
    nf4.prepare_for_cpu(base, dtype)
    if not tokenizer.chat_template:
        tokenizer.chat_template = chat_template.PLAIN_TEMPLATE
    return Loaded(base, tokenizer, _weights_hash(path, base))


def _load_gguf(
    name: str,
    file: Path,
    config: Any,
    quantization: str,
    dtype: torch.dtype,
    device: str,
    report: Report,
) -> tuple[Any, Any]:
    """(base, tokenizer) of a GGUF file, its weights dequantised, then quantised to NF4 if
    requested."""
    with _as_model_error(name, "", "tokenizer"):
        tokenizer = gguf.read_tokenizer(file)
    with _as_model_error(name, "", "weights"):
        base = gguf.read_model(file, config, dtype)
        if quantization == "nf4":
            report("packing")
            nf4.quantize_linears(base, dtype)
        return base.to(device), tokenizer


def _load_folder(
    name: str,
    path: str,
    config: Any,
    quantization: str,
    dtype: torch.dtype,
    device: str,
    report: Report,
) -> tuple[Any, Any]:
    """(base, tokenizer) of a folder or hub id. Weights already stored in 4 bits are not quantised
    again."""
    with _as_model_error(name, "tokenizer.json", "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    quantize = quantization == "nf4" and not _quantization_method(config)
    if quantize:
        report("packing")  # each tensor as soon as it is read
    with _as_model_error(name, "", "weights"):
        if Path(path).is_dir():
            weight_files.check_headers(Path(path))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            config=_text_config(config),
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=False,
            quantization_config=nf4.config(dtype) if quantize else None,
            key_mapping=None if config.get_text_config() is config else TEXT_KEY_MAPPING,
            output_loading_info=True,
        )
    base, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ModelError("model.tensor_missing", name=name, tensor=missing[0])
    return base, tokenizer


def load_original(name: str) -> Any:
    """The base with its weights as they are on the disk, on the CPU: not quantised again, in the
    precision of the files (a GGUF file: dequantised). Raises ModelError; where the files hold four
    bits alone, too."""
    path, config = resolve(name), configuration(name)
    if _quantization_method(config):
        raise ModelError("model.no_original", name=name)
    if gguf.is_gguf(path):
        with _as_model_error(name, "", "weights"):
            return gguf.read_model(Path(path), config, torch.float32)
    dtype = getattr(config.get_text_config(), "dtype", None) or torch.float32
    return _load_folder(name, path, config, "none", dtype, "cpu", no_report)[0]


def plain_text_config(config: Any) -> Any:
    """A copy of a loaded model's configuration that says nothing of how it was quantised here."""
    plain = copy.deepcopy(config.get_text_config())
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    return plain


def configuration(name: str) -> Any:
    """The model configuration; for a hub id this downloads config.json only. Raises ModelError."""
    path = resolve(name)
    with _as_model_error(name, "config.json", "config.json"):
        if gguf.is_gguf(path):
            return gguf.read_config(Path(path))
        return configuration_of(path)


def configuration_of(path: str) -> Any:
    """The configuration of a folder or hub id. Raises what transformers raises."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    _reset_custom_attention(config)
    return config


def _reset_custom_attention(config: Any) -> None:
    """Makes transformers choose one of its own attention implementations. A config.json may name a
    kernel, which transformers would download from the hub and run."""
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        if getattr(part, "_attn_implementation", None) not in (None, "eager", "sdpa"):
            part._attn_implementation = None


@contextmanager
def _as_model_error(name: str, file: str, what: str) -> Iterator[None]:
    """Turns any exception into a ModelError. For missing or damaged files the libraries raise
    KeyError, SafetensorError, OSError or plain Exception. `what` names the part being read, `file`
    the file it needs."""
    try:
        yield
    except Exception as error:
        log.info("loading %s failed", name, exc_info=True)
        raise _loading_failed(name, file, what, error) from error


def resolve(name: str) -> str:
    """A model name -> absolute path of a folder or GGUF file, or a hub id. Raises ModelError."""
    if name == "demo":
        if not (DEMO / "model.safetensors").is_file():
            raise ModelError("model.demo_missing")
        return str(DEMO)
    if name.startswith(local_models.OLLAMA):
        if file := local_models.ollama_file(name):
            return str(file)
        raise ModelError("model.not_in_ollama", name=name.removeprefix(local_models.OLLAMA))
    path = Path(name).expanduser()
    if gguf.is_gguf(path):
        return str(path.resolve())
    if path.is_dir():
        return _resolve_folder(name, path)
    if name in (presets.POCKET.name, presets.POCKET.hub):
        folder = converted(presets.POCKET.name)
        return str(folder) if folder else presets.POCKET.hub
    looks_like_a_path = path.is_absolute() or name.startswith(".") or name.count("/") != 1
    if looks_like_a_path:
        raise ModelError("model.not_found", name=name)
    return name


def _resolve_folder(name: str, folder: Path) -> str:
    """The folder itself if it has safetensors, else its only GGUF file. Raises ModelError."""
    if any(folder.glob("*.safetensors")):
        return str(folder.resolve())
    files = gguf.files_in(folder)
    if len(files) == 1:
        return str(files[0].resolve())
    if files:
        raise ModelError("model.several_gguf", name=name, count=len(files))
    if any(folder.glob("pytorch_model*.bin")):
        raise ModelError("model.pickled", name=name)
    raise ModelError("model.no_weights", name=name)


def _quantization_method(config: Any) -> str:
    """The quantisation method of the weights on disk; "" if they are not quantised."""
    found = getattr(config, "quantization_config", None) or {}
    settings = found if isinstance(found, dict) else found.to_dict()
    method = str(settings.get("quant_method") or "")
    four_bits = settings.get("load_in_4bit") or settings.get("_load_in_4bit")
    return "bitsandbytes in 4 bits" if method == "bitsandbytes" and four_bits else method


def refuse_unsuitable(name: str, config: Any, quantization: str = "nf4") -> None:
    """Raises ModelError for architectures and formats that cannot chat or be trained here."""
    kind = config.model_type
    architectures = getattr(config, "architectures", None) or []
    method = _quantization_method(config)
    if method == "bitsandbytes in 4 bits" and quantization == "nf4":
        method = ""
    if config.is_encoder_decoder:
        reason = Notice("model.encoder_decoder", {"kind": kind})
    elif architectures and not any(a.endswith(CAUSAL_LM_SUFFIXES) for a in architectures):
        reason = Notice("model.no_causal_lm", {"architecture": architectures[0]})
    elif any(word in kind for word in RECURRENT):
        reason = Notice("model.recurrent", {"kind": kind})
    elif method:
        reason = Notice("model.already_quantized", {"method": method})
    else:
        return
    raise ModelError("model.unusable", name=name, reason=reason)


def _text_config(config: Any) -> Any:
    """The language model's configuration, for multimodal models a part of the whole."""
    text = config.get_text_config()
    if text is not config and hasattr(config, "tie_word_embeddings"):
        text.tie_word_embeddings = config.tie_word_embeddings
    return text


def _loading_failed(name: str, file: str, what: str, error: Exception) -> ModelError:
    path = Path(resolve(name))
    if path.is_dir() and file and not (path / file).is_file():
        return ModelError("model.part_missing", name=name, part=what)
    if not path.exists() and (is_offline_mode() or "connect" in str(error).lower()):
        return ModelError("model.hub_unreachable", name=name)
    return ModelError("model.part_unreadable", name=name, part=what, error=first_line(error))


def first_line(error: Exception) -> str:
    """The first line of an error message, at most 200 characters, without a full stop at its end,
    to be put into a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(" .:")


def stay_offline() -> None:
    """Stops this process from contacting the hub. huggingface_hub reads the variable once, at
    import, so its constant is set as well; the variable is for child processes."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def inspect_tokenizer(tokenizer: Any, name: str) -> chat_template.ChatTemplate:
    """`chat_template.inspect_template`, raising ModelError instead of ChatTemplateError."""
    try:
        return chat_template.inspect_template(tokenizer)
    except chat_template.ChatTemplateError as error:
        raise ModelError("model.unusable", name=name, reason=error.notice) from error


def special_ids(tokenizer: Any, base: Any, stop_ids: frozenset[int]) -> tuple[int, frozenset[int]]:
    """The padding id, and all ids that end a reply: `stop_ids` of the chat template and the eos ids
    of generation config and tokenizer. Raises ModelError if there is none."""
    ends: set[int] = set(stop_ids)
    for value in (base.generation_config.eos_token_id, tokenizer.eos_token_id):
        if isinstance(value, int):
            ends.add(value)
        elif value:
            ends.update(value)
    if not ends:
        raise ModelError("model.no_end_token")
    pad = tokenizer.pad_token_id
    return (pad if pad is not None else min(ends)), frozenset(ends)


def _weights_hash(path: str, base: Any) -> str:
    """Identifies the base an adapter belongs to, by 16 hex digits: a hash of samples of the weight
    files and config.json, or of the hub commit."""
    digest = hashlib.sha256()
    folder = Path(path)
    if folder.is_file():
        digest.update(str(folder.stat().st_size).encode())
        for part in _sampled_bytes(folder):
            digest.update(part)
    elif (note := folder / gguf.SOURCE).is_file():  # converted by this app from a GGUF file
        digest.update(str(json.loads(note.read_text(encoding="utf-8"))["sha256"]).encode())
    elif folder.is_dir():
        for file in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
            digest.update(file.name.encode())
            digest.update(str(file.stat().st_size).encode())
            for part in _sampled_bytes(file):
                digest.update(part)
    else:
        digest.update(f"{path}@{getattr(base.config, '_commit_hash', None)}".encode())
    return digest.hexdigest()[:16]


def _sampled_bytes(file: Path) -> Iterator[bytes]:
    """The beginning of a file and evenly spaced blocks of the rest. The beginning alone does not
    tell fine-tunes apart: it holds the embeddings, which they often leave unchanged."""
    with file.open("rb") as stream:
        yield stream.read(HASHED_START_BYTES)
        size = file.stat().st_size
        if size <= HASHED_START_BYTES:
            return
        last = size - BLOCK_BYTES
        first = min(HASHED_START_BYTES, last)
        for i in range(BLOCKS):
            stream.seek(first + (last - first) * i // (BLOCKS - 1))
            yield stream.read(BLOCK_BYTES)
