"""The tokenizer in a GGUF file: copied where the base is a GGUF file, else built from
tokenizer.json.

llama.cpp knows the regular expressions by which a text is cut before its pieces are merged by name
(`tokenizer.ggml.pre`). The name is found by the expressions in tokenizer.json; with a wrong one the
model would read other tokens than here, so an unknown one is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter, TokenType

from rlhf_chat.errors import ExportError, Notice
from rlhf_chat.inference.chat_template import ChatTemplate

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = {  # in tokenizer.json -> llama.cpp's name
    f"{_LETTERS}\\p{{N}}{{1,3}}{_REST}": "llama-bpe",
    f"{_LETTERS}\\p{{N}}{_REST}": "qwen2",
}
SMOLLM, GPT2 = "smollm", "gpt-2"
PREFIX = "tokenizer."


def copy(writer: GGUFWriter, file: Path) -> None:
    """All that a GGUF file says of its tokenizer, chat template included."""
    for key, field in GGUFReader(file).fields.items():
        if key.startswith(PREFIX):
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, inner)


def build(
    writer: GGUFWriter, tokenizer: Any, template: ChatTemplate, vocabulary_size: int, pre: str = ""
) -> None:
    """`pre`: the name, where it is known. Raises ExportError for what is no byte-level BPE, or has
    expressions that are not known here."""
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    name = pre or pre_tokenizer_name(told)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    tokens, types = _vocabulary(told, vocabulary_size)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = [one if isinstance(one, str) else " ".join(one) for one in told["model"]["merges"]]
    writer.add_token_merges(merges)
    _add_special(writer, tokenizer, template)
    writer.add_add_bos_token(template.adds_bos)
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _add_special(writer: GGUFWriter, tokenizer: Any, template: ChatTemplate) -> None:
    named = {
        writer.add_bos_token_id: tokenizer.bos_token_id,
        writer.add_eos_token_id: tokenizer.eos_token_id,
        writer.add_unk_token_id: tokenizer.unk_token_id,
        writer.add_pad_token_id: tokenizer.pad_token_id,
        writer.add_eot_token_id: min(template.stop_ids, default=None),
    }
    for add, number in named.items():
        if number is not None:
            add(number)


def _vocabulary(told: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """The token and its type of every row of the embeddings."""
    added = {one["content"]: one for one in told["added_tokens"]}
    numbers = {**told["model"]["vocab"], **{text: one["id"] for text, one in added.items()}}
    texts = {number: text for text, number in numbers.items()}
    tokens, types = [], []
    for number in range(max(size, max(texts) + 1)):
        text = texts.get(number)
        kind = TokenType.NORMAL if text is not None else TokenType.UNUSED
        if text in added:
            kind = TokenType.CONTROL if added[text]["special"] else TokenType.USER_DEFINED
        tokens.append(f"[PAD{number}]" if text is None else text)
        types.append(int(kind))
    return tokens, types


def pre_tokenizer_name(told: Mapping[str, Any]) -> str:
    """llama.cpp's name for how this tokenizer.json cuts a text. Raises ExportError."""
    model, steps = told["model"], _steps(told["pre_tokenizer"])
    if model["type"] != "BPE" or model.get("byte_fallback") or "ByteLevel" not in steps:
        why = Notice("export.gguf_tokenizer", {"kind": _kind(model)})
        raise ExportError("export.no_gguf", reason=why)
    cut = [(kind, one) for kind, one in steps.items() if kind != "ByteLevel"]
    name = ""
    if not cut and steps["ByteLevel"]["use_regex"]:
        name = GPT2
    elif [kind for kind, _ in cut] == ["Digits"] and steps["ByteLevel"]["use_regex"]:
        name = SMOLLM if cut[0][1]["individual_digits"] else ""
    elif [kind for kind, _ in cut] == ["Split"] and not steps["ByteLevel"]["use_regex"]:
        name = EXPRESSIONS.get(str(cut[0][1]["pattern"].get("Regex")), "")
    if not name:
        raise ExportError("export.no_gguf", reason=Notice("export.gguf_pre_tokenizer"))
    return name


def _kind(model: Mapping[str, Any]) -> str:
    return "SentencePiece" if model.get("byte_fallback") else str(model["type"])


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """The kind of each step -> its settings."""
    if not pre_tokenizer:
        return {}
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return {str(one["type"]): one for one in parts}
