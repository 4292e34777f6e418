"""Rating files of every format: what each says, in whatever it is packed, and what is told of what
cannot be read. How ratings are stored is in test_imports.py."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_chat import importers, locale
from rlhf_chat.db import ImportedFeedback
from rlhf_chat.errors import Notice
from rlhf_chat.importers import Options, source, text_buffer
from rlhf_chat.importers.messages import SELECTED, stars, without_thoughts
from tests.rating_samples import (
    BLUE,
    CHATGPT,
    DEEP,
    GPT_FEEDBACK,
    HELPSTEER,
    PREFERS,
    SAMPLES,
    SEA,
    WELL,
    WIDE,
    Sample,
    assistant,
    duel,
    lines,
    listed,
    user,
    webui_feedback,
    zipped,
)

EACH = pytest.mark.parametrize("name", SAMPLES)
PACKED = ("export.zip", "claude.zip")


def told(one: ImportedFeedback) -> tuple:
    return one.kind, one.answer, one.turns[-1][1], one.replies


def read(sample: Sample, data: bytes | None = None, name: str = "") -> importers.Found:
    data = sample.data if data is None else data
    return importers.read(data, sample.options, name=name or sample.name)


def says(found: importers.Found) -> tuple:
    assert not found.unread, [(line, str(why)) for line, why in found.unread]
    return tuple(told(one) for _, one in found.items)


@EACH
def test_a_sample_says_what_it_says(name: str) -> None:
    assert says(read(SAMPLES[name])) == SAMPLES[name].says


@EACH
def test_it_says_the_same_however_it_is_packed_and_encoded(name: str, tmp_path: Path) -> None:
    sample = SAMPLES[name]
    file = tmp_path / sample.name
    file.write_bytes(sample.data)
    assert says(importers.read(file, sample.options)) == sample.says
    if sample.name in PACKED:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(tmp_path / "unpacked")
        folder = tmp_path / "unpacked"
        assert says(importers.read(folder, sample.options)) == sample.says
        assert says(importers.read(folder / "conversations.json", sample.options)) == sample.says
        return
    assert says(read(sample, gzip.compress(sample.data), f"{sample.name}.gz")) == sample.says
    words = sample.data.decode()
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"):
        assert says(read(sample, words.encode(encoding))) == sample.says, encoding
    assert says(read(sample, words.replace("\r", "").replace("\n", "\r\n").encode())) == sample.says
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("__MACOSX/._x.json", "rubbish")
        archive.writestr(f"inner/{sample.name}", sample.data)
    assert says(read(sample, data.getvalue(), "x.zip")) == sample.says
    if not sample.name.endswith((".csv", ".tsv")):
        assert says(importers.read(words, sample.options)) == sample.says


@EACH
def test_a_file_that_is_cut_or_changed_gives_reasons_and_never_an_error(name: str) -> None:
    """Also each whole entry before the cut is still read."""
    sample, rng = SAMPLES[name], random.Random(name)
    for _ in range(40):
        data = bytearray(sample.data[: rng.randrange(len(sample.data) + 1)])
        if rng.random() < 0.7 and data:
            data = bytearray(sample.data)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(3)] = rng.choice(
                    (b"", b'"', b"{", b"]", b"null", b"\xff", b"\x00", b"-1", b",", b"[[")
                )
        found = read(sample, bytes(data))
        for line, why in found.unread:
            assert line >= 0 and str(why).endswith("."), why


@EACH
def test_fields_of_any_type_give_reasons_and_never_an_error(name: str) -> None:
    """Every value of every entry, one at a time, becomes something else."""
    sample = SAMPLES[name]
    if not sample.name.endswith(("json", "jsonl")):
        return
    text = sample.data.decode()
    entries = json.loads(text) if text.startswith("[") else list(map(json.loads, text.splitlines()))
    wrong: Any
    for wrong in (None, 7, "", [], {}, [None], True, -1e308):
        for changed in with_changes(entries, wrong):
            found = importers.read(lines(*changed), sample.options)
            for _, one in found.items:
                assert one.turns and all(isinstance(text, str) for text in one.replies)


@EACH
def test_half_a_character_does_not_come_through(name: str) -> None:
    sample = SAMPLES[name]
    if not sample.name.endswith(("json", "jsonl")):
        return
    for whole in (BLUE, DEEP, SEA, WIDE, "ann", "user7"):
        data = sample.data.replace(whole.encode(), whole.encode() + b"\\ud800")
        for _, one in importers.read(data, sample.options).items:
            words = (*one.replies, *(text for _, text in one.turns), one.rater, one.comment)
            assert all(text.encode() is not None for text in words)


def with_changes(value: Any, wrong: Any):
    """Copies of nested values in which one part is replaced."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        changes = with_changes(inner, wrong) if isinstance(inner, dict | list) else []
        for changed in (wrong, *changes):
            copy: Any = dict(value) if isinstance(value, dict) else list(value)
            copy[key] = changed
            yield copy


