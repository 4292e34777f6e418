"""What other tools read: one line per better and worse reply, with everything said before."""

from __future__ import annotations

import csv
import io
import json

import pytest

from rlhf_chat import importers
from rlhf_chat.chat import exporters
from rlhf_chat.db import Store


@pytest.fixture
def store(tmp_path):
    with_store = Store(tmp_path / "feedback.db")
    yield with_store
    with_store.close()


def talk(store: Store, system: str = "") -> str:
    """A conversation of one exchange and a second question; its id."""
    made = store.conversations.add(system_prompt=system)
    parent = None
    for role, text in (("user", "hello"), ("assistant", "hi"), ("user", "and the sea?")):
        parent = store.messages.add(made, role, text, parent_id=parent)
    return made


def replies(store: Store, conversation: str, *texts: str) -> list[str]:
    asked = store.conversations.get(conversation).head_id
    return [
        store.messages.add(conversation, "assistant", t, parent_id=asked, make_head=False)
        for t in texts
    ]


def pairs(store: Store) -> list[tuple[str, str]]:
    found = exporters.preference_pairs(store, store.feedback.all())
    return [(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in found]


def test_a_pair_carries_the_whole_conversation_and_its_system_prompt(store):
    for system in ("", "be brief"):
        one, two = replies(store, talk(store, system), "blue", "green")
        store.feedback.add_preference(one, two, "b", shown_first="a")
        newest = exporters.preference_pairs(store, store.feedback.all())[0]
        turns = [("user", "hello"), ("assistant", "hi"), ("user", "and the sea?")]
        before = [("system", system)] * bool(system) + turns
        assert [(t["role"], t["content"]) for t in newest["prompt"]] == before
        assert newest["chosen"] == [{"role": "assistant", "content": "green"}]
        assert newest["rejected"] == [{"role": "assistant", "content": "blue"}]


@pytest.mark.parametrize("outcome", ["tie", "both_bad", "both_good", "withdrawn"])
def test_what_names_no_better_one_is_left_out(store, outcome):
    one, two = replies(store, talk(store), "blue", "green")
    store.feedback.add_preference(one, two, "a", shown_first="a")
    store.feedback.add_preference(one, two, outcome, shown_first="a")
    store.feedback.add_rating(one, 1)
    store.feedback.add_score(two, 5)
    assert pairs(store) == []


def test_a_correction_is_better_than_what_it_corrects(store):
    wrote, mine = replies(store, talk(store), "it is blu", "it is blue")
    store.feedback.add_edit(wrote, mine)
    assert pairs(store) == [("it is blue", "it is blu")]


def test_replies_are_labelled_where_an_answer_calls_them_good_or_bad(store):
    asked = talk(store)
    one, two, three, four, mine = replies(store, asked, "one", "two", "three", "four", "mine")
    store.feedback.add_rating(one, -1)
    store.feedback.add_score(two, 4)
    store.feedback.add_score(three, 3)
    store.feedback.add_preference(one, two, "a", shown_first="a")
    store.feedback.add_preference(three, four, "both_good", shown_first="a")
    store.feedback.add_edit(four, mine)
    found = exporters.labelled_replies(store, store.feedback.all())
    assert sorted((row["completion"][0]["content"], row["label"]) for row in found) == [
        ("four", False),
        ("four", True),
        ("mine", True),
        ("one", False),
        ("three", True),
        ("two", True),
    ]
    assert all(row["prompt"][-1]["content"] == "and the sea?" for row in found)
    again = importers.read(exporters.json_lines(found))
    assert not again.unread and {one.kind for _, one in again.items} == {"thumb"}


def ranked(store, *places: int) -> None:
    """Three replies in these places."""
    conversation = talk(store)
    three = replies(store, conversation, "one", "two", "three")
    asked = store.conversations.get(conversation).head_id
    assert asked
    store.feedback.add_ranking(asked, dict(zip(three, places, strict=True)))


def test_a_ranking_is_every_pair_it_tells_apart(store):
    ranked(store, 1, 0, 1)
    assert sorted(pairs(store)) == [("two", "one"), ("two", "three")]


def test_a_table_and_lines_tell_the_order_of_a_ranking(store):
    ranked(store, 1, 0, 2)
    [row] = csv.DictReader(io.StringIO(exporters.csv_table(store.feedback.all()), newline=""))
    assert row["order"] == "1. two\n2. one\n3. three"
    told = json.loads(exporters.json_lines(exporters.answers(store, store.feedback.all())))
    assert [(p["place"], p["reply"]) for p in told["order"]] == [
        (0, "two"),
        (1, "one"),
        (2, "three"),
    ]


def test_each_line_is_json_of_its_own_whatever_was_written(store):
    one, two = replies(store, talk(store), 'a "quoted"\nline', "\u2028 \U0001f30a")
    store.feedback.add_preference(one, two, "a", shown_first="a")
    text = exporters.json_lines(exporters.preference_pairs(store, store.feedback.all()))
    [line] = text.split("\n")[:-1]
    assert json.loads(line)["chosen"][0]["content"] == 'a "quoted"\nline'
