"""The taste as it is right now: it follows what was said, chooses drafts, and knows its limits."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import replace

import numpy as np
import pytest

from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.chat.raters import Raters
from rlhf_chat.db import ImportedFeedback, Store
from rlhf_chat.errors import AppError, Notice
from rlhf_chat.feedback.snapshot import take_snapshot
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Response, Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import active_sampling, features, reward_model, text_features
from rlhf_chat.reward.features import FeatureExtractor
from rlhf_chat.reward.reward_model import RewardConfig, RewardHead
from rlhf_chat.reward.scorer import PENALTY_SHARE, RewardModel, RewardModelCache, ScoringConfig

QUICK = RewardConfig(prior_steps=3)


@pytest.fixture
def current(store: Store, toy: Model) -> RewardModelCache:
    config = ScoringConfig(rollout_prompts=4, further_prompts=2, probe_prompts=3)
    return RewardModelCache(FeatureExtractor(store, toy), config, QUICK, max_new_tokens=8)


@pytest.fixture
def chat(store: Store, toy: Model, current: RewardModelCache) -> Chat:
    current.warm_up()
    chat = Chat(store, toy, Sampling(max_new_tokens=8), scorer=current)
    chat._rng = random.Random(0)
    return chat


@pytest.fixture
def compare(chat: Chat) -> Compare:
    compare = Compare(chat)
    compare.drafts.rng = chat._rng
    return compare


def pair_of(compare: Compare, prompt: str = "tell me about the sea"):
    *_, pair = compare.write(prompt)
    return pair


def longer(pair) -> str:
    return "a" if len(pair.texts[0]) > len(pair.texts[1]) else "b"


def test_before_the_warm_up_there_is_none_and_before_any_answer_it_only_doubts(current) -> None:
    assert current.get() is None and not current.ready
    current.warm_up()
    scorer = current.get()
    assert scorer is not None and not scorer.head.weights.any()
    x = np.random.default_rng(0).normal(size=(5, len(scorer.head.weights)))
    assert (scorer.score(x) < 0).all()  # doubt is subtracted


def test_it_is_refitted_when_something_was_said_and_only_then(compare, current) -> None:
    before = current.get()
    assert current.get() is before
    pair = pair_of(compare)
    compare.vote(pair.set_id, "a")
    after = current.get()
    assert after is not before and after.head.weights.any()
    compare.withdraw(pair.set_id)
    again = current.get()
    assert np.array_equal(again.head.weights, before.head.weights)


def test_nobody_waits_for_what_has_to_be_sampled_first(chat, current, toy, monkeypatch) -> None:
    """A thumb is measured against four replies of the base, which are not there yet."""
    before = current.get()
    *_, reply = chat.reply(chat.conversations.new(), "tell me about the sea")
    chat.ratings.rate(reply.message_id, 1)
    with monkeypatch.context() as sampling:
        sampling.setattr(Model, "sample", lambda *_, **__: pytest.fail("somebody had to wait"))
        assert current.get() is before and current.stale
    current.refresh()
    after = current.get()
    assert not current.stale and after is not before and after.head.weights.any()


def test_in_a_new_session_answers_are_known_as_soon_as_they_are_read_again(
    chat, current, store, toy
) -> None:
    *_, reply = chat.reply(chat.conversations.new(), "tell me about the sea")
    chat.ratings.rate(reply.message_id, -1)
    current.refresh()
    new = RewardModelCache(FeatureExtractor(store, toy), current.config, QUICK, max_new_tokens=8)
    new.warm_up()
    prior = new.get()
    assert prior and not prior.head.weights.any() and new.stale
    new.refresh()
    fitted = new.get()
    assert fitted and np.allclose(fitted.head.weights, current.get().head.weights)


def test_another_length_of_replies_serves_from_the_next_warm_up_on(compare, current, toy) -> None:
    pair = pair_of(compare)
    compare.vote(pair.set_id, "a")
    before = current.get()
    current.resize(current.config, 8)
    assert current.ready  # nothing is different
    smaller = replace(current.config, rollout_prompts=2)
    current.resize(smaller, 3)
    assert not current.ready and current.get() is before
    current.warm_up()
    after = current.get()
    assert current.ready and after and after is not before and after.head.weights.any()
    lengths = [n for r in current._base_stats.references for n in r.lengths]
    assert len(lengths) == 4 * (2 + 3) and max(lengths) <= 3
    old = current.extractor.references(current._base_stats.prompts.probes, 8, lambda: None)
    assert max(n for r in old for n in r.lengths) > 3  # both are kept, each for its limit


def test_who_clearly_wants_the_opposite_of_the_others_is_named_until_set_aside(
    compare, current, store
) -> None:
    raters = Raters(store, current)
    for i in range(54):
        pair, name = pair_of(compare, f"tell me about {i}"), ("me", "ada", "turned")[i % 3]
        if pair.votable:
            vote = longer(pair)
            turned = "b" if vote == "a" else "a"
            compare.vote(pair.set_id, turned if name == "turned" else vote, rater=name)
    assert [r.name for r in raters.table() if r.suspect] == ["turned"]
    raters.set_aside("turned")
    assert not any(r.suspect for r in raters.table())


def test_length_and_flaws_are_not_what_better_means(current) -> None:
    current.warm_up()
    scorer = current.get()
    x = np.zeros((2, len(scorer.head.weights)))
    x[:, text_features.LENGTH] = [1.0, 1e6]
    limit = np.log(scorer.config.length_cap) / scorer.feature_map.style_std[text_features.LENGTH]
    assert scorer.capped(x)[1, text_features.LENGTH] == pytest.approx(limit)
    costs = scorer.penalty(["Fine. Good.", "I am here now. You are kind. I am here now."])
    assert costs[0] == 0 < costs[1]


def test_the_least_sure_pair_differs_where_the_taste_is_unknown() -> None:
    x = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    unsure_of_the_second = np.diag([0.01, 4.0])
    assert set(active_sampling.max_variance(x, unsure_of_the_second)) & {2}
    assert set(active_sampling.max_variance(x, np.eye(2))) == {1, 2}


def test_active_pairs_are_two_drafts_of_the_live_version_like_any_other(compare, store) -> None:
    for _ in range(6):
        pair = pair_of(compare)
        assert pair.votable and pair.texts[0] != pair.texts[1]
        [asked] = store.messages.roots(pair.set_id)
        assert len(store.messages.children(asked)) == 2
        compare.vote(pair.set_id, "a")
    assert len(store.feedback.preferences()) == 6


def test_the_best_of_several_drafts_is_shown_and_stored(chat, compare, store, toy) -> None:
    for i in range(8):
        pair = pair_of(compare, f"tell me about {i}")
        if pair.votable:
            compare.vote(pair.set_id, longer(pair))
    chat.settings.set_best_of(4)
    parts = list(chat.reply(chat.conversations.new(), "hello how are you"))
    shown = parts[-1]
    assert shown.done and not any(p.text for p in parts[:-2])
    stored = store.messages.get(shown.message_id)
    assert stored.content == shown.text and stored.response_ids
    seed = stored.sampling["seed"]
    prompt = stored.prompt_ids
    drafts = toy.sample(toy.live, [prompt] * 4, Sampling(max_new_tokens=8), seed=seed)
    assert stored.response_ids in [d.ids for d in drafts]


def test_as_many_drafts_are_written_as_fit_into_memory(chat, compare, toy, monkeypatch) -> None:
    """Where keys and values of eight do not fit, fewer are chosen from; one is no choice."""
    rows, real = [], toy.stream

    def stream(view, prompts, sampling, *, seed):
        rows.append((len(prompts), sum(len(p) + sampling.max_new_tokens for p in prompts)))
        return real(view, prompts, sampling, seed=seed)

    monkeypatch.setattr(toy, "stream", stream)
    monkeypatch.setattr(active_sampling, "RANDOM_SHARE", 0.0)
    chat.settings.set_best_of(8)
    long = "tell me about the sea " * 6

    def written(tokens: int) -> tuple[int, int, list[str]]:
        monkeypatch.setattr(toy, "tokens_at_once", tokens)
        rows.clear()
        parts = list(chat.reply(chat.conversations.new(), long))
        assert parts[-1].message_id
        (reply, taken), rows[:] = rows[0], []
        assert reply == 1 or taken <= tokens
        drafted = list(compare.write(long))
        assert drafted[-1].done
        return reply, rows[0][0], [d.note for d in drafted if d.note]

    assert written(4096)[:2] == (8, 8)
    fewer, drafts, notes = written(450)
    assert 2 < fewer == drafts < 8
    assert notes[0] == Notice("compare.choosing", {"count": drafts, "shown": 2})
    assert written(60)[:2] == (1, 2)  # an ordinary reply, and the drafts that are shown


def test_who_waits_gets_the_first_drafts_as_they_stream(chat, compare, toy, monkeypatch) -> None:
    """Nobody waits: eight are written unseen. From the start: only two are. In the middle: two of
    the eight are shown from then on, and the set ends with them."""
    rows, real = [], toy.stream

    def stream(view, prompts, sampling, *, seed):
        """Token by token, where the toy writes all of them in one slice."""
        rows.append(len(prompts))
        *_, whole = real(view, prompts, sampling, seed=seed)
        for n in range(1, max(len(d.ids) for d in whole) + 1):
            yield [Response(d.ids[:n], d.finished and n >= len(d.ids)) for d in whole]

    monkeypatch.setattr(toy, "stream", stream)
    monkeypatch.setattr(active_sampling, "RANDOM_SHARE", 0.0)
    chat.settings.sampling = Sampling(max_new_tokens=12)
    unseen = list(compare.write("tell me about the sea"))
    assert rows[0] == 8 and unseen[0].note and unseen[0].texts == ("", "")
    hurry = threading.Event()
    hurry.set()
    rows.clear()
    streamed = list(compare.write("tell me about the hills", hurry=hurry))
    assert rows[0] == 2 and not any(part.note for part in streamed)
    hurry.clear()
    rows.clear()
    parts = []
    for part in compare.write("tell me about the town", hurry=hurry):
        parts.append(part)
        if len(parts) == 3:
            hurry.set()
    blank, seen = parts[:3], parts[3:]
    assert rows[0] == 8 and all(p.note and p.texts == ("", "") for p in blank)
    assert not seen[0].done and any(seen[0].texts), "read as they go on"
    assert all(
        after.startswith(before.rstrip())
        for one, other in itertools.pairwise(seen)
        for before, after in zip(one.texts, other.texts, strict=True)
    )
    assert seen[-1].votable and len(rows) == 1, "nothing was begun again"


def test_drafts_to_choose_from_are_measured_only_while_nobody_waits(
    chat, compare, current, monkeypatch
) -> None:
    measured, hurry, real = [], threading.Event(), current.features
    monkeypatch.setattr(active_sampling, "RANDOM_SHARE", 0.0)
    monkeypatch.setattr(
        current, "features", lambda *given: measured.append(len(given[1])) or real(*given)
    )
    list(compare.write("tell me about the sea"))
    assert measured and measured[0] > 2
    measured.clear()
    for part in compare.write("tell me about the hills", hurry=hurry):  # noqa: B007 (kept after)
        hurry.set()
    assert part.votable and not measured


def test_drafts_that_fit_are_all_there_are_to_an_ordinary_prompt(toy, monkeypatch) -> None:
    """By the numbers of the bundled model; and a preflight says how much memory there is."""
    assert toy.max_parallel_drafts(8, [0] * 400, 96) == 8
    for kept in ("rows_per_batch", "tokens_at_once", "context_tokens"):
        monkeypatch.setattr(toy, kept, getattr(toy, kept))
    toy.set_limits(8, 2048, 2048)
    assert toy.max_parallel_drafts(8, [0] * 400, 96) == 4
    assert toy.max_parallel_drafts(8, [0] * 4000, 96) == 1


def test_the_words_of_a_reply_add_up_to_its_score(chat, compare, store, current, toy) -> None:
    for i in range(6):
        pair = pair_of(compare, f"tell me about {i}")
        compare.vote(pair.set_id, longer(pair))
    *_, reply = chat.reply(chat.conversations.new(), "hello how are you")
    pieces = chat.explain(reply.message_id)
    assert "".join(p.text for p in pieces) == reply.text
    stored = store.messages.get(reply.message_id)
    scorer = current.get()
    pooled = forward_pass.prefix_states(toy, stored.prompt_ids, stored.response_ids)
    whole = forward_pass.reference_pass(toy, [stored.prompt_ids], [stored.response_ids]).pooled
    assert np.allclose(pooled[-1], whole[0], atol=1e-4)
    first = toy.decode(stored.response_ids[:1])
    styles = [text_features.measure("hello how are you", t) for t in (first, stored.content)]
    x = scorer.feature_map(np.stack(styles).astype(float), pooled[[0, -1]].numpy().astype(float))
    expected = reward_model.bounded(x[1] - x[0]) @ scorer.head.weights
    assert sum(p.gain for p in pieces) == pytest.approx(expected, abs=1e-4)
    assert all(p.sigma >= 0 for p in pieces)


def test_what_was_typed_cannot_be_explained(chat, store) -> None:
    *_, reply = chat.reply(chat.conversations.new(), "hello")
    asked = store.messages.get(reply.message_id).parent_id
    with pytest.raises(AppError, match="Only a reply"):
        chat.explain(asked)
    chat.scorer = None
    with pytest.raises(AppError, match="being measured"):
        chat.explain(reply.message_id)


# ---------------------------------------------------------------------- what a look costs


@pytest.fixture
def statements(store: Store) -> list[str]:
    """Every SQL statement that this thread reads with from now on."""
    seen: list[str] = []
    with store.connection.read() as db:
        db.conn.set_trace_callback(seen.append)
    return seen


def thumbs(toy: Model, count: int) -> list[ImportedFeedback]:
    made = [f"reply number {i}" for i in range(count)]
    ids = [tuple(toy.encode_reply(text)) for text in made]
    turns = [(("user", f"question {i}"),) for i in range(count)]
    prompts = [tuple(toy.encode([{"role": "user", "content": turn[0][1]}])) for turn in turns]
    return [
        ImportedFeedback("thumb", turn, (text,), 1, prompt_ids=prompt, response_ids=(reply,))
        for turn, text, prompt, reply in zip(turns, made, prompts, ids, strict=True)
    ]


def test_while_nothing_was_said_no_sql_is_run(current, compare, statements) -> None:
    compare.vote(pair_of(compare).set_id, "a")
    model = current.get()
    assert current.adversarial_rater() is None
    statements.clear()
    assert current.get() is model and current.adversarial_rater() is None
    assert statements == []


def test_while_features_are_missing_no_sql_is_run_twice(current, store, toy, statements) -> None:
    current.warm_up()
    store.imports.add(thumbs(toy, 40), counts=True)
    before = current.get()
    assert current.stale
    statements.clear()
    assert current.get() is before and statements == []
    current.refresh()
    assert current.get() is not before and not current.stale


def test_a_snapshot_takes_as_many_statements_of_2_answers_as_of_200(store, toy, statements) -> None:
    counts = []
    for count in (2, 200):
        store.imports.add(thumbs(toy, count), counts=True)
        statements.clear()
        assert len(take_snapshot(store).items) == count
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 32


def test_whatever_changes_what_counts_raises_the_revision(chat, store, toy) -> None:
    *_, reply = chat.reply(chat.conversations.new(), "tell me about the sea")
    id = reply.message_id
    origin = ""

    def bring() -> None:
        nonlocal origin
        origin, _ = store.imports.add(thumbs(toy, 1), counts=True)

    for change in (
        lambda: chat.ratings.rate(id, 1),
        lambda: chat.ratings.rate(id, 0),
        lambda: chat.ratings.score(id, 3),
        lambda: chat.ratings.correct(id, "something else"),
        lambda: store.feedback.set_quarantined({"me"}),
        bring,
        lambda: store.imports.undo(origin),
        lambda: store.feedback.erase_rater("simulated:x"),
        lambda: chat.conversations.delete(store.messages.get(id).conversation_id),
    ):
        before = store.feedback.revision
        change()
        assert store.feedback.revision > before
    before = store.feedback.revision
    list(chat.reply(chat.conversations.new(), "hello"))
    assert store.feedback.revision == before


def test_where_the_base_repeats_itself_flaws_cost_no_more_than_people_care(current) -> None:
    current.warm_up()
    stats, config = current._base_stats, current.config
    dim = len(current.get().head.weights)
    head = RewardHead(np.eye(dim)[0] * 0.2, np.zeros((dim, dim)))
    twice = "I am here now. You are kind. I am here now."

    def with_flaws(count: int) -> RewardModel:
        """Of the replies to each prompt, `count` repeat a sentence."""
        references = [
            replace(
                r,
                replies=[
                    replace(x, text=twice if i < count else "Fine.")
                    for i, x in enumerate(r.replies)
                ],
            )
            for r in stats.references
        ]
        return RewardModel.of(head, replace(stats, references=references), config)

    none, half = with_flaws(0), with_flaws(2)
    assert none.flaw_cost == config.degeneration_penalty
    spread = np.concatenate(
        [none.capped(x - x.mean(0)) @ head.weights for x in map(none.features, stats.references)]
    ).std()
    flaws = 0.5  # standard deviation of 0, 0, 1, 1
    assert 0 < half.flaw_cost * flaws <= 1.01 * PENALTY_SHARE * spread < config.degeneration_penalty


def test_the_apps_own_prompts_are_asked_under_the_system_prompt_of_new_conversations(
    chat, current, store, toy, monkeypatch
) -> None:
    """What is practised and tested is what new conversations ask."""
    plain = current.extractor.prompt("tell me about the sea")
    settings = chat.settings.default()
    chat.settings.set("", replace(settings, system_prompt="Answer like a sailor."))
    assert not current.ready
    asked = [
        {"role": "system", "content": "Answer like a sailor."},
        {"role": "user", "content": "tell me about the sea"},
    ]
    assert list(current.extractor.prompt("tell me about the sea").ids) == toy.encode(asked)
    current.warm_up()
    base_stats = current._base_stats
    prompts = base_stats.prompts.bank + base_stats.prompts.probes
    assert current.ready and all("like a sailor" in toy.decode(p.ids) for p in prompts)
    key = current.extractor._reference_key(8)
    keys = [p.key for p in prompts]
    assert set(store.features.reference_responses(key, keys)) == set(keys)
    drawn = base_stats.prompts.further[0]  # by a round
    current.extractor.references([drawn], 8, lambda: None)
    keys.append(drawn.key)
    assert set(store.features.reference_responses(key, keys)) == set(keys)

    chat.settings.set("", settings)
    assert not current.ready and current.extractor.prompt("tell me about the sea") == plain
    current.warm_up()
    assert current.ready and not store.features.reference_responses(key, keys)

    monkeypatch.setattr(features, "SYSTEM_TOKENS", 3)
    chat.settings.set("", replace(settings, system_prompt="Answer like a very old sailor."))
    assert current.ready and current.extractor.prompt("tell me about the sea") == plain


def test_a_round_may_draw_more_prompts_than_it_waits_for_and_none_of_the_gate(current, store):
    current.warm_up()
    base_stats = current._base_stats
    further = {p.key for p in base_stats.prompts.further}
    assert further and not further & {
        p.key for p in base_stats.prompts.bank + base_stats.prompts.probes
    }
    assert not store.features.reference_responses(current.extractor._reference_key(8), further)


@pytest.mark.parametrize("asked, practised", [(1.0, 1.0), (0.0, 0.3), (2.0, 1.3)])
def test_practice_samples_as_new_conversations_do(
    chat, current, store, toy, asked, practised
) -> None:
    settings = chat.settings.default()
    current.extractor.follow_settings()
    assert current.ready and toy.sampling == Sampling()  # nothing was set
    sampling = Sampling(temperature=asked, top_p=0.8, max_new_tokens=8)
    chat.settings.set("", replace(settings, sampling=sampling))
    assert current.ready  # until it follows, which it does between rounds
    current.extractor.follow_settings()
    assert not current.ready
    assert (toy.sampling.temperature, toy.sampling.top_p) == (practised, 0.8)
    assert toy.sampling.max_new_tokens == Sampling().max_new_tokens
    keys = {p.key for p in current.base_stats.prompts.bank}
    key = current.extractor._reference_key(8)
    assert not store.features.reference_responses(key, keys)
    current.warm_up()
    assert current.ready
    assert set(store.features.reference_responses(key, keys)) == keys  # written anew
