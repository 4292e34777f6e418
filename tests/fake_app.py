"""A chat and a trainer that obey the interfaces the web uses, in memory: no model, no database, no
training.

`python -m tests.fake_app [port]` serves the window with them. A message chooses what the toy says:
"echo X" answers X, "slow ..." answers slowly, "long ..." answers at length, "cut X" stops at the
length limit, "fail" breaks off.
"""

from __future__ import annotations

import itertools
import math
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace

from rlhf_chat import importers
from rlhf_chat.chat import exporters
from rlhf_chat.chat.attachments import with_files
from rlhf_chat.chat.chat import ReplyChunk
from rlhf_chat.chat.compare import Candidates, VoteResult
from rlhf_chat.chat.conversations import Turn
from rlhf_chat.chat.excerpts import Excerpt, excerpt
from rlhf_chat.chat.imports import ImportPreview
from rlhf_chat.chat.message_feedback import MessageFeedback
from rlhf_chat.chat.raters import Rater
from rlhf_chat.chat.settings import ConversationSettings
from rlhf_chat.db import Feedback, FeedbackPage, ImportBatch, ImportedFeedback, RankedReply
from rlhf_chat.errors import AppError, Notice, Refused
from rlhf_chat.feedback.agreement import Agreement
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.reward.scorer import TokenAttribution
from rlhf_chat.training.round_conditions import CONDITIONS
from rlhf_chat.training.round_plan import RoundSize
from rlhf_chat.training.status import PHASES, Status
from rlhf_chat.versions import standings
from rlhf_chat.versions.leaderboard import Standing
from rlhf_chat.versions.provenance import Lapsed

PROMPTS = (
    "Tell me something about rivers.",
    "How do I sleep better?",
    "Suggest a name for a cat.",
    "Why is the sky blue?",
)
WORDS = (
    "Rivers begin as small springs in the hills, and grow with every stream that joins them. "
    "On their way they carve valleys, carry sand and stones, and leave rich soil where they slow "
    "down.\n\n- They give us water\n- They carry boats\n- They shape the land\n\n"
    "Do you have a river near your home?"
)
LONGEST = 8000
CHOOSING = Notice("compare.choosing", {"count": 8, "shown": 2})
FAILED_KL = {
    "name": {"code": "gate.check.kl"},
    "found": {"code": "gate.range.kl", "params": {"value": 9.3, "limit": 6.0}},
}
CARD = {
    "moved": [[{"code": "label.kind_thumb", "params": {}}, 0.31, "c", "r"]],
    "changed": [["length", -0.8, -1.3], ["lists", -0.5, -0.7], ["emoji", 0.03, 0.2]],
    "examples": [
        [
            "Tell me something about rivers.",
            "Rivers begin as small springs in the hills, and they grow with every stream. "
            "Of course there is much more to say about rivers!",
            "Rivers begin as small springs in the hills. They grow with every stream.",
        ],
        ["Why is the sky blue?", "- Air scatters light\n- Blue most of all", "Air scatters blue."],
    ],
}


def now() -> str:
    return datetime.now(UTC).isoformat()


def checked(text: str) -> None:
    if not text.strip():
        raise AppError("text.empty")
    if len(text) > LONGEST:
        raise AppError("text.too_long", count=len(text), limit=LONGEST)


@dataclass
class Conversation:
    id: str
    title: str = ""
    system_prompt: str = ""
    head_id: str | None = None
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)


@dataclass
class Node:
    id: str
    conversation: str
    role: str
    text: str
    parent: str | None
    version: int | None = None
    finish: str | None = None


