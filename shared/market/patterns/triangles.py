"""Triangles: two lines through alternating highs and lows that draw together.

After Edwards and Magee, Technical Analysis of Stock Trends, chapter 8: an ascending triangle has
a level top and rising lows (bullish), a descending one a level bottom and falling highs
(bearish), a symmetrical one both slopes (neutral until it breaks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shared.market.patterns.confidence import Features
from shared.market.patterns.pivots import Pivot, View, points

KINDS = ("ascending_triangle", "descending_triangle", "symmetrical_triangle")

_MIN_PIVOTS, _MAX_PIVOTS = 5, 7
_LEVEL = 0.15  # a line is level if it moves less than this share of the opening's height
_SLOPED = 0.25  # and sloped if it moves more than this
_CLOSED_IN = 0.75  # the lines have drawn together to less than this share of it
_MAX_MISFIT = 0.2  # RMS distance of the pivots from their lines, as a share of it


@dataclass(slots=True)
class _Line:
    slope: float
    intercept: float

    def at(self, index: float) -> float:
        return self.intercept + self.slope * index


def find(view: View, scales: list[list[Pivot]]) -> list[tuple[dict[str, Any], Features]]:
    """The triangles that the newest pivots of each scale form and that the newest close is in."""
    found = []
    for index, pivots in enumerate(scales):
        if index and pivots[-_MAX_PIVOTS:] == scales[index - 1][-_MAX_PIVOTS:]:
            continue
        for count in range(_MIN_PIVOTS, min(_MAX_PIVOTS, len(pivots)) + 1):
            triangle = _triangle(view, pivots[-count:])
            if triangle is not None:
                found.append(triangle)
    return found


def _triangle(view: View, pivots: list[Pivot]) -> tuple[dict[str, Any], Features] | None:
    upper = _fitted([pivot for pivot in pivots if pivot.kind == "high"])
    lower = _fitted([pivot for pivot in pivots if pivot.kind == "low"])
    first, last, now = pivots[0].index, pivots[-1].index, len(view.close) - 1
    height = upper.at(first) - lower.at(first)
    closing = upper.at(last) - lower.at(last)
    if height <= 0 or not 0 < closing < _CLOSED_IN * height:
        return None
    if not lower.at(now) <= view.close[-1] <= upper.at(now):
        return None
    kind = _kind(upper, lower, last - first, height)
    misfit = _rms_distance(pivots, upper, lower) / height
    if kind is None or misfit >= _MAX_MISFIT:
        return None
    name, direction = kind
    pattern = {
        "kind": name,
        "direction": direction,
        "points": points(view, pivots),
        "upper": [upper.at(first), upper.at(now)],
        "lower": [lower.at(first), lower.at(now)],
    }
    return pattern, {
        "misfit": misfit,
        "pivots": len(pivots),
        "closing": closing / height,
        "height_log_atrs": math.log(height / view.last_atr),
        "waited": (now - last) / (last - first),
        "unevenness": _unevenness(pivots),
        "outside": _outside(view, upper, lower, first, last) / height,
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
    index_sum = price_sum = 0.0
    for pivot in pivots:
        index_sum += pivot.index
        price_sum += pivot.price
    mean_index, mean_price = index_sum / count, price_sum / count
    spread = product = 0.0
    for pivot in pivots:
        away = pivot.index - mean_index
        spread += away * away
        product += away * (pivot.price - mean_price)
    slope = product / spread
    return _Line(slope, mean_price - slope * mean_index)


def _rms_distance(pivots: list[Pivot], upper: _Line, lower: _Line) -> float:
    squares = (
        (pivot.price - (upper if pivot.kind == "high" else lower).at(pivot.index)) ** 2
        for pivot in pivots
    )
    return float((sum(squares) / len(pivots)) ** 0.5)


def _unevenness(pivots: list[Pivot]) -> float:
    """The longest leg as a share of the whole time, times the legs: 1 if all are equal."""
    legs = [b.index - a.index for a, b in zip(pivots, pivots[1:], strict=False)]
    return max(legs) * len(legs) / sum(legs)


def _outside(view: View, upper: _Line, lower: _Line, first: int, last: int) -> float:
    """The farthest close outside of the lines."""
    beyond = 0.0
    top, bottom = upper.at(first), lower.at(first)
    for close in view.close[first : last + 1]:
        if close - top > beyond:
            beyond = close - top
        elif bottom - close > beyond:
            beyond = bottom - close
        top += upper.slope
        bottom += lower.slope
    return beyond
