"""Head and shoulders, and its inverse.

Five alternating extrema E1..E5 with E3 beyond E1 and E5, the shoulders E1 and E5 near each other
and the neckline's points E2 and E4 near each other: Lo, Mamaysky and Wang (2000), definition 1.
They ask for 1.5 % of the price; here it is a share of the head's height, which suits every
timeframe.
"""

from __future__ import annotations

from typing import Any

from shared.market.patterns.pivots import Pivot, View, points

_TOLERANCE = 0.35  # of the head's height over the neckline
_HEAD_RISE = 0.15  # of it, by which the head has to surpass both shoulders


def find(view: View, pivots: list[Pivot]) -> list[dict[str, Any]]:
    """The newest head and shoulders, upright or inverse, among the last six pivots.

    ``neckline`` is the price of its line at the newest candle; ``confirmed`` tells whether that
    candle closed beyond it. ``confidence`` is 1 minus the mean distance between the shoulders
    and between the neckline's points, as a share of what is tolerated. A shape whose head the
    price has passed again is over.
    """
    for end in (len(pivots), len(pivots) - 1):
        found = _shoulders(view, pivots[end - 5 : end]) if end >= 5 else None
        if found is not None:
            return [found]
    return []


def _shoulders(view: View, five: list[Pivot]) -> dict[str, Any] | None:
    upright = five[0].kind == "high"
    sign = 1.0 if upright else -1.0
    left, trough_1, head, trough_2, right = (sign * pivot.price for pivot in five)
    height = head - (trough_1 + trough_2) / 2
    uneven = (abs(left - right) / height, abs(trough_1 - trough_2) / height)
    close = sign * view.close[-1]
    shaped = head - max(left, right) >= _HEAD_RISE * height and max(uneven) < _TOLERANCE
    if not shaped or close > head:
        return None
    slope = (trough_2 - trough_1) / (five[3].index - five[1].index)
    neckline = trough_2 + slope * (len(view.close) - 1 - five[3].index)
    return {
        "kind": "head_and_shoulders" if upright else "inverse_head_and_shoulders",
        "direction": "bearish" if upright else "bullish",
        "confidence": 1 - sum(uneven) / 2 / _TOLERANCE,
        "points": points(view, five),
        "neckline": sign * neckline,
        "confirmed": close < neckline,
    }