class ToyChat:
    model = SimpleNamespace(name="toy model")

    def __init__(self, worker: ToyTrainer | None = None, *, word_seconds: float = 0.01) -> None:
        self.worker, self.word_seconds = worker or ToyTrainer(), word_seconds
        self._conversations: dict[str, Conversation] = {}
        self._nodes: dict[str, Node] = {}
        self.rated: dict[str, tuple[int, str, str]] = {}
        self.rating_events: list[tuple[str, int, str, str]] = []
        self.by: dict[str, str] = {}  # who gave the newest thumb
        self.stars: dict[str, int] = {}
        self.corrected: dict[str, str] = {}
        self.kept: dict[str, ConversationSettings] = {}
        self._seen: set[str] = set()
        self.refuse_ratings = ""
        self.go = threading.Event()  # cleared, replies wait before their first word
        self.go.set()
        self.best_of = 1
        self.ratings = self.settings = self  # one toy for all of it
        self.compare, self.raters = ToyCompare(self), ToyRaters()
        self.imports, self.deletion, self.pins = ToyArrivals(), ToyDeletion(self), []
        self.conversations = SimpleNamespace(
            all=self.listed,
            new=self.new_conversation,
            **{
                name: getattr(self, name)
                for name in ("excerpts", "pinned", "pin", "rename", "delete", "exported")
            },
            history=self.history,
            select=self.select,
            chats_among=self._conversations.keys().__and__,
        )

    def stored(self) -> int:
        """What the window shows besides the trainer's status."""
        kept = (self._nodes, self.rated, self.stars, self.corrected, self.kept, self.pins)
        return hash(repr((kept, self.compare.stored, self.worker.blind, self.worker.conditions)))

    # conversations

    def listed(
        self, containing: str = "", *, with_deleted: bool = False, limit: int = -1
    ) -> list[Conversation]:
        words, gone = containing.strip().lower(), self.deletion.pending()
        found = [
            c
            for c in self._conversations.values()
            if (with_deleted or c.id not in gone)
            and any(words in text.lower() for text in [c.title, *self._texts(c)])
        ]
        return sorted(found, key=lambda c: c.updated_at, reverse=True)

    def _texts(self, c: Conversation) -> list[str]:
        return [n.text for n in self._nodes.values() if n.conversation == c.id]

    def excerpts(self, words: str, found: list[Conversation]) -> dict[str, Excerpt]:
        hits = {
            c.id: next(filter(None, (excerpt(t, words) for t in self._texts(c))), None)
            for c in found
        }
        return {id: hit for id, hit in hits.items() if hit}

    def pinned(self) -> list[str]:
        return self.pins

    def pin(self, id: str, pinned: bool = True) -> None:
        self.pins = [one for one in self.pins if one != id] + [id] * pinned

    def exported(self, id: str, ending: str) -> tuple[str, str]:
        return exporters.file_name(self._found(id).title, ending), "the chat"

    def new_conversation(self) -> str:
        made = Conversation(uuid.uuid4().hex)
        self._conversations[made.id] = made
        self.kept[made.id] = self.get()
        return made.id

    longest_reply = 256
    new = False

    def is_new(self) -> bool:
        return self.new

    def dismiss_welcome(self) -> None:
        self.new = False

    def get(self, conversation_id: str = "") -> ConversationSettings:
        return self.kept.get(conversation_id, ConversationSettings("", Sampling(max_new_tokens=96)))

    def set(self, conversation_id: str, settings: ConversationSettings) -> None:
        if settings.sampling.temperature > 2:
            raise AppError("settings.sampling_range")
        self.kept[conversation_id] = settings

    def forget_view(self, version: int) -> None: ...

    def not_erased(self) -> Notice | None:
        return self.unerased

    def damaged(self) -> Notice | None:
        return self.damage

    unerased: Notice | None = None
    damage: Notice | None = None

    def rename(self, id: str, title: str) -> None:
        self._found(id).title = title

    def delete(self, id: str) -> None:
        if id in self.compare.sets:
            self.compare.votes.pop(id, None)
            self.compare.rankings.pop(id, None)
            return
        self._found(id)
        del self._conversations[id]
        for node in self._nodes.values():
            if node.conversation == id:
                self.rated.pop(node.id, None)

    def history(self, conversation_id: str, rater: str = "") -> list[Turn]:
        if conversation_id in self.deletion.pending():
            raise AppError("db.conversation_gone")
        path, at = [], self._found(conversation_id).head_id
        while at:
            path.append(self._nodes[at])
            at = self._nodes[at].parent
        return [self._turn(node, rater) for node in reversed(path)]

    def _found(self, id: str) -> Conversation:
        if id not in self._conversations:
            raise AppError("db.conversation_gone")
        return self._conversations[id]

    def _turn(self, node: Node, rater: str) -> Turn:
        family = [
            n.id
            for n in self._nodes.values()
            if (n.parent, n.role, n.conversation) == (node.parent, node.role, node.conversation)
        ]
        whose = self.by.get(node.id, "me")
        value, reason, comment = (0, "", "")
        if rater in ("", whose):  # of each reply the toy remembers one person's thumb
            value, reason, comment = self.rated.get(node.id, (0, "", ""))
        return Turn(
            message_id=node.id,
            role=node.role,
            content=node.text,
            adapter_version=node.version,
            rating=value,
            reason=reason,
            comment=comment,
            sibling=family.index(node.id) + 1,
            siblings=len(family),
            finish_reason=node.finish,
            sibling_ids=tuple(family),
            can_continue=node.finish in ("length", "cancelled"),
        )

    # replies

    def message_tokens(self, conversation_id, text) -> tuple[int, int]:
        return len(text.split()), 100

    def reply(self, conversation_id, text, *, event_id=None, stop, files=()):
        text = with_files(text, files)
        checked(text)
        conversation = self._found(conversation_id)
        conversation.title = conversation.title or text.strip()[:60]
        asked = self._add(conversation_id, "user", text.strip(), conversation.head_id)
        yield from self._answer(asked, stop)

    def regenerate(self, message_id, *, stop):
        yield from self._answer(self._nodes[self._nodes[message_id].parent], stop)

    def continue_reply(self, message_id, *, stop):
        old = self._nodes[message_id]
        yield from self._answer(self._nodes[old.parent], stop, old)
        old.parent = "continued"  # out of the family

    def edit(self, message_id, text, *, stop):
        checked(text)
        old = self._nodes[message_id]
        yield from self._answer(self._add(old.conversation, "user", text.strip(), old.parent), stop)

    def select(self, message_id) -> None:
        node = self._nodes[message_id]
        children = [n for n in self._nodes.values() if n.parent == node.id]
        while children:
            node = children[-1]
            children = [n for n in self._nodes.values() if n.parent == node.id]
        self._found(node.conversation).head_id = node.id

    def _add(self, conversation_id, role, text, parent, **more) -> Node:
        node = Node(uuid.uuid4().hex, conversation_id, role, text, parent, **more)
        self._nodes[node.id] = node
        conversation = self._found(conversation_id)
        conversation.head_id, conversation.updated_at = node.id, now()
        return node

    def _answer(self, asked: Node, stop: threading.Event, old: Node | None = None):
        by = self.get(asked.conversation).version
        version = self.worker.live if by is None else by
        text, finish, note, made = "", "stop", None, None
        words = self._words(asked.text)
        if asked.text.startswith("cut ") and not old:
            words, finish = words[:2], "length"
        if old:
            text, words = old.text, words[old.text.count(" ") :]
        pace = self.word_seconds * (60 if asked.text.startswith("slow") else 1)
        began = time.monotonic()
        yield ReplyChunk(None, text, False, version, None, Notice("chat.thinking"), None)
        try:
            self.go.wait()
            for word in words:
                if stop.is_set():
                    finish = "cancelled"
                    break
                if asked.text == "fail" and len(text) > 30:
                    finish, note = "error", Notice("model.out_of_memory")
                    break
                text += word
                time.sleep(pace)
                yield ReplyChunk(None, text, False, version, None, None, None)
        except GeneratorExit:
            finish = "cancelled"
            raise
        finally:
            if text or finish != "cancelled":
                answer = self._add(
                    asked.conversation, "assistant", text, asked.id, version=version, finish=finish
                )
                made = answer.id
        speed = text.count(" ") / max(1e-3, time.monotonic() - began)
        yield ReplyChunk(made, text, True, version, finish, note, speed)

    @staticmethod
    def _words(prompt: str) -> list[str]:
        text = (
            prompt.partition(" ")[2]
            if prompt.startswith(("echo ", "cut "))
            else WORDS * (6 if prompt.startswith("long") else 1)
        )
        return [word + " " for word in text.split(" ")]

    # ratings

    def rate(self, message_id, value, *, reason="", comment="", rater="me", event_id=None) -> None:
        if self.refuse_ratings:
            raise AppError(self.refuse_ratings)
        if message_id not in self._nodes or self._nodes[message_id].role != "assistant":
            raise AppError("db.only_replies_rated")
        if event_id in self._seen:
            return
        if event_id:
            self._seen.add(event_id)
        new = message_id not in self.rated
        self.rated[message_id], self.by[message_id] = (value, reason, comment), rater
        self.rating_events.append((message_id, value, reason, comment))
        self.worker.waiting += new

    def of(self, message_id, rater="me") -> MessageFeedback:
        mine = self.by.get(message_id, "me") == rater
        thumb = self.rated.get(message_id, (0, "", "")) if mine else (0, "", "")
        return MessageFeedback(*thumb, self.stars.get(message_id, 0))

    # what was said

    def all(self, containing: str = "", kind: str = "", answer: str = "") -> list[Feedback]:
        thumbs = [
            self._told(id, "thumb", {1: "up", -1: "down"}[v], self._nodes[id], reason, comment)
            for id, (v, reason, comment) in self.rated.items()
            if v
        ]
        votes = [
            self._told(id, "comparison", outcome, None, "", "", self.compare.sets[id])
            for id, outcome in self.compare.votes.items()
        ]
        rankings = [self._told_ranking(id, places) for id, places in self.compare.rankings.items()]
        return [
            t
            for t in [*votes, *thumbs, *rankings][::-1]
            if containing.lower() in f"{t.prompt} {t.reply} {t.other} {t.comment}".lower()
            and kind in ("", t.kind)
            and answer in ("", t.answer)
        ]

    def page(self, containing="", kind="", answer="", *, limit=50, before=None) -> FeedbackPage:
        found = self.all(containing, kind, answer)
        first = before or 0  # the toy has no numbers: its pages begin at a place
        last = first + limit
        return FeedbackPage(found[first:last], len(found), last if len(found) > last else None)

    def one(self, id: str) -> Feedback | None:
        return next((told for told in self.all() if told.id == id), None)

    def tally(self) -> dict[str, int]:
        return dict(Counter(told.answer for told in self.all()))

    def export(self, form: str, rows: list[Feedback]) -> list[dict]:
        if form == "lines":
            return [asdict(told) for told in rows]
        return [
            {"prompt": told.prompt, "chosen": told.reply, "rejected": told.other}
            for told in rows
            if told.answer in ("a", "b")
        ]

    def _told(self, id, kind, answer, node, reason, comment, pair=None) -> Feedback:
        asked = self._nodes[node.parent].text if node else "a prompt"
        return Feedback(
            id=id,
            kind=kind,
            answer=answer,
            prompt=asked,
            reply=node.text if node else pair[0].texts[0],
            other="" if node else pair[0].texts[1],
            reason=reason,
            comment=comment,
            rater="me",
            version=node.version if node else pair[1][0],
            other_version=None if node else pair[1][1],
            message_id=id,
            other_id="",
            conversation_id=node.conversation if node else id,
            created_at=now(),
        )

    def _told_ranking(self, id: str, places: tuple[int, ...]) -> Feedback:
        drafts, versions = self.compare.sets[id]
        order = sorted(map(RankedReply, places, versions, drafts.texts), key=lambda p: p.place)
        first = self._told(id, "ranking", "ranked", None, "", "", self.compare.sets[id])
        return replace(first, reply=order[0].reply, other="", other_version=None, order=order)

    def change(self, told: Feedback, answer: str) -> None:
        if told.kind == "comparison":
            self.compare.votes[told.id] = answer
            if answer == "withdrawn":
                del self.compare.votes[told.id]
        else:
            value = {"up": 1, "down": -1}.get(answer, 0)
            self.rated[told.id] = (value, told.reason, told.comment)

    def score(self, message_id, stars, *, rater="me", event_id=None) -> None:
        if self.refuse_ratings:
            raise AppError(self.refuse_ratings)
        self.stars[message_id] = stars

    def correct(self, message_id, text, *, rater="me", event_id=None) -> str:
        checked(text)
        old = self._nodes[message_id]
        if text.strip() == old.text.strip():
            raise AppError("rating.nothing_changed")
        node = self._add(old.conversation, "assistant", text.strip(), old.parent)
        self.corrected[message_id] = text
        return node.id

    def explain(self, message_id) -> list[TokenAttribution]:
        words = self._nodes[message_id].text.split(" ")
        return [TokenAttribution(w + " ", (-1) ** i * 0.1, 0.05) for i, w in enumerate(words)]

    def set_best_of(self, drafts: int) -> None:
        self.best_of = drafts


