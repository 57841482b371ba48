"""Recorded candles of an hour: where patterns are found, and what the price did afterwards.

Only the years 2018 to 2023 are read. Later ones judge the whole system, and nothing here may be
fitted to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from deploy.local.market.folder import folders, folders_of, read_rows
from deploy.research.patterns.episodes import WINDOW, Reports, episodes_of, reports
from shared import clock
from shared.errors import DataUnavailable
from shared.market import patterns
from shared.market.candles.candle_rows import WINDOW as WINDOW_CANDLES
from shared.market.candles.candle_rows import from_rows
from shared.market.types import TIMEFRAME_MS, Candles

SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT")
EXCHANGE, TIMEFRAME = "binance", "1h"
FROM_MS = clock.to_ms(datetime(2018, 1, 1, tzinfo=UTC))
TO_MS = clock.to_ms(datetime(2024, 1, 1, tzinfo=UTC))
HORIZON_CANDLES = 24


@dataclass(frozen=True)
class Searched:
    """The candles of a symbol, and what was told when each of them had closed."""

    candles: Candles
    reported: Reports

    def rate(self, kind: str) -> float:
        """Shapes of ``kind`` in 1,000 candles."""
        return 1_000 * len(episodes_of(kind, self.reported)) / len(self.reported)


def read(data_dir: str, symbol: str) -> Candles:
    """The recorded hours of 2018 to 2023.

    Raises:
        ConfigurationError: no such folder.
        DataUnavailable: the folder has no such candles.
    """
    return read_between(data_dir, (EXCHANGE, symbol, TIMEFRAME), FROM_MS, TO_MS)


def read_between(data_dir: str, series: tuple[str, str, str], from_ms: int, to_ms: int) -> Candles:
    """The candles of ``(exchange, symbol, timeframe)`` that open in ``[from_ms, to_ms)``.

    Raises:
        ConfigurationError: no such folder.
        DataUnavailable: the folder has no such candles.
    """
    exchange, symbol, timeframe = series
    for folder in folders_of(data_dir, symbol):
        if folder.exchange == exchange and not folder.is_perpetual:
            rows = read_rows(folder, timeframe, from_ms, to_ms)
            if len(rows):
                return from_rows(symbol, timeframe, rows, to_ms + TIMEFRAME_MS[timeframe])
    raise DataUnavailable(
        f"{data_dir}: expected {timeframe} candles of {symbol} from {exchange} between "
        f"{clock.iso(clock.from_ms(from_ms))} and {clock.iso(clock.from_ms(to_ms))}, found none"
    )


def closed_by(data_dir: str, series: tuple[str, str, str], at_ms: int) -> Candles:
    """The window that a scanner would have had at a time: the newest 1,000 closed candles.

    Raises:
        ConfigurationError: no such folder.
        DataUnavailable: the folder has no such candles.
    """
    step = TIMEFRAME_MS[series[2]]
    return read_between(data_dir, series, at_ms - (WINDOW_CANDLES + 1) * step, at_ms - step + 1)


def available(data_dir: str) -> list[str]:
    """Those of ``SYMBOLS`` that the folder has."""
    known = {f.symbol for f in folders(data_dir) if f.exchange == EXCHANGE and not f.is_perpetual}
    return [symbol for symbol in SYMBOLS if symbol in known]


def searched(candles: Candles) -> Searched:
    """Look for patterns at the close of every candle that has a whole window before it."""
    return Searched(candles, reports(candles, range(WINDOW, len(candles)), patterns.find))


def forward_returns(candles: Candles) -> NDArray[np.float64]:
    """The return of the 24 hours after each close; NaN where the recording has a hole in them."""
    later = np.full(len(candles), np.nan)
    whole = candles.open_ms[HORIZON_CANDLES:] - candles.open_ms[:-HORIZON_CANDLES]
    is_whole = whole == HORIZON_CANDLES * TIMEFRAME_MS[candles.timeframe]
    change = candles.close[HORIZON_CANDLES:] / candles.close[:-HORIZON_CANDLES] - 1
    later[:-HORIZON_CANDLES] = np.where(is_whole, change, np.nan)
    return later
