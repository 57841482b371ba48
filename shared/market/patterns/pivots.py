"""Turning points of a price series: a zigzag whose threshold is the market's own noise.

A high is a pivot once the price has fallen from it by ``REVERSAL_ATRS`` average true ranges
(Wilder, New Concepts in Technical Trading Systems, 1978), a low likewise. A pivot is reported
only when it is confirmed so, and never moves afterwards. Patterns are then sequences of
alternating extrema, as in Lo, Mamaysky and Wang, Foundations of Technical Analysis, Journal of
Finance 55 (2000), section II.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.market.candle_rows import sliced
from shared.market.talib_lean import functions
from shared.market.types import Candles

LOOKBACK = 250
REVERSAL_ATRS = 2.0
_ATR_LENGTH = 14


@dataclass(frozen=True)
class View:
    """The newest candles as plain numbers, which a loop reads faster than an array."""

    open_ms: list[int]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    atr: list[float]

    @property
    def last_atr(self) -> float:
        return self.atr[-1]


@dataclass(frozen=True)
class Pivot:
    """A confirmed turning point: ``index`` in the view, ``price`` the candle's extreme."""

    index: int
    price: float
    kind: Literal["high", "low"]


def looked_at(candles: Candles) -> View | None:
    """The part of the window in which patterns are sought; ``None`` if it is too short."""
    if len(candles) < 2 * _ATR_LENGTH:
        return None
    atr = functions().ATR(candles.high, candles.low, candles.close, _ATR_LENGTH)
    first = max(_ATR_LENGTH, len(candles) - LOOKBACK)
    part = sliced(candles, slice(first, None))
    return View(
        part.open_ms.tolist(),
        part.high.tolist(),
        part.low.tolist(),
        part.close.tolist(),
        part.volume.tolist(),
        atr[first:].tolist(),
    )


def find_pivots(view: View) -> list[Pivot]:
    """The confirmed pivots, oldest first, highs and lows alternating."""
    pivots: list[Pivot] = []
    top = bottom = 0  # the extremes since the last pivot
    seeking: Literal["high", "low", "either"] = "either"
    for i in range(1, len(view.close)):
        threshold = REVERSAL_ATRS * view.atr[i]
        if view.high[i] > view.high[top]:
            top = i
        if view.low[i] < view.low[bottom]:
            bottom = i
        fell = top < i and view.high[top] - view.low[i] >= threshold > 0
        rose = bottom < i and view.high[i] - view.low[bottom] >= threshold > 0
        if seeking != "low" and fell:
            pivots.append(Pivot(top, view.high[top], "high"))
            seeking = "low"
            bottom = min(range(top + 1, i + 1), key=view.low.__getitem__)
        elif seeking != "high" and rose:
            pivots.append(Pivot(bottom, view.low[bottom], "low"))
            seeking = "high"
            top = max(range(bottom + 1, i + 1), key=view.high.__getitem__)
    return pivots


def points(view: View, pivots: list[Pivot]) -> list[list[float]]:
    """``[[ms, price]]`` of some pivots."""
    return [[view.open_ms[pivot.index], pivot.price] for pivot in pivots]
