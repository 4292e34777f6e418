"""Properties of the way from rows to numbers: exact ids, one zero point, a cache, a snapshot."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from rlhf_chat.engine.decode import Sampling
from rlhf_chat.engine.model import Model
from rlhf_chat.preference import evidence, likelihood, prompts, reward, style
from rlhf_chat.preference.gauge import (
    RARE,
    REFERENCES,
    Gauge,
    Prompt,
    Reference,
    Reply,
    feature_map_of,
    fluency_floor,
    zero_points,
)
from rlhf_chat.preference.likelihood import (
    EDIT,
    EDIT_LAPSE,
    LAPSE,
    MUCH,
    PAIR,
    SCORE,
    THUMB,
    Evidence,
)
from rlhf_chat.preference.reward import RewardConfig, fit_head
from rlhf_chat.preference.said import heard, lapses, take_snapshot
from rlhf_chat.preference.taste import TasteConfig
from rlhf_chat.store import Store

LIMIT = 8


def nothing() -> None:
    return None


def pair(store: Store, model: Model, outcome: str, text: str = "hello") -> tuple[str, str]:
    conversation = store.add_conversation("compare")
    asked = store.add_message(conversation, "user", text)
    ids = model.encode([{"role": "user", "content": text}])
    drafts = model.sample(
        model.reference, [ids] * 2, Sampling(max_new_tokens=LIMIT), seed=crc32(text.encode()) % 99
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


def some_references(gauge: Gauge, count: int = 6) -> list[Reference]:
    asked = [gauge.prompt(f"tell me about {i}") for i in range(count)]
    return gauge.references(asked, LIMIT, nothing)


def test_the_exact_ids_are_used_even_where_text_would_encode_otherwise(
    store: Store, toy: Model
) -> None:
    a, b = pair(store, toy, "a")
    snapshot = take_snapshot(store)
    [one] = snapshot.said
    first, second = one.replies
    assert (one.kind, one.answer, one.first) == ("pair", "a", 1)
    assert list(first.ids) == store.message(a).response_ids
    assert list(second.ids) == store.message(b).response_ids
    assert first.prompt.text == "hello"


def test_measuring_twice_computes_once(store: Store, toy: Model, gauge: Gauge, monkeypatch) -> None:
    pair(store, toy, "a")
    replies = list(take_snapshot(store).said[0].replies)
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
        assert len(one.replies) == REFERENCES


def test_the_base_says_less_where_the_prompt_leaves_less_room(toy: Model, gauge: Gauge) -> None:
    ids = toy.encode([{"role": "user", "content": "tell me about the sea"}])
    long = Prompt(tuple((ids * 100)[: toy.context_tokens - 3]), "long")
    short = Prompt(tuple(ids), "short")
    one, other = gauge.references([long, short], LIMIT, nothing)
    assert max(one.lengths) <= 3 < max(other.lengths) <= LIMIT


def test_the_zero_point_of_a_prompt_is_what_the_base_says(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    references = some_references(gauge)
    feature_map = feature_map_of(references)
    for reference in references[:2]:
        x = feature_map(*gauge.measure(list(reference.replies), nothing))
        asked = [reference.replies[0].prompt]
        zero = zero_points(asked, gauge, feature_map, LIMIT, nothing)
        assert np.allclose(x.mean(0), zero[0], atol=1e-3)


def built(store: Store, gauge: Gauge) -> Evidence:
    feature_map = feature_map_of(some_references(gauge))
    return evidence.build(take_snapshot(store), gauge, feature_map, LIMIT, 0.5, nothing)


@pytest.mark.parametrize("outcome, thumb", [("both_bad", -1.0), ("both_good", 1.0)])
def test_both_is_half_a_tie_and_one_thumb_on_the_two_together(
    store: Store, toy: Model, gauge: Gauge, outcome: str, thumb: float
) -> None:
    pair(store, toy, outcome, "hello")
    pair(store, toy, "b", "thank you")
    said = built(store, gauge)
    assert said.kind.tolist() == [PAIR, THUMB, PAIR]
    assert said.label.tolist() == [0.0, thumb, -1.0]
    assert said.weight.tolist() == [0.5, 1.0, 1.0]
    assert said.labels == 2
    assert evidence.sources(take_snapshot(store)) == ([0, 0, 1], [])


def test_stars_take_the_place_of_the_same_persons_thumb(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    """Both on one reply are one opinion, or the test of the signal would see two that agree."""
    a, b = pair(store, toy, "withdrawn")
    store.add_rating(a, 1)
    store.add_rating(b, -1)
    store.add_rating(a, 1, rater="visitor")
    store.add_score(a, 5)
    told = [(one.kind, one.answer, one.rater) for one in take_snapshot(store).said]
    assert sorted(told) == [("score", 5, "me"), ("thumb", -1, "me"), ("thumb", 1, "visitor")]
    store.add_score(a, 0)
    assert ("thumb", 1, "me") in [(o.kind, o.answer, o.rater) for o in take_snapshot(store).said]


def test_corrections_that_make_it_longer_are_not_taken_for_a_wish_for_length() -> None:
    """Thirty corrections that each add a list and, with it, words: the list was wanted."""
    rng = np.random.default_rng(0)
    lists, dim, named = style.NAMES.index("lists"), 30, len(style.NAMES)
    rows = []
    for i in range(30):
        original, edited = rng.normal(size=(2, dim)) * 0.3
        edited[[style.LENGTH, lists]] += 1.0
        x = evidence.correction(edited, original, named)
        assert not x[named:].any()
        rows.append((x, EDIT, 1.0, 1.0, i, 0, 0.0, EDIT_LAPSE))
    weights = fit_head(likelihood.evidence(dim, rows), named, RewardConfig()).weights
    assert weights[lists] > 3 * abs(weights[style.LENGTH]) > 0
    # and it takes no size for granted: a margin of one standard deviation is a matter of course
    assert weights[lists] < 2


def test_every_kind_of_answer_arrives_with_what_it_says(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    a, b = pair(store, toy, "withdrawn", "hello")
    asked = store.message(a).parent_id
    assert asked
    store.add_preference(b, a, "a", shown_first="b", strength="much")
    store.add_score(a, 4)
    store.add_ranking(asked, {a: 1, b: 0})
    ids = store.message(a).prompt_ids
    edited = store.add_message(
        store.message(a).conversation_id,
        "assistant",
        "something else entirely",
        parent_id=asked,
        prompt_ids=ids,
        response_ids=[5, 6, 7],
    )
    store.add_edit(a, edited)
    said = built(store, gauge)
    assert said.kind.tolist() == [PAIR, SCORE, EDIT]
    assert said.label.tolist() == [MUCH, 4.0, 1.0] and said.side[0] == -1.0
    assert said.place.tolist() == [[1, 0]] and said.raters == 1
    assert said.lapse.tolist() == [LAPSE, LAPSE, EDIT_LAPSE]
    assert np.allclose(said.ranked[0, 0], -said.ranked[0, 1])
    assert np.allclose(said.x[0], said.ranked[0, 1] - said.ranked[0, 0])
    for take_back in (
        lambda: store.add_score(a, 0),
        lambda: store.add_ranking(asked, {}),
        lambda: store.add_edit(a, edited, withdrawn=True),
        lambda: store.add_preference(a, b, "withdrawn", shown_first="a"),
    ):
        before = len(take_snapshot(store).said)
        take_back()
        assert len(take_snapshot(store).said) == before - 1


def test_a_mended_typo_says_less_than_a_rewritten_reply() -> None:
    whole = "one two three four five six seven eight nine ten"
    small = style.changed_share(whole, whole.replace("two", "too"))
    assert 0 < small < evidence.TYPO_SHARE < style.changed_share(whole, "something else")
    assert style.changed_share(whole, whole) == 0


def test_withdrawing_a_kind_is_never_having_given_it(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    """Same numbers, same head, bit for bit."""
    drafts = [pair(store, toy, "a", f"tell me about {i}") for i in range(6)]
    before = built(store, gauge)
    for a, _ in drafts:
        store.add_rating(a, 1)
        store.add_score(a, 5)
    assert len(built(store, gauge)) == 12
    for a, _ in drafts:
        store.add_rating(a, 0)
        store.add_score(a, 0)
    after = built(store, gauge)
    heads = [reward.fit_head(e, 28, reward.RewardConfig()) for e in (before, after)]
    assert np.array_equal(heads[0].weights, heads[1].weights)
    assert np.array_equal(heads[0].covariance, heads[1].covariance)
    whole = take_snapshot(store)
    assert whole.without(lambda one: one.kind == "pair").said == ()
    assert whole.without(lambda one: False) == whole


def test_who_is_set_aside_does_not_count_and_keeps_their_answers(store: Store, toy: Model) -> None:
    a, b = pair(store, toy, "a")
    store.add_preference(a, b, "b", shown_first="a", rater="visitor")
    assert take_snapshot(store).raters == ("me", "visitor")
    store.set_setting("quarantined", ["visitor"])
    snapshot = take_snapshot(store)
    assert snapshot.raters == ("me",) and [s.answer for s in snapshot.said] == ["a"]
    assert {vote.rater for vote in store.preferences()} == {"me", "visitor"}


def test_slips_are_counted_from_pairs_asked_again(store: Store, toy: Model) -> None:
    for i in range(30):
        a, b = pair(store, toy, "a", f"tell me about {i}")
        answer = "b" if i < 6 else "a"
        store.add_preference(a, b, answer, shown_first="b", again=True)
    assert len(store.preferences()) == len(take_snapshot(store).said) == 30
    assert lapses(store) == {"me": pytest.approx((2 + 3) / 50)}


def test_changed_and_withdrawn_feedback_counts_as_it_stands(store: Store, toy: Model) -> None:
    a, b = pair(store, toy, "a")
    store.add_rating(a, 1)
    before = take_snapshot(store)
    store.add_preference(a, b, "b", shown_first="a")
    store.add_rating(a, 0)
    after = take_snapshot(store)
    assert [(s.kind, s.answer) for s in after.said] == [("pair", "b")]
    assert before.hash != after.hash and after.watermark > before.watermark
    store.add_preference(a, b, "withdrawn", shown_first="a")
    assert not take_snapshot(store).said


def test_a_reply_the_model_cannot_hold_is_left_out_of_what_is_measured(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    """An older app kept such corrections; or the model could hold more when it was written."""
    a, _ = pair(store, toy, "a")
    original = store.message(a)
    assert original.prompt_ids
    for length in (toy.context_tokens - len(original.prompt_ids), toy.context_tokens):
        edited = store.add_message(
            original.conversation_id,
            "assistant",
            toy.decode([40] * length),
            parent_id=original.parent_id,
            prompt_ids=original.prompt_ids,
            response_ids=[40] * length,
        )
        store.add_edit(a, edited)
    assert [one.kind for one in take_snapshot(store).said] == ["pair", "edit", "edit"]
    kept = heard(gauge).said
    assert [one.kind for one in kept] == ["pair", "edit"]
    assert len(kept[1].replies[0].prompt.ids + kept[1].replies[0].ids) == toy.context_tokens


def test_what_another_models_tokens_said_is_left_out_of_what_is_measured(
    store: Store, toy: Model, gauge: Gauge
) -> None:
    """The same database may have been used with a model that has another tokenizer."""
    a, _ = pair(store, toy, "a")
    original = store.message(a)
    assert original.prompt_ids and [one.kind for one in heard(gauge).said] == ["pair"]
    for ids in ([5, 6, 7], [toy.config.vocab_size + 9]):
        foreign = store.add_message(
            original.conversation_id,
            "assistant",
            "words of another model",
            parent_id=original.parent_id,
            prompt_ids=original.prompt_ids,
            response_ids=ids,
        )
        store.add_rating(foreign, 1)
    assert len(take_snapshot(store).said) == 3
    assert [one.kind for one in heard(gauge).said] == ["pair"]


def test_a_reply_without_token_ids_is_left_out(store: Store) -> None:
    conversation = store.add_conversation()
    asked = store.add_message(conversation, "user", "hello")
    reply = store.add_message(conversation, "assistant", "hi", parent_id=asked)
    store.add_rating(reply, 1)
    assert not take_snapshot(store).said


def test_rare_words_of_the_base_set_the_floor(store: Store, gauge: Gauge) -> None:
    references = some_references(gauge)
    tokens = np.concatenate([row for r in references for row in r.logprobs])
    floor = fluency_floor(references, 0.05)
    assert floor == min(np.quantile(tokens, 0.05), RARE)
    assert np.mean(tokens < floor) <= 0.05 + 1e-9


@pytest.mark.parametrize("is_demo", [True, False])
def test_practice_and_probe_prompts_never_overlap(is_demo: bool) -> None:
    practice, probe = prompts.practice(is_demo, 9999), prompts.probe(is_demo, 9999)
    wanted = TasteConfig()
    assert len(practice) >= wanted.practice_prompts and len(probe) >= wanted.probe_prompts
    assert practice and probe and not set(practice) & set(probe)
    assert len(set(practice)) == len(practice)


def test_held_out_prompts_are_never_practised() -> None:
    from rlhf_chat.demo import corpus

    held_out = set(corpus.prompts("held_out", 300, 99))
    assert not held_out & set(prompts.practice(True, 9999) + prompts.probe(True, 9999))


def test_a_reply_and_its_prompt_are_told_apart() -> None:
    assert Reply(Prompt((1,), "x"), (2,), "y") != Reply(Prompt((1, 2), "x"), (), "y")
