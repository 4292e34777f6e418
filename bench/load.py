"""How the app copes with much: makes a database of many messages and ratings, and times it.

    python -m bench.load --messages 200000 --ratings 50000 [--json]

Start (open, check, recover, first screens), search on Data and in the list of chats, export, one
rating (p50, p95), and the resident memory after each. No model is loaded: what is timed is the
database and what the screens ask of it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles

from sqlite_utils import Database

from rlhf_chat.chat import exporters
from rlhf_chat.chat.message_feedback import Ratings
from rlhf_chat.chat.raters import Raters
from rlhf_chat.db import Store, content_key
from rlhf_chat.db.codec import fresh_id, ids_blob, insert, next_number, timestamp
from rlhf_chat.feedback.snapshot import take_snapshot
from rlhf_chat.training.history import TrainingHistory

WORDS = re.findall(
    r"\w+",
    "the sea is deep and blue today we go to see a small boat with white sails near old stone "
    "walls where children play until evening light turns every window into gold",
)
TURNS = 10  # messages of a conversation
REPLY_WORDS = 35  # on average
TERMS = ("stone walls", "xylophone", "the", "go")  # some, one, nearly all, too short for the index


@dataclass
class Measured:
    """Seconds, MB of resident memory, and how much there was."""

    messages: int = 0
    ratings: int = 0
    file_mb: float = 0.0
    start: float = 0.0
    search: dict[str, float] = field(default_factory=dict)  # term -> a page of Data
    conversations: dict[str, float] = field(default_factory=dict)  # term -> the list of chats
    export: float = 0.0
    exported_mb: float = 0.0
    raters: float = 0.0  # the table of raters on Data
    snapshot: float = 0.0  # what a round reads
    poll: float = 0.0  # what the status bar asks every three seconds
    rating_p50: float = 0.0
    rating_p95: float = 0.0
    memory_mb: dict[str, float] = field(default_factory=dict)  # after each of them


def make(store: Store, messages: int, ratings: int, seed: int = 0) -> None:
    """Conversations of ten messages; every second reply or so has a thumb, each with a comment."""
    rng = random.Random(seed)
    per_chat = TURNS // 2
    chats = max(1, messages // TURNS)
    for first in range(0, chats, 500):
        batch = range(first, min(chats, first + 500))
        store.connection.write_feedback(lambda db, batch=batch: _chats(db, batch, rng))  # type: ignore[misc]
    replies = [f"m{chat}-{2 * turn + 1}" for chat in range(chats) for turn in range(per_chat)]
    rated = rng.sample(replies, min(ratings, len(replies)))
    for first in range(0, len(rated), 5000):
        some = rated[first : first + 5000]
        store.connection.write_feedback(lambda db, some=some: _ratings(db, some, rng))  # type: ignore[misc]


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=max(1, int(rng.expovariate(1 / words)))))


def _chats(db: Database, chats: Sequence[int], rng: random.Random) -> None:
    now = timestamp()
    for chat in chats:
        id = f"c{chat}"
        number = next_number(db, "conversation")
        row = {"id": id, "kind": "chat", "title": _text(rng, 4), "system_prompt": ""}
        insert(db, "conversations", **row, last_number=number, created_at=now, updated_at=now)
        prompt: list[int] = []
        parent = None
        for turn in range(TURNS):
            text = _text(rng, REPLY_WORDS) + (" xylophone" if chat == turn == 3 else "")
            ids = [rng.randrange(50_000) for _ in range(len(text) // 4 + 1)]
            made: dict[str, object] = {}
            if turn % 2:
                made = {"prompt_ids": ids_blob(prompt), "response_ids": ids_blob(ids)}
                made["content_key"] = content_key(prompt, ids)
            message = {"id": f"m{chat}-{turn}", "conversation_id": id, "parent_id": parent}
            role = "assistant" if turn % 2 else "user"
            insert(db, "messages", **message, role=role, content=text, created_at=now, **made)
            parent = message["id"]
            prompt = (prompt + ids)[-500:]


def _ratings(db: Database, replies: Sequence[str], rng: random.Random) -> None:
    for reply in replies:
        row = {"id": fresh_id(), "message_id": reply, "rater": "me", "event_id": fresh_id()}
        row |= {"reason": "", "comment": _text(rng, 3), "created_at": timestamp()}
        number = next_number(db, "feedback")
        insert(db, "ratings", number=number, value=rng.choice((1, -1)), **row)


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rating_seconds(store: Store, count: int = 300) -> list[float]:
    """Seconds of single ratings from four threads, as from four people."""
    ratings = Ratings(store, lambda _: [], 4096)
    rng = random.Random(1)
    replies = [f"m{rng.randrange(store.counts()['conversations'])}-1" for _ in range(count)]
    with ThreadPoolExecutor(4) as people:
        return list(people.map(lambda reply: seconds(lambda: ratings.rate(reply, 1)), replies))


def export(store: Store) -> tuple[float, float]:
    """Seconds, and MB, of all ratings as JSON lines, part by part as the page asks for them."""
    ratings, size = Ratings(store, lambda _: [], 4096), 0
    began, before = time.perf_counter(), None
    while True:
        page = ratings.page(limit=500, before=before)
        size += len(exporters.json_lines(ratings.export("lines", page.rows)).encode())
        before = page.next
        if before is None:
            return time.perf_counter() - began, size / 1e6


def start(path: Path) -> Store:
    """What the app asks of the database before the first page is shown."""
    store = Store(path)
    store.rounds.abort_open("ended")
    store.conversations.drop_unanswered("2000")
    TrainingHistory(store).waiting("")
    store.conversations.all(limit=200)
    return store


def measure(path: Path, messages: int, ratings: int) -> Measured:
    found = Measured()
    store = Store(path)
    try:
        make(store, messages, ratings)
    finally:
        store.close()
    found.file_mb = round(path.stat().st_size / 1e6, 1)
    began = time.perf_counter()
    store = start(path)
    try:
        found.start = time.perf_counter() - began
        found.memory_mb["start"] = resident_mb()
        counts = store.counts()
        found.messages, found.ratings = counts["messages"], counts["ratings"]
        data = store.feedback
        for term in ("", *TERMS):
            found.search[term] = seconds(
                lambda term=term: (data.page(containing=term), data.tally())  # type: ignore[misc]
            )
            found.conversations[term] = seconds(
                lambda term=term: store.conversations.all(containing=term, limit=200)  # type: ignore[misc]
            )
        found.memory_mb["search"] = resident_mb()
        found.export, found.exported_mb = export(store)
        found.memory_mb["export"] = resident_mb()
        found.raters = seconds(lambda: Raters(store).table())
        history = TrainingHistory(store)
        history.waiting("")
        found.poll = seconds(lambda: history.waiting(""))
        times = rating_seconds(store)
        found.rating_p50, found.rating_p95 = median(times), quantiles(times, n=20)[-1]
        found.memory_mb["ratings"] = resident_mb()
        found.snapshot = seconds(lambda: take_snapshot(store))
        found.memory_mb["snapshot"] = resident_mb()
    finally:
        store.close()
    return found


def rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--ratings", type=int, default=50_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = rounded(
            asdict(measure(Path(folder) / "feedback.db", asked.messages, asked.ratings))
        )
    assert isinstance(found, dict)
    if asked.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:14}", value)


if __name__ == "__main__":
    main()
