"""Candles in memory: sorted arrays, resampling, and a market source made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataUnavailable
from shared.market.types import TIMEFRAME_MS

Rows = NDArray[np.float64]
"""``[open_ms, open, high, low, close, volume]`` a row, ascending by ``open_ms``."""

NO_ROWS: Rows = np.empty((0, 6))


class Series:
    """The candles of one symbol and timeframe, looked up by time."""

    def __init__(self, rows: Rows, timeframe: str) -> None:
        self.rows = np.ascontiguousarray(rows)
        self.rows.flags.writeable = False
        self.open_ms = self.rows[:, 0].astype(np.int64)
        self.timeframe_ms = TIMEFRAME_MS[timeframe]

    def __len__(self) -> int:
        return len(self.rows)

    def closed(self, end_ms: int, limit: int) -> Rows:
        """The newest ``limit`` candles that are closed by ``end_ms``: a read-only view."""
        end = int(self.open_ms.searchsorted(end_ms - self.timeframe_ms, side="right"))
        return self.rows[max(0, end - limit) : end]

    def at(self, open_ms: int) -> Rows | None:
        """The candle that opens at ``open_ms``, or None."""
        index = int(self.open_ms.searchsorted(open_ms))
        if index == len(self.rows) or self.open_ms[index] != open_ms:
            return None
        row: Rows = self.rows[index]
        return row


@dataclass(frozen=True)
class SeriesMarket:
    """A ``MarketSource`` over candles in memory."""

    description: str
    symbols: tuple[str, ...]
    from_ms: int
    to_ms: int
    series: Mapping[tuple[str, str], Series]
    fear_greed_at: Callable[[int], tuple[int, int] | None]

    def candles(self, symbol: str, timeframe: str, end_ms: int, limit: int) -> Rows:
        if limit < 1:
            raise ValueError(f"limit: expected 1 or more, was {limit}")
        return self._series(symbol, timeframe).closed(end_ms, limit)

    def minute(self, symbol: str, open_ms: int) -> Rows | None:
        row = self._series(symbol, "1m").at(open_ms)
        # some exchanges repeat the last price with a volume of 0 where nobody traded
        return None if row is None or row[5] == 0 else row

    def fear_greed(self, at_ms: int) -> tuple[int, int] | None:
        return self.fear_greed_at(at_ms)

    def _series(self, symbol: str, timeframe: str) -> Series:
        found = self.series.get((symbol, timeframe))
        if found is None:
            raise DataUnavailable(
                f"{symbol} {timeframe}: expected one of {', '.join(self.symbols)} "
                f"in {', '.join(TIMEFRAME_MS)}"
            )
        return found


def merge(first: Rows, second: Rows) -> Rows:
    """The candles of both; where both have one that opens at the same time, ``first``'s."""
    if not len(second):
        return first
    if not len(first):
        return second
    both = np.concatenate((first, second))
    _, kept = np.unique(both[:, 0], return_index=True)  # the first occurrence of each
    return both[kept]


def resample(rows: Rows, from_timeframe: str, to_timeframe: str) -> Rows:
    """Candles of a coarser timeframe out of finer ones.

    A candle is made only where ``rows`` reach over the whole of it and hold at least half of its
    finer candles: minutes without a trade are allowed for, a hole in a recording is not taken
    for a quiet market.
    """
    if not len(rows):
        return NO_ROWS
    fine_ms, coarse_ms = TIMEFRAME_MS[from_timeframe], TIMEFRAME_MS[to_timeframe]
    buckets = rows[:, 0] // coarse_ms * coarse_ms
    starts = np.flatnonzero(np.r_[True, buckets[1:] != buckets[:-1]])
    ends = np.r_[starts[1:], len(rows)]
    opens = buckets[starts]
    coarse = np.column_stack(
        (
            opens,
            rows[starts, 1],
            np.maximum.reduceat(rows[:, 2], starts),
            np.minimum.reduceat(rows[:, 3], starts),
            rows[ends - 1, 4],
            np.add.reduceat(rows[:, 5], starts),
        )
    )
    whole = (
        (opens >= rows[0, 0])
        & (opens + coarse_ms <= rows[-1, 0] + fine_ms)
        & ((ends - starts) * 2 * fine_ms >= coarse_ms)
    )
    return coarse[whole]