class ToyDeletion:
    """Deletes at once what can be undone no longer; that is looked at when it is asked."""

    def __init__(self, chat: ToyChat) -> None:
        self.chat, self.seconds, self.until = chat, 10.0, {}

    def pending(self) -> dict[str, float]:
        for id in [id for id, until in self.until.items() if until < time.time()]:
            del self.until[id]
            self.chat.delete(id)
        return self.until

    def add(self, id: str) -> None:
        self.chat._found(id)
        self.until[id] = time.time() + self.seconds

    def undo(self, id: str) -> None:
        if not self.pending().pop(id, 0):
            raise AppError("db.conversation_gone")


class ToyArrivals:
    """Reads files as the real one does and only remembers what it was asked to take in."""

    def __init__(self) -> None:
        self.here: dict[str, list[ImportedFeedback]] = {}
        self.accepted: list[str] = []
        self.came: dict[str, str] = {}  # when

    def preview(
        self, source: importers.Source, name: str = "", *, aspect: str = "", scale: int = 0
    ) -> ImportPreview:
        found = importers.read(source, importers.Options(aspect, scale), name=name)
        aspects = importers.aspects(source, name=name)
        items = tuple(one for _, one in found.items)
        made = ImportPreview(items, tuple(found.unread), 0, aspects)
        if not items and not made.lacks_scale:
            raise AppError("imports.no_ratings", reason=Notice("imports.empty"))
        return made

    def import_all(
        self,
        source: importers.Source,
        rater: str = "me",
        name: str = "",
        *,
        aspect: str = "",
        scale: int = 0,
    ) -> tuple[str, int, int]:
        asked = self.preview(source, name, aspect=aspect, scale=scale).items
        origin = uuid.uuid4().hex
        known = [one for some in self.here.values() for one in some]
        new = [one for one in asked if one not in known]
        if new:
            self.here[origin], self.came[origin] = new, now()
        return origin, len(new), len(asked) - len(new)

    def newest(self, limit: int) -> list[ImportBatch]:
        there = [
            ImportBatch(id, self.came[id], len(brought), id in self.accepted)
            for id, brought in self.here.items()
        ]
        return there[::-1][:limit]

    def accept(self, origin: str) -> Notice:
        self.accepted.append(origin)
        return Notice("imports.accepted")

    def undo(self, origin: str) -> int:
        return len(self.here.pop(origin, []))


