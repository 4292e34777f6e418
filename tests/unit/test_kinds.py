"""Every kind of feedback is complete, and a new one needs nothing else than its own file and table:
it is counted, learned from, exported, imported, changed and labelled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_chat import importers, locale
from rlhf_chat.chat import exporters
from rlhf_chat.chat.message_feedback import Ratings
from rlhf_chat.db import Feedback, ImportedFeedback, Store, feedback_tables
from rlhf_chat.db.feedback_tables import TABLES, FeedbackTable
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.evidence import Contrast, Evidence
from rlhf_chat.feedback.item import FeedbackItem
from rlhf_chat.feedback.kinds import KINDS, WITHDRAWN, FeedbackKind, kind_of, kind_of_import, kinds
from rlhf_chat.feedback.kinds.base import ImportedAnswer, StoredItem
from rlhf_chat.feedback.snapshot import describe, take_snapshot
from rlhf_chat.reward import dataset, likelihood, text_features
from rlhf_chat.reward.likelihood import PreferenceDataset

EACH = pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.code)
TEXTS = ("the first reply", "quite another one", "a third")
LISTS = text_features.NAMES.index("lists")
NAMED = len(text_features.NAMES)

# Answers of each kind: what an import holds, and whether the first reply is the better one.
# A correction has the original first.
GIVEN: dict[str, list[tuple[ImportedFeedback, bool]]] = {
    "thumb": [
        (ImportedFeedback("thumb", (), TEXTS[:1], 1, reason="Helpful", comment="yes"), True),
        (ImportedFeedback("thumb", (), TEXTS[:1], -1), False),
    ],
    "stars": [
        (ImportedFeedback("stars", (), TEXTS[:1], 5), True),
        (ImportedFeedback("stars", (), TEXTS[:1], 1), False),
    ],
    "comparison": [
        (ImportedFeedback("comparison", (), TEXTS[:2], "a", strength="much", comment="so"), True),
        (ImportedFeedback("comparison", (), TEXTS[:2], "b"), False),
    ],
    "ranking": [
        (ImportedFeedback("ranking", (), TEXTS, (0, 1, 1), comment="hm"), True),
        (ImportedFeedback("ranking", (), TEXTS, (2, 0, 1)), False),
    ],
    "correction": [(ImportedFeedback("correction", (), TEXTS[:2], 1), False)],
}
ANSWERS = pytest.mark.parametrize(
    "given, first_is_better",
    [one for each in GIVEN.values() for one in each],
    ids=lambda value: f"{value.kind}-{value.answer}" if hasattr(value, "kind") else "",
)
INVALID = [
    ("thumb", "sideways", {}, "imports.unknown_answer"),
    ("stars", "6", {}, "imports.unknown_answer"),
    ("comparison", "c", {"other": TEXTS[1]}, "imports.unknown_answer"),
    ("ranking", "ranked", {"order": [{"place": 0, "reply": "x"}]}, "imports.ranking_size"),
    (
        "ranking",
        "ranked",
        {"order": [{"place": 0, "reply": "x"}, {"place": 8, "reply": "y"}]},
        "imports.ranking_size",
    ),
    ("correction", "corrected", {"other": TEXTS[0]}, "imports.equal_replies"),
    ("correction", "corrected", {"other": " "}, "imports.empty_message"),
]


@pytest.fixture
def other_store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "other.db")
    yield opened
    opened.close()


def store_answer(store: Store, given: ImportedFeedback) -> None:
    """As an import does, with token ids that no model made."""
    ids = tuple((10 + TEXTS.index(text),) for text in given.replies)
    turns = given.turns or (("user", "hello"),)
    store.imports.add([replace(given, turns=turns, prompt_ids=(1,), response_ids=ids)], counts=True)


def item_of(store: Store) -> FeedbackItem:
    [item] = take_snapshot(store).items
    return item


def without_ids(feedback: Feedback) -> dict[str, Any]:
    """Tied replies of a ranking have no order among themselves."""
    row = asdict(feedback) | dict.fromkeys(("message_id", "other_id", "conversation_id"))
    row["order"].sort(key=lambda placed: (placed["place"], placed["reply"]))
    return row


def in_one_order(item: FeedbackItem) -> FeedbackItem:
    """The replies of a ranking by their places."""
    if isinstance(item.answer, tuple):
        placed = sorted(zip(item.answer, item.replies, strict=True), key=str)
        item = replace(
            item, answer=tuple(p for p, _ in placed), replies=tuple(reply for _, reply in placed)
        )
    return replace(item, conversation="", origin="")


class Extractor:
    """The first reply has more lists than the others, which have fewer; nothing else differs."""

    def measure(self, replies: Sequence[Any], check: object) -> tuple[np.ndarray]:
        x = np.zeros((len(replies), NAMED))
        x[:, LISTS] = [1.0 if reply.text == TEXTS[0] else -1.0 for reply in replies]
        return (x,)


class FeatureMap:
    named, components = NAMED, np.zeros((0, 0))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x


def learned(store: Store, monkeypatch: pytest.MonkeyPatch) -> PreferenceDataset:
    def zeros(prompts: Sequence[Any], *_: object) -> np.ndarray:
        return np.zeros((len(prompts), NAMED))

    monkeypatch.setattr(dataset, "baseline_features", zeros)
    made = Extractor(), FeatureMap(), 8, 0.5, lambda: None
    return dataset.build_dataset(take_snapshot(store), *made)  # type: ignore[arg-type]


def loss(data: PreferenceDataset, weight: float) -> float:
    """-log P where a score is `weight` for each list."""
    weights = np.zeros(NAMED)
    weights[LISTS] = weight
    low, high, outcomes = likelihood.bounds(data)
    rows, *_ = likelihood.row_loss(data.x @ weights, low, high, data.lapse, outcomes)
    rankings, *_ = likelihood.ranking_loss(data.ranked @ weights, data.place)
    return float(data.weight @ rows + rankings.sum())


def test_each_kind_has_a_table_and_examples_here_and_nothing_else_has() -> None:
    codes = [kind.code for kind in kinds()]
    assert sorted(codes) == sorted(KINDS) == sorted(TABLES) == sorted(GIVEN)
    assert set(codes) == {code for code, *_ in INVALID}


@EACH
@pytest.mark.parametrize("language", locale.LANGUAGES)
def test_each_kind_is_labelled_in_every_language(
    kind: FeedbackKind, language: str, store: Store
) -> None:
    texts = locale.catalogue(language)
    assert kind.label.code in texts
    assert all(f"label.rating_{answer}" in texts for answer in kind.answers)
    for given, _ in GIVEN[kind.code]:
        store_answer(store, given)
    for item in take_snapshot(store).items:
        told = describe(item)
        assert told.code in texts
        assert TEXTS[0] in locale.render(told.code, told.params, language)


@EACH
def test_the_code_of_an_older_export_names_the_same_kind(kind: FeedbackKind) -> None:
    assert kind_of(kind.code) is kind
    assert all(kind_of_import(code) is kind for code in (kind.code, *kind.older_codes))
    assert kind_of_import("no such kind") is None


@ANSWERS
def test_an_answer_survives_export_and_import(
    store: Store, other_store: Store, given: ImportedFeedback, first_is_better: bool
) -> None:
    store_answer(store, given)
    [feedback] = store.feedback.all()
    assert (feedback.kind, feedback.answer in kind_of(given.kind).answers) == (given.kind, True)
    found = importers.read(exporters.json_lines(exporters.answers(store, [feedback])))
    assert not found.unread
    [(_, imported)] = found.items
    store_answer(other_store, imported)
    [again] = other_store.feedback.all()
    assert without_ids(again) == without_ids(feedback)
    assert in_one_order(item_of(other_store)) == in_one_order(item_of(store))


@ANSWERS
def test_the_likelihood_term_is_finite_and_has_the_right_sign(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    given: ImportedFeedback,
    first_is_better: bool,
) -> None:
    store_answer(store, given)
    data = learned(store, monkeypatch)
    sources = dataset.sources(take_snapshot(store))
    assert tuple(map(len, sources)) == (len(data.x), len(data.ranked)) and len(data) == 1
    liked, disliked = loss(data, 1.0), loss(data, -1.0)
    assert np.isfinite([liked, disliked, data.effective]).all() and data.effective > 0
    assert (liked < disliked) == first_is_better


@pytest.mark.parametrize("outcome, sign", [("both_good", 1), ("both_bad", -1)])
def test_both_alike_is_half_a_tie_and_one_thumb(
    store: Store, monkeypatch: pytest.MonkeyPatch, outcome: str, sign: int
) -> None:
    store_answer(store, ImportedFeedback("comparison", (), TEXTS[:2], outcome))
    data = learned(store, monkeypatch)
    assert data.kind.tolist() == [likelihood.COMPARISON, likelihood.THUMB]
    assert data.label.tolist() == [0, sign] and data.weight.tolist() == [0.5, 1.0]
    assert dataset.sources(take_snapshot(store)) == ([0, 0], [])
    assert len(dataset.absolute_replies(item_of(store))) == 2


@pytest.mark.parametrize("code, answer, fields, expected", INVALID)
def test_an_answer_that_cannot_be_is_refused(
    code: str, answer: str, fields: dict[str, Any], expected: str
) -> None:
    entry = {"kind": code, "answer": answer, "prompt": "hello", "reply": TEXTS[0], **fields}
    found = importers.read(exporters.json_lines([entry]))
    assert not found.items and [why.code for _, why in found.unread] == [expected]
    assert all(expected in locale.catalogue(language) for language in locale.LANGUAGES)


@EACH
def test_an_answer_can_be_withdrawn_and_changed_only_to_what_its_kind_allows(
    kind: FeedbackKind, store: Store
) -> None:
    given, _ = GIVEN[kind.code][0]
    store_answer(store, given)
    ratings = Ratings(store, lambda text: [], 100)
    [feedback] = ratings.all()
    with pytest.raises(AppError) as error:
        ratings.change(feedback, "no such answer")
    assert error.value.code == "rating.answer_value"
    for answer in kind.choices:
        ratings.change(feedback, answer)
        assert [one.answer for one in ratings.all()] == [answer]
    ratings.change(feedback, WITHDRAWN)
    assert ratings.all() == [] and take_snapshot(store).items == ()


def test_snapshots_of_earlier_versions_keep_their_hashes(store: Store) -> None:
    """Rounds are counted by them: the same feedback must not look like a new state."""
    for each in GIVEN.values():
        store_answer(store, replace(each[0][0], id=each[0][0].kind))
    assert take_snapshot(store).hash == "7acaf0a185939ffc"


def test_the_maths_is_importable_without_the_rest() -> None:
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('maths', {likelihood.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); sys.modules['maths'] = module\n"
        "spec.loader.exec_module(module)\n"
        "assert not any(name.startswith('rlhf_chat') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------- a kind that is made up


class Heart(FeedbackKind):
    """One reply that is loved: as much as two thumbs."""

    code = "heart"
    answers = ("loved",)

    def read(self, store: Store, rater: str, imported: Collection[str]) -> Iterator[StoredItem]:
        for row in store.feedback.all(rater, kind=self.code)[::-1]:
            yield StoredItem(FeedbackItem(row.id, self.code, (), 1, row.rater), (row.message_id,))

    def change(self, store: Store, feedback: Feedback, answer: str) -> None:
        row = {"message_id": feedback.message_id, "rater": feedback.rater, "loved": 0}
        store.feedback.add(self.code, row)

    def evidence(self, item: FeedbackItem, both_weight: float = 1.0) -> Evidence:
        return (Contrast("thumb", 1, weight=2.0),)

    def parse(self, answer: str, entry: Mapping[str, Any]) -> ImportedAnswer:
        if answer not in self.answers:
            raise self.unknown(answer)
        return ImportedAnswer(1, (entry["reply"],))

    def describe(self, item: FeedbackItem, texts: Sequence[str]) -> Notice:
        return Notice("feedback.heart", {"text": texts[0]})


CREATE_HEARTS = """CREATE TABLE hearts (number INTEGER PRIMARY KEY, id TEXT, message_id TEXT
    REFERENCES messages (id) ON DELETE CASCADE, rater TEXT, loved INTEGER, event_id TEXT,
    created_at TEXT) STRICT"""
HEARTS = FeedbackTable(
    "heart",
    "hearts",
    "message_id",
    "message_id",
    """SELECT h.number, h.id, 'heart' AS kind, 'loved' AS answer, asked.content AS prompt,
    m.content AS reply, '' AS other, '' AS reason, '' AS comment, rater,
    m.adapter_version AS version, NULL AS other_version, m.id AS message_id, '' AS other_id,
    m.conversation_id AS conversation_id, h.created_at AS created_at, '[]' AS "order",
    '' AS strength FROM hearts h JOIN messages m ON m.id = message_id
    LEFT JOIN messages asked ON asked.id = m.parent_id
    WHERE loved AND h.number = (SELECT max(number) FROM hearts
        WHERE message_id = h.message_id AND rater = h.rater)""",
    lambda one, asked, replies: {"message_id": replies[0], "loved": 1},
    of_one_reply=True,
)


@pytest.fixture
def heart(store: Store, other_store: Store, monkeypatch: pytest.MonkeyPatch) -> FeedbackKind:
    kind = Heart()
    monkeypatch.setitem(KINDS, kind.code, kind)
    monkeypatch.setitem(feedback_tables.TABLES, kind.code, HEARTS)
    for one in (store, other_store):
        one.connection.write(lambda db: db.execute(CREATE_HEARTS))
    for language in locale.LANGUAGES:
        monkeypatch.setitem(locale.catalogue(language), "label.kind_heart", f"Hearts {language}")
        monkeypatch.setitem(locale.catalogue(language), "feedback.heart", "“{text}” is loved")
    return kind


def test_a_new_kind_is_counted_learned_from_exported_and_labelled(
    heart: FeedbackKind, store: Store, other_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = store.conversations.add("chat")
    asked = store.messages.add(conversation, "user", "hello")
    reply = store.messages.add(
        conversation, "assistant", TEXTS[0], parent_id=asked, prompt_ids=[1], response_ids=[10]
    )
    store.feedback.add("heart", {"message_id": reply, "rater": "me", "loved": 1})

    assert store.feedback.count_since(0) == 1 and store.counts()["hearts"] == 1
    data = learned(store, monkeypatch)
    assert data.weight.tolist() == [2.0] and loss(data, 1.0) < loss(data, -1.0)
    assert dataset.sources(take_snapshot(store)) == ([0], [])

    [feedback] = store.feedback.all(kind="heart")
    exported = exporters.json_lines(exporters.answers(store, [feedback]))
    [(_, imported)] = importers.read(exported).items
    store_answer(other_store, imported)
    assert without_ids(other_store.feedback.all()[0]) == without_ids(feedback)
    assert exporters.csv_table([feedback]) and not exporters.preference_pairs(store, [feedback])

    for language in locale.LANGUAGES:
        assert locale.render(heart.label.code, {}, language) == f"Hearts {language}"
    assert str(describe(item_of(store))) == f"“{TEXTS[0]}” is loved"
    Ratings(store, lambda text: [], 100).change(feedback, WITHDRAWN)
    assert not store.feedback.all() and not take_snapshot(store).items


def test_a_new_kind_is_shown_on_the_data_screen(heart: FeedbackKind, store: Store) -> None:
    from rlhf_chat.ui import data_screen, import_panel

    store_answer(store, ImportedFeedback("heart", (), TEXTS[:1], 1))
    [feedback] = store.feedback.all()
    row = data_screen._row(feedback, whole=True)
    assert row["choices"] == [["loved", "loved"]] and row["kind"] == "heart" and not row["pair"]
    assert import_panel._kind_text("heart") == "Hearts en"
