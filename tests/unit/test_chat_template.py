"""What a prompt begins with, where a reply ends, and which part of it the person sees: thoughts,
turns that a model writes for others, characters not whole yet, templates that never end."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM

from bench.random_weights import CHATML
from rlhf_chat.inference import loading
from rlhf_chat.inference.chat_template import (
    PLAIN_TEMPLATE,
    ChatTemplate,
    ChatTemplateError,
    inspect_template,
)
from rlhf_chat.inference.generate import Sampling, generate
from rlhf_chat.inference.graph_capture import StepCapture
from rlhf_chat.inference.model import Model
from tests.families import SIZE
from tests.tiny_models import make_tokenizer

TURNS = "{% for m in messages %}"
CHANNELS = (  # as gpt-oss
    TURNS + "{% if m['role'] == 'assistant' %}<|start|>assistant<|channel|>final<|message|>"
    "{{ m['content'] }}{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>"
    "{% endif %}{% else %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
CHANNEL_TOKENS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
THOUGHT_CHANNEL = (  # as Gemma 4, which may think although it is told not to
    TURNS + "<|turn>{{ m['role'] }}\n{{ m['content'].split('<channel|>')[-1] }}<turn|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn>model\n"
    "{% if not enable_thinking %}<|channel>thought\n<channel|>{% endif %}{% endif %}"
)
THOUGHT_TOKENS = ["<|turn>", "<turn|>", "<|channel>", "<channel|>"]
OWN_MARKERS = (  # a pair that no other model uses
    TURNS + "<|im_start|>{{ m['role'] }}\n{% if m['reasoning_content'] %}<ponder>"
    "{{ m['reasoning_content'] }}</ponder>\n{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILY = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}"
FLAG = "\U0001f1e9\U0001f1ea"
SIGNS = [
    "cafe\u0301 ole\u0301",
    f"we are {FAMILY}{FAMILY} here",
    "good \N{THUMBS UP SIGN}\U0001f3fd!",
    f"{FLAG}{FLAG} and {FLAG}",
    "love \N{HEAVY BLACK HEART}\ufe0f 1\ufe0f\u20e3 \N{WAVING BLACK FLAG}\U000e0067\U000e007f.",
    "नमस्ते क्षत्रिय",
    "海は深い。",
]


def tokenizer_with(
    folder: Path, template: str, tokens: Sequence[str] = (), *, special: bool = True
) -> Any:
    tokenizer = make_tokenizer(folder)
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    tokenizer.chat_template = template
    return tokenizer


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def shown(learned: ChatTemplate, tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What a person sees of a reply, token by token, and of the whole at the end."""
    parts = [
        learned.decode_reply(tokenizer, ids[:length], partial=True)
        for length in range(1, len(ids) + 1)
    ]
    return [*parts, learned.decode_reply(tokenizer, ids)]


# ---------------------------------------------------------------------- thoughts


@pytest.mark.parametrize(
    ("template", "tokens", "special", "before"),
    [
        (CHATML, ["<think>", "</think>"], False, "<think>\nthey want the sea\n</think>\n\n"),
        (CHATML, ["<think>", "</think>"], True, "<think>they want <think> </think>"),
        (CHATML, [], True, "\n<think>they want the sea</think>\n"),
        (THOUGHT_CHANNEL, THOUGHT_TOKENS, True, "<|channel>thought\nthey want it<channel|>\n"),
        (
            CHANNELS,
            CHANNEL_TOKENS,
            True,
            "<|channel|>analysis<|message|>they want it<|end|>"
            "<|start|>assistant<|channel|>final<|message|>",
        ),
        (OWN_MARKERS, [], True, "<ponder>they want the sea</ponder>\n"),
        (OWN_MARKERS, ["<ponder>", "</ponder>"], True, "<ponder>they want</ponder>\n"),
        (CHATML + "{# [THINK] [/THINK] #}", [], True, "[THINK]they want[/THINK]"),
    ],
)
def test_only_the_final_text_is_seen(
    template: str, tokens: list[str], special: bool, before: str, tmp_path: Path
) -> None:
    tokenizer = tokenizer_with(tmp_path, template, tokens, special=special)
    learned = inspect_template(tokenizer)
    assert not learned.opens_thought
    thought, final = ids_of(tokenizer, before), ids_of(tokenizer, "It is deep.")
    parts = shown(learned, tokenizer, thought + final)
    assert set(parts[: len(thought)]) == {""}
    assert parts[-1] == "It is deep."
    assert all(parts[-1].startswith(part) for part in parts)
    assert shown(learned, tokenizer, final)[-1] == "It is deep."  # without a thought


