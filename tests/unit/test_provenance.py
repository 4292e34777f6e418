"""Imported answers teach only once the person says so, and a live version that learned from what
does not count any more is pointed out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlhf_chat.chat.imports import Imports
from rlhf_chat.chat.raters import Raters
from rlhf_chat.db import Store
from rlhf_chat.errors import Notice
from rlhf_chat.feedback.snapshot import Snapshot, take_snapshot
from rlhf_chat.inference.model import Model
from rlhf_chat.training import gate
from rlhf_chat.training.gate import EvalResult, GateConfig, GenerationStats
from rlhf_chat.training.round_runner import gate_for
from rlhf_chat.versions import provenance

SEA = "tell me about the sea"


def pairs(count: int = 2, **more: str) -> str:
    replies = ("it is blue", "it is deep", "hello", "I am well", "thank you", "how are you")
    rows = [{"prompt": SEA, "chosen": r, "rejected": "the sea", **more} for r in replies[:count]]
    return "\n".join(map(json.dumps, rows))


def corrections(count: int) -> str:
    row = {"kind": "correction", "answer": "corrected", "prompt": SEA, "reply": "the sea"}
    replies = ("it is blue", "it is deep", "hello", "I am well")[:count]
    return "\n".join(json.dumps({**row, "other": words}) for words in replies)


@pytest.fixture
def imports(store: Store, toy: Model) -> Imports:
    return Imports(store, toy)


def ids(store: Store) -> set[str]:
    return {item.id for item in take_snapshot(store).items}


def learned(store: Store, version: int, parent: int = 0, **more: object) -> None:
    """A version that was trained on what counts now."""
    snapshot = take_snapshot(store)
    round_id = store.rounds.open(
        trigger="ratings",
        parent_version=parent,
        seed=0,
        watermark=snapshot.watermark,
        config={},
        snapshot_hash=snapshot.hash,
        learned_from=provenance.learned_from(store, snapshot.imports, snapshot.raters, parent),
    )
    store.adapter_versions.promote(
        version=version,
        parent=parent,
        round_id=round_id,
        tier="passed",
        folder=f"v{version}",
        manifest_hash="",
        kl=0.0,
        reason="",
        verdict={},
    )


def test_an_import_counts_for_nothing_until_it_is_accepted(store, imports):
    origin, _, _ = imports.import_all(pairs())
    assert take_snapshot(store).items == () and store.feedback.count_since(0) == 0
    [batch] = imports.newest(3)
    assert (batch.id, batch.counts) == (origin, False)
    assert len(store.feedback.all()) == 2  # kept, and shown
    assert imports.accept(origin) == Notice("imports.accepted")
    assert len(take_snapshot(store).items) == 2 and imports.newest(3)[0].counts


def test_what_is_accepted_after_a_round_is_new_for_the_next(store, imports):
    first, _, _ = imports.import_all(pairs(2))
    second, _, _ = imports.import_all(pairs(3))
    watermark = store.feedback.count()
    imports.accept(first)
    assert store.feedback.count() > watermark  # a round that waits for new ratings is due again
    assert store.feedback.count_since(watermark) == 2
    assert store.feedback.count_since(store.feedback.count()) == 0
    imports.accept(first)  # a second click changes nothing
    assert store.feedback.count_since(watermark) == 2
    imports.accept(second)
    assert store.feedback.count_since(watermark) == 3


def test_an_answer_to_imported_replies_waits_with_them(store, imports):
    origin, _, _ = imports.import_all(pairs(1))
    [vote] = store.feedback.preferences()
    store.feedback.add_preference(vote.message_a, vote.message_b, "b", shown_first="a")
    assert take_snapshot(store).items == () and store.feedback.count_since(0) == 0
    imports.accept(origin)
    assert [item.answer for item in take_snapshot(store).items] == ["b"]


def test_accepting_changes_what_caches_compare(store, imports):
    origin, _, _ = imports.import_all(pairs(1))
    before = store.feedback.revision
    imports.accept(origin)
    assert store.feedback.revision > before


def test_undoing_an_import_that_the_live_version_learned_from_is_pointed_out(store, imports):
    mine, _, _ = imports.import_all(pairs(1))
    imports.accept(mine)
    learned(store, 1)
    theirs, _, _ = imports.import_all(pairs(3))
    learned(store, 2, parent=1)  # they waited
    imports.undo(theirs)
    assert provenance.lapsed(store) is None
    theirs, _, _ = imports.import_all(pairs(3))
    imports.accept(theirs)
    learned(store, 3, parent=2)
    learned(store, 4, parent=3)
    assert provenance.lapsed(store) is None
    imports.undo(theirs)
    found = provenance.lapsed(store)
    assert found and (found.version, found.back_to) == (4, 2)
    assert found.notice.code == "versions.lapsed_import"
    store.adapter_versions.set_live(2, "gone back")
    assert provenance.lapsed(store) is None
    imports.undo(mine)
    found = provenance.lapsed(store)
    assert found and (found.version, found.back_to) == (2, 0)


def test_what_a_version_learned_is_inherited_even_from_a_deleted_parent(store, imports):
    origin, _, _ = imports.import_all(pairs(1))
    imports.accept(origin)
    learned(store, 1)
    imports.undo(origin)
    learned(store, 2, parent=1)  # without the import, but from a version that knew it
    store.adapter_versions.delete(1)
    found = provenance.lapsed(store)
    assert found and (found.version, found.back_to) == (2, 0)


def test_excluding_a_rater_the_live_version_learned_from_is_pointed_out(store, imports):
    origin, _, _ = imports.import_all(pairs(2))
    imports.accept(origin)
    origin, _, _ = imports.import_all(pairs(3), "Kim")
    imports.accept(origin)
    learned(store, 1)
    raters = Raters(store)
    raters.set_aside("Nobody")
    assert provenance.lapsed(store) is None
    raters.set_aside("Kim")
    found = provenance.lapsed(store)
    assert found and (found.version, found.back_to) == (1, 0)
    assert found.notice == Notice(
        "versions.lapsed_rater", {"version": 1, "back": 0, "names": "Kim"}
    )
    raters.set_aside("Kim", False)
    assert provenance.lapsed(store) is None


PLAIN = GenerationStats(0, 0, 0, 0, 0.5, 20)
SURE = EvalResult(30, 0.0, 0.5, 0.5, 0.2, 0.7, 1, 1, PLAIN, PLAIN, True)


def verdict(snapshot: Snapshot) -> gate.Verdict:
    return gate.judge(SURE, gate_for(snapshot, GateConfig()))


def test_mostly_imported_corrections_prove_nothing_before_blind_votes(store, imports):
    origin, _, _ = imports.import_all(corrections(3))
    imports.accept(origin)
    found = verdict(take_snapshot(store))
    assert (found.tier, found.code) == (gate.PROVISIONAL, "gate.passed_imported")
    other, _, _ = imports.import_all(pairs(6))
    imports.accept(other)  # now they are a third
    found = verdict(take_snapshot(store))
    assert (found.tier, found.code) == (gate.PASSED, "gate.passed")


def test_a_version_of_before_is_known_to_have_learned_from_its_imports(tmp_path: Path):
    """What rounds learned from was not stored; the upgrade reads it from their watermarks."""
    made = Path(__file__).parent.parent / "data" / "feedback-48d4070.zip"
    shutil.unpack_archive(made, tmp_path)
    store = Store(tmp_path / "feedback.db")
    try:
        assert all(batch.counts for batch in store.imports.newest(9))  # they counted already
        promoted = [r for r in store.rounds.newest() if r.status == "promoted"]
        assert promoted and all("me" in r.learned_from["raters"] for r in promoted)
        simulated = [r for r in store.rounds.newest() if r.rater]
        assert simulated and all(r.learned_from == {} for r in simulated)
    finally:
        store.close()