# ---- what a format says beside the answer ------------------------------------------------------


def test_weak_preferences_say_that_nobody_stated_them() -> None:
    for name in ("SillyTavern", "Open WebUI chats", "Claude", "ChatGPT"):
        [weak] = [one for _, one in read(SAMPLES[name]).items if one.implied]
        assert (weak.kind, weak.strength, weak.comment) == ("comparison", "slightly", SELECTED)
    for name in ("Alpaca", "ShareGPT"):
        [(_, one)] = read(SAMPLES[name]).items
        assert one.implied and one.comment


def test_several_raters_are_kept_apart() -> None:
    raters = {
        "Open WebUI feedback": ["u1", "u2"],
        "Argilla, columns": ["ann", "bob"],
        "PRISM": ["user7", "user7"],
        "Chatbot Arena": ["arena_user_7"] * 4,
    }
    for name, expected in raters.items():
        assert [one.rater for _, one in read(SAMPLES[name]).items] == expected
    alone = importers.read(listed(webui_feedback("u1", "m2", 1), webui_feedback("u1", "m3", -1)))
    assert [one.rater for _, one in alone.items] == ["", ""]


def test_reasons_comments_strengths_times_and_system_prompts_come_along() -> None:
    [thumb, *_] = [one for _, one in read(SAMPLES["ChatGPT"]).items]
    assert (thumb.reason, thumb.comment) == ("not helpful", "so blue")
    [thumb, *_] = [one for _, one in read(SAMPLES["Open WebUI chats"]).items]
    assert (thumb.reason, thumb.system) == ("is clear", "be brief")
    [slight] = [one for _, one in read(SAMPLES["HelpSteer 2, preferences"]).items]
    [much, _] = [one for _, one in read(SAMPLES["HelpSteer 3"]).items]
    assert (slight.strength, much.strength) == ("slightly", "much")
    [vote, *_] = [one for _, one in read(SAMPLES["Chatbot Arena"]).items]
    assert vote.created_at.startswith("2023-11-14T22:13:20.500")


def test_the_turns_before_are_kept() -> None:
    before = (("user", "Hello"), ("assistant", WELL), ("user", SEA))
    for name in ("hh-rlhf", "ShareGPT", "HelpSteer 2, several turns"):
        assert read(SAMPLES[name]).items[0][1].turns == before
    assert read(SAMPLES["PRISM"]).items[1][1].turns == (
        ("user", SEA),
        ("assistant", BLUE),
        ("user", "And?"),
    )


@pytest.mark.parametrize(
    "entry, options, code",
    [
        (HELPSTEER, Options(aspect="beauty"), "no_aspect"),
        (HELPSTEER | {"helpfulness": 5}, Options(), "off_scale"),
        ({"prompt": SEA, "response": BLUE, "score": 4}, Options(), "no_scale"),
        ({"prompt": SEA, "response": BLUE, "score": 14}, Options(scale=10), "off_scale"),
        (duel("nobody"), Options(), "no_preference"),
        (
            duel("tie", conversation_b=[user("Other"), assistant(DEEP)]),
            Options(),
            "different_prompts",
        ),
        ({"user_prompt": SEA, "model_response": BLUE, "score": 9}, Options(), "prism_utterances"),
        ({"prompt": SEA, "chosen": "<think>hm", "rejected": DEEP}, Options(), "empty_message"),
        (
            {
                "prompt": [user([{"type": "image_url", "image_url": {}}])],
                "chosen": BLUE,
                "rejected": DEEP,
            },
            Options(),
            "not_text",
        ),
        (
            {"prompt": [user(SEA), assistant("It")], "chosen": "is", "rejected": "was"},
            Options(),
            "no_prompt",
        ),
        (
            {"prompt": SEA, "chosen": [assistant(None, tool_calls=[{}])], "rejected": DEEP},
            Options(),
            "no_reply",
        ),
        (
            {"instruction": SEA, "completions": [{"response": BLUE, "overall_score": 1}]},
            Options(),
            "one_reply",
        ),
    ],
)
def test_what_an_entry_does_not_say_is_told(entry: dict, options: Options, code: str) -> None:
    found = importers.read(lines(entry), options)
    assert not found.items and [why.code for _, why in found.unread] == [f"imports.{code}"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("<think>hm</think>\n\nYes", "Yes"),
        ("hm, hm\n</think>\n\nYes", "Yes"),
        ("<think>a</think><thinking>b</thinking>Yes", "Yes"),
        ("<|channel|>analysis<|message|>hm<|end|><|channel|>final<|message|>Yes<|return|>", "Yes"),
        ("<|channel>hm<channel|>Yes", "Yes"),
        ('<details type="reasoning" done="true"><summary>x</summary>hm</details>\nYes', "Yes"),
        (
            "<details><summary>x</summary>kept</details>",
            "<details><summary>x</summary>kept</details>",
        ),
        ("Write <think> and </think> around it", "Write <think> and </think> around it"),
        ("<think>never ends", ""),
    ],
)
def test_thoughts_are_no_part_of_a_reply(text: str, shown: str) -> None:
    assert without_thoughts(text) == shown


