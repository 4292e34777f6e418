"""Fifty clients of the API at once, wave after wave, while the bundled model learns: a whole round
with the settings of the app. No request fails, everybody gets the reply to what they asked, who
came first is served first, and who hangs up makes room within a slice."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from rlhf_chat.api.places import AT_ONCE
from rlhf_chat.chat.rating_entry import RatingEntry, give
from rlhf_chat.inference.model import Model
from rlhf_chat.training.round_plan import config_for
from tests.api_server import Running, api_server, eventually

CLIENTS, WAVES = 50, 3
TOPICS = ("the sea", "a storm", "tea", "winter", "the moon", "a cat", "bread", "music", "a river")
WISHES: list[str] = ["Tell me about", "Say something about", "What is good about", "Describe"]
WISHES += ["Praise", "Ask about"]
PROMPTS = [f"{wish} {topic}." for wish, topic in itertools.product(WISHES, TOPICS)]


@dataclass(frozen=True)
class Answer:
    prompt: str
    text: str
    id: str
    asked: float  # seconds of the clock
    first: float  # token


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    model = Model.load("demo")
    config = config_for(model, 10)
    with api_server(model, tmp_path_factory.mktemp("data"), config=config, tokens=24) as running:
        yield running


def ask(client: openai.OpenAI, prompt: str) -> Answer:
    talk: Any = [{"role": "user", "content": prompt}]
    asked, first, parts, id = time.monotonic(), 0.0, [], ""
    for piece in client.chat.completions.create(model="live", messages=talk, stream=True):
        id = piece.id
        if text := piece.choices[0].delta.content:
            first = first or time.monotonic()
            parts.append(text)
    return Answer(prompt, "".join(parts), id, asked, first or time.monotonic())


def hang_up(app: Running) -> float:
    """Seconds from going away in the middle of a reply until its place is free."""
    body = {"messages": [{"role": "user", "content": "Tell me about tea."}], "stream": True}
    before = app.server.places.taken
    with app.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(line for line in answer.iter_lines() if '"content": "' in line)
    left = time.monotonic()
    eventually(lambda: app.server.places.taken <= before)
    return time.monotonic() - left


def rated(app: Running, client: openai.OpenAI) -> None:
    """Long replies up, short ones down: a taste that is learned."""
    replies = sorted((ask(client, prompt) for prompt in PROMPTS), key=lambda one: len(one.text))
    for i, one in enumerate(replies):
        thumb = "down" if i < len(replies) // 2 else "up"
        give(app.store, app.chat.ratings, RatingEntry(one.id, thumb=thumb))


def check_served(app: Running, answers: Sequence[Answer]) -> None:
    """Each got the reply to its own prompt, and nobody was passed by more than twice as many as
    write at once: fifty threads do not reach the server in the order of their clocks."""
    for one in answers:
        kept = app.store.messages.get(one.id.partition("-")[2])
        asked = app.store.messages.get(kept.parent_id or "")
        assert (asked.content, kept.content) == (one.prompt, one.text)
        assert kept.prompt_ids == app.chat.model.encode([{"role": "user", "content": one.prompt}])
    firsts = [one.first for one in sorted(answers, key=lambda one: one.asked)]
    later = [sum(other < first for other in firsts[i:]) for i, first in enumerate(firsts)]
    assert max(later) <= 2 * AT_ONCE


def test_fifty_clients_while_a_whole_round_runs(app: Running) -> None:
    client = openai.OpenAI(base_url=app.api, api_key=app.token, max_retries=0, timeout=300)
    rated(app, client)
    status, lease = app.worker.status, app.chat.model.lease
    app.worker.train_now()
    eventually(lambda: status().phase == "ppo", 300)
    lease.longest_slice, waits = 0.0, []
    with ThreadPoolExecutor(CLIENTS) as clients:
        for _ in range(WAVES):
            answers = list(clients.map(lambda prompt: ask(client, prompt), PROMPTS[:CLIENTS]))
            check_served(app, answers)
            waits += [one.first - one.asked for one in answers]
    gone = [hang_up(app) for _ in range(5)]
    assert status().round_id is not None and lease.longest_slice > 0  # it went on meanwhile
    assert max(gone) < 1  # a slice takes .15 s
    eventually(lambda: status().round_id is None, 500)
    ended = app.store.rounds.newest()[0]
    assert ended.status in ("promoted", "discarded") and ended.verdict
    assert ended.verdict["checks"][0]["passed"]  # the ratings were worth a round
    told = f"first token: median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s; "
    told += f"place free after {max(gone):.3f} s; longest slice {lease.longest_slice:.2f} s; "
    print(told + f"round {ended.status}: {ended.reason}")
