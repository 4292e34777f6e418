"""Records of feedback.db, as they are read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VOTES = ("a", "b", "tie", "both_bad", "both_good")  # answers of a comparison
MOST_RANKED = 8  # replies in one order


@dataclass(frozen=True)
class Conversation:
    id: str
    title: str
    system_prompt: str
    head_id: str | None
    created_at: str
    updated_at: str
    kind: str = "chat"
    sampling: dict[str, Any] | None = None  # sampling of its replies; None: the general settings
    adapter_version: int | None = None  # of the replies; None: the live version
    origin: str = ""  # id of the import that added it; "" for chats of this app


@dataclass(frozen=True)
class Message:
    id: str
    conversation_id: str
    parent_id: str | None
    role: str
    content: str
    prompt_ids: list[int] | None
    response_ids: list[int] | None
    adapter_version: int | None
    sampling: dict[str, Any] | None
    finish_reason: str | None
    event_id: str | None
    created_at: str


@dataclass(frozen=True)
class Rating:
    id: str
    message_id: str
    value: int
    reason: str
    comment: str
    rater: str
    created_at: str


@dataclass(frozen=True)
class Preference:
    id: str
    message_a: str
    message_b: str
    outcome: str
    shown_first: str
    rater: str
    created_at: str
    strength: str = ""  # slightly, much, or "" (not given)
    comment: str = ""


@dataclass(frozen=True)
class Score:
    id: str
    message_id: str
    stars: int
    rater: str
    created_at: str


@dataclass(frozen=True)
class Ranking:
    id: str
    asked_id: str
    places: dict[str, int]  # message id -> place, 0 is best; equal places are tied
    rater: str
    created_at: str
    comment: str = ""


@dataclass(frozen=True)
class Edit:
    id: str
    message_id: str  # what the model wrote
    edited_id: str  # the corrected text
    rater: str
    created_at: str


@dataclass(frozen=True)
class Round:
    id: int
    started_at: str
    ended_at: str | None
    trigger: str
    status: str
    reason: str
    parent_version: int
    version: int | None
    seed: int
    watermark: int
    config: dict[str, Any]
    verdict: dict[str, Any] | None
    snapshot_hash: str = ""
    rater: str = ""  # the simulated rater it learned from; "" for people
    # What its version knows, its parent's included: {"imports": [ids], "raters": [names]}
    learned_from: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterVersion:
    version: int
    parent: int | None
    round_id: int | None
    tier: str  # base; provisional or passed, by the gate; proved, by blind votes
    folder: str
    manifest_hash: str
    kl: float | None
    note: str
    created_at: str
    name: str = ""  # given by the person
    remark: str = ""


@dataclass(frozen=True)
class RankedReply:
    """One reply of a ranking."""

    place: int  # 0 is best; equal places are tied
    version: int | None
    reply: str


@dataclass(frozen=True)
class Feedback:
    """One answer that counts now, with the texts it is about. `other` is the second reply of a
    comparison; `order` are all replies of a ranking, the best first."""

    id: str
    kind: str  # thumb, stars, comparison, ranking or correction
    answer: str  # up, down; a, b, tie, both_bad, both_good; 1 to 5; corrected; ranked
    prompt: str
    reply: str
    other: str
    reason: str
    comment: str
    rater: str
    version: int | None
    other_version: int | None
    message_id: str
    other_id: str
    conversation_id: str
    created_at: str
    order: list[RankedReply] = field(default_factory=list)
    strength: str = ""  # of a comparison: slightly, much, or "" (not given)


@dataclass(frozen=True)
class FeedbackPage:
    """Some of the answers that were searched for, newest first."""

    rows: list[Feedback]
    found: int  # how many there are, also on other pages
    next: int | None  # `before` of the next page; None: this is the last one


@dataclass(frozen=True)
class ImportedFeedback:
    """One answer from an imported file, with the texts it is about.

    `answer`: of a thumb +1 or -1, of stars 1 to 5, of a comparison one of VOTES, of a ranking a
    place for each reply; a correction has two replies, the original and the corrected text.
    """

    kind: str  # thumb, stars, comparison, ranking or correction
    turns: tuple[tuple[str, str], ...]  # (role, text) before the reply, the last one by the user
    replies: tuple[str, ...]
    answer: int | str | tuple[int, ...]
    system: str = ""
    strength: str = ""
    reason: str = ""
    comment: str = ""
    rater: str = ""  # "": the person who imports it
    created_at: str = ""
    id: str = ""  # of the answer, where it comes from one of our own databases
    prompt_ids: tuple[int, ...] = ()
    response_ids: tuple[tuple[int, ...], ...] = ()  # of each reply
    implied: bool = False  # nobody stated it: a version that was selected, an example


@dataclass(frozen=True)
class ImportBatch:
    """An imported file, of which something is still here."""

    id: str  # what `ImportRepository.undo` takes
    created_at: str
    conversations: int
    counts: bool  # whether its answers are learned from


@dataclass(frozen=True)
class Event:
    id: int
    kind: str
    ref: str
    data: dict[str, Any]
    created_at: str