def test_markup_that_repeats_is_read_in_a_linear_time() -> None:
    for piece in ("<details ", "<think></think>", "<|channel|>final", '<details type="reasoning">'):
        without_thoughts(piece * 20_000)


def test_scales_end_at_one_and_five_stars() -> None:
    assert [stars(s, 1, 10) for s in (1, 3, 4, 6, 8, 10)] == [1, 2, 2, 3, 4, 5]
    assert [stars(s, 0, 100) for s in (0, 1, 50, 100)] == [1, 1, 3, 5]
    assert [stars(s, 0, 4) for s in range(5)] == [1, 2, 3, 4, 5]


# ---- rows --------------------------------------------------------------------------------------

PAIR = {"prompt": SEA, "chosen": BLUE, "rejected": DEEP}


def pair(i: int) -> dict:
    return PAIR | {"prompt": f"{SEA} {i}"}


def test_bad_rows_are_named_by_their_line_and_the_others_are_taken() -> None:
    data = lines(PAIR) + b'\n{"prompt": \n\xff\xfe{}\n' + lines(pair(2), {"text": "x"}) + b"[1]"
    found = importers.read(data)
    assert [line for line, _ in found.items] == [1, 5]
    assert [(line, why.code.split(".")[1]) for line, why in found.unread] == [
        (3, "not_json"),
        (4, "not_text_bytes"),
        (6, "unknown_format"),
        (7, "not_a_rating"),
    ]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("broken", [b'"prompt": }', b'"pro', b'"prompt": [{"a": ', b"\xff"])
def test_behind_a_broken_entry_of_a_list_reading_goes_on(indent: int | None, broken: bytes) -> None:
    data = json.dumps([pair(i) for i in range(6)], indent=indent).encode()
    at = data.index(b'"rejected"', data.index(b"sea 2"))
    found = importers.read(data[:at] + broken + data[at + 4 :])
    assert [one.turns[0][1][-1] for _, one in found.items] == ["0", "1", "3", "4", "5"]
    assert [line for line, _ in found.unread] == [3]


def test_a_list_that_is_cut_off_gives_what_came_before() -> None:
    data = json.dumps([pair(i) for i in range(6)]).encode()
    found = importers.read(data[: data.index(b"sea 4")])
    assert len(found.items) == 4 and [w.code for _, w in found.unread] == ["imports.cut_off"]


def test_a_table_names_the_lines_of_rows_that_do_not_fit() -> None:
    data = f'prompt,chosen,rejected\n{SEA},"two\nlines",{DEEP}\n{SEA},{BLUE}\n{SEA},{BLUE},{DEEP}'
    found = importers.read(data.encode(), name="x.csv")
    assert [line for line, _ in found.items] == [2, 5]
    assert [(line, w.code) for line, w in found.unread] == [(4, "imports.cells")]


def test_wrapped_lists_are_opened() -> None:
    for wrapped in ({"data": [PAIR]}, {"rows": [{"row_idx": 0, "row": PAIR}], "num": 1}):
        for indent in (None, 2):
            found = importers.read(json.dumps(wrapped, indent=indent))
            assert says(found) == (PREFERS,), indent


