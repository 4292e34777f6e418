"""A small line chart as inline SVG, cheap to redraw each second, and words on coloured grounds.

Three of Gradio's own plots at one update a second took 33 % of the browser's main thread at 300
points, these take 5 %. Every text that enters is escaped, and so is `$`, because Gradio reads
`${...}` in HTML as script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from rlhf_chat.ui.language import text

Points = Sequence[tuple[float, float | None]]

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 12, 22
MOST_POINTS = 300


def safe(value: object) -> str:
    """Text that stays text in HTML and in Gradio's template."""
    return (
        escape(str(value))
        .replace("$", "&#36;")
        .replace("{", "&#123;")
        .replace("`", "&#96;")
        .replace("\\", "&#92;")
    )


def number(value: float) -> str:
    """Three significant digits, without exponents for everyday sizes."""
    if abs(value) < 1e-12:
        return "0"
    if abs(value) >= 1000 or abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.3g}"


def thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST_POINTS finite points, first and last kept."""
    finite = [(float(x), float(y)) for x, y in points if y is not None and math.isfinite(y)]
    if len(finite) <= MOST_POINTS:
        return finite
    stride = (len(finite) - 1) / (MOST_POINTS - 1)
    return [finite[round(i * stride)] for i in range(MOST_POINTS)]


def line_chart(points: Points, title: str, *, axis: str) -> str:
    """One line over `axis`, its last value large beside the title."""
    kept = thinned(points)
    if not kept:
        return ""
    xs, ys = [x for x, _ in kept], [y for _, y in kept]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = _room(min(ys), max(ys))

    def across(x: float) -> float:
        if x_high == x_low:
            return (LEFT + WIDTH - RIGHT) / 2
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    def told(x: float, y: float) -> str:
        return safe(text("chart.point", axis=axis, x=x, value=number(y)))

    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{down(y) + 3:.1f}" text-anchor="end">{number(y)}</text>'
        for y in (y_low, (y_low + y_high) / 2, y_high)
    )
    path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in kept)
    floor = HEIGHT - BOTTOM
    area = f"{across(xs[0]):.1f},{floor} {path} {across(xs[-1]):.1f},{floor}"
    marks = (
        f'<circle cx="{across(xs[-1]):.1f}" cy="{down(ys[-1]):.1f}" r="2.6">'
        f"<title>{told(xs[-1], ys[-1])}</title></circle>"
    )
    ends = (
        f'<text x="{LEFT}" y="{HEIGHT - 6}">{safe(text("chart.axis", axis=axis, x=x_low))}</text>'
    )
    if x_high > x_low:
        ends += f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{x_high:g}</text>'
    summary = text(
        "chart.summary",
        title=title,
        first=number(ys[0]),
        last=number(ys[-1]),
        axis=axis,
        low=x_low,
        high=x_high,
    )
    return (
        f'<figure class="chart"><figcaption><span>{safe(title)}</span>'
        f"<b>{number(ys[-1])}</b></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{safe(summary)}">{grid}'
        f'<polygon points="{area}"/><polyline points="{path}"/>{marks}{ends}</svg></figure>'
    )


def _room(low: float, high: float) -> tuple[float, float]:
    """A range that never has zero height; a line that does not move sits in the middle."""
    if high - low > 1e-9 * max(1.0, abs(high)):
        return low, high
    half = abs(high) * 0.1 or 0.5
    return low - half, high + half


def attribution(pieces: Sequence[tuple[str, float, float]]) -> str:
    """(words, gain, sigma) one after the other, each on a ground that says what it did: the warmer
    the more the score rose, the colder the more it fell; faint where the doubt is larger."""
    reach = max((abs(gain) for _, gain, _ in pieces), default=0.0) or 1.0
    spans = []
    for words, gain, sigma in pieces:
        sure = abs(gain) > sigma
        alpha = abs(gain) / reach * (0.55 if sure else 0.2)
        side = "up" if gain > 0 else "down"
        told = safe(text("attribution.value", value=number(gain), sigma=number(sigma)))
        spans.append(
            f'<span class="{side}" style="--a:{alpha:.2f}" title="{told}">{safe(words)}</span>'
        )
    total = number(sum(gain for _, gain, _ in pieces))
    caption = safe(text("attribution.title", total=total))
    return (
        f'<figure class="attribution"><figcaption>{caption}</figcaption>'
        f"<p>{''.join(spans)}</p></figure>"
    )
