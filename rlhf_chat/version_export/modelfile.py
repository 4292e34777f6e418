"""The Modelfile by which Ollama takes a GGUF file: its template, sampling and ends.

Ollama does not run chat templates; it has a language of its own. Templates that put fixed texts
around each message, as nearly all do, are found out by using them and written in it. Others are
left out, with a comment that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_chat.inference.chat_template import NO_THINKING
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model

SYSTEM, QUESTION, REPLY, NEXT = "saffron", "hazelnut", "plumtree", "cedarwood"
UNSAFE = ("{{", "}}", '"""')
NO_TEMPLATE = """\
# The chat template of this model cannot be written in Ollama's language by rule. Write a TEMPLATE
# for it, or use llama.cpp or LM Studio, which run the template in the file."""


@dataclass(frozen=True)
class FixedTemplate:
    """A chat template that puts fixed texts around each message."""

    before_system: str
    after_system: str
    before_user: str
    after_user: str  # up to where the assistant writes
    after_reply: str
    system: str  # what stands there if no system message is given; "" if nothing

    def in_go(self) -> str:
        """As Ollama's templates are written. A SYSTEM of the Modelfile is one of its messages."""
        return (
            '{{- range .Messages }}{{ if eq .Role "system" }}'
            f"{self.before_system}{{{{ .Content }}}}{self.after_system}"
            '{{ else if eq .Role "user" }}'
            f"{self.before_user}{{{{ .Content }}}}{self.after_user}"
            '{{ else if eq .Role "assistant" }}'
            f"{{{{ .Content }}}}{self.after_reply}"
            "{{ end }}{{ end }}"
        )


def fixed_template(tokenizer: Any) -> FixedTemplate | None:
    """None for a template that is more than fixed texts."""
    try:
        found = _fixed_texts(tokenizer)
        return found if found and _renders_the_same(tokenizer, found) else None
    except Exception:  # a template may raise whatever Python does
        return None


def _fixed_texts(tokenizer: Any) -> FixedTemplate | None:
    talk = [("user", QUESTION), ("assistant", REPLY), ("user", NEXT)]
    start, between, rest, after_user = _parts(_render(tokenizer, talk), QUESTION, REPLY, NEXT)
    after_reply = _render(tokenizer, talk[:2], ask=False).rpartition(REPLY)[2]
    if between != after_user or not rest.startswith(after_reply):
        return None
    before_user = rest.removeprefix(after_reply)
    told = _render(tokenizer, [("system", SYSTEM), *talk[:1]])
    before_system, inner, _ = _parts(told, SYSTEM, QUESTION)
    if not inner.endswith(before_user) or not start.endswith(before_user):
        return None
    after_system = inner[: len(inner) - len(before_user)]
    default = start[: len(start) - len(before_user)]
    if default and not (default.startswith(before_system) and default.endswith(after_system)):
        return None
    system = default[len(before_system) : len(default) - len(after_system)] if default else ""
    bos = str(tokenizer.bos_token or "")
    if bos and bos in tokenizer.convert_ids_to_tokens(tokenizer.encode("x")[:1]):
        before_system = before_system.removeprefix(bos)  # llama.cpp puts it there itself
    found = FixedTemplate(before_system, after_system, before_user, after_user, after_reply, system)
    texts = (before_system, after_system, before_user, after_user, after_reply, system)
    return None if any(sign in text for sign in UNSAFE for text in texts) else found


def _parts(text: str, *words: str) -> list[str]:
    """What stands around these words, in their order. Raises ValueError."""
    found = []
    for word in words:
        before, there, text = text.partition(word)
        if not there:
            raise ValueError(word)
        found.append(before)
    return [*found, text]


def _render(tokenizer: Any, talk: Sequence[tuple[str, str]], ask: bool = True) -> str:
    messages = [{"role": role, "content": content} for role, content in talk]
    return str(
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=ask, tokenize=False, **NO_THINKING
        )
    )


def _renders_the_same(tokenizer: Any, fixed: FixedTemplate) -> bool:
    """Of a conversation that the texts were not read from."""
    talk = [("system", "a b"), ("user", "c"), ("assistant", "d"), ("user", "e\nf")]
    texts = {
        "system": (fixed.before_system, fixed.after_system),
        "user": (fixed.before_user, fixed.after_user),
        "assistant": ("", fixed.after_reply),
    }
    made = "".join(f"{texts[role][0]}{content}{texts[role][1]}" for role, content in talk)
    return _render(tokenizer, talk).endswith(made)


def modelfile(model: Model, file: str, adapter: str, sampling: Sampling, licence: str) -> str:
    """The text of a Modelfile. `file`, `adapter`: paths from its folder."""
    tokenizer = model.tokenizer
    fixed = fixed_template(tokenizer)
    lines = [
        "# ollama create NAME -f Modelfile",
        f"FROM ./{file}",
        "# The adapter alone, above another GGUF file of the same base: FROM that file, and",
        f"# ADAPTER ./{adapter}",
    ]
    lines += [f'TEMPLATE """{fixed.in_go()}"""'] if fixed else NO_TEMPLATE.splitlines()
    if fixed and fixed.system:
        lines.append(f'SYSTEM """{fixed.system}"""')
    given = parameters(sampling, model.context_tokens)
    lines += [f"PARAMETER {name} {value}" for name, value in given.items()]
    ends = [str(tokenizer.convert_ids_to_tokens(i)) for i in sorted(model.end_ids)]
    ends += list(model.chat_template.stop_texts)
    lines += [f"PARAMETER stop {_quoted(end)}" for end in ends if '"""' not in end]
    if licence:
        lines.append(f'LICENSE """{licence}"""')
    return "\n".join(lines) + "\n"


def parameters(sampling: Sampling, context: int) -> Mapping[str, str]:
    """Ollama's own defaults are top_k 40, in older versions a repetition penalty of 1.1, and 2,048
    tokens of context, of which it silently drops the oldest; the app has none of these."""
    return {
        "temperature": f"{sampling.temperature:g}",
        "top_p": f"{sampling.top_p:g}",
        "top_k": f"{sampling.top_k}",
        "repeat_penalty": "1.0",
        "num_ctx": str(context),
    }


def _quoted(text: str) -> str:
    """A value as Ollama reads it: there are no escapes, and a text may go over several lines."""
    return f'"""{text}"""' if any(sign in text for sign in '"\n') else f'"{text}"'
