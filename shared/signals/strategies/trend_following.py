"""Trend following: the same order of moving averages on several timeframes, with a strong ADX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.signals.strategies.base import abstain, clip, opinion, required, timeframe
from shared.signals.types import Context, Market, Signal, StrategySignal

TIMEFRAME_WEIGHTS = {"15m": 0.15, "1h": 0.25, "4h": 0.30, "1d": 0.30}
NO_TREND_ADX, STRONG_ADX = 15.0, 40.0
MIN_TIMEFRAMES = 3
MIN_DIRECTION = 0.25
MIN_AGREEMENT = 0.6


@dataclass(frozen=True)
class _View:
    """One timeframe: 1 where the averages are stacked upwards, -1 downwards, 0 mixed."""

    alignment: int
    adx: float

    @property
    def force(self) -> float:
        return self.alignment * clip((self.adx - NO_TREND_ADX) / (STRONG_ADX - NO_TREND_ADX))


class TrendFollowing:
    """Joins a trend that most timeframes share, the slower ones weighing more."""

    name = "trend_following"

    def evaluate(self, market: Market, context: Context) -> StrategySignal:
        views: dict[str, _View] = {}
        missing: list[str] = []
        for name in TIMEFRAME_WEIGHTS:
            view = _view(market, name)
            if isinstance(view, _View):
                views[name] = view
            else:
                missing += view
        if len(views) < MIN_TIMEFRAMES:
            return abstain(self.name, market, context, missing=missing)
        total = sum(TIMEFRAME_WEIGHTS[name] for name in views)
        direction = sum(TIMEFRAME_WEIGHTS[n] * v.force for n, v in views.items()) / total
        sign = 1 if direction > 0 else -1
        agreement = (
            sum(TIMEFRAME_WEIGHTS[n] for n, v in views.items() if v.alignment == sign) / total
        )
        evidence: dict[str, Any] = {
            "alignment": {n: v.alignment for n, v in views.items()},
            "adx_14": {n: v.adx for n, v in views.items()},
            "direction": direction,
            "agreement": agreement,
        }
        if missing:
            evidence["missing"] = missing
        signal = _signal(direction, agreement)
        return opinion(
            self.name, market, context, signal, abs(direction), 0.9 * agreement, evidence
        )


def _view(market: Market, name: str) -> _View | list[str]:
    table = timeframe(market, name)
    found, missing = required(table, name, "ema_9", "ema_21", "ema_50", "adx_14")
    if missing:
        return missing
    fast, middle, slow = found["ema_9"], found["ema_21"], found["ema_50"]
    alignment = 1 if fast > middle > slow else -1 if fast < middle < slow else 0
    return _View(alignment, found["adx_14"])


def _signal(direction: float, agreement: float) -> Signal:
    if abs(direction) < MIN_DIRECTION or agreement < MIN_AGREEMENT:
        return "HOLD"
    return "BUY" if direction > 0 else "SELL"