@pytest.mark.parametrize("tokens", [[], ["<think>", "</think>"]])
@pytest.mark.parametrize("text", ["Write <think> first.", "<think>x</think> is a tag"])
def test_a_reply_that_mentions_a_marker_stays_whole(
    tokens: list[str], text: str, tmp_path: Path
) -> None:
    """Spelled in letters where the marker is a token, or not at the beginning where it is not."""
    if not tokens and text.startswith("<"):
        text = f"`{text}"
    tokenizer = tokenizer_with(tmp_path, CHATML, tokens, special=False)
    learned = inspect_template(tokenizer)
    ids = learned.encode_text(tokenizer, text)
    assert learned.decode_reply(tokenizer, ids) == text
    assert learned.decode_reply(tokenizer, [*ids, 40], partial=True).startswith(text[:-8])


def test_a_word_that_is_a_marker_ends_no_reply_in_its_middle(tmp_path: Path) -> None:
    """Models whose markers are words of the vocabulary also write them when they speak of them."""
    tokenizer = tokenizer_with(tmp_path, CHATML, ["<think>", "</think>"], special=False)
    text = "I use <think> and </think> for it."
    assert inspect_template(tokenizer).decode_reply(tokenizer, ids_of(tokenizer, text)) == text


def test_a_typed_reply_on_channels_is_read_back(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, CHANNELS, CHANNEL_TOKENS)
    learned = inspect_template(tokenizer)
    for text in ("It is deep.", "a<|end|><|channel|>analysis<|message|>b"):
        ids = learned.encode_text(tokenizer, text)
        assert learned.decode_reply(tokenizer, ids) == text
        assert tokenizer.decode(ids).startswith("<|channel|>final<|message|>")
    assert tokenizer.convert_ids_to_tokens(list(learned.stop_ids)) == ["<|return|>"]


def test_the_end_of_a_thought_does_not_end_the_reply(tmp_path: Path) -> None:
    """Also where the template ends every message with the same token."""
    tokenizer = tokenizer_with(
        tmp_path, CHANNELS.replace("<|return|>", "<|end|>"), CHANNEL_TOKENS[:-1]
    )
    learned = inspect_template(tokenizer)
    thought = ids_of(tokenizer, "<|channel|>analysis<|message|>they want it<|end|>")
    final = ids_of(tokenizer, "<|start|>assistant<|channel|>final<|message|>It is deep.<|end|>")
    assert not learned.stop_ids and learned.stop_length(tokenizer, thought) is None
    whole = thought + final
    assert learned.stop_length(tokenizer, whole) == len(whole)
    assert learned.decode_reply(tokenizer, whole) == "It is deep."


# ---------------------------------------------------------------------- turns of others


def test_a_model_without_a_template_stops_before_the_next_turn(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, PLAIN_TEMPLATE)
    learned = inspect_template(tokenizer)
    assert learned.stop_texts == ("\nUser:", "\nSystem:", "\nAssistant:")
    for role in ("User", "System", "Assistant"):
        text = f" It is deep. User: no.\n{role}: and the sky"
        ids = ids_of(tokenizer, text)
        parts = shown(learned, tokenizer, ids)
        assert parts[-1] == " It is deep. User: no."
        assert all(parts[-1].startswith(part.rstrip("\n")) for part in parts)
        lengths = [learned.stop_length(tokenizer, ids[:n]) for n in range(1, len(ids) + 1)]
        first = next(length for length in lengths if length)
        kept = learned.decode_reply(tokenizer, ids[:first])
        assert kept.rstrip() == parts[-1] and lengths.index(first) < len(ids) - 3
    assert learned.stop_length(tokenizer, ids_of(tokenizer, "\nUser:")) == 1


def test_a_template_with_an_end_token_has_no_stop_texts(tmp_path: Path) -> None:
    learned = inspect_template(tokenizer_with(tmp_path, CHATML))
    assert learned.stop_ids and not learned.stop_texts


def test_rows_end_where_the_next_turn_begins(toy: Model) -> None:
    """The ids of the next turn are no part of the response, which counts as ended."""
    prompts = [toy.encode([{"role": "user", "content": text}]) for text in ("hello", "the sea")]
    sampling = Sampling(temperature=0.0, max_new_tokens=12)
    whole = [r.ids for r in toy.sample(toy.live, prompts, sampling, seed=0)]

    def stop(ids: list[int]) -> int | None:
        return 5 if ids == whole[1][:8] else None

    *_, responses = generate(
        toy.live.tree,
        prompts,
        sampling,
        end_ids=toy.end_ids,
        pad=toy.pad_id,
        seed=0,
        turn=toy.lease.turn,
        step_capture=StepCapture(),
        stop=stop,
    )
    assert responses[0].ids == whole[0]
    assert responses[1].ids == whole[1][:5] and responses[1].finished


