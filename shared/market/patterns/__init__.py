"""Chart patterns in one window of closed candles, each with the points that define it."""

from __future__ import annotations

from typing import Any

from shared.market.candles.memo import Memo
from shared.market.patterns import confidence, levels, shoulders, triangles
from shared.market.patterns.confidence import MIN_CONFIDENCE, Coefficients, Features
from shared.market.patterns.pivots import find_pivots, looked_at
from shared.market.types import Candles

TIMEFRAMES: tuple[str, ...] = ("15m", "1h", "4h")
KINDS: tuple[str, ...] = (*triangles.KINDS, *shoulders.KINDS, *levels.KINDS)

Pattern = dict[str, Any]


def find(candles: Candles) -> list[Pattern]:
    """The patterns that the newest 250 candles show at their end.

    Each has ``kind``, ``timeframe``, ``direction`` (``bullish``, ``bearish`` or ``neutral``, as
    the textbook has it), ``points`` as ``[[ms, price]]`` (the opens of the candles, oldest first)
    and ``confidence``: the measured share of such shapes that are no chance, see ``confidence``.
    Less than 0.1 is not reported. Of triangles and of head and shoulders the best one is told. A
    window too short for an ATR shows none.
    """
    told = told_of(measured(candles))
    return [{"timeframe": candles.timeframe} | pattern for pattern in told]


def measured(candles: Candles) -> list[tuple[Pattern, Features]]:
    """Every candidate and the features from which its confidence is calculated."""
    view = looked_at(candles)
    if view is None or view.last_atr <= 0:
        return []
    scales = find_pivots(view)
    return triangles.find(view, scales) + shoulders.find(view, scales) + levels.find(view, scales)


def told_of(
    candidates: list[tuple[Pattern, Features]], coefficients: Coefficients | None = None
) -> list[Pattern]:
    """The candidates that are worth being told, with their confidence."""
    told = [
        {"confidence": sure} | pattern
        for pattern, features in candidates
        if (sure := confidence.of(pattern["kind"], features, coefficients)) >= MIN_CONFIDENCE
    ]
    best = [_best(told, kinds) for kinds in (triangles.KINDS, shoulders.KINDS)]
    others = [pattern for pattern in told if pattern["kind"] in levels.KINDS]
    return [pattern for pattern in best if pattern is not None] + others


def _best(told: list[Pattern], kinds: tuple[str, ...]) -> Pattern | None:
    among = (pattern for pattern in told if pattern["kind"] in kinds)
    return max(among, key=lambda pattern: pattern["confidence"], default=None)


newest: Memo[list[Pattern]] = Memo(find)
"""``find``, once for each window of a venue."""
