"""Results of the last candle window of each series, so that a window is analysed once.

A higher timeframe changes seldom. The key of a result is the window's content, not only its
time: a venue's correction is a new window. Starting cold changes speed and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from shared.market.types import Candles

_MAX_SERIES = 1_024


class Memo[Result]:
    """The newest result by venue, symbol and timeframe. Results must not be changed by callers."""

    def __init__(self, compute: Callable[[Candles], Result]) -> None:
        self._compute = compute
        self._kept: dict[tuple[str, str, str], tuple[tuple[int, ...], Result]] = {}

    def __call__(self, venue: str, candles: Candles) -> Result:
        """The result for ``candles`` of ``venue``, computed if the window is a new one."""
        series, content = (venue, candles.symbol, candles.timeframe), _content(candles)
        known = self._kept.get(series)
        if known is not None and known[0] == content:
            return known[1]
        result = self._compute(candles)
        if len(self._kept) >= _MAX_SERIES:
            self._kept.clear()
        self._kept[series] = (content, result)
        return result


def _content(candles: Candles) -> tuple[int, ...]:
    checksum = 0
    for name in ("open_ms", "open", "high", "low", "close", "volume"):
        checksum = zlib.crc32(getattr(candles, name).data, checksum)
    return len(candles), candles.closed_ms, checksum
