"""The locale files: every key that code uses is there, none is left over, languages agree."""

from __future__ import annotations

import ast
import json
import re
import string
from pathlib import Path

import pytest

from rlhf_chat import locale
from rlhf_chat.chat.compare import OUTCOMES
from rlhf_chat.chat.message_feedback import REASONS
from rlhf_chat.errors import AdapterError, AppError, Notice, from_stored
from rlhf_chat.feedback.kinds import kinds
from rlhf_chat.reward import text_features
from rlhf_chat.simulation.simulator import SLIDERS, people
from rlhf_chat.training import gate, round_conditions, status
from rlhf_chat.ui import (
    language,
    loading_page,
    measures,
    metrics_panel,
    page_scripts,
    round_history,
    transcript,
)

PACKAGE = Path(locale.__file__).parents[1]
KEYS = set(locale.catalogue("en"))
OBJECTS = {"chat.completion", "chat.completion.chunk"}  # names in answers of the API
KEY = re.compile(r"[a-z]+\.[a-z_0-9]+(\.[a-z_0-9]+)?")
PREFIXES = {key.partition(".")[0] for key in KEYS}


def forms(entry: locale.Entry) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [text for name, text in entry.items() if name != "by"]


def placeholders(entry: locale.Entry) -> set[tuple[str, str]]:
    """Names with their formats, over all forms of a text."""
    found = set()
    for text in forms(entry):
        for _, name, spec, _ in string.Formatter().parse(text):
            if name is not None:
                found.add((name, spec or ""))
    return found


@pytest.mark.parametrize("other", [name for name in locale.LANGUAGES if name != locale.DEFAULT])
def test_languages_have_the_same_keys_and_placeholders(other: str) -> None:
    english, translated = locale.catalogue("en"), locale.catalogue(other)
    assert english.keys() == translated.keys()
    for key, entry in english.items():
        assert placeholders(entry) == placeholders(translated[key]), key
        assert all(text.strip() for text in forms(translated[key])), key


@pytest.mark.parametrize("name", locale.LANGUAGES)
def test_a_file_is_sorted_and_its_forms_are_complete(name: str) -> None:
    file = PACKAGE / "locale" / f"{name}.json"
    keys = list(json.loads(file.read_text(encoding="utf-8")))
    assert keys == sorted(keys)
    for key, entry in locale.catalogue(name).items():
        assert isinstance(entry, str) or "other" in entry, key


def test_english_texts_are_short_sentences() -> None:
    for key, entry in locale.catalogue("en").items():
        for text in forms(entry):
            assert ";" not in text and len(text) < 300, key


