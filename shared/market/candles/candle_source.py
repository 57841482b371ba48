"""What a venue gives of candles, and how a part of a series is asked for.

Sources: Binance and Binance US, "Kline/Candlestick data" (1,000 a call, from any time on); Kraken,
"Get OHLC data" (the newest 720 and no others, whatever ``since`` says); Coinbase Advanced, "Get
product candles" (300 a call), for which ccxt 4.5.90 knows no four hours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from shared.errors import DataUnavailable
from shared.execution.venues.base import PublicVenue
from shared.market.candles.candle_rows import WINDOW, from_rows, roll_up
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

FINER: dict[str, str] = dict(zip(TIMEFRAMES[1:], TIMEFRAMES[:-1], strict=True))


@dataclass(frozen=True)
class Supply:
    """What a venue serves.

    Attributes:
        cap: candles in one answer.
        pages: whether candles before the newest ``cap`` can be had.
        built: timeframes that it does not serve; they are rolled up from the next lower one.
        lists_every_minute: whether a time without a trade has a candle, with volume 0.
    """

    cap: int
    pages: bool = True
    built: frozenset[str] = frozenset()
    lists_every_minute: bool = False


_SUPPLIES: dict[str, Supply] = {
    "binance": Supply(1_000, lists_every_minute=True),
    "binanceus": Supply(1_000, lists_every_minute=True),
    "coinbase": Supply(300, built=frozenset({"4h"})),
    "kraken": Supply(720, pages=False),
}


def supply(venue: str) -> Supply:
    """What ``venue`` serves; the least of all for a venue that is not known."""
    return _SUPPLIES.get(venue, Supply(300))


def page_size(venue: str, timeframe: str) -> int:
    """How many candles of ``timeframe`` one request brings at most."""
    given = supply(venue)
    return given.cap // _ratio(timeframe) if timeframe in given.built else given.cap


def _ratio(timeframe: str) -> int:
    """How many candles of the next lower timeframe make one of ``timeframe``."""
    return TIMEFRAME_MS[timeframe] // TIMEFRAME_MS[FINER[timeframe]]


class Allowance:
    """How many requests may still be made for candles that can wait, counted over threads."""

    def __init__(self, requests: int, has_time: Callable[[], bool] = lambda: True) -> None:
        self._left = requests
        self._most = requests
        self._has_time = has_time
        self._lock = threading.Lock()

    @property
    def spent(self) -> int:
        return self._most - self._left

    @property
    def left(self) -> int:
        """How many requests may be begun now."""
        return self._left if self._has_time() else 0

    def take(self) -> None:
        """Count one request.

        Raises:
            DataUnavailable: this run has made as many as it may, or has no time left.
        """
        with self._lock:
            if not self._has_time():
                raise DataUnavailable("put off: this run's time is up")
            if self._left <= 0:
                raise DataUnavailable(f"put off: this run has made its {self._most} requests")
            self._left -= 1


def newest(venue: PublicVenue, symbol: str, timeframe: str, now_ms: int) -> Candles:
    """As many of the newest closed candles as one answer holds, at most a window.

    Raises:
        DataUnavailable, VenueUnavailable: there is no answer, or it is not to be believed.
    """
    return _ask(venue, symbol, timeframe, None, WINDOW, now_ms)


def since(
    venue: PublicVenue, symbol: str, timeframe: str, since_ms: int, count: int, now_ms: int
) -> Candles:
    """The closed candles from ``since_ms`` on, at most ``count`` and one answer's worth.

    Raises:
        DataUnavailable, VenueUnavailable: as for ``newest``.
    """
    return _ask(venue, symbol, timeframe, since_ms, count, now_ms)


def _ask(
    venue: PublicVenue, symbol: str, timeframe: str, since_ms: int | None, count: int, now_ms: int
) -> Candles:
    most = min(count, page_size(venue.name, timeframe))
    if timeframe not in supply(venue.name).built:
        rows = venue.candles(symbol, timeframe, since_ms=since_ms, limit=most)
        return from_rows(symbol, timeframe, rows, now_ms)
    finer = FINER[timeframe]
    rows = venue.candles(symbol, finer, since_ms=since_ms, limit=most * _ratio(timeframe))
    parts = from_rows(symbol, finer, rows, now_ms)
    return roll_up(parts, timeframe, int(parts.open_ms[0]) if len(parts) else 0)
