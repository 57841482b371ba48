"""An order book that a venue could have shown at a minute, and what has been taken out of it.

Prices are whole ticks and quantities whole steps, so that no level is ever off its grid and money
computed from it is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from deploy.local.wire.feed import MarketState, mix, text_key
from deploy.local.wire.rules import SymbolRules, VenueName

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = 100
# Quoted spread at a usual volatility, by base; others take the default.
_SPREAD_BPS = {"BTC": 1.0, "ETH": 1.3, "SOL": 4.0}
_DEFAULT_SPREAD_BPS = 5.0
_SPREAD_FACTOR: dict[VenueName, float] = {
    "binance": 1.0,
    "binanceus": 2.5,
    "coinbase": 1.3,
    "kraken": 1.6,
}
_USUAL_SIGMA_BPS = 6.0
# Distance of level i from the best, in bps: dense at the top, 55 bps at the 50th level.
_LEVEL_BPS = 0.37 * np.arange(LEVELS) * (1.0 + np.arange(LEVELS) / 25.0)
_STEP_BPS = np.diff(_LEVEL_BPS, prepend=-0.37)
# Quantity within 10 bps of the mid, in minutes of the recent mean volume.
_DEPTH_MINUTES_WITHIN_10_BPS = 1.5
_SKEW_LIMIT = 0.3

BookSide = Literal["bid", "ask"]


@dataclass(slots=True)
class SyntheticBook:
    """Levels from the best outwards, as ``[price in ticks, quantity in steps]``."""

    minute_ms: int
    bids: list[list[int]]
    asks: list[list[int]]
    version: int = 0

    def walk(self, side: BookSide, limit_ticks: int | None) -> Iterator[list[int]]:
        """Levels of ``side`` with something left, best first, not beyond the limit."""
        sign = 1 if side == "ask" else -1
        for level in self.asks if side == "ask" else self.bids:
            if limit_ticks is not None and sign * level[0] > sign * limit_ticks:
                return
            if level[1]:
                yield level

    def take(self, level: list[int], steps: int) -> None:
        """Take a quantity out; it stays out for as long as this book lasts."""
        level[1] -= steps
        self.version += 1

    def best_ticks(self, side: BookSide) -> int | None:
        """The best price that still has quantity; ``None`` where the side is used up."""
        return next((level[0] for level in self.walk(side, None)), None)


def spread_bps(venue: VenueName, base: str, sigma_bps: float) -> float:
    """The quoted spread: half of it constant, half growing with volatility, at most sixfold."""
    usual = _SPREAD_BPS.get(base, _DEFAULT_SPREAD_BPS) * _SPREAD_FACTOR[venue]
    return usual * min(6.0, 0.5 + 0.5 * sigma_bps / _USUAL_SIGMA_BPS)


def synthesise(
    venue: VenueName, rules: SymbolRules, state: MarketState, seed: int
) -> SyntheticBook:
    """The book of one venue, symbol and minute; the same arguments give the same book."""
    key = mix(seed, text_key(venue), text_key(rules.symbol), state.minute_ms)
    random = np.random.Generator(np.random.PCG64(key))
    half_bps = spread_bps(venue, rules.base, state.sigma_bps) / 2
    mean_steps_per_bp = (
        state.mean_volume * _DEPTH_MINUTES_WITHIN_10_BPS / 20.0 * 10**rules.quantity_decimals
    )
    sizes = random.lognormal(-0.125, 0.5, (2, LEVELS)) * _STEP_BPS * mean_steps_per_bp
    offsets_bps = half_bps + _LEVEL_BPS * random.uniform(0.9, 1.1, (2, LEVELS))
    lean = state.last_return_bps / (3.0 * state.sigma_bps) if state.sigma_bps else 0.0
    skew = min(_SKEW_LIMIT, max(-_SKEW_LIMIT, lean * _SKEW_LIMIT))
    mid_ticks = state.mid * 10**rules.price_decimals
    bid_ticks = np.floor(mid_ticks * (1.0 - offsets_bps[0] / 10_000))
    ask_ticks = np.ceil(mid_ticks * (1.0 + offsets_bps[1] / 10_000))
    if ask_ticks[0] <= bid_ticks[0]:
        ask_ticks += bid_ticks[0] + 1 - ask_ticks[0]
    return SyntheticBook(
        state.minute_ms,
        bids=_levels(np.minimum.accumulate(bid_ticks), sizes[0] * (1.0 + skew), -1),
        asks=_levels(np.maximum.accumulate(ask_ticks), sizes[1] * (1.0 - skew), 1),
    )


def _levels(ticks: np.ndarray, sizes: np.ndarray, sign: int) -> list[list[int]]:
    """Strictly ordered levels of at least one step; a tick that repeats moves one outwards."""
    steps = np.maximum(1, np.round(sizes)).astype(np.int64).tolist()
    prices = ticks.astype(np.int64)
    # Distance beyond the level's own index never shrinks: ticks become strictly monotone.
    rank = np.arange(len(prices))
    strict = sign * (np.maximum.accumulate(sign * prices - rank) + rank)
    return [[price, step] for price, step in zip(strict.tolist(), steps, strict=True) if price > 0]
