"""Support and resistance, and breakouts through them.

A level is a price at which the market has turned before and which it has not left behind since:
lows (or highs) that lie within one average true range of each other, without a close beyond
them in between. The more touches, the better known it is (Osler, Support for Resistance, FRBNY
Economic Policy Review 6 (2000): published levels do stop prices more often than arbitrary ones).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from shared.market.patterns.confidence import Features
from shared.market.patterns.pivots import Pivot, View, points

KINDS = ("support", "resistance", "breakout")

_WIDTH_ATRS = 1.0  # touches lie within it
_MIN_TOUCHES = 2
_MAX_LEVELS_A_SIDE = 3
_BREAK_ATRS = 0.5  # a close has to be this far beyond a level to break it
_VOLUME_BASELINE = 20
_CONFIRMING_VOLUME_RATIO = 1.5


@dataclass(frozen=True)
class Level:
    """A price, and the pivots of one kind that touched it, oldest first."""

    price: float
    pivots: list[Pivot]

    @property
    def sign(self) -> int:
        """1 for a resistance, which highs touch; -1 for a support."""
        return 1 if self.pivots[0].kind == "high" else -1


def find(view: View, scales: list[list[Pivot]]) -> list[tuple[dict[str, Any], Features]]:
    """Up to three levels on each side, nearest first, and the breakouts that the newest candle
    made through any."""
    close = view.close[-1]
    found = []
    for kind, direction in (("low", "bullish"), ("high", "bearish")):
        levels = _unbroken([pivot for pivot in scales[0] if pivot.kind == kind], view)
        broken = [level for level in levels if _is_beyond(view, level, close)]
        found += _breakouts(view, broken)
        standing = [level for level in levels if level not in broken]
        standing.sort(key=lambda level: abs(level.price - close))
        found += [_described(view, level, direction) for level in standing[:_MAX_LEVELS_A_SIDE]]
    return found


def _unbroken(pivots: list[Pivot], view: View) -> list[Level]:
    """The levels of some highs, or lows, that stood until the newest candle."""
    standing: list[Pivot] = []
    later = len(view.close) - 1
    extreme = -math.inf  # the farthest close after a pivot, before the newest candle
    for pivot in reversed(pivots):
        sign = 1 if pivot.kind == "high" else -1
        closes = view.close[pivot.index : later]
        if closes:
            extreme = max(extreme, max(closes) if sign > 0 else -min(closes))
        later = pivot.index
        if extreme <= sign * pivot.price + _BREAK_ATRS * view.atr[pivot.index]:
            standing.append(pivot)
    levels = cluster(standing, _WIDTH_ATRS * view.last_atr)
    return [level for level in levels if not _was_broken(view, level)]


def cluster(pivots: list[Pivot], width: float) -> list[Level]:
    """Groups of at least two pivots that lie within ``width`` of each other, largest first."""
    rest = sorted(pivots, key=lambda pivot: pivot.price)
    levels: list[Level] = []
    while True:
        first, size, end = 0, 1, 0
        for start, lowest in enumerate(rest):
            while end < len(rest) and rest[end].price - lowest.price <= width:
                end += 1
            if end - start > size:
                first, size = start, end - start
        if size < _MIN_TOUCHES:
            return levels
        group = sorted(rest[first : first + size], key=lambda pivot: pivot.index)
        del rest[first : first + size]
        levels.append(Level(sum(pivot.price for pivot in group) / size, group))


def _is_beyond(view: View, level: Level, close: float) -> bool:
    # The average true range of the last touch, so that a level once broken stays broken.
    margin = _BREAK_ATRS * view.atr[level.pivots[-1].index]
    return level.sign * (close - level.price) >= margin


def _was_broken(view: View, level: Level) -> bool:
    closes = view.close[level.pivots[0].index : -1]
    farthest = max(closes) if level.sign > 0 else min(closes)
    return _is_beyond(view, level, farthest)


def _described(view: View, level: Level, direction: str) -> tuple[dict[str, Any], Features]:
    pattern = {
        "kind": "resistance" if level.sign > 0 else "support",
        "direction": direction,
        "points": points(view, level.pivots),
        "price": level.price,
        "touches": len(level.pivots),
    }
    return pattern, _features(view, level)


def _features(view: View, level: Level) -> Features:
    first, last = level.pivots[0].index, level.pivots[-1].index
    distances = (abs(pivot.price - level.price) for pivot in level.pivots)
    return {
        "touches": min(len(level.pivots), 5),
        "spread_atrs": max(distances) / view.last_atr,
        "duration_log": math.log(last - first),
        "waited": min((len(view.close) - 1 - last) / (last - first), 2.0),
        "bounce_log_atrs": math.log(max(_smallest_bounce(view, level) / view.last_atr, 0.1)),
    }


def _smallest_bounce(view: View, level: Level) -> float:
    """How far the price went away from the level between two touches, at least."""
    between = zip(level.pivots, level.pivots[1:], strict=False)
    if level.sign > 0:
        return min(level.price - min(view.low[a.index : b.index + 1]) for a, b in between)
    return min(max(view.high[a.index : b.index + 1]) - level.price for a, b in between)


def _breakouts(view: View, levels: list[Level]) -> list[tuple[dict[str, Any], Features]]:
    """The best known of the levels that the newest candle has broken.

    ``volume_confirmed`` says whether its volume was at least 1.5 times the mean of the 20 candles
    before; without a baseline there is nothing to tell, and no breakout is reported.
    """
    baseline = view.volume[-_VOLUME_BASELINE - 1 : -1]
    if not levels or len(baseline) < _VOLUME_BASELINE or sum(baseline) <= 0:
        return []
    ratio = view.volume[-1] / (sum(baseline) / len(baseline))
    level = max(levels, key=lambda level: len(level.pivots))
    pattern = {
        "kind": "breakout",
        "direction": "bullish" if level.sign > 0 else "bearish",
        "points": [*points(view, level.pivots), [view.open_ms[-1], view.close[-1]]],
        "price": level.price,
        "touches": len(level.pivots),
        "volume_ratio": ratio,
        "volume_confirmed": ratio >= _CONFIRMING_VOLUME_RATIO,
    }
    move = level.sign * (view.close[-1] - view.close[-2]) / view.last_atr
    return [
        (
            pattern,
            _features(view, level)
            | {"volume_ratio_log": math.log(max(ratio, 0.1)), "move_atrs": min(move, 4.0)},
        )
    ]
