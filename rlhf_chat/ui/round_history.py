"""Rounds as HTML: how each ended and why, its checks, and the ratings that moved it."""

from __future__ import annotations

from typing import Any

from rlhf_chat.ui.charts import number, safe
from rlhf_chat.ui.components import rater_name, version_label, when
from rlhf_chat.ui.language import message, text

ENDINGS = ("promoted", "discarded", "stopped", "failed", "aborted", "running")


def round_history(rounds: list[Any]) -> str:
    """The newest first."""
    heading = f"<h3>{safe(text('learning.rounds'))}</h3>"
    if not rounds:
        return f"{heading}<p class='quiet'>{safe(text('learning.no_round'))}</p>"
    return f"{heading}<ol class='history'>{''.join(map(_round, rounds))}</ol>"


def last_round(rounds: list[Any]) -> str:
    """How the newest round that ended did, in plain words; nothing before the first."""
    ended = next((r for r in rounds if r.ended_at), None)
    if ended is None:
        return ""
    name = safe(text("learning.round", number=ended.id))
    return (
        f'<p class="last">{_ending(ended.status)} <span>{name}</span>:'
        f" <span>{safe(_plain(ended))}</span></p>"
    )


def _plain(ended: Any) -> str:
    """Why the round ended so, by the first check it failed: without the numbers, which stand among
    all rounds."""
    for check in (ended.verdict or {}).get("checks") or []:
        if isinstance(check, dict) and not check["passed"]:
            return text(f"gate.plain.{check['name']}")
    return message(ended.reason)


def _checks(verdict: dict[str, Any] | None) -> str:
    """Every check of the gate with a mark, its value and its limit, folded away."""
    rows = [_check(check) for check in (verdict or {}).get("checks") or []]
    if not rows:
        return ""
    lines = "".join(
        f'<tr class="{"passed" if passed else "missed"}"><td>{_mark(passed)}</td>'
        f"<th scope='row'>{safe(name)}</th><td>{safe(value)}</td><td>{safe(limit)}</td></tr>"
        for name, passed, value, limit in rows
    )
    count = sum(passed for _, passed, _, _ in rows)
    summary = safe(text("gate.summary", count=count, total=len(rows)))
    heads = "".join(
        f"<th scope='col'>{safe(head)}</th>"
        for head in ("", text("gate.head_check"), text("gate.head_value"), text("gate.head_limit"))
    )
    return (
        f"<details class='checks'><summary>{summary}</summary>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></details>"
    )


def _check(check: dict[str, Any] | list[Any]) -> tuple[str, bool, str, str]:
    """(name, passed, value, limit) of one check; a list is one from an older version."""
    if isinstance(check, list):
        name, passed, words = check
        return str(name), bool(passed), str(words), ""
    name, passed, limit = check["name"], bool(check["passed"]), check["limit"]
    low, high = limit if isinstance(limit, list) else (None, limit)
    if check["value"] is None:  # of weights that are finite, or not, there is no number
        return text(f"gate.check.{name}"), passed, _result(passed), ""
    value = text(f"gate.value.{name}", value=check["value"])
    return (
        text(f"gate.check.{name}"),
        passed,
        value,
        text(f"gate.limit.{name}", limit=high, low=low),
    )


def _mark(passed: bool) -> str:
    icon = "lucide-check" if passed else "lucide-x"
    return f'<span class="{icon}" role="img" aria-label="{safe(_result(passed))}"></span>'


def _result(passed: bool) -> str:
    return text("gate.line_passed" if passed else "gate.line_failed")


def _ending(status: str) -> str:
    name = text(f"ending.{status}") if status in ENDINGS else status
    return f'<b class="ending {safe(status)}">{safe(name)}</b>'


def _round(done: Any) -> str:
    made = f" → {version_label(done.version)}" if done.version else ""
    versions = safe(f"{version_label(done.parent_version)}{made}")
    name = safe(text("learning.round", number=done.id))
    badge = f"<span class='badge'>{safe(rater_name(done.rater))}</span>" if done.rater else ""
    return (
        f"<li class='round {safe(done.status)}'><div class='head'><b>{name}</b>"
        f"{_ending(done.status)}<span>{versions}</span>"
        f"<span class='at'>{safe(when(done.started_at))}</span>{badge}</div>"
        f"<p class='reason'>{safe(message(done.reason))}</p>"
        f"{_checks(done.verdict)}{_moved(done.verdict)}</li>"
    )


def _moved(verdict: dict[str, Any] | None) -> str:
    """The ratings that moved the round, folded away."""
    card = (verdict or {}).get("card") or {}
    moved = "".join(
        f"<li>{safe(_rating_text(rating))} <b>{number(owed)}</b></li>"
        for rating, owed, *_ in card.get("moved", [])
    )
    if not moved:
        return ""
    summary = safe(text("learning.moved"))
    return f"<details class='moved'><summary>{summary}</summary><ul>{moved}</ul></details>"


def _rating_text(rating: str | dict[str, Any]) -> str:
    """A rating as `feedback.snapshot.describe` put it; a plain text from an older version."""
    return rating if isinstance(rating, str) else text(rating["code"], **rating["params"])
