"""Writes the demo model's card from the figures of `check`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from . import wording as w
from .topics import TOPICS

TEMPLATE = """\
---
language: en
license: apache-2.0
pipeline_tag: text-generation
---
# The bundled demo model

A tiny chat model for trying the whole loop (chat, rate, train, compare) without a download and
without a graphics card. It goes through the same 4-bit and LoRA path as a real model.

**What it is.** A Llama of {parameters:.1f} million parameters ({layers} layers, width
{hidden_size}, {vocab_size} tokens, {context} positions), trained from scratch on conversations
written by a generator. It knows {facts} short facts about {topics} everyday topics and {talk}
kinds of small talk, in English, with follow-ups such as "Tell me more." or "Can you give an
example?". Each reply draws its style at random: short or long, formal or casual, warm or plain,
list or prose, with or without a hedge, an example, a good wish, a closing question and an emoji.
Those are what ratings can teach it.

**What it is not.** It is not a source of knowledge. It does not reason, count, translate or write
code; it says that it does not know. It knows nothing that is not in its table of facts, takes no
notice of a system prompt, and may answer with the facts of a similar topic when a word is
misspelt or new. Numbers measured with it say something about the training loop and nothing about
how a large model would fare.

## Measured
One reply per prompt at temperature 1 (top-p 1), judged by the grammar the corpus was written with.
The prompts are held out: this wording of this question was not in the training conversations.

| weights | prompts | well-formed | on topic | median tokens |
|---|---|---|---|---|
{rows}

How often each style occurs (4-bit, single turn): {styles}.

## Made with
`python -m rlhf_chat.demo_model.build --out DIR`: {steps} steps of {tokens} tokens, seed {seed}, in
{seconds} s on {threads} CPU threads of a two-core virtual machine that other work shared. The last
{rounded:.0%} of the steps saw the weights rounded to NF4 and the rounded weights are stored, so
4-bit loading changes almost nothing. At the end the last norm is scaled so that the finished model
at temperature 1 speaks as the trained one at {sharpness}. No text written by anyone else was used:
the data is `rlhf_chat/demo_model/topics.txt`, `wording.py` and `noise.py`. Measure again with
`python -m rlhf_chat.demo_model.check`.
"""


def write_card(folder: Path, reports: Mapping[tuple[str, str], Mapping[str, object]]) -> None:
    """Write README.md into `folder`; reports are keyed by (quantization, name of prompt set)."""
    config = json.loads((folder / "config.json").read_text())
    recipe = json.loads((folder / "recipe.json").read_text())
    rows = [
        f"| {weights} | {report['n']} {name} | {report['well_formed']:.1%} "
        f"| {report['on_topic']:.1%} | {report['median_tokens']} |"
        for (weights, name), report in reports.items()
    ]
    styles = reports["nf4", "single turn"]["styles"]
    assert isinstance(styles, dict)
    text = TEMPLATE.format(
        parameters=recipe["parameters"] / 1e6, layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"], vocab_size=config["vocab_size"],
        context=config["max_position_embeddings"], topics=len(TOPICS), talk=len(w.TALK),
        facts=sum(len(topic.facts) + 1 for topic in TOPICS.values()), rows="\n".join(rows),
        styles=", ".join(f"{name} {share:.0%}" for name, share in styles.items()),
        steps=recipe["steps"], tokens=recipe["tokens_per_step"], seed=recipe["seed"],
        seconds=recipe["training_seconds"], threads=recipe["threads"],
        rounded=recipe["rounded_share"], sharpness=recipe["sharpness"],
    )  # fmt: skip
    (folder / "README.md").write_text(text)
