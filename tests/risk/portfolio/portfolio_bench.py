"""Candles and returns for the tests of portfolio risk."""

from __future__ import annotations

from typing import Any

import numpy as np

from shared.market.types import Candles

HOUR_MS = 3_600_000


def candles(symbol: str, close: Any, first_hour: int = 0) -> Candles:
    """Hourly candles without a gap."""
    values = np.asarray(close, dtype=np.float64)
    opens = HOUR_MS * np.arange(first_hour, first_hour + len(values), dtype=np.int64)
    return Candles(symbol, "1h", opens, values, values, values, values, np.ones(len(values)))


def without(series: Candles, hours: slice) -> Candles:
    """The same candles with a hole in them."""
    keep = np.ones(len(series), dtype=bool)
    keep[hours] = False
    fields = ("open_ms", "open", "high", "low", "close", "volume")
    return Candles(series.symbol, "1h", *[getattr(series, name)[keep] for name in fields])


def normal(seed: int, count: int = 500, deviation: float = 0.01) -> Any:
    return np.random.default_rng(seed).normal(0, deviation, count)
