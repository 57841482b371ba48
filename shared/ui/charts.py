"""Small charts as inline SVG: no script, no style attribute, so a strict page policy can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _LEFT, _RIGHT = 860.0, 8.0, 70.0


def equity_chart(points: Sequence[tuple[datetime, float]], height: float = 210) -> Markup | None:
    """Equity over time, with a line at its start. ``None`` for fewer than two points."""
    if len(points) < 2:
        return None
    values = [value for _, value in points]
    low, high = _padded(min(values), max(values))
    frame = _Frame(points[0][0], points[-1][0], low, high, height, bottom=22)
    tone = "up" if values[-1] >= values[0] else "down"
    line = frame.path(points)
    base, right = frame.y(values[0]), _WIDTH - _RIGHT
    body = (
        frame.grid(_number, 4)
        + f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{base:.1f}" y2="{base:.1f}"/>'
        + f'<path class="area {tone}" d="{line}{frame.closing(frame.floor)}"/>'
        + f'<path class="line {tone}" d="{line}"/>'
        + frame.times()
    )
    last = f"{values[-1]:,.2f}"
    return _svg(body, height, f"Equity from {values[0]:,.2f} to {last}")


def drawdown_chart(points: Sequence[tuple[datetime, float]], height: float = 84) -> Markup | None:
    """The fall from the peak in percent, drawn downwards from zero."""
    if len(points) < 2:
        return None
    deepest = max(value for _, value in points)
    falls = [(at, -value) for at, value in points]
    low = min(-deepest * 1.08, -0.1)
    frame = _Frame(points[0][0], points[-1][0], low, 0.0, height, bottom=8)
    line = frame.path(falls)
    body = (
        frame.grid(lambda value: f"{value:g} %".replace("-", "\u2212"), 2)
        + f'<path class="area down" d="{line}{frame.closing(frame.y(0))}"/>'
        + f'<path class="line down" d="{line}"/>'
    )
    return _svg(body, height, f"Drawdown, deepest {deepest:.2f} percent")


def bar(used: float | None, marks: Sequence[float] = (), *, alarming: bool = True) -> Markup:
    """A share of a limit from 0 to 1; without a value the bar stays empty.

    Args:
        marks: further limits on the way, as shares too.
        alarming: whether coming near the limit is bad news, and coloured so.
    """
    from markupsafe import Markup

    width = 0.0 if used is None else 100 * min(max(used, 0.0), 1.0)
    calm = used is None or used < 0.6 or not alarming
    tone = "calm" if calm else "warn" if width < 90 else "down"
    ticks = "".join(
        f'<rect class="tick" x="{100 * mark - 0.4:.1f}" width="0.8" height="6"/>'
        for mark in marks
        if 0 < mark < 1
    )
    return Markup(  # noqa: S704 - numbers only
        f'<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="6" rx="1"/>'
        f'<rect class="fill {tone}" width="{width:.2f}" height="6" rx="1"/>{ticks}</svg>'
    )


class _Frame:
    """Maps times and values to the coordinates of a drawing."""

    def __init__(
        self, start: datetime, end: datetime, low: float, high: float, height: float, bottom: float
    ) -> None:
        self.start, self.end, self.low, self.high = start, end, low, high
        self.top, self.floor = 8.0, height - bottom
        self.height = height

    def x(self, at: datetime) -> float:
        whole = (self.end - self.start).total_seconds() or 1.0
        share = (at - self.start).total_seconds() / whole
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.floor - share * (self.floor - self.top)

    def path(self, points: Sequence[tuple[datetime, float]]) -> str:
        return "M" + "L".join(f"{self.x(at):.1f} {self.y(value):.1f}" for at, value in points)

    def closing(self, y: float) -> str:
        return f"L{self.x(self.end):.1f} {y:.1f}L{self.x(self.start):.1f} {y:.1f}Z"

    def grid(self, label: Callable[[float], str], steps: int) -> str:
        """Lines at round values, about ``steps`` of them, labelled on the right."""
        right = _WIDTH - _RIGHT
        parts = []
        for value in round_values(self.low, self.high, steps):
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{right + 8}" y="{y + 3.5:.1f}">{label(value)}</text>'
            )
        return "".join(parts)

    def times(self) -> str:
        whole = self.end - self.start
        form = "%d %b %H:%M" if whole.total_seconds() > 86_400 else "%H:%M"
        parts = []
        for index, anchor in ((0, "start"), (1, "middle"), (2, "middle"), (3, "end")):
            at = self.start + whole * index / 3
            parts.append(
                f'<text x="{self.x(at):.1f}" y="{self.height - 4:.1f}" text-anchor="{anchor}">'
                f"{at.strftime(form)}</text>"
            )
        return "".join(parts)


def round_values(low: float, high: float, steps: int) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten in ``low..high``, about ``steps`` of them."""
    rough = (high - low) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.08 or abs(high) * 0.001 or 1.0
    return low - room, high + room


def _number(value: float) -> str:
    return f"{value:,.2f}".removesuffix(".00")


def _svg(body: str, height: float, title: str) -> Markup:
    from markupsafe import Markup

    return Markup(  # noqa: S704 - built from numbers and times only
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{title}">{body}</svg>'
    )
