"""Properties of the way from rows to numbers: exact ids, one zero point, a cache, a snapshot."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import pytest

from rlhf_chat.db import Store
from rlhf_chat.feedback.replies import Prompt, Reply
from rlhf_chat.feedback.snapshot import lapses, load_snapshot, take_snapshot
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import dataset, likelihood, prompt_sets, reward_model, text_features
from rlhf_chat.reward.dataset import sources
from rlhf_chat.reward.features import (
    RARE,
    REFERENCES,
    FeatureExtractor,
    Reference,
    baseline_features,
    feature_map_from,
    logprob_floor,
)
from rlhf_chat.reward.likelihood import (
    COMPARISON,
    CORRECTION,
    CORRECTION_LAPSE,
    LAPSE,
    MUCH,
    STARS,
    THUMB,
    PreferenceDataset,
)
from rlhf_chat.reward.reward_model import RewardConfig, fit_head
from rlhf_chat.reward.scorer import ScoringConfig

LIMIT = 8


def nothing() -> None:
    return None


def pair(store: Store, model: Model, outcome: str, text: str = "hello") -> tuple[str, str]:
    conversation = store.conversations.add("compare")
    asked = store.messages.add(conversation, "user", text)
    ids = model.encode([{"role": "user", "content": text}])
    drafts = model.sample(
        model.reference, [ids] * 2, Sampling(max_new_tokens=LIMIT), seed=crc32(text.encode()) % 99
    )
    a, b = (
        store.messages.add(
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
    store.feedback.add_preference(a, b, outcome, shown_first="a")
    return a, b


@pytest.fixture
def extractor(store: Store, toy: Model) -> FeatureExtractor:
    return FeatureExtractor(store, toy)


def some_references(extractor: FeatureExtractor, count: int = 6) -> list[Reference]:
    asked = [extractor.prompt(f"tell me about {i}") for i in range(count)]
    return extractor.references(asked, LIMIT, nothing)


def test_the_exact_ids_are_used_even_where_text_would_encode_otherwise(
    store: Store, toy: Model
) -> None:
    a, b = pair(store, toy, "a")
    snapshot = take_snapshot(store)
    [one] = snapshot.items
    first, second = one.replies
    assert (one.kind, one.answer, one.first) == ("comparison", "a", 1)
    assert list(first.ids) == store.messages.get(a).response_ids
    assert list(second.ids) == store.messages.get(b).response_ids
    assert first.prompt.text == "hello"


def test_measuring_twice_computes_once(
    store: Store, toy: Model, extractor: FeatureExtractor, monkeypatch
) -> None:
    pair(store, toy, "a")
    replies = list(take_snapshot(store).items[0].replies)
    one = extractor.measure(replies, nothing)
    monkeypatch.setattr(
        forward_pass, "reference_pass", lambda *a, **k: pytest.fail("measured again")
    )
    two = FeatureExtractor(store, toy).measure(replies, nothing)
    assert all(np.allclose(x, y) for x, y in zip(one, two, strict=True))


def test_reference_replies_are_sampled_once_and_kept(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    first = some_references(extractor)
    again = some_references(FeatureExtractor(store, toy))
    for one, two in zip(first, again, strict=True):
        assert [r.ids for r in one.replies] == [r.ids for r in two.replies]
        assert len(one.replies) == REFERENCES


def test_the_base_says_less_where_the_prompt_leaves_less_room(
    toy: Model, extractor: FeatureExtractor
) -> None:
    ids = toy.encode([{"role": "user", "content": "tell me about the sea"}])
    long = Prompt(tuple((ids * 100)[: toy.context_tokens - 3]), "long")
    short = Prompt(tuple(ids), "short")
    one, other = extractor.references([long, short], LIMIT, nothing)
    assert max(one.lengths) <= 3 < max(other.lengths) <= LIMIT


def test_the_zero_point_of_a_prompt_is_what_the_base_says(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    references = some_references(extractor)
    feature_map = feature_map_from(references, short_replies=False)
    for reference in references[:2]:
        x = feature_map(*extractor.measure(list(reference.replies), nothing))
        asked = [reference.replies[0].prompt]
        zero = baseline_features(asked, extractor, feature_map, LIMIT, nothing)
        assert np.allclose(x.mean(0), zero[0], atol=1e-3)


def built(store: Store, extractor: FeatureExtractor) -> PreferenceDataset:
    feature_map = feature_map_from(some_references(extractor), short_replies=False)
    return dataset.build_dataset(take_snapshot(store), extractor, feature_map, LIMIT, 0.5, nothing)


@pytest.mark.parametrize("outcome, thumb", [("both_bad", -1.0), ("both_good", 1.0)])
def test_both_is_half_a_tie_and_one_thumb_on_the_two_together(
    store: Store, toy: Model, extractor: FeatureExtractor, outcome: str, thumb: float
) -> None:
    pair(store, toy, outcome, "hello")
    pair(store, toy, "b", "thank you")
    dataset = built(store, extractor)
    assert dataset.kind.tolist() == [COMPARISON, THUMB, COMPARISON]
    assert dataset.label.tolist() == [0.0, thumb, -1.0]
    assert dataset.weight.tolist() == [0.5, 1.0, 1.0]
    assert dataset.labels == 2
    assert sources(take_snapshot(store)) == ([0, 0, 1], [])


def test_stars_take_the_place_of_the_same_persons_thumb(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    """Both on one reply are one opinion, or the test of the signal would see two that agree."""
    a, b = pair(store, toy, "withdrawn")
    store.feedback.add_rating(a, 1)
    store.feedback.add_rating(b, -1)
    store.feedback.add_rating(a, 1, rater="visitor")
    store.feedback.add_score(a, 5)
    told = [(one.kind, one.answer, one.rater) for one in take_snapshot(store).items]
    assert sorted(told) == [("stars", 5, "me"), ("thumb", -1, "me"), ("thumb", 1, "visitor")]
    store.feedback.add_score(a, 0)
    assert ("thumb", 1, "me") in [(o.kind, o.answer, o.rater) for o in take_snapshot(store).items]


def test_corrections_that_make_it_longer_are_not_taken_for_a_wish_for_length() -> None:
    """Thirty corrections that each add a list and, with it, words: the list was wanted."""
    rng = np.random.default_rng(0)
    lists, dim, named = text_features.NAMES.index("lists"), 30, len(text_features.NAMES)
    rows = []
    for i in range(30):
        original, edited = rng.normal(size=(2, dim)) * 0.3
        edited[[text_features.LENGTH, lists]] += 1.0
        x = dataset.correction(edited, original, named)
        assert not x[named:].any()
        rows.append((x, CORRECTION, 1.0, 1.0, i, 0, 0.0, CORRECTION_LAPSE))
    weights = fit_head(likelihood.make_dataset(dim, rows), named, RewardConfig()).weights  # type: ignore[arg-type]
    assert weights[lists] > 3 * abs(weights[text_features.LENGTH]) > 0
    # and it takes no size for granted: a margin of one standard deviation is a matter of course
    assert weights[lists] < 2


def test_every_kind_of_answer_arrives_with_what_it_says(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    a, b = pair(store, toy, "withdrawn", "hello")
    asked = store.messages.get(a).parent_id
    assert asked
    store.feedback.add_preference(b, a, "a", shown_first="b", strength="much")
    store.feedback.add_score(a, 4)
    store.feedback.add_ranking(asked, {a: 1, b: 0})
    ids = store.messages.get(a).prompt_ids
    edited = store.messages.add(
        store.messages.get(a).conversation_id,
        "assistant",
        "something else entirely",
        parent_id=asked,
        prompt_ids=ids,
        response_ids=[5, 6, 7],
    )
    store.feedback.add_edit(a, edited)
    dataset = built(store, extractor)
    assert dataset.kind.tolist() == [COMPARISON, STARS, CORRECTION]
    assert dataset.label.tolist() == [MUCH, 4.0, 1.0] and dataset.side[0] == -1.0
    assert dataset.place.tolist() == [[1, 0]] and dataset.raters == 1
    assert dataset.lapse.tolist() == [LAPSE, LAPSE, CORRECTION_LAPSE]
    assert np.allclose(dataset.ranked[0, 0], -dataset.ranked[0, 1])
    assert np.allclose(dataset.x[0], dataset.ranked[0, 1] - dataset.ranked[0, 0])
    for take_back in (
        lambda: store.feedback.add_score(a, 0),
        lambda: store.feedback.add_ranking(asked, {}),
        lambda: store.feedback.add_edit(a, edited, withdrawn=True),
        lambda: store.feedback.add_preference(a, b, "withdrawn", shown_first="a"),
    ):
        before = len(take_snapshot(store).items)
        take_back()
        assert len(take_snapshot(store).items) == before - 1


def test_a_mended_typo_says_less_than_a_rewritten_reply() -> None:
    whole = "one two three four five six seven eight nine ten"
    small = text_features.changed_share(whole, whole.replace("two", "too"))
    assert 0 < small < dataset.TYPO_SHARE < text_features.changed_share(whole, "something else")
    assert text_features.changed_share(whole, whole) == 0


def test_withdrawing_a_kind_is_never_having_given_it(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    """Same numbers, same head, bit for bit."""
    drafts = [pair(store, toy, "a", f"tell me about {i}") for i in range(6)]
    before = built(store, extractor)
    for a, _ in drafts:
        store.feedback.add_rating(a, 1)
        store.feedback.add_score(a, 5)
    assert len(built(store, extractor)) == 12
    for a, _ in drafts:
        store.feedback.add_rating(a, 0)
        store.feedback.add_score(a, 0)
    after = built(store, extractor)
    heads = [reward_model.fit_head(e, 28, reward_model.RewardConfig()) for e in (before, after)]
    assert np.array_equal(heads[0].weights, heads[1].weights)
    assert np.array_equal(heads[0].covariance, heads[1].covariance)
    whole = take_snapshot(store)
    assert whole.without(lambda one: one.kind == "comparison").items == ()
    assert whole.without(lambda one: False) == whole


def test_who_is_set_aside_does_not_count_and_keeps_their_answers(store: Store, toy: Model) -> None:
    a, b = pair(store, toy, "a")
    store.feedback.add_preference(a, b, "b", shown_first="a", rater="visitor")
    assert take_snapshot(store).raters == ("me", "visitor")
    store.feedback.set_quarantined(["visitor"])
    snapshot = take_snapshot(store)
    assert snapshot.raters == ("me",) and [s.answer for s in snapshot.items] == ["a"]
    assert {vote.rater for vote in store.feedback.preferences()} == {"me", "visitor"}


def test_slips_are_counted_from_pairs_asked_again(store: Store, toy: Model) -> None:
    for i in range(30):
        a, b = pair(store, toy, "a", f"tell me about {i}")
        answer = "b" if i < 6 else "a"
        store.feedback.add_preference(a, b, answer, shown_first="b", again=True)
    assert len(store.feedback.preferences()) == len(take_snapshot(store).items) == 30
    assert lapses(store) == {"me": pytest.approx((2 + 3) / 50)}


def test_changed_and_withdrawn_feedback_counts_as_it_stands(store: Store, toy: Model) -> None:
    a, b = pair(store, toy, "a")
    store.feedback.add_rating(a, 1)
    before = take_snapshot(store)
    store.feedback.add_preference(a, b, "b", shown_first="a")
    store.feedback.add_rating(a, 0)
    after = take_snapshot(store)
    assert [(s.kind, s.answer) for s in after.items] == [("comparison", "b")]
    assert before.hash != after.hash and after.watermark > before.watermark
    store.feedback.add_preference(a, b, "withdrawn", shown_first="a")
    assert not take_snapshot(store).items


def test_a_reply_the_model_cannot_hold_is_left_out_of_what_is_measured(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    """An older app kept such corrections; or the model could hold more when it was written."""
    a, _ = pair(store, toy, "a")
    original = store.messages.get(a)
    assert original.prompt_ids
    for length in (toy.context_tokens - len(original.prompt_ids), toy.context_tokens):
        edited = store.messages.add(
            original.conversation_id,
            "assistant",
            toy.decode([40] * length),
            parent_id=original.parent_id,
            prompt_ids=original.prompt_ids,
            response_ids=[40] * length,
        )
        store.feedback.add_edit(a, edited, rater=str(length))  # one's own newest one counts
    assert [one.kind for one in take_snapshot(store).items] == [
        "comparison",
        "correction",
        "correction",
    ]
    kept = load_snapshot(extractor).items
    assert [one.kind for one in kept] == ["comparison", "correction"]
    assert len(kept[1].replies[0].prompt.ids + kept[1].replies[0].ids) == toy.context_tokens


def test_what_another_models_tokens_said_is_left_out_of_what_is_measured(
    store: Store, toy: Model, extractor: FeatureExtractor
) -> None:
    """The same database may have been used with a model that has another tokenizer."""
    a, _ = pair(store, toy, "a")
    original = store.messages.get(a)
    assert original.prompt_ids and [one.kind for one in load_snapshot(extractor).items] == [
        "comparison"
    ]
    for ids in ([5, 6, 7], [toy.config.vocab_size + 9]):
        foreign = store.messages.add(
            original.conversation_id,
            "assistant",
            "words of another model",
            parent_id=original.parent_id,
            prompt_ids=original.prompt_ids,
            response_ids=ids,
        )
        store.feedback.add_rating(foreign, 1)
    assert len(take_snapshot(store).items) == 3
    assert [one.kind for one in load_snapshot(extractor).items] == ["comparison"]


def test_a_reply_without_token_ids_is_left_out(store: Store) -> None:
    conversation = store.conversations.add()
    asked = store.messages.add(conversation, "user", "hello")
    reply = store.messages.add(conversation, "assistant", "hi", parent_id=asked)
    store.feedback.add_rating(reply, 1)
    assert not take_snapshot(store).items


def test_rare_words_of_the_base_set_the_floor(store: Store, extractor: FeatureExtractor) -> None:
    references = some_references(extractor)
    tokens = np.concatenate([row for r in references for row in r.logprobs])
    floor = logprob_floor(references, 1.0, 0.05)
    assert floor == min(np.quantile(tokens, 0.05), RARE)
    assert np.mean(tokens < floor) <= 0.05 + 1e-9


def test_a_word_is_as_rare_at_any_temperature(store: Store, extractor: FeatureExtractor) -> None:
    """A low temperature sets log-probs apart: what is 4 nats from the likeliest is 10 at .4."""
    references = some_references(extractor)
    for reference in references:
        reference.logprobs = [np.zeros_like(row) for row in reference.logprobs]
    assert logprob_floor(references, 1.0) == RARE
    assert logprob_floor(references, 0.5) == 2 * RARE


@pytest.mark.parametrize("is_demo", [True, False])
def test_practice_and_probe_prompts_never_overlap(is_demo: bool) -> None:
    practice, probe = prompt_sets.practice(is_demo, 9999), prompt_sets.probe(is_demo, 9999)
    wanted = ScoringConfig()
    assert len(practice) >= wanted.rollout_prompts and len(probe) >= wanted.probe_prompts
    assert practice and probe and not set(practice) & set(probe)
    assert len(set(practice)) == len(practice)


def test_held_out_prompts_are_never_practised() -> None:
    from rlhf_chat.demo_model import corpus

    held_out = set(corpus.prompts("held_out", 300, 99))
    assert not held_out & set(prompt_sets.practice(True, 9999) + prompt_sets.probe(True, 9999))


def test_a_reply_and_its_prompt_are_told_apart() -> None:
    assert Reply(Prompt((1,), "x"), (2,), "y") != Reply(Prompt((1, 2), "x"), (), "y")
