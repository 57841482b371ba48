"""The crypto market's stand-in for the VIX: how wild the last day was, measured by its own year.

``20 x volatility of the last 24 hourly returns / median over a year of the volatility of 7 daily
returns``, both annualised, the median of all symbols. 20 is the VIX's long-run mean, so that the
document's limit of 35 means 1.75 times normal. Where a symbol has less than a year of daily closes
the longest span there is counts, and the detail says how long.
"""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared import clock
from shared.errors import DataUnavailable, VenueError
from shared.execution.venues.base import PublicVenue
from shared.market.candles import candle_store
from shared.run import Run
from shared.safety.checks.base import Result, graded, unknown

VIX_LIMIT = 35.0
_NORMAL = 20.0
_HOURS, _DAYS, _YEAR_DAYS, _MINIMUM_DAYS = 24, 7, 365, 30
_HOUR_MS = 3_600_000
_TTL_SECONDS = 2 * 3_600


def volatility(run: Run) -> Result:
    """The index of the closed hour; unknown without candles of at least one symbol."""
    hour = clock.now_ms() // _HOUR_MS
    pairs = run.pairs
    keys = [f"volatility:{run.config.venues[0]}:{pair}:{hour}" for pair in pairs]
    known = run.cache.get_many(keys)
    found: dict[str, tuple[float, int]] = {}
    for pair, key, blob in zip(pairs, keys, known, strict=True):
        value = _decoded(blob) or _measured(run, pair, first=pair == pairs[0])
        if value is not None:
            found[pair] = value
            if blob is None:
                run.cache.set(key, json.dumps(value).encode(), _TTL_SECONDS)
    if not found:
        return unknown("no hourly and daily candles of any symbol")
    missing = [pair for pair in pairs if pair not in found]
    days = min(span for _, span in found.values())
    detail = f"against the median of {days} days" + (
        f", without {', '.join(missing)}" if missing else ""
    )
    index = statistics.median(value for value, _ in found.values())
    return graded(index, warning=VIX_LIMIT, critical=None, detail=detail)


def vix(hourly_closes: NDArray[np.float64], daily_closes: NDArray[np.float64]) -> float | None:
    """The index of one symbol, or ``None`` where the candles are too few or never move."""
    hours, days = hourly_closes[-_HOURS - 1 :], daily_closes[-_YEAR_DAYS - _DAYS :]
    if len(hours) <= _HOURS or len(days) <= _MINIMUM_DAYS:
        return None
    now = float(np.diff(np.log(hours)).std(ddof=1)) * math.sqrt(24 * 365)
    weeks = sliding_window_view(np.diff(np.log(days)), _DAYS).std(axis=1, ddof=1)
    normal = float(np.median(weeks)) * math.sqrt(365)
    return _NORMAL * now / normal if normal > 0 else None


def _measured(run: Run, pair: str, *, first: bool) -> tuple[float, int] | None:
    """The index of ``pair`` and the days behind its median."""
    venue: str | PublicVenue = run.config.venues[0]
    if not run.cache.available:
        if not first:
            return None  # without a cache one symbol is asked for, to spare the venue
        venue = _primary(run)
    try:
        hourly = candle_store.window(run, venue, pair, "1h")
        daily = candle_store.window(run, venue, pair, "1d")
    except (DataUnavailable, VenueError):
        return None  # named as missing in the check's detail
    if hourly is None or daily is None:
        return None
    index = vix(hourly.close, daily.close)
    return None if index is None else (index, min(len(daily), _YEAR_DAYS))


def _primary(run: Run) -> PublicVenue:
    from shared.execution.venues.registry import open_venues

    return open_venues(run)[run.config.venues[0]]


def _decoded(blob: bytes | None) -> tuple[float, int] | None:
    if blob is None:
        return None
    index, days = json.loads(blob)
    return float(index), int(days)
