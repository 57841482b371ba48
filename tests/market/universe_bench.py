"""Listings, histories and venues for tests of the universe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.venues.listings import DAY_MS, Listed
from shared.market.universe.choosing import History, Limits

LIMITS = Limits(
    size=2,
    min_age_days=180,
    min_volume_quote=1_000_000.0,
    max_spread_bps=10.0,
    min_volatility_percent=20.0,
    max_volatility_percent=200.0,
    backup_venues=1,
)
GOOD = History(age_days=400.0, volatility_percent=60.0)
SYMBOLS = tuple(f"{base}/USDT" for base in ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF"])


def listed(symbol: str, volume: float | None = 10_000_000.0, **changes: Any) -> Listed:
    """A symbol that passes every filter, changed as a test wants it."""
    base = Listed(symbol, symbol.replace("/", ""), True, volume, 99.99, 100.01)
    return replace(base, **changes)


def ranked(*symbols: str, top: float = 100_000_000.0) -> list[Listed]:
    """A listing in which each symbol trades a little less than the one before."""
    return [listed(symbol, top - 1_000_000.0 * place) for place, symbol in enumerate(symbols)]


def zigzag(days: int, *, step: float = 0.03, price: float = 100.0) -> list[list[float]]:
    """Daily closes up to the clock's day that go up and down by ``step``, the open day last."""
    today = clock.now_ms() // DAY_MS * DAY_MS
    return [
        [float(today - (days - 1 - number) * DAY_MS), price * (1 + step * (number % 2))]
        for number in range(days)
    ]


@dataclass
class ListingVenue:
    """A venue that answers what the choice of a universe asks, and counts it."""

    name: str
    symbols: list[Listed] = field(default_factory=list)
    days: dict[str, int] = field(default_factory=dict)
    down: bool = False
    broken: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    def listing(self, quote_currency: str) -> list[Listed]:
        self.calls.append("listing")
        if self.down:
            raise VenueUnavailable(f"{self.name}: listing: NetworkError")
        return list(self.symbols)

    def daily_closes(self, market_id: str, count: int) -> list[list[float]]:
        self.calls.append(f"days {market_id}")
        if self.down or market_id in self.broken:
            raise VenueUnavailable(f"{self.name}: candles: NetworkError")
        return zigzag(min(count, self.days.get(market_id, 1_000)))

    def best_of(self, market_id: str) -> tuple[float | None, float | None]:
        self.calls.append(f"best {market_id}")
        return 99.99, 100.01
