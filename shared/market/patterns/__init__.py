"""Chart patterns in one window of closed candles, each with the points that define it."""

from __future__ import annotations

from typing import Any

from shared.market.memo import Memo
from shared.market.patterns import levels, shoulders, triangles
from shared.market.patterns.pivots import find_pivots, looked_at
from shared.market.types import Candles

TIMEFRAMES: tuple[str, ...] = ("15m", "1h", "4h")

Pattern = dict[str, Any]


def find(candles: Candles) -> list[Pattern]:
    """All patterns that the newest 250 candles show at their end.

    Each has ``kind``, ``timeframe``, ``direction`` (``bullish``, ``bearish`` or ``neutral``),
    ``points`` as ``[[ms, price]]`` (the opens of the candles, oldest first) and ``confidence``,
    0 to 1: how well the points fit the textbook's shape. It is no probability of a rise or a
    fall. A window too short for an ATR shows none.
    """
    view = looked_at(candles)
    if view is None:
        return []
    pivots = find_pivots(view)
    found = triangles.find(view, pivots) + shoulders.find(view, pivots)
    found += levels.find(view, pivots)
    return [{"timeframe": candles.timeframe} | pattern for pattern in found]


newest: Memo[list[Pattern]] = Memo(find)
"""``find``, once for each window of a venue."""