class ToyCompare:
    def __init__(self, chat: ToyChat) -> None:
        self.chat, self.worker = chat, chat.worker
        self.votes: dict[str, str] = {}
        self.strengths: dict[str, str] = {}
        self.rankings: dict[str, tuple[int, ...]] = {}
        self.stored: dict[str, tuple[int, ...]] = {}  # rankings by event: the same one twice is one
        self.comments: dict[str, str] = {}
        self.by: dict[str, str] = {}  # who answered
        self.asked: list[tuple[str, tuple[int, int] | None]] = []
        self.sets: dict[str, tuple[Candidates, tuple[int, ...]]] = {}
        self.again: Candidates | None = None
        self.redrawn = False
        self.ending = threading.Event()  # cleared: answers stay at their first half
        self.ending.set()
        self._prompts = itertools.cycle(PROMPTS)

    def suggest_prompt(self) -> str:
        return next(self._prompts)

    def recent_prompts(self, limit: int = 50) -> list[str]:
        asked = [n.text for n in self.chat._nodes.values() if n.role == "user"]
        return list(dict.fromkeys(asked[::-1]))[:limit]

    def repeat_pair(self, rater: str = "me") -> Candidates | None:
        return self.again

    def sampling(self) -> Sampling:
        return self.chat.settings.get().sampling

    def write(
        self, prompt, count=2, *, event_id=None, stop, versions=None, hurry=None, simulated=False
    ):
        """Unseen, as drafts to choose from, until somebody hurries."""
        self.asked.append((prompt, versions))
        if not prompt.strip():
            raise AppError("text.empty")
        words = self.chat._words(prompt)
        yield Candidates(None, prompt, ("",) * count, False, Notice("chat.thinking"))
        pace = self.chat.word_seconds * (60 if prompt.startswith("slow") else 1)
        texts = [""] * count
        for i, word in enumerate(words):
            while 2 * i > len(words) and not stop.is_set() and not self.ending.wait(0.02):
                pass
            if stop.is_set():
                yield Candidates(None, prompt, tuple(texts), True, Notice("compare.stopped"))
                return
            for n in range(count):  # each is shorter than the one before it
                if prompt.startswith("echo") or i < len(words) / (n + 1):
                    texts[n] += word
            time.sleep(pace)
            if hurry is None or hurry.is_set():
                yield Candidates(None, prompt, tuple(texts), False)
            else:
                yield Candidates(None, prompt, ("",) * count, False, CHOOSING)
        drafts = Candidates(uuid.uuid4().hex, prompt, tuple(texts), True)
        self.sets[drafts.set_id] = (drafts, versions or (self.worker.live, *[0] * (count - 1)))
        yield replace(drafts, note=Notice("compare.redrawn") if self.redrawn else None)

    def shown(self, set_id: str) -> Candidates:
        if set_id not in self.sets:
            raise AppError("db.conversation_gone")
        return self.sets[set_id][0]

    def vote(self, set_id, outcome, *, strength="", event_id=None, rater="me") -> VoteResult:
        self.shown(set_id)
        versions = self.sets[set_id][1]
        if rater.startswith("simulated:"):
            self.worker.simulated.append((rater, outcome))
            return VoteResult(versions)
        self.worker.waiting += set_id not in self.votes
        self.votes[set_id], self.strengths[set_id] = outcome, strength
        self.by[set_id] = rater
        return VoteResult(versions)

    def rank(self, set_id, places, *, event_id=None, rater="me") -> VoteResult:
        self.stored.setdefault(event_id or uuid.uuid4().hex, tuple(places))
        self.worker.waiting += set_id not in self.rankings
        self.rankings[set_id], self.by[set_id] = tuple(places), rater
        return VoteResult(self.sets[set_id][1])

    def comment(self, set_id, words, *, rater="me") -> None:
        if set_id not in self.votes and set_id not in self.rankings:
            raise AppError("compare.vote_first")
        self.comments[set_id] = words.strip()

    def withdraw(self, set_id, *, rater="me") -> None:
        (self.votes if set_id in self.votes else self.rankings).pop(set_id, None)
        self.worker.waiting -= 1


