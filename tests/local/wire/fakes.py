"""A market source whose every candle a test knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.market.types import TIMEFRAME_MS

START_MS = 1_746_532_800_000  # 2025-05-06 12:00 UTC
MINUTE_MS = 60_000
HISTORY_MINUTES = 2_880
PRICES = {"BTC/USDT": 100_000.0, "ETH/USDT": 2_000.0, "SOL/USDT": 150.0}
VOLUMES = {"BTC/USDT": 20.0, "ETH/USDT": 200.0, "SOL/USDT": 2_000.0}

Minute = tuple[float, float, float, float]


class FakeSource:
    """Two days of a gently swinging price that ends at ``PRICES``, then the minutes given.

    Args:
        minutes: by symbol, ``(open, high, low, close)`` from ``START_MS`` on; after the last one,
            and where none are given, the price stands still.
    """

    description = "a test's candles"
    symbols = tuple(PRICES)
    from_ms = START_MS
    to_ms = START_MS + 1_440 * MINUTE_MS

    def __init__(
        self,
        minutes: Mapping[str, Sequence[Minute]] | None = None,
        *,
        swing: float = 0.0005,
        volume_factor: float = 1.0,
        fear_greed: tuple[int, int] | None = (39, START_MS - 3_600_000),
    ) -> None:
        given = minutes or {}
        self._fear_greed = fear_greed
        self._rows = {
            symbol: _rows(price, VOLUMES[symbol] * volume_factor, swing, given.get(symbol, ()))
            for symbol, price in PRICES.items()
        }

    def candles(self, symbol: str, timeframe: str, end_ms: int, limit: int) -> NDArray[np.float64]:
        rows, duration = self._rows[symbol], TIMEFRAME_MS[timeframe]
        count = int(np.searchsorted(rows[:, 0] + MINUTE_MS, end_ms - end_ms % duration, "right"))
        if duration == MINUTE_MS:
            return rows[max(0, count - limit) : count]
        size = duration // MINUTE_MS
        first = int(-(rows[0, 0] // MINUTE_MS) % size)
        groups = rows[first:count].reshape(-1, size, 6)[-limit:]
        return np.column_stack(
            [
                groups[:, 0, 0],
                groups[:, 0, 1],
                groups[:, :, 2].max(axis=1),
                groups[:, :, 3].min(axis=1),
                groups[:, -1, 4],
                groups[:, :, 5].sum(axis=1),
            ]
        )

    def minute(self, symbol: str, open_ms: int) -> NDArray[np.float64] | None:
        found = self._rows[symbol][self._rows[symbol][:, 0] == open_ms]
        return found[0] if len(found) else None

    def fear_greed(self, at_ms: int) -> tuple[int, int] | None:
        return self._fear_greed


def _rows(
    price: float, volume: float, swing: float, given: Sequence[Minute]
) -> NDArray[np.float64]:
    steps = np.arange(-HISTORY_MINUTES, 1)
    closes = price * (1.0 + swing * np.sin(steps * 0.7))
    rows = []
    for i in range(HISTORY_MINUTES):
        open_, close = closes[i], closes[i + 1]
        high, low = max(open_, close) * 1.0001, min(open_, close) * 0.9999
        rows.append([open_, high, low, close, volume])
    rows.extend([*minute, volume] for minute in given)
    last = rows[-1][3]
    rows.extend([last, last, last, last, volume] for _ in range(1_440 - len(given)))
    opens = START_MS + MINUTE_MS * np.arange(-HISTORY_MINUTES, len(rows) - HISTORY_MINUTES)
    return np.column_stack([opens, np.array(rows)])
