"""Properties of the way from rows to numbers: exact ids, one zero point, a cache, a snapshot."""

from __future__ import annotations

import numpy as np
import pytest

from rlhf_chat import evidence, prompts
from rlhf_chat.decode import Sampling
from rlhf_chat.evidence import Gauge, Reply, take_snapshot
from rlhf_chat.model import Model
from rlhf_chat.store import Store

LIMIT = 8


def nothing() -> None:
    return None


def pair(store: Store, model: Model, outcome: str, text: str = "hello") -> tuple[str, str]:
    conversation = store.add_conversation("compare")
    asked = store.add_message(conversation, "user", text)
    ids = model.encode([{"role": "user", "content": text}])
    drafts = model.sample(
        model.reference, [ids] * 2, Sampling(max_new_tokens=LIMIT), seed=hash(text) % 99
    )
    a, b = (
        store.add_message(
            conversation,
            "assistant",
            model.decode(d.ids),
            parent_id=asked,
            prompt_ids=ids,
            response_ids=d.ids,
            adapter_version=0,
            finish_reason="stop",
            make_head=False,
        )
        for d in drafts
    )
    store.add_preference(a, b, outcome, shown_first="a")
    return a, b


@pytest.fixture
def gauge(store: Store, toy: Model) -> Gauge:
    return Gauge(store, toy)


def some_references(gauge: Gauge, count: int = 6) -> list[evidence.Reference]:
    asked = [gauge.prompt(f"tell me about {i}") for i in range(count)]
    return gauge.references(asked, LIMIT, nothing)


def test_the_exact_ids_are_used_even_where_text_would_encode_otherwise(
    store: Store, toy: Model
) -> None:
    a, b = pair(store, toy, "a")
    snapshot = take_snapshot(store)
    first, second, outcome = snapshot.pairs[0]
    assert outcome == "a"
    assert list(first.ids) == store.message(a).response_ids
    assert list(second.ids) == store.message(b).response_ids
    assert first.prompt.text == "hello"


def test_measuring_twice_computes_once(store: Store, toy: Model, gauge: Gauge, monkeypatch) -> None:
    pair(store, toy, "a")
    replies = list(take_snapshot(store).pairs[0][:2])
    one = gauge.measure(replies, nothing)
    monkeypatch.setattr(toy, "reference_pass", lambda *a, **k: pytest.fail("measured again"))
    two = Gauge(store, toy).measure(replies, nothing)
    assert all(np.allclose(x, y) for x, y in zip(one, two, strict=True))


def test_reference_replies_are_sampled_once_and_kept(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    first = some_references(gauge)
    again = some_references(Gauge(store, toy))
    for one, two in zip(first, again, strict=True):
        assert [r.ids for r in one.replies] == [r.ids for r in two.replies]
        assert len(one.replies) == evidence.REFERENCES


def test_the_zero_point_of_a_prompt_is_what_the_base_says(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    references = some_references(gauge)
    feature_map = evidence.feature_map_of(references)
    for reference in references[:2]:
        x = evidence.centered(list(reference.replies), gauge, feature_map, LIMIT, nothing)
        assert np.allclose(x.mean(0), 0, atol=1e-3)


def test_both_bad_is_half_a_tie_and_half_a_thumb_down_on_each(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    pair(store, toy, "both_bad", "hello")
    pair(store, toy, "b", "thank you")
    feature_map = evidence.feature_map_of(some_references(gauge))
    told = evidence.build(take_snapshot(store), gauge, feature_map, LIMIT, 0.5, nothing)
    assert sorted(told.outcome.tolist()) == [-1.0, 0.0]
    assert told.thumb.tolist() == [-1.0, -1.0] and told.thumb_weight.tolist() == [0.5, 0.5]
    assert told.pair_weight[told.outcome == 0].tolist() == [0.5]


def test_changed_and_withdrawn_feedback_counts_as_it_stands(store: Store, toy: Model) -> None:
    a, b = pair(store, toy, "a")
    store.add_rating(a, 1)
    before = take_snapshot(store)
    store.add_preference(a, b, "b", shown_first="a")
    store.add_rating(a, 0)
    after = take_snapshot(store)
    assert [o for *_, o in after.pairs] == ["b"] and not after.thumbs
    assert before.hash != after.hash and after.watermark > before.watermark
    store.add_preference(a, b, "withdrawn", shown_first="a")
    assert not take_snapshot(store).pairs


def test_a_reply_without_token_ids_is_left_out(store: Store) -> None:
    conversation = store.add_conversation()
    asked = store.add_message(conversation, "user", "hello")
    reply = store.add_message(conversation, "assistant", "hi", parent_id=asked)
    store.add_rating(reply, 1)
    assert not take_snapshot(store).thumbs


def test_rare_words_of_the_base_set_the_floor(store: Store, gauge: Gauge) -> None:
    references = some_references(gauge)
    tokens = np.concatenate([row for r in references for row in r.logprobs])
    floor = evidence.fluency_floor(references, 0.05)
    assert floor == min(np.quantile(tokens, 0.05), evidence.RARE)
    assert np.mean(tokens < floor) <= 0.05 + 1e-9


@pytest.mark.parametrize("is_demo", [True, False])
def test_practice_and_probe_prompts_never_overlap(is_demo: bool) -> None:
    practice, probe = prompts.practice(is_demo, 9999), prompts.probe(is_demo, 9999)
    assert practice and probe and not set(practice) & set(probe)
    assert len(set(practice)) == len(practice)


def test_held_out_prompts_are_never_practised() -> None:
    from rlhf_chat.demo import corpus

    held_out = set(corpus.prompts("held_out", 300, 99))
    assert not held_out & set(prompts.practice(True, 9999) + prompts.probe(True, 9999))


def test_a_reply_and_its_prompt_are_told_apart() -> None:
    assert Reply(evidence.Prompt((1,), "x"), (2,), "y") != Reply(
        evidence.Prompt((1, 2), "x"), (), "y"
    )
