"""The regime of a market, and how far each strategy is trusted in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.signals.strategies.base import number, timeframe
from shared.signals.types import Market, Regime, RegimeName

TIMEFRAME = "1h"
BASELINE_TIMEFRAME = "1d"
TREND_ADX = 25.0  # Wilder, New Concepts in Technical Trading Systems, 1978
VOLATILE_RATIO = 1.75  # a volatility index of 35 where 20 is normal

EFFECT: dict[RegimeName, dict[str, float]] = {
    "trending": {
        "momentum": 1.25,
        "mean_reversion": 0.4,
        "arbitrage": 1.0,
        "market_making": 0.8,
        "trend_following": 1.5,
    },
    "ranging": {
        "momentum": 0.75,
        "mean_reversion": 1.5,
        "arbitrage": 1.0,
        "market_making": 1.25,
        "trend_following": 0.5,
    },
    "volatile": {
        "momentum": 0.75,
        "mean_reversion": 0.75,
        "arbitrage": 1.25,
        "market_making": 0.5,
        "trend_following": 0.75,
    },
    "unknown": {},
}
"""Factors on the weights: trends favour those who follow, ranges those who fade, and in a storm
only price differences are trusted more than usual. The products are scaled back to a sum of 1."""


def classify(market: Market) -> Regime:
    """``volatile`` where volatility is 1.75 times its usual, else by ADX; else ``unknown``.

    Storms go before trends.
    """
    table = timeframe(market, TIMEFRAME)
    adx = number(table, "adx_14")
    ratio = volatility_ratio(market)
    evidence: dict[str, Any] = {
        "timeframe": TIMEFRAME,
        "adx_14": adx,
        "volatility_ratio": ratio,
        "volatility_baseline": BASELINE_TIMEFRAME,
    }
    if ratio is not None and ratio >= VOLATILE_RATIO:
        return Regime("volatile", evidence)
    missing = [f"{TIMEFRAME}.adx_14"] if adx is None else []
    missing += ["volatility_ratio"] if ratio is None else []
    if missing or adx is None:
        return Regime("unknown", evidence | {"missing": missing})
    return Regime("trending" if adx >= TREND_ADX else "ranging", evidence)


def volatility_ratio(market: Market) -> float | None:
    """Volatility of the last thirty hours over that of the last thirty days, both annualised.

    The scan carries no longer history of volatility that "usual" could be read from.
    """
    present = number(timeframe(market, TIMEFRAME), "volatility_annualised_percent")
    usual = number(timeframe(market, BASELINE_TIMEFRAME), "volatility_annualised_percent")
    return present / usual if present is not None and usual is not None and usual > 0 else None


def adjust(weights: Mapping[str, float], regime: RegimeName) -> dict[str, float]:
    """The weights under a regime; they still sum to one."""
    effect = EFFECT[regime]
    scaled = {name: weight * effect.get(name, 1.0) for name, weight in weights.items()}
    total = sum(scaled.values())
    return {name: weight / total for name, weight in scaled.items()}
