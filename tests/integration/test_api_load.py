"""Fifty clients at once while training holds the model slice by slice: nobody gets an error, and
everybody gets the reply to what they asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from tests.api_server import api_server, eventually

CLIENTS = 50
WORDS = ("hello", "how", "are", "today", "well", "thank", "tell", "me", "about", "the", "sea")


def test_fifty_clients_get_their_own_replies_while_training_takes_slices(toy, tmp_path):
    with api_server(toy, tmp_path) as app:
        client = openai.OpenAI(base_url=app.api, api_key=app.token, max_retries=0, timeout=300)
        ended, slices = threading.Event(), [0]

        def train() -> None:
            while not ended.is_set():
                with app.chat.model.lease.slice():
                    slices[0] += 1
                    ended.wait(0.005)

        def ask(i: int) -> tuple[str, str]:
            """The text and the id; every other client streams."""
            prompt = f"{WORDS[i % len(WORDS)]} {WORDS[i // len(WORDS)]}"
            talk = [{"role": "user", "content": prompt}]
            more: Any = {"model": "live", "messages": talk, "temperature": 0}
            if i % 2:
                made = client.chat.completions.create(**more)
                return made.choices[0].message.content, made.id
            pieces = list(client.chat.completions.create(**more, stream=True))
            text = "".join(p.choices[0].delta.content or "" for p in pieces)
            return text, pieces[0].id

        app.chat.model.lease._patience = 0.02  # so that slices come between tokens
        trainer = threading.Thread(target=train)
        trainer.start()
        try:
            with ThreadPoolExecutor(CLIENTS) as clients:
                answers = list(clients.map(ask, range(CLIENTS)))
            assert slices[0] > 0
        finally:
            ended.set()
            trainer.join()
            app.chat.model.lease._patience = 5.0
        for i, (text, id) in enumerate(answers):
            kept = app.store.messages.get(id.removeprefix("chatcmpl-"))
            asked = app.store.messages.get(kept.parent_id or "")
            assert asked.content == f"{WORDS[i % len(WORDS)]} {WORDS[i // len(WORDS)]}"
            assert kept.content == text
            talk = [{"role": "user", "content": asked.content}]
            assert kept.prompt_ids == app.chat.model.encode(talk)
        again = {ask(i)[0] == answers[i][0] for i in range(0, CLIENTS, 7)}
        assert again == {True}  # greedy: alone, each prompt has the same reply
        eventually(lambda: app.server.places.taken == 0)
