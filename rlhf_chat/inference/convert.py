"""A model whose weights are pickled, written again as safetensors. Done only when asked for."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf_chat.inference.loading import ModelError, configuration_of, first_line


def convert(folder: Path, target: Path) -> None:
    """Reads pytorch_model.bin of `folder` with an unpickler that makes tensors and nothing else
    (transformers always asks torch for weights only). Raises ModelError with one sentence."""
    if target.exists():
        raise ModelError(f"{target} exists already: name a folder that does not.")
    if not any(folder.glob("pytorch_model*.bin")):
        raise ModelError(f"The folder {folder} holds no pytorch_model.bin.")
    try:
        config = configuration_of(str(folder))
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, use_safetensors=False, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever four libraries raise over what they cannot read
        raise ModelError(f"The model {folder} cannot be read: {first_line(error)}.") from error
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
