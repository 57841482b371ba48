"""Head and shoulders, and its inverse.

Five alternating extrema E1..E5 with E3 beyond E1 and E5, the shoulders E1 and E5 near each other
and the neckline's points E2 and E4 near each other: Lo, Mamaysky and Wang (2000), definition 1.
They ask for 1.5 % of the price; here it is a share of the head's height, which suits every
timeframe.
"""

from __future__ import annotations

import math
from typing import Any

from shared.market.patterns.confidence import Features
from shared.market.patterns.pivots import Pivot, View, points

KINDS = ("head_and_shoulders", "inverse_head_and_shoulders")

_TOLERANCE = 0.4  # of the head's height over the neckline
_HEAD_RISE = 0.15  # of it, by which the head has to surpass both shoulders


def find(view: View, scales: list[list[Pivot]]) -> list[tuple[dict[str, Any], Features]]:
    """Head and shoulders, upright or inverse, among the last six pivots of each scale.

    ``neckline`` is the price of its line at the newest candle; ``confirmed`` tells whether that
    candle closed beyond it. A shape whose head the price has passed again is over.
    """
    found = []
    for pivots in scales:
        for end in (len(pivots), len(pivots) - 1):
            shape = _shoulders(view, pivots[end - 5 : end]) if end >= 5 else None
            if shape is not None:
                found.append(shape)
    return found


def _shoulders(view: View, five: list[Pivot]) -> tuple[dict[str, Any], Features] | None:
    upright = five[0].kind == "high"
    sign = 1.0 if upright else -1.0
    left, trough_1, head, trough_2, right = (sign * pivot.price for pivot in five)
    height = head - (trough_1 + trough_2) / 2
    uneven = (abs(left - right) / height, abs(trough_1 - trough_2) / height)
    close, now = sign * view.close[-1], len(view.close) - 1
    shaped = head - max(left, right) >= _HEAD_RISE * height and max(uneven) < _TOLERANCE
    if not shaped or close > head:
        return None
    slope = (trough_2 - trough_1) / (five[3].index - five[1].index)
    neckline = trough_2 + slope * (now - five[3].index)
    pattern = {
        "kind": "head_and_shoulders" if upright else "inverse_head_and_shoulders",
        "direction": "bearish" if upright else "bullish",
        "points": points(view, five),
        "neckline": sign * neckline,
        "confirmed": close < neckline,
    }
    before, after = five[2].index - five[0].index, five[4].index - five[2].index
    width = before + after
    return pattern, {
        "shoulders_uneven": uneven[0],
        "neck_uneven": uneven[1],
        "shoulder_height": abs((left + right - trough_1 - trough_2) / 2 / height - 0.6),
        "lopsided": abs(math.log(before / after)),
        "height_log_atrs": math.log(height / view.last_atr),
        "waited": min((now - five[4].index) / width, 2.0),
    }