# ---------------------------------------------------------------------- the beginning of a text


@pytest.mark.parametrize("printed", [0, 1, 2])
@pytest.mark.parametrize("added", [False, True])
def test_a_prompt_begins_with_one_bos_token(added: bool, printed: int, tmp_path: Path) -> None:
    """Whether the template writes it, the tokenizer adds it, both, or neither."""
    tokenizer = tokenizer_with(tmp_path, "{{ bos_token }}" * printed + CHATML, ["<s>"])
    tokenizer.bos_token = "<s>"
    if added:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            "<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    learned = inspect_template(tokenizer)
    ids = learned.encode(tokenizer, [{"role": "user", "content": "hello <s>"}])
    wanted = 1 if added or printed else 0
    assert ids.count(tokenizer.bos_token_id) == wanted
    assert (ids[0] == tokenizer.bos_token_id) == bool(wanted)
    assert tokenizer.bos_token_id not in learned.encode_text(tokenizer, "hello")


# ---------------------------------------------------------------------- characters


@pytest.mark.parametrize("text", SIGNS)
def test_no_character_is_seen_in_parts(text: str, tmp_path: Path) -> None:
    """Byte by byte: at no time does the text end in a part of a character."""
    tokenizer = tokenizer_with(tmp_path, CHATML)
    ids = ids_of(tokenizer, text)
    parts = shown(inspect_template(tokenizer), tokenizer, ids)
    assert parts[-1] == text
    for part in parts:
        assert text.startswith(part) and "\ufffd" not in part
        rest = text[len(part) :]
        if part and rest:
            assert not unicodedata.category(rest[0]).startswith("M")
            assert "\u200d" not in (rest[0], part[-1])
            assert not 0x1F3FB <= ord(rest[0]) <= 0x1F3FF and ord(rest[0]) < 0xE0000
            assert unicodedata.combining(part[-1]) != 9
            flags = len(part) - len(part.rstrip(FLAG))
            assert not (rest[0] in FLAG and flags % 2)
    assert len(parts[-2]) >= len(text) - 8  # no more than a sign is held back


def test_a_character_that_never_becomes_whole_is_not_shown(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, CHATML)
    ids = ids_of(tokenizer, "good \N{THUMBS UP SIGN}")
    assert shown(inspect_template(tokenizer), tokenizer, ids[:-1])[-1] == "good "


# ---------------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "time"),
        ("{{ 9 ** (9 ** 9) }}", "time"),
        ("{{ 'a' * 10 ** 10 }}", "memory"),
        ("{% for i in range(99999) %}{{ messages[0].content * 99 }}{% endfor %}", "length"),
    ],
)
def test_a_template_without_limits_is_refused(hostile: str, code: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, hostile + CHATML)
    started = time.monotonic()
    with pytest.raises(ChatTemplateError) as told:
        inspect_template(tokenizer)
    assert time.monotonic() - started < 8
    assert told.value.code == f"model.template_{code}"


@pytest.mark.parametrize("broken", ["{{ range(10 ** 9) }}", "{{ messages.foo.bar }}", "{% if %}"])
def test_a_template_that_fails_is_refused_with_one_sentence(broken: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, broken + CHATML)
    with pytest.raises(ChatTemplateError) as told:
        inspect_template(tokenizer)
    assert told.value.code == "model.chat_template" and "\n" not in str(told.value)


def test_a_configuration_cannot_name_a_kernel_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would fetch such a kernel from the hub and run it."""
    from transformers.integrations import hub_kernels

    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", fetch)
    tokenizer = make_tokenizer(tmp_path)
    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(**(SIZE | ids | {"vocab_size": len(tokenizer), "num_hidden_layers": 1}))
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    for key in ("attn_implementation", "_attn_implementation"):
        told = json.loads((tmp_path / "config.json").read_text())
        told[key] = "somebody/own-attention"
        (tmp_path / "config.json").write_text(json.dumps(told))
        base, *_ = loading.load(str(tmp_path), quantization="none", device="cpu")
        assert base.config._attn_implementation in ("eager", "sdpa")
