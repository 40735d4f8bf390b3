"""The report's charts, as SVG that stands in the page: no script, no file beside it."""

from collections.abc import Sequence
from html import escape
from math import isfinite

from gradserve import ChannelStatistics

ROW, LETTER, BARS, NUMBER = 18, 6.5, 420, 70
"""Pixels: height of a row, width of a letter, of the longest bar, of the number behind it."""
LONGEST = 28
"""Letters of a name; of a longer one, both ends are shown."""
CHART_WIDTH, CHART_HEIGHT, MARGIN = 300, 120, 26


def bars(rows: Sequence[tuple[str, float]], *, most: float, limit: float, unit: str = "") -> str:
    """A bar for each name.

    Args:
        rows: Names and values.
        most: The value of the longest bar; larger ones are cut off there.
        limit: From here on a bar is red; a line marks it.
        unit: After the number.
    """
    height, label = ROW * len(rows) + ROW, 12 + LETTER * min(LONGEST, max(len(name) for name, _ in rows))
    width = label + BARS + NUMBER
    parts = [f'<svg class="bars" viewBox="0 0 {width:.0f} {height}" style="max-width: {1.3 * width:.0f}px" role="img">']
    x = label + min(1.0, limit / most) * BARS
    parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - ROW}"/>')
    parts.append(f'<text class="axis" x="{x:.1f}" y="{height - 4}" text-anchor="middle">{limit:g}{unit}</text>')
    for row, (name, value) in enumerate(rows):
        y, share = row * ROW, min(1.0, value / most) if isfinite(value) else 1.0
        kind = "bad" if not value < limit else "good"
        parts.append(f'<text class="name" x="{label - 8:.1f}" y="{y + 13}" text-anchor="end">{_short(name)}</text>')
        parts.append(
            f'<rect class="{kind}" x="{label:.1f}" y="{y + 3}" width="{share * BARS:.1f}" height="{ROW - 6}" rx="2"/>'
        )
        parts.append(f'<text x="{label + share * BARS + 6:.1f}" y="{y + 13}">{value:.3g}{unit}</text>')
    return "".join([*parts, "</svg>"])


def channels(one: ChannelStatistics) -> str:
    """One layer: for each channel the running mean with a deviation to each side as a band, that of the data as a mark."""
    running = [_interval(m, v) for m, v in zip(one.running_mean, one.running_variance, strict=True)]
    observed = [_interval(m, v) for m, v in zip(one.observed_mean, one.observed_variance, strict=True)]
    ends = [end for interval in (*running, *observed) for end in interval if isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    span = (high - low) or 1.0

    def y(value: float) -> float:
        inside = min(max(value, low), high) if isfinite(value) else low
        return MARGIN / 2 + (high - inside) / span * (CHART_HEIGHT - MARGIN)

    step = (CHART_WIDTH - 2 * MARGIN) / max(1, len(one.channels))
    parts = [f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img">']
    for place, (band, mark) in enumerate(zip(running, observed, strict=True)):
        x = 2 * MARGIN + place * step - MARGIN / 2
        parts.append(_span("band", x, y(band[1]), max(1.0, step * 0.8), y(band[0])))
        parts.append(_span("whisker", x + step * 0.4 - 0.5, y(mark[1]), 1.0, y(mark[0])))
        parts.append(f'<circle class="mark" cx="{x + step * 0.4:.1f}" cy="{y((mark[0] + mark[1]) / 2):.1f}" r="1.8"/>')
    for value in (low, high):
        parts.append(f'<text class="axis" x="{MARGIN + 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.2g}</text>')
    last = f"channels {one.channels[0]} to {one.channels[-1]}" if one.channels else ""
    parts.append(f'<text class="axis" x="{CHART_WIDTH / 2}" y="{CHART_HEIGHT - 2}" text-anchor="middle">{last}</text></svg>')
    return "".join(parts)


def _interval(mean: float, variance: float) -> tuple[float, float]:
    deviation = max(0.0, variance) ** 0.5
    return mean - deviation, mean + deviation


def _span(kind: str, x: float, top: float, width: float, bottom: float) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(0.8, bottom - top):.1f}"/>'


def _short(name: str) -> str:
    return escape(name if len(name) <= LONGEST else f"{name[: LONGEST // 2 - 1]}…{name[-LONGEST // 2 :]}")