class ToyRaters:
    def __init__(self) -> None:
        self.aside: set[str] = set()

    def table(self) -> list[Rater]:
        contrary = Agreement("Visitor", 12, 24, 5)
        return [
            Rater("me", 14, True, 9, 8, None),
            Rater("Visitor", 12, "Visitor" not in self.aside, 0, 0, contrary, True),
        ]

    def alpha(self) -> float | None:
        return 0.31

    def set_aside(self, name: str, aside: bool = True) -> Notice:
        self.aside = self.aside | {name} if aside else self.aside - {name}
        return Notice("raters.excluded" if aside else "raters.included", {"name": name})


@dataclass
class Round:
    id: int
    started_at: str
    ended_at: str | None
    trigger: str
    status: str
    reason: str
    parent_version: int
    version: int | None
    seed: int = 0
    watermark: int = 0
    config: dict = field(default_factory=dict)
    verdict: dict | None = None
    rater: str = ""


@dataclass
class Version:
    version: int
    parent: int | None
    round_id: int | None
    tier: str
    folder: str
    manifest_hash: str
    kl: float | None
    note: str
    created_at: str = field(default_factory=now)
    name: str = ""
    remark: str = ""


class ToyTrainer:
    """Two rounds are in the past: one promoted, one discarded. `train_now` starts one that moves
    with the clock.
    """

    def __init__(self, *, round_seconds: float = 6.0) -> None:
        self.leaderboard = self.versions = self  # the toy counts its own votes and versions
        self.round_seconds, self.waiting, self.needed, self.live = round_seconds, 3, 12, 1
        self.paused = False
        self.sizes_rounds, self.round_minutes = True, 10
        self.conditions: list[str] = []
        self.possible_conditions = list(CONDITIONS)
        self.began: float | None = None
        self.stopped_at = -1  # ratings when a round was stopped
        self.awaits = ""  # a condition that ratings wait for
        self.error = None
        self.watched = ""
        self.history, self.simulation = self._history(), self._simulation()
        self.simulated: list[tuple[str, str]] = []
        self.rebuilt: list[tuple[list[str], str]] = []
        self.blind = [(1, 0, "a")] * 7 + [(0, 1, "a")] * 2 + [(1, 0, "tie")]
        self._rounds = [
            Round(
                1,
                now(),
                now(),
                "ratings",
                "promoted",
                Notice("gate.passed_on_trial", {"win_rate": 0.71, "kl": 3.1}).to_json(),
                0,
                1,
                verdict={
                    "tier": "provisional",
                    "reason": "",
                    "checks": [["kl", True, "it is 3.1 nats from the base (limit 6.0)."]],
                    "card": CARD,
                },
            ),
            Round(
                2,
                now(),
                now(),
                "by hand",
                "discarded",
                Notice("gate.failed", FAILED_KL).to_json(),
                1,
                None,
                verdict={
                    "tier": "discarded",
                    "reason": "",
                    "checks": [
                        {"name": "finite", "passed": True, "value": None, "limit": None},
                        {"name": "kl", "passed": False, "value": 9.3, "limit": 6.0},
                        {"name": "length", "passed": True, "value": 1.1, "limit": [0.25, 2.5]},
                    ],
                },
            ),
        ]
        self._versions = [
            Version(0, None, None, "base", "", "", None, ""),
            Version(1, 0, 1, "provisional", "v1", "", 0.031, ""),
        ]

    def _history(self) -> SimpleNamespace:
        return SimpleNamespace(
            rounds=self.rounds,
            metrics=self.metrics,
            feature_weights=self.feature_weights,
            waiting=lambda rater: self.waiting,
        )

    def _simulation(self) -> SimpleNamespace:
        return SimpleNamespace(
            rater=lambda: self.watched, begin=self.begin_simulation, end=self.end_simulation
        )

    def start(self) -> None: ...
    def close(self) -> None: ...
    def wake(self) -> None: ...

    def _advance(self) -> float:
        share = 0.0 if self.began is None else (time.monotonic() - self.began) / self.round_seconds
        if self.began is not None and share >= 1:
            self.began, share, version = None, 0.0, self._versions[-1].version + 1
            done = self._rounds[-1]
            done.status, done.ended_at, done.version, done.verdict = (
                "promoted",
                now(),
                version,
                {"tier": "provisional", "checks": []},
            )
            done.reason = Notice("gate.passed", {"win_rate": 0.64, "kl": 2.0}).to_json()
            self._versions.append(
                Version(version, self.live, done.id, "provisional", f"v{version}", "", 0.05, "")
            )
            self.live, self.waiting = version, 0
        return share

    def status(self) -> Status:
        share = self._advance()
        base = Status(
            waiting=self.waiting,
            needed=self.needed,
            next_round=len(self._rounds) + 1,
            live_version=self.live,
            live_tier=next(v.tier for v in self._versions if v.version == self.live),
            newest_version=self._versions[-1].version,
            paused=self.paused,
            held="stopped" if self.stopped_at == self.waiting else "",
            awaits=self.awaits,
            error=self.error,
            simulated=bool(self.watched),
            own=self.history.waiting(""),
        )
        if self.began is None:
            return base
        return replace(
            base,
            phase=PHASES[min(5, int(share * 6))],
            round_id=self._rounds[-1].id,
            progress=share,
            seconds_left=self.round_seconds * (1 - share),
        )

    def train_now(self) -> Notice:
        if self.began is not None:
            return Refused("training.already_running")
        if not self.waiting:
            return Refused("training.no_ratings")
        self.began = time.monotonic()
        self._rounds.append(
            Round(len(self._rounds) + 1, now(), None, "by hand", "running", "", self.live, None)
        )
        return Notice("training.round_starts")

    gone: Lapsed | None = None

    def lapsed(self) -> Lapsed | None:
        return self.gone if self.gone and self.gone.version == self.live else None

    def retrain(self) -> Notice:
        self.rebuilt.append(([], ""))
        return Notice("training.retraining", {"count": 3})

    def retrain_without(self, ids=(), *, rater="") -> Notice:
        self.rebuilt.append((list(ids), rater))
        if len(ids) > 2:
            return Refused("training.nothing_left")
        return Notice("training.retraining", {"count": 3})

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def stop_round(self) -> None:
        if self.began is not None:
            self.began, self.stopped_at = None, self.waiting
            self._rounds[-1].status, self._rounds[-1].ended_at, self._rounds[-1].reason = (
                "stopped",
                now(),
                Notice("round.stopped", {"live": self.live}).to_json(),
            )

    def rounds(self, limit: int = 20) -> list[Round]:
        self._advance()
        return self._rounds[::-1][:limit]

    def metrics(self, round_id: int) -> dict[str, list[tuple[int, float]]]:
        steps = 60
        if self.began is not None and round_id == self._rounds[-1].id:
            steps = max(1, int(steps * (time.monotonic() - self.began) / self.round_seconds))
        wave = [math.sin(i * 1.7 + round_id) * 0.06 for i in range(steps)]
        grow = [1 - math.exp(-i / 20) for i in range(steps)]
        return {
            "score": [(i, 1.2 * g + w) for i, (g, w) in enumerate(zip(grow, wave, strict=True))],
            "kl": [
                (i, 0.05 * g + abs(w) / 9) for i, (g, w) in enumerate(zip(grow, wave, strict=True))
            ],
            "head_accuracy": [
                (i, 0.55 + 0.3 * g + w / 4) for i, (g, w) in enumerate(zip(grow, wave, strict=True))
            ],
            "response_tokens": [
                (i, 40 - 12 * g + 20 * w) for i, (g, w) in enumerate(zip(grow, wave, strict=True))
            ],
            "bootstrap_win_rate": [(0, 0.5 + 0.07 * round_id)],
            "base_tokens": [(0, 41.2)],
            "candidate_tokens": [(0, 27.4)],
            "probe_kl": [(0, 0.4 * round_id)],
            "clipfrac": [(i, 0.1 + w) for i, w in enumerate(wave)],
            "value_loss": [
                (i, 0.8 * (1 - g) + abs(w)) for i, (g, w) in enumerate(zip(grow, wave, strict=True))
            ],
        }

    def all(self) -> list[Version]:
        self._advance()
        return list(self._versions)

    def make_live(self, version: int) -> Notice:
        if version not in [v.version for v in self._versions]:
            raise AppError("versions.unknown", version=version)
        self.live = version
        return Notice("versions.live", {"version": version})

    def roll_back(self) -> Notice:
        return self.make_live(next(v.parent for v in self._versions if v.version == self.live) or 0)

    def standings(self) -> list[Standing]:
        self._advance()
        numbers = [v.version for v in self._versions]
        bradley_terry = standings.bradley_terry(self.blind, numbers)
        found = []
        for v in self._versions:
            record = standings.between(self.blind, v.version, 0)
            found.append(
                Standing(
                    version=v,
                    live=v.version == self.live,
                    made_for="",
                    record=record,
                    overall=standings.overall(self.blind, v.version),
                    low=standings.interval(record)[0],
                    high=standings.interval(record)[1],
                    proved=standings.is_proved(record),
                    worse_than=(0, record) if standings.is_worse(record) else None,
                    expected=bradley_terry[v.version],
                )
            )
        return sorted(found, key=lambda s: (-s.expected, -s.version.version))

    def duel(self, one: int, other: int):
        record = standings.between(self.blind, one, other)
        return record, *standings.interval(record)

    def advice(self) -> Notice | None:
        live = next(s for s in self.standings() if s.live)
        params = {"version": self.live, "won": 0, "lost": 9, "other": 0, "parent": 0}
        return Notice("versions.roll_back_proposed", params) if live.worse else None

    def describe(self, version: int, name: str, remark: str) -> Notice:
        found = next(v for v in self._versions if v.version == version)
        found.name, found.remark = name, remark
        return Notice("versions.described", {"version": version})

    def delete(self, version: int) -> Notice:
        if version in (0, self.live):
            raise AppError("versions.live_not_deletable", version=version)
        self._versions = [v for v in self._versions if v.version != version]
        return Notice("versions.deleted", {"version": version})

    def begin_simulation(self, rater: str) -> None:
        self.watched = rater

    def end_simulation(self) -> None:
        self.watched, self.simulated[:] = "", []

    def step(self) -> None: ...

    def set_needed(self, n: int) -> None:
        self.needed = n

    def set_round_minutes(self, minutes: float) -> None:
        self.round_minutes = minutes

    def set_conditions(self, names: Sequence[str]) -> None:
        self.conditions = list(names)

    def round_size(self) -> RoundSize:
        return RoundSize(updates=2 * self.round_minutes, replies=64, tokens=128)

    def feature_weights(self) -> list[tuple[str, float, float]]:
        return [
            ("length", -1.3, 0.3),
            ("ends by asking back", 0.8, 0.35),
            ("lists", -0.7, 0.25),
            ("emoji", 0.2, 0.4),
        ]


def parts(chat: ToyChat) -> tuple[ToyChat, ToyCompare, ToyRaters, ToyTrainer]:
    """What the window is made of."""
    return chat, chat.compare, chat.raters, chat.worker


def main() -> None:
    from pathlib import Path
    from tempfile import mkdtemp

    from rlhf_chat.ui import app

    chat = ToyChat(word_seconds=0.04)
    chat.new = True
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 7860
    app.launch(*parts(chat), port=port, data_dir=Path(mkdtemp()))


if __name__ == "__main__":
    main()
