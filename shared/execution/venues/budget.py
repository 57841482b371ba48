"""How much may be asked of a venue in a minute: a soft limit that all runs share through Redis.

What a run takes, it takes from the counter in blocks, so that a minute costs one or two additions
and not one a request. A lost Redis means that there is no soft limit; the venue's own (``limits``)
always holds.

Sources: Binance's and Binance US's "Limits" and the weights beside each endpoint; Kraken's "Spot
REST rate limits" (starter tier: a counter of 15 that falls by 0.33 a second; orders do not count);
Coinbase Advanced, "Rate limits" (10,000 requests an hour and key).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared import clock
from shared.cache import Cache

RESERVED_PERCENT = 30
"""The share that is kept for cancels, exits and reconciliation."""

_BLOCK_PERCENT = 5
_TTL_SECONDS = 120


@dataclass(frozen=True)
class Allowance:
    """What a venue allows in a minute, and what each of our calls takes of it."""

    per_minute: int
    weights: Mapping[str, int]
    weight_else: int = 1


_BINANCE = MappingProxyType(
    {
        "listing": 100, "markets": 20, "candles": 2, "book": 5, "trades": 25, "quotes": 4,
        "time": 1, "average price": 4,
        "submit": 1, "cancel": 1, "order": 4, "order by client id": 4, "open orders": 80,
        "fills": 20, "balances": 20,
    }
)  # fmt: skip
_BINANCE_US = MappingProxyType(
    {
        "listing": 50, "markets": 10, "candles": 1, "book": 1, "trades": 1, "quotes": 2, "time": 1,
        "average price": 2,
        "submit": 1, "cancel": 1, "order": 2, "order by client id": 2, "open orders": 40,
        "fills": 10, "balances": 10,
    }
)  # fmt: skip
_KRAKEN = MappingProxyType(
    {
        "order": 1, "order by client id": 2, "open orders": 1, "fills": 2, "balances": 1,
    }
)  # fmt: skip

ALLOWANCES: dict[str, Allowance] = {
    "binance": Allowance(6_000, _BINANCE),
    "binanceus": Allowance(1_200, _BINANCE_US),
    "kraken": Allowance(15 + 20, _KRAKEN, weight_else=0),
    "coinbase": Allowance(10_000 // 60, MappingProxyType({})),
}

# An exit needs a book, a cancel and a look at the account; a scan can do without for a minute.
_SPARED = frozenset({"listing", "candles", "trades", "new risk"})


class Budget:
    """What this run may still ask of one venue in this minute."""

    def __init__(self, venue: str, cache: Cache) -> None:
        self._allowance = ALLOWANCES[venue]
        self._venue = venue
        self._cache = cache
        self._lock = threading.Lock()
        self._minute = -1
        self._granted = 0
        self._used_by_all = 0

    def allows(self, call: str, *, new_risk: bool = False) -> bool:
        """Take what ``call`` costs, and tell whether it may be made.

        Only what can wait is ever refused: candles, public trades and orders that take new risk.
        """
        weight = self._allowance.weights.get(call, self._allowance.weight_else)
        if weight == 0:
            return True
        with self._lock:
            self._take(weight)
            spared = new_risk or call in _SPARED
            return not (spared and self._used_by_all > self._ordinary)

    @property
    def _ordinary(self) -> int:
        return self._allowance.per_minute * (100 - RESERVED_PERCENT) // 100

    def _take(self, weight: int) -> None:
        minute = clock.now_ms() // 60_000
        if minute != self._minute:
            self._minute, self._granted, self._used_by_all = minute, 0, 0
        if self._granted < weight:
            block = max(weight, self._allowance.per_minute * _BLOCK_PERCENT // 100)
            used = self._cache.add(f"budget:{self._venue}:{minute}", block, _TTL_SECONDS)
            self._used_by_all = 0 if used is None else used
            self._granted += block
        self._granted -= weight
