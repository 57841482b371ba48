"""Market data as it comes from a venue, validated, with its times.

Analysis uses ``float``; whatever becomes money is turned into ``Decimal`` by execution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Timeframe = Literal["1m", "5m", "15m", "1h", "4h", "1d"]
TIMEFRAMES: tuple[Timeframe, ...] = ("1m", "5m", "15m", "1h", "4h", "1d")
TIMEFRAME_MS: dict[str, int] = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": 86_400_000,
}


@dataclass(frozen=True)
class Candles:
    """Closed candles of one symbol and timeframe, oldest first, as equally long arrays.

    ``open_ms`` is the time at which a candle opens; it is closed ``TIMEFRAME_MS`` later.
    """

    symbol: str
    timeframe: str
    open_ms: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_ms)

    @property
    def closed_ms(self) -> int:
        """When the newest candle closed: the time that this series is about."""
        return int(self.open_ms[-1]) + TIMEFRAME_MS[self.timeframe]


@dataclass(frozen=True)
class Quote:
    """The best bid and ask of a symbol on a venue, and when they were read."""

    bid: float
    ask: float
    at_ms: int

    @property
    def mid(self) -> float:
        return (self.bid + self.ask) / 2


@dataclass(frozen=True)
class Book:
    """An order book: ``(price, quantity)`` from the best level outwards, and when it was read."""

    symbol: str
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    at_ms: int

    @property
    def mid(self) -> float:
        return (self.bids[0][0] + self.asks[0][0]) / 2


@dataclass(frozen=True)
class PublicTrade:
    """A trade between others. ``side`` is the taker's.

    ``trade_id`` is the venue's number of the trade, which grows by one from each trade of a symbol
    to the next; ``None`` where the venue tells no number.
    """

    at_ms: int
    side: Literal["buy", "sell"]
    price: float
    quantity: float
    trade_id: int | None = None
