"""Results of the last candle window of each series, so that a window is analysed once.

A higher timeframe changes seldom. A result belongs to the window's content, not only to its
time: a venue's correction is a new window. Starting cold changes speed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shared.market.candles.candle_rows import COLUMNS
from shared.market.types import Candles

_MAX_SERIES = 512


class Memo[Result]:
    """The newest result by venue, symbol and timeframe. Results must not be changed by callers."""

    def __init__(self, compute: Callable[[Candles], Result]) -> None:
        self._compute = compute
        self._kept: dict[tuple[str, str, str], tuple[Candles, Result]] = {}

    def __call__(self, venue: str, candles: Candles) -> Result:
        """The result for ``candles`` of ``venue``, computed if the window is a new one."""
        series = (venue, candles.symbol, candles.timeframe)
        known = self._kept.get(series)
        if known is not None and _same(known[0], candles):
            return known[1]
        result = self._compute(candles)
        if len(self._kept) >= _MAX_SERIES:
            self._kept.clear()
        self._kept[series] = (candles, result)
        return result


def _same(one: Candles, other: Candles) -> bool:
    return one is other or all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS
    )
