"""Higher timeframes against the venue's own, one series every five minutes, in turn.

Windows are rolled up from minutes, so that an error in them, or a minute that the venue revised
later, would stay. The comparison takes the place of the request for the newest minute, in a minute
that closes no other candle, so that no minute makes more than three requests a symbol; the minute
series is then one candle behind until the next run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_source
from shared.market.candles.candle_rows import COLUMNS, sliced
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles

HIGHER = TIMEFRAMES[1:]
EVERY_MINUTES = 5
COMPARED = 20
"""How many of the newest candles are compared."""

_AT_MINUTE = 3
_PRICE_TOLERANCE = 1e-9
_VOLUME_TOLERANCE = 1e-6  # sums of up to 1,440 volumes with eight decimals


@dataclass(frozen=True)
class Difference:
    """Where a window of ours was not the venue's, beyond rounding.

    Attributes:
        candles: how many of the compared ones differ or are absent in ours.
        first_open_ms: the oldest of them.
        largest_percent: the largest difference of a price, in percent of the venue's.
    """

    symbol: str
    timeframe: str
    candles: int
    first_open_ms: int
    largest_percent: float

    def told(self) -> str:
        """For the list of what is missing."""
        return (
            f"{self.candles} candles were not the venue's, by up to "
            f"{self.largest_percent:.4g} %; repaired"
        )


def due(symbols: Sequence[str], now_ms: int) -> tuple[str, str] | None:
    """The series whose turn it is in this minute: symbol and timeframe."""
    turn, minute = divmod(now_ms // 60_000, EVERY_MINUTES)
    if minute != _AT_MINUTE or not symbols:
        return None
    which = turn % (len(symbols) * len(HIGHER))
    return symbols[which // len(HIGHER)], HIGHER[which % len(HIGHER)]


def can_wait(cached: Mapping[str, Candles], timeframe: str, now_ms: int) -> bool:
    """Whether the newest minute may be left for the next run: nothing else lacks in ``cached``."""
    for name in TIMEFRAMES:
        behind = 1 if name == "1m" else 0
        step = TIMEFRAME_MS[name]
        window = cached.get(name)
        if window is None or window.open_ms[-1] < now_ms // step * step - (1 + behind) * step:
            return False
    return len(cached[timeframe]) > COMPARED


def ask(venue: PublicVenue, symbol: str, timeframe: str, now_ms: int) -> Candles:
    """The venue's newest closed candles.

    Raises:
        DataUnavailable, VenueUnavailable: there is no answer, or it is not to be believed.
    """
    step = TIMEFRAME_MS[timeframe]
    since_ms = now_ms // step * step - COMPARED * step
    return candle_source.since(venue, symbol, timeframe, since_ms, COMPARED + 1, now_ms)


def compare(ours: Candles, theirs: Candles) -> Difference | None:
    """What differs beyond rounding in the time that both series cover."""
    # What comes before the window is not missing from it.
    theirs = sliced(theirs, slice(int(np.searchsorted(theirs.open_ms, ours.open_ms[0])), None))
    _, left, right = np.intersect1d(ours.open_ms, theirs.open_ms, return_indices=True)
    absent = np.setdiff1d(theirs.open_ms, ours.open_ms)
    prices_apart = np.max(
        [
            np.abs(getattr(ours, name)[left] / getattr(theirs, name)[right] - 1)
            for name in COLUMNS[1:5]
        ],
        axis=0,
        initial=0.0,
    )
    volumes_apart = np.abs(ours.volume[left] - theirs.volume[right])
    wrong = (prices_apart > _PRICE_TOLERANCE) | (
        volumes_apart > _VOLUME_TOLERANCE * np.maximum(theirs.volume[right], 1.0)
    )
    times = np.concatenate((ours.open_ms[left][wrong], absent))
    if not len(times):
        return None
    largest = float(prices_apart[wrong].max(initial=0.0))
    return Difference(ours.symbol, ours.timeframe, len(times), int(times.min()), 100 * largest)
