"""The model card and the Modelfile: they state what the database and the files hold, and nothing
else."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.db import Store
from rlhf_chat.errors import Notice
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.training.context import RoundConfig
from rlhf_chat.training.gate import PASSED, PROVISIONAL
from rlhf_chat.version_export.exporter import Request, export
from rlhf_chat.version_export.facts import base_of
from rlhf_chat.version_export.modelfile import fixed_template, modelfile, parameters
from tests.exported_versions import publish
from tests.families import CHATML, DROPS_SYSTEM, NO_SYSTEM

VERDICT = {
    "tier": "provisional",
    "code": "gate.passed_on_trial",
    "params": {"win_rate": 0.71, "kl": 3.1},
    "checks": [
        {"name": "finite", "passed": True, "value": None, "limit": None},
        {"name": "low_logprob_rate", "passed": True, "value": 0.1, "limit": 0.2},
    ],
    "card": {
        "moved": [["private words", 0.4, "c1", "f1"]],
        "changed": [["length", -0.81, -1.25]],
        "examples": [["a private prompt", "before", "after"]],
    },
}


def card_of(data: Path, out: Path, **more: object) -> str:
    export(data, Request(**({"form": "peft", "out": out} | more)))  # type: ignore[arg-type]
    return (out / "README.md").read_text()


def rated(data: Path, toy: Model, vote: bool = True) -> None:
    """Two thumbs with comments, and a vote."""
    store = Store(data / "feedback.db")
    chat = Chat(store, toy, Sampling(max_new_tokens=4))
    for value in (1, -1):
        *_, reply = chat.reply(chat.conversations.new(), "my secret question")
        assert reply.message_id
        chat.ratings.rate(reply.message_id, value, comment="my secret comment")
    if vote:
        *_, pair = Compare(chat).write("tell me about the sea")
        assert pair.set_id
        Compare(chat).vote(pair.set_id, "a")
    store.close()


def test_the_card_tells_what_a_version_learned_and_how_it_was_checked(toy, tmp_path):
    data = tmp_path / "data"
    rated(data, toy)
    reason = Notice(VERDICT["code"], VERDICT["params"]).to_json()  # type: ignore[arg-type]
    publish(data, toy, reason=reason, verdict=VERDICT, kl=3.125)
    rated(data, toy, vote=False)  # after it: not what it learned from
    card = card_of(data, tmp_path / "out")
    assert "1 comparison, 2 thumbs" in card and "by people" in card
    assert "| length | -0.81 | -1.25 |" in card
    assert f"Gate: {Notice('gate.passed_on_trial', {'win_rate': 0.71, 'kl': 3.1})}" in card
    assert "Checks passed: finite, low logprob rate (2 of 2)." in card
    assert "3.125 nats per reply" in card
    assert "Blind votes against the base: none." in card
    assert "from the base" in card and "not quantised while it was trained" in card
    assert "licence of the base is not known" in card and "license:" not in card
    assert not re.search("secret|private", card)  # words of the person stay here


@pytest.mark.parametrize("tier", [PROVISIONAL, PASSED, "proved"])  # the last: of older versions
def test_the_card_tells_the_gates_verdict_on_every_version_that_it_let_through(toy, tmp_path, tier):
    reason = Notice("gate.passed", {"win_rate": 0.71, "kl": 3.1})
    publish(tmp_path / "data", toy, reason=reason.to_json(), verdict={**VERDICT, "tier": tier})
    assert f"Gate: {reason}" in card_of(tmp_path / "data", tmp_path / "out")


def test_the_sampling_is_the_one_that_the_version_was_trained_with(toy, tmp_path):
    """It follows the settings of new chats, so it need not be the base's."""
    drawn = Sampling(temperature=0.55, top_p=0.8, top_k=7)
    config = RoundConfig(sampling=drawn).as_dict()
    publish(tmp_path / "data", toy, config=config)
    out = tmp_path / "out"
    card = card_of(tmp_path / "data", out, form="gguf", measure=False)
    assert "temperature 0.55, top_p 0.8, top_k 7" in card
    assert "PARAMETER temperature 0.55\nPARAMETER top_p 0.8\n" in (out / "Modelfile").read_text()


