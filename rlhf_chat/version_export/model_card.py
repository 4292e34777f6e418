"""The README.md of an exported version: what is known of it, and how each program loads it.

Every sentence states a stored fact or a measured figure, or is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlhf_chat.inference.generate import Sampling
from rlhf_chat.version_export.facts import Facts
from rlhf_chat.version_export.merge_gap import TOKENS, Gap

KINDS = {
    "comparison": "comparison",
    "correction": "correction",
    "ranking": "ranking",
    "stars": "star rating",
    "thumb": "thumb",
}
LIBRARIES = {"peft": "peft", "merged": "transformers", "gguf": "gguf"}
WEIGHTS_OF = {
    "trained": "the base as it was trained on (its linear layers in NF4, dequantised)",
    "original": "the base's original weights, which the adapter was not trained on",
}


@dataclass(frozen=True)
class Contents:
    """What the folder holds. `model` and `adapter` are paths from it."""

    form: str  # peft, merged or gguf
    kind: str  # f16, q8_0 or q4_0 of a GGUF file; "" for others
    base: str  # trained or original; "" for an adapter alone
    model: str = ""
    adapter: str = ""


def model_card(facts: Facts, contents: Contents, gap: Gap | None) -> str:
    parts = [
        _front_matter(facts, contents),
        _about(facts, contents),
        _learned(facts),
        _checked(facts),
        _distance(facts, contents, gap),
        _sampling(facts.sampling),
        _loading(facts, contents),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def title(facts: Facts) -> str:
    return f"{facts.base.name.split('/')[-1]} v{facts.number}"


def _front_matter(facts: Facts, contents: Contents) -> str:
    rows = [("license", facts.base.licence), ("base_model", facts.base.hub)]
    rows += [("library_name", LIBRARIES[contents.form]), ("pipeline_tag", "text-generation")]
    told = [f"{key}: {value}" for key, value in rows if value]
    tags = ["tags:", "- rlhf", "- lora", "- rlhf-chat"]
    return "\n".join(["---", *told, *tags, "---"])


def _about(facts: Facts, contents: Contents) -> str:
    what = {
        "peft": "A LoRA adapter for PEFT",
        "merged": "A model for transformers",
        "gguf": f"A GGUF model ({contents.kind.upper()}) for llama.cpp, Ollama and LM Studio",
    }[contents.form]
    given = f', named "{facts.given_name}"' if facts.given_name else ""
    lines = [
        f"# {title(facts)}",
        f"{what}: version {facts.number}{given} of {facts.base.name}, trained with RLHF Chat on "
        f"{facts.created_at[:10]} from {_parent(facts.parent)}.",
        _base(facts),
    ]
    if contents.base:
        lines.append(f"The adapter is merged into {_weights(facts, contents.base)}.")
    return "\n\n".join(lines)


def _parent(parent: int) -> str:
    return f"version {parent}" if parent else "the base"


def _weights(facts: Facts, base: str) -> str:
    return "the base's weights" if facts.quantization == "none" else WEIGHTS_OF[base]


def _base(facts: Facts) -> str:
    base = facts.base
    bits = "its linear layers in 4 bits (NF4)" if facts.quantization == "nf4" else "not quantised"
    told = f"Base: {base.name}, {bits} while it was trained and served."
    if base.gguf_source:
        told += f" Its weights were read from the GGUF file `{base.gguf_source}`."
    if base.licence:
        return f"{told} Licence of the base: {base.licence}."
    return f"{told} The licence of the base is not known here; look at where the base came from."


# ---------------------------------------------------------------------- what it learned


def _learned(facts: Facts) -> str:
    lines = ["## What it learned from"]
    counted = [_counted(count, KINDS.get(kind, kind)) for kind, count in facts.ratings.items()]
    if counted:
        raters = "by a simulated rater" if facts.simulated else "by people"
        lines.append(
            f"Ratings {raters} that were there when its round of training began and that still "
            f"count: {', '.join(counted)}."
        )
    else:
        lines.append("How many ratings its round of training had is not kept.")
    if facts.changed:
        lines.append(
            "What changed most in its replies to prompts that it was not trained on, in standard "
            "deviations of the base's replies, and the weight of each feature in the fitted reward:"
        )
        lines.append(_table(("feature", "change", "weight"), facts.changed))
    return "\n\n".join(lines)


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _checked(facts: Facts) -> str:
    lines = ["## How it was checked"]
    if facts.gate:
        lines.append(f"Gate: {facts.gate}")
    if facts.checks:
        passed = [name.replace("_", " ") for name, good in facts.checks if good]
        lines.append(f"Checks passed: {', '.join(passed)} ({len(passed)} of {len(facts.checks)}).")
    if facts.kl is not None:
        lines.append(f"KL from the base, measured at the gate: {facts.kl:.3f} nats per reply.")
    lines.append(_blind_record(facts))
    return "\n\n".join(lines)


def _blind_record(facts: Facts) -> str:
    standing = facts.standing
    if standing is None or not standing.record.votes:
        return "Blind votes against the base: none."
    won = standing.record
    told = (
        f"Blind votes against the base: {won.wins} won, {won.losses} lost, {won.ties} tied; "
        f"win rate {won.win_rate:.0%}, "
        f"95% confidence sequence {standing.low:.0%} to {standing.high:.0%} "
        "(valid however often one looked)."
    )
    if standing.proved:
        return f"{told} That proves it better than the base, with an error of at most 1 in 20."
    return f"{told} That does not prove it better than the base."


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    names = list(heads)
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    lines += [f"| {' | '.join(_cell(one) for one in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:+.2f}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------- the measured gap


def _distance(facts: Facts, contents: Contents, gap: Gap | None) -> str:
    if contents.form == "peft":
        return ""
    head = "## How far it is from what the app served"
    if gap is None:
        return f"{head}\n\nNot measured."
    served = f"computed in {gap.served_dtype}"
    lines = [
        head,
        f"Served: {_served(facts)} {served}. This export: read back from its files, computed in "
        f"{gap.dtype}; a program that runs it adds rounding of its own.",
        _table(
            ("measured", "value"),
            (
                ("KL per token along the served replies", f"{gap.kl:.4f} nats"),
                ("same next token along the served replies", f"{gap.same_next:.1%}"),
                (
                    f"same greedy reply, first {TOKENS} tokens, place by place",
                    f"{gap.same_tokens:.1%} ({gap.same_replies} of {gap.prompts} replies whole)",
                ),
                (
                    "loss on a page of text, served and exported",
                    f"{gap.loss_served:.3f} and {gap.loss_exported:.3f} nats per token",
                ),
            ),
        ),
        f"{gap.prompts} prompts, {gap.tokens} tokens. After the first different token a greedy "
        "reply goes its own way, so the third figure falls quickly.",
    ]
    return "\n\n".join(lines)


def _served(facts: Facts) -> str:
    return (
        "the 4-bit base and the adapter"
        if facts.quantization == "nf4"
        else "the base and the adapter"
    )


# ---------------------------------------------------------------------- using it


def _sampling(drawn: Sampling) -> str:
    return (
        "## Sampling\n\nAs it was trained, compared and measured: "
        f"temperature {drawn.temperature:g}, top_p {drawn.top_p:g}, "
        f"top_k {drawn.top_k or 'off'}, no repetition penalty."
    )


def _loading(facts: Facts, contents: Contents) -> str:
    makers = {"peft": _load_peft, "merged": _load_merged, "gguf": _load_gguf}
    return "## Loading it\n\n" + makers[contents.form](facts, contents)


def _load_peft(facts: Facts, contents: Contents) -> str:
    base = facts.base
    if base.gguf_source and not base.hub:
        return (
            "The base is a GGUF file, which PEFT does not load by itself: load it with "
            "transformers' `gguf_file=`, or export the merged form instead."
        )
    name = base.hub or base.path
    options = "dtype=torch.bfloat16"
    if facts.quantization == "nf4":
        options += (
            ",\n    quantization_config=BitsAndBytesConfig(load_in_4bit=True, "
            'bnb_4bit_quant_type="nf4",\n        bnb_4bit_use_double_quant=True, '
            "bnb_4bit_compute_dtype=torch.bfloat16),"
        )
    code = (
        "import torch\nfrom peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{name}", {options})\n'
        'model = PeftModel.from_pretrained(base, "THIS FOLDER")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")'
    )
    told = f"```python\n{code}\n```"
    if base.gguf_source:
        told += (
            f"\n\nThe app's copy of the base was read from `{base.gguf_source}`; the weights on "
            "the hub are not quantised like that, so replies differ a little."
        )
    return told


def _load_merged(facts: Facts, contents: Contents) -> str:
    return (
        "```python\nfrom transformers import pipeline\n\n"
        'chat = pipeline("text-generation", "THIS FOLDER")\n'
        'chat([{"role": "user", "content": "Hello"}])\n```\n\n'
        "RLHF Chat: `rlhf-chat --model FOLDER`."
    )


def _load_gguf(facts: Facts, contents: Contents) -> str:
    layout, name = contents.model.split("/")[0], f"{facts.base.slug}-v{facts.number}"
    return "\n".join(
        (
            f"- Ollama, in this folder: `ollama create {name} -f Modelfile`",
            f"- LM Studio: copy `{layout}` into its models folder (`~/.lmstudio/models`)",
            f"- llama.cpp: `llama-cli --jinja -m {contents.model}`",
            "- llama.cpp, the adapter above another file of the same base: "
            f"`llama-cli --jinja -m BASE.gguf --lora {contents.adapter}`",
            f"- RLHF Chat: `rlhf-chat --model {contents.model}`",
        )
    )


def as_json(facts: Facts, contents: Contents, gap: Gap | None) -> Mapping[str, Any]:
    """The same for programs, in export.json."""
    return {
        "version": facts.number,
        "base_model": facts.base.name,
        "form": contents.form,
        "type": contents.kind or None,
        "merged_into": contents.base or None,
        "gap": gap.as_dict() if gap else None,
    }