def test_reading_can_be_stopped_and_taken_up_again() -> None:
    data = lines(*map(pair, range(100)))
    seen: list[importers.Row] = []
    shares: list[float] = []
    for row in importers.rows(data, report=shares.append, stop=lambda: len(seen) >= 30):
        seen.append(row)
    assert len(seen) == 30
    seen += importers.rows(data, after=len(seen), report=shares.append)
    assert seen == list(importers.rows(data)) and shares[-1] == 1.0
    assert all(0 <= share <= 1 for share in shares)


def test_chats_without_ratings_are_no_errors() -> None:
    quiet = {**CHATGPT, "current_node": ""}
    found = importers.read(zipped(conversations__json=[quiet]))
    assert (found.items, found.unread) == ([], [])


def test_ratings_of_a_conversation_that_is_missing_are_counted() -> None:
    other = GPT_FEEDBACK | {"conversation_id": "gone"}
    found = importers.read(
        zipped(conversations__json=[CHATGPT], message_feedback__json=[GPT_FEEDBACK, other])
    )
    assert len(found.items) == 3  # the thumb and, without the comparison, two selections
    assert [(line, why.params) for line, why in found.unread] == [(0, {"count": 1})]


def test_more_replies_than_a_ranking_holds_keep_the_best() -> None:
    completions = [{"response": f"reply {i}", "overall_score": i} for i in range(1, 11)]
    [(_, one)] = importers.read(lines({"instruction": SEA, "completions": completions})).items
    assert one.replies == tuple(f"reply {i}" for i in range(10, 2, -1))
    assert one.answer == tuple(range(8))


# ---- bounds ------------------------------------------------------------------------------------


def test_a_bomb_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MOST_UNPACKED", 300_000)
    monkeypatch.setattr(text_buffer, "MOST_CHARACTERS", 100_000)
    good = lines(PAIR)
    for filler in (b" " * 900_000, b"\n" * 900_000, b"a" * 900_000, good * 9_000):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.jsonl", good + filler)
        for data in (gzip.compress(good + filler), packed.getvalue()):
            count, problems = 0, list[Notice]()
            for row in importers.rows(data):
                count += len(row.items)
                problems += row.problems
            assert 1 <= count < 9_000
            assert problems[-1].code == "imports.too_much_unpacked"


def test_an_entry_without_end_is_left_and_the_next_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_buffer, "MOST_CHARACTERS", 300_000)
    long = PAIR | {"prompt": "a" * 900_000}
    for data in (lines(PAIR, long, PAIR), listed(PAIR, long, PAIR)):
        found = importers.read(data)
        assert len(found.items) == 2
        assert [w.code for _, w in found.unread] == ["imports.entry_too_long"]


def test_archives_that_cannot_be_are_refused_in_a_sentence(tmp_path: Path) -> None:
    secret = bytearray(SAMPLES["Claude"].data)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := secret.find(mark, at + 1)) >= 0:
            secret[at + flags] |= 1
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w") as archive:
        for i in range(source.MOST_MEMBERS + 1):
            archive.writestr(f"{i}", "")
    squeezed = io.BytesIO()
    with zipfile.ZipFile(squeezed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.jsonl", lines(PAIR))
    whole = SAMPLES["Claude"].data
    given = {
        "encrypted": bytes(secret),
        "too_many_files": many.getvalue(),
        "archive_damaged": whole[: len(whole) // 2],
        "foreign_file": squeezed.getvalue(),
        "foreign_file ": gzip.compress(whole),
        "parquet": b"PAR1" + bytes(50) + b"PAR1",
    }
    for code, data in given.items():
        found = importers.read(data)
        assert not found.items and [w.code for _, w in found.unread] == [f"imports.{code.strip()}"]
    inside = importers.read(zipped(a__json=[PAIR]) + b"")
    assert says(inside) == (PREFERS,)
    cut = gzip.compress(lines(*map(pair, range(3000))), 0)
    found = importers.read(cut[: len(cut) // 2])
    assert len(found.items) > 1000 and found.unread[-1][1].code == "imports.damaged_here"


def test_every_reason_has_its_words() -> None:
    import re

    package = Path(importers.__file__).parent
    used = {c for f in package.glob("*.py") for c in re.findall(r'"(imports\.\w+)"', f.read_text())}
    for language in locale.LANGUAGES:
        assert used <= locale.catalogue(language).keys()


def test_the_same_rating_twice_is_the_same(tmp_path: Path) -> None:
    """What a file says does not depend on when or where it is read."""
    for sample in SAMPLES.values():
        assert read(sample).items == read(replace(sample)).items
