"""Prices of every venue at a virtual time: candles, the mid, and what the market has been like.

A market source knows one price series for each base against USDT. This module derives the crosses
(ETH/BTC, SOL/BTC), adds the pairs that tell what a tether is worth, which is one dollar, and sets
the venues a few basis points apart. Everything is a function of the
seed, the venue, the symbol and the minute, so that the same question has the same answer however
often and in whatever order it is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deploy.local.wire.rules import VenueName
from shared.errors import DataUnavailable
from shared.market.types import TIMEFRAME_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

# Columns of a candle row.
OPEN_MS, OPEN, HIGH, LOW, CLOSE, VOLUME = range(6)
MINUTE_MS = 60_000
RECENT_MINUTES = 30
CROSS_QUOTE = "BTC"
CROSS_BASES = ("ETH", "SOL")
# Part of the base's volume against USDT that its pair against BTC is given.
CROSS_VOLUME_SHARE = 0.03
# How far a venue's price may stand from the source's, and its part of the source's volume.
BASIS_AMPLITUDE_BPS: dict[VenueName, float] = {
    "binance": 0.0,
    "binanceus": 5.0,
    "coinbase": 3.0,
    "kraken": 4.0,
}
VOLUME_SHARE: dict[VenueName, float] = {
    "binance": 1.0,
    "binanceus": 0.05,
    "coinbase": 0.25,
    "kraken": 0.12,
}
# The price at the start of a venue's token that the source does not know, and the part of the
# first symbol's turnover that it is given.
TOKEN_PRICE_USDT = 600.0
TOKEN_VOLUME_SHARE = 0.05
# The pairs that tell a tether's worth where the source does not know them, and the part of the
# first symbol's turnover that they are given.
PEG_PAIR: dict[VenueName, str] = {
    "binance": "USDC/USDT",
    "binanceus": "USDT/USD",
    "coinbase": "USDT/USD",
    "kraken": "USDT/USD",
}
PEG_VOLUME_SHARE = 0.05
# Knots of the basis, in minutes, with their weights: it wanders and always comes back to zero.
_BASIS_OCTAVES = ((7, 0.4), (31, 0.6))


class CandleSource(Protocol):
    """The part of a market source that the feed uses."""

    @property
    def symbols(self) -> Sequence[str]: ...

    @property
    def from_ms(self) -> int: ...

    def candles(self, symbol: str, timeframe: str, end_ms: int, limit: int) -> Rows:
        """At most ``limit`` candles that are closed by ``end_ms``, oldest first."""


@dataclass(frozen=True, slots=True)
class MarketState:
    """A symbol on a venue as the newest closed minute left it.

    Attributes:
        minute_ms: when that minute closed.
        last_return_bps: its close against its open.
        sigma_bps: standard deviation of the last minutes' returns.
        mean_volume: their mean volume, in base, this venue's part.
    """

    minute_ms: int
    mid: float
    last_return_bps: float
    sigma_bps: float
    mean_volume: float


def floor_minute(moment_ms: int) -> int:
    return moment_ms - moment_ms % MINUTE_MS


def mix(*parts: int) -> int:
    """A 64-bit value that depends on every part (the finaliser of splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def text_key(text: str) -> int:
    """A stable number for a name; ``hash`` differs from process to process."""
    return int.from_bytes(text.encode(), "big") % 0xFFFFFFFFFFFFFFC5


class Feed:
    """What the venues show. Raises ``DataUnavailable`` where the source has no candles."""

    def __init__(self, source: CandleSource, seed: int) -> None:
        self._source = source
        self.seed = seed
        self.symbols = (*source.symbols, *_crosses(source.symbols))
        self._token_ratio: float | None = None
        self._states: dict[tuple[VenueName, str], MarketState] = {}

    def token_symbols(self, token: str | None) -> tuple[str, ...]:
        """The pair that tells what a venue's fee token costs, where it is not listed anyway."""
        symbol = f"{token}/USDT"
        return () if token is None or symbol in self.symbols else (symbol,)

    def peg_symbols(self, venue: VenueName) -> tuple[str, ...]:
        """The pair that tells what a tether is worth there, where it is not listed anyway."""
        pair = PEG_PAIR[venue]
        return () if pair in self.symbols else (pair,)

    def state(self, venue: VenueName, symbol: str, now_ms: int) -> MarketState:
        """The market as of the newest minute closed by ``now_ms``."""
        minute_ms = floor_minute(now_ms)
        known = self._states.get((venue, symbol))
        if known is None or known.minute_ms != minute_ms:
            known = self._states[venue, symbol] = self._build_state(venue, symbol, minute_ms)
        return known

    def basis(self, venue: VenueName, symbol: str, minute_ms: int) -> float:
        """How far ``venue`` stands from the source's price, as a fraction."""
        amplitude_bps = BASIS_AMPLITUDE_BPS[venue]
        if amplitude_bps == 0.0:
            return 0.0
        key = (self.seed, text_key(venue), text_key(symbol))
        minute = minute_ms // MINUTE_MS
        wave = 0.0
        for knot_minutes, weight in _BASIS_OCTAVES:
            index, rest = divmod(minute, knot_minutes)
            left, right = (_unit(*key, knot_minutes, index + step) for step in (0, 1))
            wave += weight * (left + (right - left) * rest / knot_minutes)
        return wave * amplitude_bps / 10_000

    def candles(
        self, venue: VenueName, symbol: str, timeframe: str, end_ms: int, limit: int
    ) -> Rows:
        """Rows ``[open_ms, open, high, low, close, volume]``, the newest closed by ``end_ms``."""
        rows = self._raw(symbol, timeframe, end_ms, limit)
        if not len(rows):
            return rows
        closed_ms = int(rows[-1, OPEN_MS]) + TIMEFRAME_MS[timeframe]
        price_factor = 1.0 + self.basis(venue, symbol, closed_ms)
        if price_factor == 1.0 and VOLUME_SHARE[venue] == 1.0:
            return rows
        return rows * np.array([1.0, *(price_factor,) * 4, VOLUME_SHARE[venue]])

    def open_candle(
        self, venue: VenueName, symbol: str, timeframe: str, now_ms: int
    ) -> list[float] | None:
        """The candle that ``now_ms`` lies in, so far; ``None`` before its first minute closes."""
        open_ms = now_ms - now_ms % TIMEFRAME_MS[timeframe]
        minutes = (floor_minute(now_ms) - open_ms) // MINUTE_MS
        if minutes == 0:
            return None
        rows = self.candles(venue, symbol, "1m", now_ms, minutes)
        rows = rows[rows[:, OPEN_MS] >= open_ms]
        if not len(rows):
            return None
        return [
            float(open_ms),
            float(rows[0, OPEN]),
            float(rows[:, HIGH].max()),
            float(rows[:, LOW].min()),
            float(rows[-1, CLOSE]),
            float(rows[:, VOLUME].sum()),
        ]

    def _build_state(self, venue: VenueName, symbol: str, minute_ms: int) -> MarketState:
        rows = self._raw(symbol, "1m", minute_ms, RECENT_MINUTES)
        if not len(rows):
            raise DataUnavailable(
                f"{symbol}: expected a minute closed by {minute_ms}, the source has none"
            )
        closes = rows[:, CLOSE]
        returns_bps = np.diff(closes) / closes[:-1] * 10_000 if len(rows) > 1 else np.zeros(1)
        return MarketState(
            minute_ms=minute_ms,
            mid=float(closes[-1]) * (1.0 + self.basis(venue, symbol, minute_ms)),
            last_return_bps=float(closes[-1] / rows[-1, OPEN] - 1.0) * 10_000,
            sigma_bps=math.sqrt(float(np.mean(returns_bps * returns_bps))),
            mean_volume=float(np.mean(rows[:, VOLUME])) * VOLUME_SHARE[venue],
        )

    def _raw(self, symbol: str, timeframe: str, end_ms: int, limit: int) -> Rows:
        base, _, quote = symbol.partition("/")
        if symbol not in self.symbols and symbol in PEG_PAIR.values():
            return self._peg(timeframe, end_ms, limit)
        if symbol not in self.symbols:
            return self._token(timeframe, end_ms, limit)
        if quote != CROSS_QUOTE:
            return self._source.candles(symbol, timeframe, end_ms, limit)
        return _cross(
            self._source.candles(f"{base}/USDT", timeframe, end_ms, limit),
            self._source.candles(f"{quote}/USDT", timeframe, end_ms, limit),
        )

    def _token(self, timeframe: str, end_ms: int, limit: int) -> Rows:
        """A fee token that the source does not know: it moves as the source's first symbol."""
        leader = self.symbols[0]
        if self._token_ratio is None:
            first = self._source.candles(leader, "1m", self._source.from_ms, 1)
            if not len(first):
                raise DataUnavailable(f"{leader}: expected a minute closed by the source's start")
            self._token_ratio = TOKEN_PRICE_USDT / float(first[-1, CLOSE])
        ratio = self._token_ratio
        rows = self._source.candles(leader, timeframe, end_ms, limit)
        return rows * np.array([1.0, *(ratio,) * 4, TOKEN_VOLUME_SHARE / ratio])

    def _peg(self, timeframe: str, end_ms: int, limit: int) -> Rows:
        """One dollar in every minute of the source's first symbol."""
        leader = self._source.candles(self.symbols[0], timeframe, end_ms, limit)
        rows = np.ones_like(leader)
        rows[:, OPEN_MS] = leader[:, OPEN_MS]
        rows[:, VOLUME] = leader[:, VOLUME] * leader[:, CLOSE] * PEG_VOLUME_SHARE
        return rows


def _crosses(symbols: Sequence[str]) -> tuple[str, ...]:
    if f"{CROSS_QUOTE}/USDT" not in symbols:
        return ()
    return tuple(f"{base}/{CROSS_QUOTE}" for base in CROSS_BASES if f"{base}/USDT" in symbols)


def _cross(base: Rows, quote: Rows) -> Rows:
    """Base over quote. Highs and lows of the two need not coincide: only open and close count."""
    _, left, right = np.intersect1d(
        base[:, OPEN_MS], quote[:, OPEN_MS], assume_unique=True, return_indices=True
    )
    rows = base[left].copy()
    rows[:, OPEN] /= quote[right, OPEN]
    rows[:, CLOSE] /= quote[right, CLOSE]
    rows[:, HIGH] = np.maximum(rows[:, OPEN], rows[:, CLOSE])
    rows[:, LOW] = np.minimum(rows[:, OPEN], rows[:, CLOSE])
    rows[:, VOLUME] *= CROSS_VOLUME_SHARE
    return rows


def _unit(*parts: int) -> float:
    """A number in -1..1 that depends on every part."""
    return mix(*parts) / 2**63 - 1.0
