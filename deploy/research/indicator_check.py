"""A scan's indicators beside TA-Lib's over the whole history behind its market."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploy.local.market.series import Rows
from deploy.local.market.source import MarketSource, SourceSpec, open_source
from deploy.research.indicator_reference import Comparison, compare
from shared.market.types import Candles

_EVERYTHING = 1_000_000
"""Candles; no timeframe of any recording has as many."""


def check(spec: SourceSpec, market: dict[str, Any]) -> list[Comparison]:
    """Every indicator of one exported ``market`` beside TA-Lib's own.

    Args:
        spec: the source that the scan's venues showed; all that it has before the scan counts.

    Raises:
        ConfigurationError, DataUnavailable: the source cannot be opened.
    """
    source = _open_whole(spec)
    settling = market.get("settling", {})  # absent where nothing is settling
    found = []
    for timeframe, values in market["indicators"].items():
        rows = source.candles(market["symbol"], timeframe, int(values["closed_at_ms"]), _EVERYTHING)
        history = _candles(rows, market["symbol"], timeframe)
        found += compare(values, settling.get(timeframe, {}), history)
    return found


def _open_whole(spec: SourceSpec) -> MarketSource:
    if spec.kind == "simulated":
        return open_source(spec)
    from deploy.local.market.recorded import open_recorded

    return open_recorded(spec, _EVERYTHING)


def _candles(rows: Rows, symbol: str, timeframe: str) -> Candles:
    columns = (np.ascontiguousarray(rows[:, i]) for i in range(1, 6))
    return Candles(symbol, timeframe, rows[:, 0].astype(np.int64), *columns)
