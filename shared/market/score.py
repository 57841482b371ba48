"""The AI score: how good this minute looks for opening a long position, 0 to 1.

A logistic combination of features in -1..1, positive where they speak for a long. The weights are
set by hand and the score is NOT a calibrated probability: 0.7 does not mean that 70 of 100 such
minutes end well. They follow three reasons:

- Trend on the higher timeframes weighs most (4h and 1h: 0.6 and 0.5, with the ADX's directed
  strength 0.5), because time-series momentum is the best documented regularity of the traded
  inputs (Moskowitz, Ooi and Pedersen, Journal of Financial Economics 104, 2012).
- What turns quickly weighs less: momentum and RSI of 15m (0.4, 0.3), volume behind the newest
  move (0.25), order flow and book imbalance (0.35, 0.3; Cont, Kukanov and Stoikov, Journal of
  Financial Econometrics 12, 2014, whose effect lasts seconds to minutes), patterns (0.4).
- A stretched price (5m z-score, -0.3) and a wide spread (-0.4) speak against buying now. The
  intercept of -0.1 stands for the fees that a trade has to earn back.

The best case is a logit of about 3.6 and real minutes lie between 0.2 and 0.85.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CALIBRATED = False
INTERCEPT = -0.1
MAX_MISSING_SHARE = 0.25  # of all weight; with less known than this there is no score

Values = Mapping[str, float]
_DIRECTIONS = {"bullish": 1.0, "bearish": -1.0, "neutral": 0.0}
_SHAPES = ("triangle", "shoulders", "breakout")  # levels alone have no direction of their own


@dataclass(frozen=True)
class Evidence:
    """What a score is made of; whatever could not be had is absent or ``None``."""

    indicators: Mapping[str, Values]
    patterns: Sequence[Mapping[str, Any]] | None
    order_flow: Mapping[str, Any] | None
    microstructure: Mapping[str, Any] | None


@dataclass(frozen=True)
class Score:
    """``value`` is ``None`` where too much was missing.

    ``contributions`` holds the intercept and weight times value of each feature; their sum is the
    logit. ``missing`` names the features that had no input and contribute nothing.
    """

    value: float | None
    contributions: dict[str, float]
    missing: list[str]


def score(evidence: Evidence) -> Score:
    """Score a symbol's minute for a long entry."""
    contributions, missing, lacking = {"intercept": INTERCEPT}, [], 0.0
    for name, (weight, feature) in FEATURES.items():
        value = feature(evidence)
        if value is None:
            missing.append(name)
            lacking += abs(weight)
        else:
            contributions[name] = weight * value
    if lacking > MAX_MISSING_SHARE * _ALL_WEIGHT:
        return Score(None, contributions, missing)
    return Score(1 / (1 + math.exp(-sum(contributions.values()))), contributions, missing)


def _trend(timeframe: str) -> Callable[[Evidence], float | None]:
    """Distance of the 21-candle EMA from the 50-candle one, in average true ranges."""

    def feature(evidence: Evidence) -> float | None:
        fast, slow, atr = _of(evidence, timeframe, "ema_21", "ema_50", "atr_14")
        if fast is None or slow is None or not atr:
            return None
        return math.tanh((fast - slow) / (1.5 * atr))

    return feature


def _directed_strength(evidence: Evidence) -> float | None:
    """Which directional indicator leads, times the trend's strength; an ADX of 50 is full."""
    adx, plus, minus = _of(evidence, "1h", "adx_14", "plus_di_14", "minus_di_14")
    if adx is None or plus is None or minus is None or plus + minus <= 0:
        return None
    return (plus - minus) / (plus + minus) * min(adx / 50, 1)


def _momentum(evidence: Evidence) -> float | None:
    """The MACD histogram in average true ranges; a quarter of one is much."""
    histogram, atr = _of(evidence, "15m", "macd_histogram", "atr_14")
    return None if histogram is None or not atr else math.tanh(histogram / (0.25 * atr))


def _rsi(evidence: Evidence) -> float | None:
    (rsi,) = _of(evidence, "15m", "rsi_14")
    return None if rsi is None else (rsi - 50) / 50


def _volume_behind_move(evidence: Evidence) -> float | None:
    """The newest 15m return's direction, times how unusual its volume is (three times is full)."""
    change, ratio = _of(evidence, "15m", "return_1_percent", "relative_volume_ratio")
    if change is None or ratio is None:
        return None
    return math.copysign(min(ratio / 3, 1), change) if change else 0.0


def _stretch(evidence: Evidence) -> float | None:
    """How far the price is from its mean; three standard deviations are full."""
    (zscore,) = _of(evidence, "5m", "zscore_20")
    return None if zscore is None else max(-1.0, min(zscore / 3, 1.0))


def _patterns(evidence: Evidence) -> float | None:
    """Sum of direction times confidence of shapes and breakouts; none seen is zero."""
    if evidence.patterns is None:
        return None
    votes = (
        _DIRECTIONS[pattern["direction"]] * pattern["confidence"]
        for pattern in evidence.patterns
        if any(shape in pattern["kind"] for shape in _SHAPES)
    )
    return max(-1.0, min(sum(votes), 1.0))


def _order_flow(evidence: Evidence) -> float | None:
    return None if evidence.order_flow is None else float(evidence.order_flow["delta_ratio"])


def _imbalance(evidence: Evidence) -> float | None:
    return None if evidence.microstructure is None else evidence.microstructure["imbalance_ratio"]


def _spread(evidence: Evidence) -> float | None:
    """A spread of 20 bps, which is what two taker fees cost, is full."""
    if evidence.microstructure is None:
        return None
    return min(float(evidence.microstructure["spread_bps"]) / 20, 1.0)


def _of(evidence: Evidence, timeframe: str, *names: str) -> list[float | None]:
    values = evidence.indicators.get(timeframe, {})
    return [values.get(name) for name in names]


FEATURES: dict[str, tuple[float, Callable[[Evidence], float | None]]] = {
    "trend_4h": (0.6, _trend("4h")),
    "trend_1h": (0.5, _trend("1h")),
    "directed_strength_1h": (0.5, _directed_strength),
    "momentum_15m": (0.4, _momentum),
    "rsi_15m": (0.3, _rsi),
    "volume_behind_move_15m": (0.25, _volume_behind_move),
    "stretch_5m": (-0.3, _stretch),
    "patterns": (0.4, _patterns),
    "order_flow": (0.35, _order_flow),
    "book_imbalance": (0.3, _imbalance),
    "spread": (-0.4, _spread),
}
_ALL_WEIGHT = sum(abs(weight) for weight, _ in FEATURES.values())