def used_by_python() -> tuple[set[str], set[str]]:
    """Keys that appear whole in the code, and the beginnings of those that are put together."""
    whole, beginnings = set(), set()
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        parts = {
            one for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for one in node.values
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if KEY.fullmatch(node.value) and node not in parts:
                    whole.add(node.value)
            elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                begin = str(node.values[0].value)
                if re.fullmatch(r"[a-z]+\.[a-z_.]*", begin):
                    beginnings.add(begin)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "label":
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    whole.add(f"label.{name.value}")  # type: ignore[str-bytes-safe]
                elif isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
                    beginnings.add(f"label.{name.values[0].value}")  # type: ignore[str-bytes-safe]
    return whole, beginnings


def used_by_scripts() -> set[str]:
    """Whatever stands in quotes in a script and is a key of the scripts, or looks like one."""
    found = set()
    for file in (PACKAGE / "ui" / "static").glob("*.js"):
        script = file.read_text(encoding="utf-8")
        calls = re.findall(r"\b(?:t|text|rlhfText)\(([^()]*(?:\([^()]*\))?[^()]*)", script)
        found |= {f"page.{key}" for call in calls for key in re.findall(r"'([a-z_0-9]{2,})'", call)}
    return found & KEYS | {
        *(f"page.{name}" for _, name in page_scripts.SHORTCUTS),
        *(f"page.{step}" for step in page_scripts.STEPS),
        *(f"page.{part}_{name}" for name in page_scripts.TERMS for part in ("term", "means")),
    }


def put_together() -> set[str]:
    """Every key that code composes from a prefix and a value."""
    steps = [phase.replace(" ", "_") for phase in status.PHASES]
    passed = gate.GenerationStats(0, 0, 0, 0, 0.5, 20)
    measured = gate.EvalResult(30, 0.001, 0.5, 0.5, 0.2, 0.7, 1, 1, passed, passed, True)
    verdicts = [gate.judge(measured, gate.GateConfig())]
    verdicts += [gate.nothing_to_learn(n, 0.4, gate.GateConfig()) for n in (3, 30)]
    checks = [check.name for verdict in verdicts for check in verdict.checks]
    return {
        *(f"phase.{name}" for name in steps),
        *(f"state.name_{name}" for name in status.STATES),
        *(f"state.{name}" for name in (status.PAUSED, status.STOPPED)),
        *(f"state.held_{name}" for name in (status.FAILED, status.CRASHED)),
        *(f"state.awaits_{name}" for name in round_conditions.CONDITIONS),
        *(f"label.rounds_only_{name}" for name in round_conditions.CONDITIONS),
        *(f"ending.{name}" for name in round_history.ENDINGS),
        *(f"loading.step.{step}" for step in loading_page.STEPS),
        *(f"gate.{part}.{name}" for name in checks for part in ("check", "range", "plain")),
        *(f"gate.{part}.{name}" for name in {*checks} - {"finite"} for part in ("value", "limit")),
        *(f"label.group_{name}" for name in measures.GROUPS),
        *(f"learning.next_{name}" for name in (status.TRAINING, status.PAUSED, status.OFF)),
        *(f"chart.{axis}" for axis in (metrics_panel.UPDATES, metrics_panel.ROUNDS)),
        *(f"measure.{name}" for group in measures.GROUPS.values() for name in group),
        *(f"label.vote_{outcome}" for outcome in OUTCOMES),
        *(f"label.rating_{answer}" for kind in kinds() for answer in kind.answers),
        "label.rating_any",
        *(kind.label.code for kind in kinds()),
        "label.kind_all",
        *(f"label.taste_{name}" for name in people()),
        *(f"label.slider_{name}" for name in SLIDERS),
        *(f"label.answer_{letter}" for letter in "abcd"),
        *(f"compare.authors_{count}" for count in (2, 3, 4)),
        *(f"reason.{one.lower().replace(' ', '_')}" for some in REASONS.values() for one in some),
        *(f"feature.{name.replace(' ', '_').lower()}" for name in text_features.NAMES),
        *(f"label.{name}" for name in ("slightly", "much", "temperature", "top_p", "top_k")),
        *(f"label.{name}" for name in ("max_reply", "kind", "rating", "one_version")),
        "label.other_version",
        "version.label",
        "version.version",
        "page.key_go_keys",
        *transcript.ENDINGS.values(),
    }


def test_every_key_that_is_used_is_there() -> None:
    whole, _ = used_by_python()
    missing = {key for key in whole if key.partition(".")[0] in PREFIXES} - KEYS
    missing |= {key for key in put_together() if key not in KEYS}
    for file in (PACKAGE / "ui" / "static").glob("*.js"):
        for key in re.findall(r"\b(?:t|text|rlhfText)\('([a-z_0-9]+)'", file.read_text("utf-8")):
            missing |= {f"page.{key}"} - KEYS
    missing = {
        key for key in missing if not re.search(r"\.(py|db|safetensors|html|css|js|json)$", key)
    }
    assert missing - OBJECTS == set()


def test_no_key_is_left_over() -> None:
    whole, beginnings = used_by_python()
    used = whole | used_by_scripts() | put_together()
    begun = {key for key in KEYS if any(key.startswith(begin) for begin in beginnings)}
    composed = {key for key in begun if key.startswith("measure.")}  # of any number of a round
    left_over = KEYS - used - composed
    assert left_over == set()


def test_a_nested_message_is_rendered_in_the_language_of_the_whole() -> None:
    problem = AdapterError("versions.incomplete", version=3)
    whole = Notice("versions.serving_instead", {"problem": problem, "version": 0})
    assert str(whole) == "Version 3 is incomplete on disk. Live instead: the original model."
    chinese = locale.render(whole.code, whole.params, "zh")
    assert not re.search("[a-z]{3}", chinese), chinese
    stored = from_stored(whole.to_json())
    assert isinstance(stored, Notice) and str(stored) == str(whole)


@pytest.mark.parametrize(
    "plain", ["Served: it won.", "", "{}", '{"code": 1}', "[1]", "null", "{name} stays"]
)
def test_a_reason_from_an_older_version_is_shown_as_it_is(plain: str) -> None:
    assert from_stored(plain) == plain
    assert language.message(plain) == plain


def test_forms_follow_the_parameter_they_name() -> None:
    assert locale.render("state.many", {"count": 1}) == "1 new rating"
    assert locale.render("state.many", {"count": 2}) == "2 new ratings"
    assert locale.render("versions.live", {"version": 0}) == "The original model is live."
    assert locale.render("versions.live", {"version": 12}) == "v12 is live."


def test_text_of_others_is_never_a_template() -> None:
    told = locale.render("raters.excluded", {"name": "{name} {count:d} %s"})
    assert told == "{name} {count:d} %s does not count from the next round on."
    assert str(AppError("no such key {x}")) == "no such key {x}"


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("de,zh-HK;q=0.5", "zh"),
        ("fr;q=0.2, de;q=x, zh;q=0.1", "zh"),
        ("*", "en"),
    ],
)
def test_the_language_is_the_first_accepted_one_that_is_known(accepted: str, chosen: str) -> None:
    assert locale.best_language(accepted) == chosen
