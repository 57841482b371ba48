"""A portfolio's days: its hourly returns until each began, and what the day then brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.research.risk.plan import DAY_MS, HISTORY_HOURS, HOUR_MS, Stretch, Weights
from shared.errors import DataUnavailable
from shared.market.types import Candles
from shared.risk.portfolio import Array


@dataclass(frozen=True)
class Days:
    """Days that begin at the same hour and do not overlap.

    Attributes:
        by_asset: simple hourly returns, one asset a column; those across a gap are left out.
        values: what is held of each asset, in quote.
        known: of each day, how many of the hours had closed when it began.
        begin_ms: when each day began.
        profit: what the holdings gained over the 24 hours, in quote, held and not rebalanced.
    """

    by_asset: Array
    values: Array
    known: NDArray[np.int64]
    begin_ms: NDArray[np.int64]
    profit: Array

    def __len__(self) -> int:
        return len(self.begin_ms)

    def window(self, day: int, hours: int) -> Array:
        """The newest hours known when ``day`` began, one asset a column."""
        end = int(self.known[day])
        return self.by_asset[max(0, end - hours) : end]

    def within(self, stretch: Stretch) -> NDArray[np.bool_]:
        return (self.begin_ms >= stretch.from_ms) & (self.begin_ms < stretch.until_ms)


def days(hours: Mapping[str, Candles], weights: Weights, offset_hours: int = 0) -> Days:
    """Every whole day with ``HISTORY_HOURS`` before it, from ``offset_hours`` after midnight UTC.

    A day is left out where the close at its begin or at its end is missing.

    Raises:
        DataUnavailable: there is no such day.
    """
    closes_ms, closes = _common_closes({symbol: hours[symbol] for symbol in weights})
    values = np.array(list(weights.values()))
    follows = np.flatnonzero(np.diff(closes_ms) == HOUR_MS)
    by_asset = closes[follows + 1] / closes[follows] - 1
    ends_ms = closes_ms[follows + 1]
    begins = np.flatnonzero(closes_ms % DAY_MS == offset_hours * HOUR_MS)
    ends = np.searchsorted(closes_ms, closes_ms[begins] + DAY_MS)
    inside = ends < len(closes_ms)
    begins, ends = begins[inside], ends[inside]
    known = np.searchsorted(ends_ms, closes_ms[begins], side="right")
    whole = (closes_ms[ends] - closes_ms[begins] == DAY_MS) & (known >= HISTORY_HOURS)
    begins, ends, known = begins[whole], ends[whole], known[whole]
    if not len(begins):
        raise DataUnavailable(
            f"days of {', '.join(weights)}: expected some with {HISTORY_HOURS} hours before "
            f"them, found none in {len(closes_ms)} common hours"
        )
    profit = (closes[ends] / closes[begins] - 1) @ values
    return Days(by_asset, values, known, closes_ms[begins], profit)


def _common_closes(hours: Mapping[str, Candles]) -> tuple[NDArray[np.int64], Array]:
    series = list(hours.values())
    common = series[0].open_ms
    for other in series[1:]:
        common = np.intersect1d(common, other.open_ms, assume_unique=True)
    closes = [one.close[np.isin(one.open_ms, common, assume_unique=True)] for one in series]
    return common + HOUR_MS, np.array(closes).T
