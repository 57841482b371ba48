"""Support and resistance, and breakouts through them.

A level is a price at which the market has turned before: pivots that lie within half an average
true range of each other. The more touches, the better known it is (Osler, Support for
Resistance, FRBNY Economic Policy Review 6 (2000): published levels do stop prices more often than
arbitrary ones).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.market.patterns.pivots import Pivot, View, points

_WIDTH_ATRS = 0.5
_MIN_TOUCHES = 2
_MAX_LEVELS_A_SIDE = 3
_BREAK_ATRS = 0.25  # a close has to be this far beyond a level to count as a breakout
_VOLUME_BASELINE = 20
_CONFIRMING_VOLUME_RATIO = 1.5


@dataclass(frozen=True)
class Level:
    """A price, and the pivots that touched it."""

    price: float
    pivots: list[Pivot]

    @property
    def confidence(self) -> float:
        """0.5 for two touches; each further one halves what is lacking to 1."""
        return 1 - 0.5 ** (len(self.pivots) - 1)


def find(view: View, pivots: list[Pivot]) -> list[dict[str, Any]]:
    """Up to three levels on each side of the newest close, and the breakouts that it made."""
    levels = cluster(pivots, _WIDTH_ATRS * view.last_atr)
    close = view.close[-1]
    below = [level for level in levels if level.price < close]
    above = [level for level in levels if level.price >= close]
    found = [_described(view, level, "support", "bullish") for level in _nearest(below, close)]
    found += [_described(view, level, "resistance", "bearish") for level in _nearest(above, close)]
    return found + _breakouts(view, levels)


def cluster(pivots: list[Pivot], width: float) -> list[Level]:
    """Pivots within ``width`` of the lowest one of their group, in groups of at least two."""
    levels: list[Level] = []
    group: list[Pivot] = []
    for pivot in sorted(pivots, key=lambda p: p.price):
        if group and pivot.price - group[0].price > width:
            levels += _as_level(group)
            group = []
        group.append(pivot)
    return levels + _as_level(group)


def _as_level(group: list[Pivot]) -> list[Level]:
    if len(group) < _MIN_TOUCHES:
        return []
    in_time = sorted(group, key=lambda pivot: pivot.index)
    return [Level(sum(pivot.price for pivot in group) / len(group), in_time)]


def _nearest(levels: list[Level], close: float) -> list[Level]:
    return sorted(levels, key=lambda level: abs(level.price - close))[:_MAX_LEVELS_A_SIDE]


def _described(view: View, level: Level, kind: str, direction: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "direction": direction,
        "confidence": level.confidence,
        "points": points(view, level.pivots),
        "price": level.price,
        "touches": len(level.pivots),
    }


def _breakouts(view: View, levels: list[Level]) -> list[dict[str, Any]]:
    """Levels that the newest candle has crossed; the strongest one up or down.

    ``volume_confirmed`` says whether its volume was at least 1.5 times the mean of the 20 candles
    before; without a baseline there is nothing to tell, and no breakout is reported.
    ``confidence`` is the level's, halved where volume does not confirm.
    """
    baseline = view.volume[-_VOLUME_BASELINE - 1 : -1]
    if len(baseline) < _VOLUME_BASELINE or sum(baseline) <= 0:
        return []
    ratio = view.volume[-1] / (sum(baseline) / len(baseline))
    confirmed = ratio >= _CONFIRMING_VOLUME_RATIO
    crossed = [(level, direction) for level in levels if (direction := _crossing(view, level))]
    if not crossed:
        return []
    level, direction = max(crossed, key=lambda pair: len(pair[0].pivots))
    return [
        {
            "kind": "breakout",
            "direction": direction,
            "confidence": level.confidence * (1 if confirmed else 0.5),
            "points": [*points(view, level.pivots), [view.open_ms[-1], view.close[-1]]],
            "price": level.price,
            "touches": len(level.pivots),
            "volume_ratio": ratio,
            "volume_confirmed": confirmed,
        }
    ]


def _crossing(view: View, level: Level) -> str | None:
    beyond, before, close = _BREAK_ATRS * view.last_atr, view.close[-2], view.close[-1]
    if before <= level.price and close >= level.price + beyond:
        return "bullish"
    if before >= level.price and close <= level.price - beyond:
        return "bearish"
    return None
