"""GGUF files: read through transformers' own reader, and converted to a folder it loads quickly.

A GGUF file holds configuration, tokenizer and weights in the quantisation of llama.cpp. The weights
are dequantised once; what is done with them then (NF4, adapters) is the same as for any other
model. Reading 49,152 tokens and their merges takes seconds each time, so a file that the app
fetched itself is converted once (`convert`); a person's own file is read where it lies.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, Keys
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as hf_logging

MAGIC = b"GGUF"
SOURCE = "source.json"  # beside a converted model: the file it was made from


def is_gguf(path: str | Path) -> bool:
    """Whether this is a file that begins as GGUF files do, whatever its name: Ollama names its
    files by their hash."""
    path = Path(path)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.gguf"))


def read_config(path: Path) -> Any:
    """The configuration. Raises what transformers raises, for an architecture it cannot read."""
    return AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name)


def read_tokenizer(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)


def read_model(path: Path, config: Any, dtype: torch.dtype) -> Any:
    """The model with its weights dequantised to `dtype`, on the CPU. Raises what transformers
    raises, for a quantisation it cannot read."""
    return AutoModelForCausalLM.from_pretrained(
        str(path.parent),
        gguf_file=path.name,
        config=config,
        dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
    )


def convert(path: Path, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes the model as config.json, safetensors and tokenizer into `folder`, whole or not at
    all. The weights go into a new model of the same configuration, because transformers does not
    save one that it read from GGUF."""
    hf_logging.disable_progress_bar()  # of the writing, which takes no time
    config = read_config(path)
    source = read_model(path, config, dtype)
    plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.load_state_dict(source.state_dict())
    plain.tie_weights()
    plain.generation_config = source.generation_config
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    plain.save_pretrained(unfinished)
    read_tokenizer(path).save_pretrained(unfinished)
    note = {"file": path.name, "sha256": sha256(path), "pre": pre_tokenizer(path)}
    (unfinished / SOURCE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def pre_tokenizer(path: Path) -> str:
    """llama.cpp's name for how the file's tokenizer cuts a text; "" if it names none. transformers
    does not keep it."""
    field = GGUFReader(path).fields.get(Keys.Tokenizer.PRE)
    return str(field.contents()) if field else ""


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
