"""The measures of training rounds as a person reads them: names, groups, numbers, and the table and
the lines that compare rounds.

A measure that a round did not store is missing; nothing is filled in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rlhf_chat.locale import has
from rlhf_chat.ui.charts import number, safe
from rlhf_chat.ui.language import text

Points = Sequence[tuple[float, float]]  # (update, value)
Rounds = Mapping[int, Mapping[str, Points]]  # round -> measure -> its points

GROUPS = {
    "reward": ("score", "reward", "kl", "response_tokens"),
    "policy": ("entropy", "clipfrac", "approxkl", "explained_variance"),
    "optimizer": ("loss", "vf_loss", "grad_norm", "kl_coef"),
    "reward_model": ("head_accuracy", "head_overconfidence", "head_log_loss", "head_p_value"),
    "language": ("candidate_tokens", "candidate_distinct", "candidate_degeneration", "unfinished"),
    "gate": ("bootstrap_win_rate", "bootstrap_gain_low", "probe_kl", "candidate_low_logprob_rate"),
}
CHARTS = max(map(len, GROUPS.values()))
SHARES = {
    "clipfrac",
    "unfinished",
    "head_accuracy",
    "head_overconfidence",
    "bootstrap_win_rate",
    *(
        f"{whose}_{name}"
        for whose in ("base", "candidate")
        for name in ("low_logprob_rate", "degeneration", "unfinished", "empty")
    ),
}
WHOLE = {"labels", "response_tokens", "base_tokens", "candidate_tokens"}
MOST_POINTS = 200  # of one line


def measure_title(name: str) -> str:
    if has(f"measure.{name}"):
        return text(f"measure.{name}")
    return name.replace("_", " ").replace("/", ": ").strip().capitalize()


def figure(name: str, value: float | None) -> str:
    """A number as a person reads it: 42%, 0.035, 27; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if name in SHARES:
        return f"{value:.0%}" if abs(value) >= 0.0995 or not value else f"{value:.1%}"
    if name in WHOLE:
        return f"{value:.0f}"
    if name == "head_p_value":
        return f"{value:.3f}"
    return number(value)


def last_values(measured: Mapping[str, Points]) -> dict[str, float]:
    return {name: points[-1][1] for name, points in measured.items() if points}


def table(rounds: Rounds) -> str:
    """Measures down, rounds across, each with its last value."""
    values = {number_: last_values(measured) for number_, measured in rounds.items()}
    names = list(dict.fromkeys(name for group in GROUPS.values() for name in group))
    others = sorted({n for measured in values.values() for n in measured} - set(names))
    heads = "".join(
        f"<th scope='col'>{safe(text('learning.round', number=n))}</th>" for n in values
    )
    rows = "".join(
        f"<tr><th scope='row'>{safe(measure_title(name))}</th>"
        + "".join(f"<td>{figure(name, measured.get(name))}</td>" for measured in values.values())
        + "</tr>"
        for name in [*names, *others]
        if name in others or any(name in measured for measured in values.values())
    )
    if not rows:
        return f"<p class='quiet'>{safe(text('learning.no_measures'))}</p>"
    first = f"<th scope='col'>{safe(text('learning.measure'))}</th>"
    note = f"<p class='quiet'>{safe(text('learning.table_note'))}</p>"
    return f"<table><thead><tr>{first}{heads}</tr></thead><tbody>{rows}</tbody></table>{note}"


def lines(name: str, rounds: Rounds, chosen: Sequence[int]) -> tuple[str, list[list[Any]]]:
    """What the x axis is ("update" or "round") and rows [x, value, line] of one measure: over the
    updates of the chosen rounds where one has several, else over all rounds."""
    by_update = {n: thinned(rounds.get(n, {}).get(name, ())) for n in chosen}
    if any(len(points) > 1 for points in by_update.values()):
        told = {n: text("learning.round", number=n) for n in by_update}
        rows = [[x + 1, rounded(y), told[n]] for n in sorted(by_update) for x, y in by_update[n]]
        return "update", rows
    return "round", over_rounds(name, rounds)


def over_rounds(name: str, rounds: Rounds) -> list[list[Any]]:
    """[round, last value, line] of one measure."""
    found = [(n, last_values(measured).get(name)) for n, measured in sorted(rounds.items())]
    told = text("learning.every_round")
    return [[n, rounded(value), told] for n, value in found if value is not None]


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST_POINTS finite points, first and last kept."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) <= MOST_POINTS:
        return finite
    stride = (len(finite) - 1) / (MOST_POINTS - 1)
    return [finite[round(i * stride)] for i in range(MOST_POINTS)]


def rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")
