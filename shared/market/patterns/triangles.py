"""Triangles: two lines through alternating highs and lows that draw together.

After Edwards and Magee, Technical Analysis of Stock Trends, chapter 8: an ascending triangle has
a level top and rising lows (bullish), a descending one a level bottom and falling highs
(bearish), a symmetrical one both slopes (neutral until it breaks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.market.patterns.pivots import Pivot, View, points

_MIN_PIVOTS, _MAX_PIVOTS = 5, 7
_LEVEL = 0.15  # a line is level if it moves less than this share of the opening's height
_SLOPED = 0.25  # and sloped if it moves more than this
_CLOSED_IN = 0.75  # the lines have drawn together to less than this share of it
_MISFIT = 0.15  # the pivots' RMS distance from their lines at which nothing is left of the shape


@dataclass(frozen=True)
class _Line:
    slope: float
    intercept: float

    def at(self, index: float) -> float:
        return self.intercept + self.slope * index


def find(view: View, pivots: list[Pivot]) -> list[dict[str, Any]]:
    """The triangle that the newest pivots form, if the newest close still lies inside it.

    ``confidence`` is 1 minus the pivots' RMS distance from the lines as a share of 15 % of the
    triangle's height, times the number of pivots over seven.
    """
    for count in range(_MAX_PIVOTS, _MIN_PIVOTS - 1, -1):
        found = _triangle(view, pivots[-count:]) if len(pivots) >= count else None
        if found is not None:
            return [found]
    return []


def _triangle(view: View, pivots: list[Pivot]) -> dict[str, Any] | None:
    upper = _fitted([pivot for pivot in pivots if pivot.kind == "high"])
    lower = _fitted([pivot for pivot in pivots if pivot.kind == "low"])
    first, last, now = pivots[0].index, pivots[-1].index, len(view.close) - 1
    height = upper.at(first) - lower.at(first)
    if height <= 0 or not 0 < upper.at(last) - lower.at(last) < _CLOSED_IN * height:
        return None
    if not lower.at(now) <= view.close[-1] <= upper.at(now):
        return None
    kind = _kind(upper, lower, last - first, height)
    misfit = _rms_distance(pivots, upper, lower) / height
    if kind is None or misfit >= _MISFIT:
        return None
    name, direction = kind
    return {
        "kind": name,
        "direction": direction,
        "confidence": (1 - misfit / _MISFIT) * len(pivots) / _MAX_PIVOTS,
        "points": points(view, pivots),
        "upper": [upper.at(first), upper.at(now)],
        "lower": [lower.at(first), lower.at(now)],
    }


def _kind(upper: _Line, lower: _Line, width: int, height: float) -> tuple[str, str] | None:
    top, bottom = upper.slope * width / height, lower.slope * width / height
    if abs(top) < _LEVEL and bottom > _SLOPED:
        return "ascending_triangle", "bullish"
    if abs(bottom) < _LEVEL and top < -_SLOPED:
        return "descending_triangle", "bearish"
    if top < -_LEVEL and bottom > _LEVEL:
        return "symmetrical_triangle", "neutral"
    return None


def _fitted(pivots: list[Pivot]) -> _Line:
    """The least-squares line through at least two pivots."""
    count = len(pivots)
    mean_index = sum(pivot.index for pivot in pivots) / count
    mean_price = sum(pivot.price for pivot in pivots) / count
    spread = sum((pivot.index - mean_index) ** 2 for pivot in pivots)
    slope = sum((p.index - mean_index) * (p.price - mean_price) for p in pivots) / spread
    return _Line(slope, mean_price - slope * mean_index)


def _rms_distance(pivots: list[Pivot], upper: _Line, lower: _Line) -> float:
    squares = (
        (pivot.price - (upper if pivot.kind == "high" else lower).at(pivot.index)) ** 2
        for pivot in pivots
    )
    return float((sum(squares) / len(pivots)) ** 0.5)
