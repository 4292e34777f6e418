"""The first layer of Learning, for anybody: what training does, what changed in the replies, the
blind votes so far, and what to do next.

Rows and measurements in, HTML out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_chat.errors import Notice
from rlhf_chat.locale import has
from rlhf_chat.training.status import OFF, PAUSED, READY, TRAINING, WAITING, Status
from rlhf_chat.ui.charts import safe
from rlhf_chat.ui.language import message, text
from rlhf_chat.ui.round_history import last_round
from rlhf_chat.ui.text_diff import marked
from rlhf_chat.versions.leaderboard import Standing

CLEAR_CHANGE = 0.2  # standard deviations among the base's replies: less is hardly noticed
CLEAR_SHARE = 0.05  # of the mean length
MOST_NAMED = 3  # changes in one sentence
DUEL, RATE, LOOK = "duel", "rate", "versions"  # what the next step's button does


@dataclass(frozen=True)
class NextStep:
    told: str
    act: str = ""  # DUEL, RATE or LOOK; "" where there is nothing to press
    button: str = ""


def now(status: Status, rounds: list[Any]) -> str:
    """The state of training, how far it is, and how the last round ended."""
    share, name = status.share, text("learning.until_next")
    if status.round_id is not None:
        name = text("learning.round", number=status.round_id)
    return (
        f"<h2>{safe(message(status.name))}</h2>"
        f'<div class="bar" role="progressbar" aria-label="{safe(name)}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div>'
        f'<p class="under">{safe(message(status.sentence))}</p>{last_round(rounds)}'
    )


def next_step(status: Status, standings: list[Standing], advice: Notice | None) -> NextStep:
    """The one thing that helps most now."""
    live = next((s for s in standings if s.live), None)
    if advice:
        return NextStep(message(advice), LOOK, text("learning.open_versions"))
    if live and live.version.version and not live.proved:
        told = text("learning.next_duel", version=live.version.version, count=live.record.votes)
        return NextStep(told, DUEL, text("learning.vote_blind"))
    if status.state == WAITING:
        told = text("learning.next_rate", count=status.missing, number=status.next_round)
        return NextStep(told, RATE, text("learning.rate_answers"))
    if status.state in (TRAINING, PAUSED, OFF):
        return NextStep(text(f"learning.next_{status.state}"))
    if status.state == READY and not status.awaits:
        return NextStep(text("learning.next_ready", number=status.next_round))
    return NextStep(text("learning.next_train"))


def changed(status: Status, done: Any | None, measured: dict[str, float]) -> str:
    """What the live version writes otherwise: in a sentence and by examples. `done`: the round that
    made it, `measured`: the last value of each of its measures."""
    version = status.live_version
    heading = f"<h3>{safe(text('learning.what_changed'))}</h3>"
    if not version:
        return f"{heading}<p>{safe(text('learning.base_live'))}</p>"
    card = ((done.verdict if done else None) or {}).get("card") or {}
    first, second = _features(version, card.get("changed", [])), _length(measured)
    both = text("learning.both", first=first, second=second) if first and second else ""
    examples = "".join(
        _example(prompt, old, new, done.parent_version if done else 0, version)
        for prompt, old, new in card.get("examples", [])
    )
    words = both or first or second or text("learning.change_unknown", version=version)
    return f"{heading}<p class='told'>{safe(words)}</p>{examples}"


def _features(version: int, measured: list[Any]) -> str:
    clear = [(name, change) for name, change, _ in measured if abs(change) >= CLEAR_CHANGE]
    if not measured:
        return ""
    if not clear:
        return text("learning.change_small", version=version)
    most = sorted(clear, key=lambda one: -abs(one[1]))[:MOST_NAMED]
    named = [feature_text(name, direction(change)) for name, change in most]
    return text("learning.change", version=version, features=text("learning.comma").join(named))


def _length(measured: dict[str, float]) -> str:
    """The mean length in tokens, where it is clearly another one than the base's."""
    before, after = measured.get("base_tokens"), measured.get("candidate_tokens")
    if not before or after is None or abs(after / before - 1) < CLEAR_SHARE:
        return ""
    return text("learning.change_length", before=before, after=after)


def _example(prompt: str, old: str, new: str, parent: int, version: int) -> str:
    before, after = marked(old, new)
    return (
        f"<section class='example'><h4>{safe(prompt)}</h4><div class='pair'>"
        f"<div><span>{safe(text('learning.before', version=parent))}</span><p>{before}</p></div>"
        f"<div><span>{safe(text('learning.after', version=version))}</span><p>{after}</p></div>"
        "</div></section>"
    )


def votes(standings: list[Standing]) -> str:
    """Blind votes of the live version over the base: in words, and its interval on a line."""
    live = next((s for s in standings if s.live), None)
    heading = f"<h3>{safe(text('learning.better'))}</h3>"
    return f"{heading}<p class='told'>{safe(_live_words(live))}</p>{_interval(live)}"


def _interval(live: Standing | None) -> str:
    if live is None or not live.record.votes:
        return ""
    low, high, rate = 100 * live.low, 100 * live.high, 100 * live.record.win_rate
    return (
        "<div class='rate' aria-hidden='true'><span class='track'>"
        "<i class='mid' style='left:50%'></i>"
        f"<i class='range' style='left:{low:.1f}%;width:{high - low:.1f}%'></i>"
        f"<i class='dot' style='left:{rate:.1f}%'></i></span></div>"
    )


def _live_words(live: Standing | None) -> str:
    if live is None or not live.version.version:
        return text("learning.base_votes")
    version, record = live.version.version, live.record
    if not record.votes:
        return text("learning.no_votes", version=version)
    counted = {"version": version, "rate": record.win_rate, "count": record.votes}
    if live.proved:
        return text("learning.proved", **counted)
    return text("learning.not_proved", **counted, low=live.low, high=live.high)


def taste(weights: Sequence[tuple[str, float, float]]) -> str:
    """The learned preferences in words: what is known for sure."""
    head = f"<h3>{safe(text('learning.likes'))}</h3>"
    if not weights:
        return f"{head}<p>{safe(text('learning.likes_nothing'))}</p>"
    sure = [(name, weight) for name, weight, sigma in weights if abs(weight) > 2 * sigma]
    told = text("learning.comma").join(
        f"<b>{safe(feature_text(name, direction(weight)))}</b>" for name, weight in sure[:4]
    )
    return f"{head}<p class='told'>{told or safe(text('learning.likes_unsure'))}</p>"


def feature_text(name: str, direction: str = "") -> str:
    """A text feature by its name, or with more or less of it; one of an older version as it is."""
    key = f"feature.{name.replace(' ', '_').lower()}"
    return text(key, direction=direction) if has(key) else f"{direction} {name}".strip()


def direction(weight: float) -> str:
    return "more" if weight > 0 else "less"
