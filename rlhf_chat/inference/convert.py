"""A model whose weights are pickled, written again as safetensors. Done only when asked for."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_chat.errors import ModelError
from rlhf_chat.inference.loading import configuration_of, first_line


def convert(folder: Path, target: Path) -> None:
    """Reads pytorch_model.bin of `folder` with an unpickler that makes tensors and nothing else
    (transformers always asks torch for weights only). Raises ModelError."""
    if target.exists():
        raise ModelError("model.target_exists", target=str(target))
    if not any(folder.glob("pytorch_model*.bin")):
        raise ModelError("model.no_pickle", name=str(folder))
    try:
        config = configuration_of(str(folder))
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, use_safetensors=False, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever four libraries raise over what they cannot read
        raise ModelError("model.unreadable", name=str(folder), error=first_line(error)) from error
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
