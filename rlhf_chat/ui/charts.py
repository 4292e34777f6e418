"""Small line charts as inline SVG, cheap to redraw each second.

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


def line_chart(points: Points, title: str, *, axis: str = "step", dots: bool = False) -> str:
    """One line over steps or rounds (`axis`), its last value large beside the title."""
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
    marks = "".join(
        f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="2.6">'
        f"<title>{told(x, y)}</title></circle>"
        for x, y in (kept if dots else kept[-1:])
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


def intervals(rows: Sequence[tuple[str, float, float, float]], title: str) -> str:
    """(name, low, middle, high) of shares, one upright bar each; the dashed line is one half."""
    if not rows:
        return ""
    rows = rows[-24:]
    wide = WIDTH - LEFT - RIGHT

    def down(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    dashed = ' class="half"'
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y):.1f}" y2="{down(y):.1f}"'
        f"{dashed if y == 0.5 else ''}/>"
        f'<text x="{LEFT - 6}" y="{down(y) + 3:.1f}" text-anchor="end">{y:.0%}</text>'
        for y in (0.0, 0.5, 1.0)
    )
    marks = ""
    for i, (name, low, middle, high) in enumerate(rows):
        x = LEFT + (i + 0.5) / len(rows) * wide
        told = safe(text("chart.interval", name=name, middle=middle, low=low, high=high))
        marks += (
            f'<line class="span" x1="{x:.1f}" x2="{x:.1f}" y1="{down(low):.1f}"'
            f' y2="{down(high):.1f}"/>'
            f'<circle cx="{x:.1f}" cy="{down(middle):.1f}" r="4"><title>{told}</title></circle>'
        )
        if len(rows) <= 12 or i % 3 == 0:
            marks += f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{safe(name)}</text>'
    shares = ", ".join(f"{name} {middle:.0%}" for name, _, middle, _ in rows)
    summary = safe(f"{title}: {shares}")
    return (
        f'<figure class="chart spans"><figcaption><span>{safe(title)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{summary}">'
        f"{grid}{marks}</svg></figure>"
    )


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


def bars(rows: Sequence[tuple[str, float, float]]) -> str:
    """(words, weight, sigma), drawn from a middle line: to the right what is liked. The thin line
    is one sigma.
    """
    if not rows:
        return ""
    reach = max(abs(weight) + sigma for _, weight, sigma in rows) or 1.0
    return f'<ul class="likes">{"".join(_bar(*row, reach) for row in rows)}</ul>'


def _bar(words: str, weight: float, sigma: float, reach: float) -> str:
    side = "more" if weight >= 0 else "less"
    sure = abs(weight) > 2 * sigma
    verb = text(f"learning.bar_{side if sure else 'unsure'}")
    size = abs(weight) / reach * 50
    start = 50 if weight >= 0 else 50 - size
    low, high = 50 + (weight - sigma) / reach * 50, 50 + (weight + sigma) / reach * 50
    summary = safe(text("learning.bar_value", verb=verb, value=number(weight), sigma=number(sigma)))
    return (
        f'<li class="{side}{"" if sure else " unsure"}"><span class="w">{safe(words)}</span>'
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{summary}">'
        '<line class="mid" x1="50" x2="50" y1="0" y2="10"/>'
        f'<rect x="{start:.1f}" y="1.5" width="{size:.1f}" height="7" rx="1"/>'
        f'<line class="sig" x1="{low:.1f}" x2="{high:.1f}" y1="5" y2="5"/></svg>'
        f'<span class="v">{safe(verb)}</span></li>'
    )
