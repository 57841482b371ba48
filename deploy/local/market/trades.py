"""Candles built from public trades, for exchanges that keep every trade but few candles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deploy.local.market.series import NO_ROWS, Rows
from shared.market.types import TIMEFRAME_MS

PRICED_BY_TRADES = ("1m", "5m", "15m", "1h")
"""Timeframes worth building from trades; for coarser ones there would be millions of trades."""


def candle_pages(
    client: Any, symbol: str, timeframe: str, gap: tuple[int, int]
) -> Iterator[tuple[Rows, tuple[int, int]]]:
    """Candles of ``gap`` page by page, each with the stretch that is complete now.

    Kraken gives up to 1,000 trades after a cursor, and the next cursor with them.
    """
    step = TIMEFRAME_MS[timeframe]
    at, end = gap
    cursor = str(at * 1_000_000 - 1)  # nanoseconds; what lies at the cursor itself is left out
    client.enableLastJsonResponse = True  # ccxt does not hand on the next cursor otherwise
    pending = np.empty((0, 3))
    while at < end:
        trades = client.fetch_trades(symbol, since=gap[0], params={"since": cursor})
        following = str(client.last_json_response["result"]["last"])
        page = [(trade["timestamp"], trade["price"], trade["amount"]) for trade in trades]
        pending = np.concatenate((pending, np.array(page, dtype=np.float64).reshape(-1, 3)))
        ended = not page or following == cursor
        newest = end if ended else int(pending[-1, 0])
        complete = min(end, newest // step * step)
        done = pending[:, 0] < complete
        yield candles_of(pending[done], step), (at, complete)
        pending, at, cursor = pending[~done], complete, following


def candles_of(trades: Rows, step_ms: int) -> Rows:
    """Candles of ``[at_ms, price, quantity]`` rows, ascending; none where nobody traded."""
    if not len(trades):
        return NO_ROWS
    buckets = trades[:, 0] // step_ms * step_ms
    starts = np.flatnonzero(np.r_[True, buckets[1:] != buckets[:-1]])
    ends = np.r_[starts[1:], len(trades)]
    return np.column_stack(
        (
            buckets[starts],
            trades[starts, 1],
            np.maximum.reduceat(trades[:, 1], starts),
            np.minimum.reduceat(trades[:, 1], starts),
            trades[ends - 1, 1],
            np.add.reduceat(trades[:, 2], starts),
        )
    )