def test_the_card_tells_the_blind_record(toy, tmp_path):
    data = tmp_path / "data"
    publish(data, toy)
    store = Store(data / "feedback.db")
    made = store.conversations.add()
    asked = store.messages.add(made, "user", "hello")
    for outcome in ("a", "a", "b", "tie"):
        mine, base = (
            store.messages.add(
                made,
                "assistant",
                f"{version} {outcome}",
                parent_id=asked,
                adapter_version=version,
            )
            for version in (1, 0)
        )
        store.feedback.add_preference(mine, base, outcome, shown_first="a")
    store.close()
    card = card_of(data, tmp_path / "out")
    assert "2 won, 1 lost, 1 tied; win rate 62%" in card
    assert "That does not prove it better" in card


def test_a_version_of_a_simulated_rater_says_so(toy, tmp_path):
    publish(tmp_path / "data", toy, rater="simulated:lists")
    card = card_of(tmp_path / "data", tmp_path / "out")
    assert "How many ratings its round of training had is not kept." in card


@pytest.mark.parametrize("form", ["peft", "merged", "gguf"])
def test_the_card_says_how_each_program_loads_it_and_the_measured_gap(toy, tmp_path, form):
    publish(tmp_path / "data", toy)
    card = card_of(tmp_path / "data", tmp_path / "out", form=form)
    assert (
        card.startswith("---\n") and f"library_name: {form.replace('merged', 'transfor')}" in card
    )
    named = {"peft": "PeftModel", "merged": "pipeline(", "gguf": "ollama create"}
    assert [name for name, word in named.items() if word in card] == [form]
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    if form == "peft":
        assert told["gap"] is None and "How far" not in card
    else:
        assert f"{told['gap']['kl']:.4f} nats" in card
        assert f"{told['gap']['same_next']:.1%}" in card
    for file in re.findall(r"-m (\S+?)[` ]", card):
        assert file == "BASE.gguf" or (tmp_path / "out" / file).exists()


def test_licence_and_sampling_of_a_base_are_what_its_files_say(toy_folder, tmp_path):
    demo = base_of("demo")
    assert demo.licence == "apache-2.0" and demo.sampling == Sampling() and not demo.hub
    folder = tmp_path / "Some Model"
    folder.mkdir()
    for file in toy_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    assert base_of(str(folder)).licence == "" and base_of(str(folder)).slug == "some-model"
    (folder / "README.md").write_text("---\nlicense: mit\ntags:\n- x\n---\n# It\nlicense: no\n")
    assert base_of(str(folder)).licence == "mit"
    assert base_of(str(folder)).sampling == Sampling(temperature=0.7, top_p=0.9)


# ---------------------------------------------------------------------- the Modelfile


def rendered(template: str, talk: list[tuple[str, str]]) -> str:
    """What Ollama makes of a template of this kind: a loop over messages with a branch by role."""
    body = re.fullmatch(
        r"\{\{- range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}", template, re.S
    )
    assert body
    parts = re.split(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}', body[1])
    branches = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert parts[0] == "" and branches.keys() == {"system", "user", "assistant"}
    return "".join(branches[role].replace("{{ .Content }}", content) for role, content in talk)


TALK = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yo"), ("user", "Why?\n- so")]


@pytest.mark.parametrize("template", [CHATML, "{{ bos_token }}" + CHATML])
def test_a_template_of_fixed_texts_is_the_same_in_ollamas_language(toy, template):
    tokenizer = copy.deepcopy(toy.tokenizer)  # all tests share the toy
    tokenizer.chat_template = template
    found = fixed_template(tokenizer)
    assert found and found.system == ""
    messages = [{"role": role, "content": content} for role, content in TALK]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered(found.in_go(), TALK) == expected


