"""A scan's indicators beside TA-Lib's over the whole history behind its market."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploy.local.market.series import Rows
from deploy.local.market.source import MarketSource, SourceSpec, open_source
from deploy.local.wire.rules import VenueName, symbol_rules
from deploy.research.indicator_reference import Comparison, compare
from shared.errors import DataUnavailable
from shared.market.types import Candles

HISTORY_CANDLES = 100_000
"""The most that is looked at of any timeframe: 69 days of minutes, and all of the others. What
came before weighs less than 1e-400 in an EMA of 200."""
_VENUE: VenueName = "binance"
"""The stand-in that shows the source's own prices; the others stand a little beside them."""


def check(spec: SourceSpec, market: dict[str, Any]) -> list[Comparison]:
    """Every indicator of one exported ``market`` beside TA-Lib's own.

    Args:
        spec: the source that the scan's venues showed; all that it has before the scan counts.

    Raises:
        ConfigurationError: the source cannot be opened.
        DataUnavailable: it lacks the hours, or another venue than Binance served the scan.
    """
    if market["venue"] != _VENUE:
        raise DataUnavailable(
            f"check: venue: expected {_VENUE}, which shows the source's prices, "
            f"was {market['venue']}"
        )
    source = _open_whole(spec)
    decimals = symbol_rules(_VENUE, market["symbol"], market["price"]).price_decimals
    settling = market.get("settling", {})  # absent where nothing is settling
    found = []
    for timeframe, values in market["indicators"].items():
        closed_ms = int(values["closed_at_ms"])
        rows = source.candles(market["symbol"], timeframe, closed_ms, HISTORY_CANDLES)
        history = _candles(rows, decimals, market["symbol"], timeframe)
        found += compare(values, settling.get(timeframe, {}), history)
    return found


def _open_whole(spec: SourceSpec) -> MarketSource:
    if spec.kind == "simulated":
        return open_source(spec)
    from deploy.local.market.recorded import open_recorded

    return open_recorded(spec, HISTORY_CANDLES)


def _candles(rows: Rows, decimals: int, symbol: str, timeframe: str) -> Candles:
    """Rows as a venue shows them, with so many digits after the point of a price."""
    prices = (_shown(rows[:, i], decimals) for i in range(1, 5))
    columns = (*prices, np.ascontiguousarray(rows[:, 5]))
    return Candles(symbol, timeframe, rows[:, 0].astype(np.int64), *columns)


def _shown(prices: Rows, decimals: int) -> Rows:
    """Rounded as text is, which ``np.round`` does not do where a digit 5 is cut off."""
    return np.array([float(f"{price:.{decimals}f}") for price in prices.tolist()])
