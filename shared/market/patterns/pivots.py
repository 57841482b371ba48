"""Turning points of a price series: a zigzag whose threshold is the market's own noise.

A high is a pivot once the price has fallen from it by so many average true ranges (Wilder, New
Concepts in Technical Trading Systems, 1978) as that candle had, a low likewise: the directional
change of Guillaume et al., Finance and Stochastics 1 (1997), which confirms a turn by price. A
price beyond the pivot before confirms one too, so that pivots are the extremes between them. Lo,
Mamaysky and Wang (Journal of Finance 55, 2000) find extrema of a kernel regression instead. Its
smoothing looks to both sides, so that extrema near the newest candle still move, and they stand
beside the price, not on it. Here a pivot is a price that was traded, is known only when it is
confirmed, and never moves afterwards.

Shapes are sought at several scales: the noise on a large triangle has turns of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shared.market.candles.candle_rows import sliced
from shared.market.technical.talib_lean import functions
from shared.market.types import Candles

LOOKBACK = 250
"""Candles in which a pattern has to lie."""
SCALES_ATRS = (2.0, 3.0, 4.5)
"""How far the price has to turn back at each scale, in average true ranges."""

_ATR_LENGTH = 14
_SETTLING = 150  # candles before, after which zigzag and ATR have forgotten where they started
_SHORTEST = 2 * _ATR_LENGTH


@dataclass(frozen=True)
class View:
    """The newest candles as plain numbers, which a loop reads faster than an array.

    Patterns lie in the last ``LOOKBACK`` of them; those before only settle the zigzag.
    """

    open_ms: list[int]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    atr: list[float]

    @property
    def last_atr(self) -> float:
        return self.atr[-1]


@dataclass(frozen=True, slots=True)
class Pivot:
    """A turning point: ``index`` in the view, ``price`` the candle's extreme."""

    index: int
    price: float
    kind: Literal["high", "low"]


def looked_at(candles: Candles) -> View | None:
    """The part of the window in which patterns are sought; ``None`` if it is too short.

    It is always the same number of newest candles, so that a longer window shows the same.
    """
    if len(candles) < _SHORTEST:
        return None
    newest = sliced(candles, slice(-(LOOKBACK + _SETTLING + _ATR_LENGTH), None))
    atr = functions().ATR(newest.high, newest.low, newest.close, _ATR_LENGTH)
    part = sliced(newest, slice(_ATR_LENGTH, None))
    return View(
        part.open_ms.tolist(),
        part.high.tolist(),
        part.low.tolist(),
        part.close.tolist(),
        part.volume.tolist(),
        atr[_ATR_LENGTH:].tolist(),
    )


def find_pivots(view: View) -> list[list[Pivot]]:
    """The confirmed pivots of each scale, finest first; oldest first, highs and lows alternating.

    The first turn of a scale depends on where the view starts and is left out.
    """
    turns = _zigzag(view, SCALES_ATRS[0])
    scales = [turns[1:-1]]
    scales += [_coarser(turns, view.atr, scale)[1:] for scale in SCALES_ATRS[1:]]
    first = max(0, len(view.close) - LOOKBACK)
    return [[pivot for pivot in pivots if pivot.index >= first] for pivots in scales]


def _zigzag(view: View, scale: float) -> list[Pivot]:
    """The confirmed turns and, last, the extreme since then, which is not confirmed.

    A candle that makes a new extreme does not confirm it: what came first within it is unknown.
    """
    turns: list[Pivot] = []
    rising, at = not _rises_first(view, scale), 0
    extreme = view.high[0] if rising else view.low[0]
    before = -math.inf if rising else math.inf  # the pivot before
    turned = extreme + (-scale if rising else scale) * view.atr[0]  # confirms the extreme
    for i, (high, low) in enumerate(zip(view.high, view.low, strict=True)):
        if rising:
            if high > extreme:
                extreme, at, turned = high, i, high - scale * view.atr[i]
                if turned < before:
                    turned = before
            elif low <= turned < extreme:
                turns.append(Pivot(at, extreme, "high"))
                before, rising = extreme, False
                extreme, at, turned = low, i, min(before, low + scale * view.atr[i])
        elif low < extreme:
            extreme, at, turned = low, i, low + scale * view.atr[i]
            if turned > before:
                turned = before
        elif high >= turned > extreme:
            turns.append(Pivot(at, extreme, "low"))
            before, rising = extreme, True
            extreme, at, turned = high, i, max(before, high - scale * view.atr[i])
    return [*turns, Pivot(at, extreme, "high" if rising else "low")]


def _rises_first(view: View, scale: float) -> bool:
    top, bottom = view.high[0], view.low[0]
    for high, low, atr in zip(view.high, view.low, view.atr, strict=True):
        if high - bottom >= scale * atr:
            return True
        if top - low >= scale * atr:
            return False
        top = high if high > top else top
        bottom = low if low < bottom else bottom
    return False


def _coarser(turns: list[Pivot], atr: list[float], scale: float) -> list[Pivot]:
    """The confirmed turns of a coarser zigzag; its extremes are among the finer one's."""
    confirmed: list[Pivot] = []
    candidate = turns[0]
    for turn in turns[1:]:
        sign = 1 if candidate.kind == "high" else -1
        back = sign * (candidate.price - turn.price)  # how far the price has turned back
        if turn.kind == candidate.kind:
            candidate = turn if back < 0 else candidate
        elif back >= scale * atr[candidate.index] or (
            confirmed and sign * (confirmed[-1].price - turn.price) >= 0
        ):
            confirmed.append(candidate)
            candidate = turn
    return confirmed


def points(view: View, pivots: list[Pivot]) -> list[list[float]]:
    """``[[ms, price]]`` of some pivots."""
    return [[view.open_ms[pivot.index], pivot.price] for pivot in pivots]