def test_a_default_system_message_becomes_the_system_of_the_modelfile(toy):
    tokenizer = copy.deepcopy(toy.tokenizer)  # all tests share the toy
    tokenizer.chat_template = (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Smol.<|im_end|>\n"
        "{% endif %}" + CHATML
    )
    found = fixed_template(tokenizer)
    assert found and found.system == "You are Smol."
    with_system = [("system", found.system), *TALK[1:]]
    messages = [{"role": role, "content": content} for role, content in TALK[1:]]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert rendered(found.in_go(), with_system) == expected


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM, CHATML.replace("\n", '"""')])
def test_a_template_that_is_more_than_fixed_texts_is_left_out(toy, template):
    tokenizer = copy.deepcopy(toy.tokenizer)  # all tests share the toy
    tokenizer.chat_template = template
    assert fixed_template(tokenizer) is None


def test_the_modelfile_names_files_that_are_there_and_the_sampling(toy, tmp_path):
    publish(tmp_path / "data", toy)
    export(tmp_path / "data", Request(form="gguf", out=tmp_path / "out", measure=False))
    text = (tmp_path / "out" / "Modelfile").read_text()
    [file] = re.findall(r"^FROM \./(.*)$", text, re.M)
    [adapter] = re.findall(r"^# ADAPTER \./(.*)$", text, re.M)
    for name in (file, adapter):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"GGUF"
    assert re.fullmatch(r"rlhf-chat/[^/]+-GGUF/[^/]+-f16\.gguf", file)  # as LM Studio keeps them
    assert "PARAMETER temperature 0.7\nPARAMETER top_p 0.9\n" in text
    assert 'PARAMETER stop "<|im_end|>"' in text and "TEMPLATE" in text


# As Ollama documents them; stop may come several times.
INSTRUCTIONS = {"FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE"}
PARAMETERS: dict[str, type] = {
    "num_ctx": int,
    "repeat_last_n": int,
    "repeat_penalty": float,
    "temperature": float,
}
PARAMETERS |= {"seed": int, "num_predict": int, "top_k": int, "top_p": float, "min_p": float}
PARAMETERS |= {"stop": str}
VALUE = r'"""(.*?)"""|"([^\n]*)"|([^"\n][^\n]*)'  # without escapes: a backslash is one


def as_ollama_reads(text: str) -> list[tuple[str, str, str]]:
    """Instruction, parameter or "", value."""
    found, at = [], 0
    line = re.compile(rf"(?:#[^\n]*|([A-Z]+) (?:(?<=PARAMETER )(\w+) )?(?:{VALUE}))?\n", re.S)
    while at < len(text):
        here = line.match(text, at)
        assert here, text[at : at + 80]
        at = here.end()
        if here[1]:
            found.append((here[1], here[2] or "", here[3] or here[4] or here[5] or ""))
    return found


def test_a_modelfile_says_in_ollamas_syntax_what_is_meant(toy):
    model = copy.copy(toy)
    texts = ('\n\n"User":', "### A\\b", 'it says "no"', '"""')
    model.chat_template = replace(toy.chat_template, stop_texts=texts)
    told = as_ollama_reads(modelfile(model, "m.gguf", "a.gguf", Sampling(0.5), 'mit, "as is"'))
    assert {name for name, *_ in told} <= INSTRUCTIONS
    given = [(name, value) for instruction, name, value in told if instruction == "PARAMETER"]
    for name, value in given:
        PARAMETERS[name](value)
    stops = [value for name, value in given if name == "stop"]
    assert stops[-3:] == list(texts[:3]) and '"""' not in stops  # which Ollama cannot be told
    assert ("num_ctx", str(toy.context_tokens)) in given
    assert ("FROM", "", "./m.gguf") in told and ("LICENSE", "", 'mit, "as is"') in told


def test_ollamas_own_defaults_are_switched_off():
    told = parameters(Sampling(temperature=1.0), 4096)
    sampling = {"temperature": "1", "top_p": "1", "top_k": "0", "repeat_penalty": "1.0"}
    assert told == sampling | {"num_ctx": "4096"}
