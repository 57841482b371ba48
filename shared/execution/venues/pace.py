"""How fast a venue is asked by one process: a token bucket that all its threads share.

ccxt's own limiter keeps one time a client and looks at it without a lock, so that threads which
ask side by side pass it together. This one takes its place.

Sources: Coinbase Advanced, "REST API rate limits" (10 public requests a second and address, of
which ccxt counts each as three).
Binance counts weights by the minute, of which ccxt's costs are a fifth; ``budget`` keeps to its
6,000 a minute over all runs, and this bucket only keeps one scan from taking half of it at once.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from shared import clock


@dataclass(frozen=True)
class Rate:
    """So many of ccxt's cost units a second, after a burst of at most ``burst`` of them."""

    per_second: float
    burst: float


RATES: dict[str, Rate] = {
    "binance": Rate(20.0, 400.0),
    "binanceus": Rate(20.0, 400.0),
    "coinbase": Rate(30.0, 30.0),
}


class Pace:
    """Waits until a request may start; made to stand in for a client's ``throttle``."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._watch = clock.Stopwatch()
        self._seen_s = 0.0
        self._lock = threading.Lock()

    def __call__(self, cost: float | None = None) -> None:
        """Take ``cost`` units, one where none is given, and sleep until they are there."""
        wait_s = self.reserve(1.0 if cost is None else float(cost))
        if wait_s > 0:
            time.sleep(wait_s)

    def reserve(self, cost: float) -> float:
        """Take ``cost`` units now; how many seconds to wait before they may be used."""
        with self._lock:
            now_s = self._watch.seconds()
            earned = (now_s - self._seen_s) * self._rate.per_second
            self._tokens = min(self._rate.burst, self._tokens + earned) - cost
            self._seen_s = now_s
            return max(0.0, -self._tokens / self._rate.per_second)
