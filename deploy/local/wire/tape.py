"""Public trades of a minute that agree with its candle.

The first trade prints the open and the last the close, high and low are both printed, and the
quantities add up to the volume.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deploy.local.wire.feed import (
    MINUTE_MS,
    OPEN,
    OPEN_MS,
    VOLUME,
    Feed,
    floor_minute,
    mix,
    text_key,
)
from deploy.local.wire.rules import SymbolRules, VenueName

TRADES_PER_MINUTE = 100
_MOST_MINUTES = 30


class TapeTrade(NamedTuple):
    """One public trade: price in ticks, quantity in steps. Ids grow with time."""

    trade_id: int
    at_ms: int
    price_ticks: int
    steps: int
    taker_buys: bool


class Tape:
    """The public trades of one venue."""

    def __init__(self, venue: VenueName, feed: Feed) -> None:
        self._venue = venue
        self._feed = feed
        self._minutes: dict[tuple[str, int], list[TapeTrade]] = {}

    def newest(self, rules: SymbolRules, now_ms: int, limit: int) -> list[TapeTrade]:
        """The newest ``limit`` trades up to ``now_ms``, oldest first; at most half an hour back."""
        return self.since(rules, now_ms - _MOST_MINUTES * MINUTE_MS, now_ms, limit)

    def since(self, rules: SymbolRules, since_ms: int, now_ms: int, limit: int) -> list[TapeTrade]:
        """The newest ``limit`` trades from ``since_ms`` on, oldest first."""
        found: list[TapeTrade] = []
        open_ms = floor_minute(now_ms) - MINUTE_MS
        first_ms = max(floor_minute(since_ms), open_ms - _MOST_MINUTES * MINUTE_MS)
        while open_ms >= first_ms and len(found) < limit:
            found = self._minute(rules, open_ms) + found
            open_ms -= MINUTE_MS
        return [trade for trade in found if trade.at_ms >= since_ms][-limit:]

    def forget_before(self, moment_ms: int) -> None:
        """Drop minutes that no question reaches any more."""
        oldest_ms = moment_ms - (_MOST_MINUTES + 1) * MINUTE_MS
        for key in [key for key in self._minutes if key[1] < oldest_ms]:
            del self._minutes[key]

    def _minute(self, rules: SymbolRules, open_ms: int) -> list[TapeTrade]:
        key = (rules.symbol, open_ms)
        known = self._minutes.get(key)
        if known is None:
            known = self._minutes[key] = self._build(rules, open_ms)
        return known

    def _build(self, rules: SymbolRules, open_ms: int) -> list[TapeTrade]:
        rows = self._feed.candles(self._venue, rules.symbol, "1m", open_ms + MINUTE_MS, 1)
        if not len(rows) or int(rows[0, OPEN_MS]) != open_ms:
            return []
        scale = 10**rules.price_decimals
        prices = [round(price * scale) for price in rows[0, OPEN:VOLUME].tolist()]
        steps = round(float(rows[0, VOLUME]) * 10**rules.quantity_decimals)
        seed = mix(self._feed.seed, text_key(self._venue), text_key(rules.symbol), open_ms, 1)
        return _trades(open_ms, prices, steps, np.random.Generator(np.random.PCG64(seed)))


def _trades(
    open_ms: int, prices: list[int], steps: int, random: np.random.Generator
) -> list[TapeTrade]:
    count = min(TRADES_PER_MINUTE, steps)
    if count == 0:
        return []
    path = _path(prices, count, random)
    weights = random.exponential(1.0, count)
    sizes = 1 + np.floor(weights / weights.sum() * (steps - count)).astype(np.int64)
    sizes[-1] += steps - int(sizes.sum())
    times = open_ms + np.sort(random.integers(0, MINUTE_MS, count))
    buys = random.random(count) < buy_share(*prices)
    first_id = open_ms // MINUTE_MS * TRADES_PER_MINUTE
    columns = (times.tolist(), path.tolist(), sizes.tolist(), buys.tolist())
    return [TapeTrade(first_id + i, *row) for i, row in enumerate(zip(*columns, strict=True))]


def buy_share(open_: float, high: float, low: float, close: float) -> float:
    """The takers' buying part of a candle's volume: more of it where the candle closed higher."""
    return 0.5 + 0.4 * (close - open_) / (high - low) if high > low else 0.5


def _path(prices: list[int], count: int, random: np.random.Generator) -> np.ndarray:
    """Ticks from the open over both extremes to the close, with noise inside the range."""
    open_, high, low, close = prices
    turns = (low, high) if close >= open_ else (high, low)
    middle: list[int] = []
    if count > 3:
        middle = np.sort(random.choice(np.arange(1, count - 1), 2, replace=False)).tolist()
    knots = [0, *middle, count - 1]
    values = [open_, *turns[: len(middle)], close]
    path = np.interp(np.arange(count), knots, values)
    noise = random.normal(0.0, (high - low) * 0.05, count)
    noise[knots] = 0.0
    return np.clip(np.round(path + noise), low, high).astype(np.int64)
