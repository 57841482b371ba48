"""Candles with a price that nobody could have traded at, and windows without it.

A single trade far off the market (LINK at 0.0001 on Binance on 2020-03-12, Bitcoin at 0.06 on
Coinbase on 2017-04-15) stands in a candle's low for good. It would widen the true range, draw a
level and trigger a stop. A price counts as a flash print where it is less than half or more than
twice what is usual: the median of five closes around it, and those of the candles before and after.
Falls that last move the median with them, so that they stay as they were.

A print in the newest candle cannot be told from the start of such a fall. It is left out all the
same, and named to ``crosscheck``, so that nothing is bought until the next candles have settled it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shared.market.candles.memo import Memo
from shared.market.types import Candles

MOST_TIMES = 2.0
_NEIGHBOURS = 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FlashPrint:
    """One price that was left out: of the candle that opened at ``open_ms``, in its ``column``."""

    timeframe: str
    open_ms: int
    column: str
    price: float
    usual: float

    def told(self) -> str:
        """In one line."""
        return (
            f"flash print {self.column} {self.price:.8g} in {self.open_ms}, usual {self.usual:.8g}"
        )


@dataclass(frozen=True)
class Cleaned:
    """A window without its flash prints, and those that it had, oldest first."""

    candles: Candles
    prints: tuple[FlashPrint, ...] = ()

    @property
    def newest(self) -> FlashPrint | None:
        """The print in the newest candle, where there is one."""
        last = self.prints[-1] if self.prints else None
        return last if last is not None and last.open_ms == self.candles.open_ms[-1] else None


def without_flash_prints(candles: Candles) -> Cleaned:
    """``candles`` with open and close that are prints put to the usual price, and lows and highs
    drawn back to what is left. The same object where there is none, which is almost always.
    """
    if len(candles) <= _NEIGHBOURS or not _is_suspect(candles):
        return Cleaned(candles)
    usual = _usual(candles.close)
    least, most = _band(usual)
    wrong = {
        name: (getattr(candles, name) < least) | (getattr(candles, name) > most)
        for name in ("open", "high", "low", "close")
    }
    marked = np.flatnonzero(np.logical_or.reduce(list(wrong.values())))
    if not len(marked):
        return Cleaned(candles)
    opened = np.where(wrong["open"], usual, candles.open)
    closed = np.where(wrong["close"], usual, candles.close)
    top, bottom = np.maximum(opened, closed), np.minimum(opened, closed)
    high = np.maximum(np.where(wrong["high"], top, candles.high), top)
    low = np.minimum(np.where(wrong["low"], bottom, candles.low), bottom)
    prints = tuple(
        FlashPrint(
            candles.timeframe,
            int(candles.open_ms[at]),
            name,
            float(getattr(candles, name)[at]),
            float(usual[at]),
        )
        for at in marked
        for name in ("open", "high", "low", "close")
        if wrong[name][at]
    )
    cleaned = replace(candles, open=opened, high=high, low=low, close=closed)
    return Cleaned(cleaned, prints)


newest: Memo[Cleaned] = Memo(without_flash_prints)


def _is_suspect(candles: Candles) -> bool:
    """Whether any price may be a print: cheap, and never false where one is."""
    bottom = np.minimum(candles.open, candles.close)
    top = np.maximum(candles.open, candles.close)
    wide = (candles.low * MOST_TIMES < top).any() or (candles.high > MOST_TIMES * bottom).any()
    ratio = candles.close[1:] / candles.close[:-1]
    return bool(wide or (ratio > MOST_TIMES).any() or (ratio * MOST_TIMES < 1).any())


def _usual(close: Floats) -> Floats:
    """The median of each close with two neighbours on each side, as far as they exist."""
    width = 2 * _NEIGHBOURS + 1
    usual = np.empty_like(close)
    if len(close) >= width:
        around = np.lib.stride_tricks.sliding_window_view(close, width)
        usual[_NEIGHBOURS:-_NEIGHBOURS] = np.median(around, axis=1)
    edge = {*range(_NEIGHBOURS), *range(max(0, len(close) - _NEIGHBOURS), len(close))}
    for at in edge if len(close) >= width else range(len(close)):
        usual[at] = np.median(close[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1])
    return usual


def _band(usual: Floats) -> tuple[Floats, Floats]:
    """The least and the most that a price of each candle may be."""
    padded = np.concatenate((usual[:1], usual, usual[-1:]))
    beside = np.lib.stride_tricks.sliding_window_view(padded, 3)
    return beside.min(axis=1) / MOST_TIMES, beside.max(axis=1) * MOST_TIMES
