"""How long an indicator remembers where its series began, and when its value may be used.

An exponential average starts from a seed, the plain mean of its first candles, and forgets it by
the factor ``1 - alpha`` with every further candle. What is left after ``count`` candles is the
seed's weight:

- EMA of n (alpha = 2 / (n + 1), seeded by n candles): (1 - alpha) ** (count - n).
- Wilder's averages of 14 (alpha = 1 / 14) behind RSI, ATR and the directional indicators:
  (13 / 14) ** (count - 15). The directional indicators sum 13 moves first: count - 14.
- ADX averages what is itself settling. A memory of d ** k behind an average of the same memory
  leaves (1 + k / 14) * d ** k, for k = count - 28.
- MACD is as slow as its EMA of 26; the signal, an EMA of 9 behind it, adds its own seed of nine
  values and at most 0.2 / (1 - 0.8 / d) = 1.47 times what is left of the MACD's.

Everything else looks at a fixed number of candles and has no memory before them. What the value is
off by is the weight times the distance of the seed from the value of an endless series. For a
price that distance is of the price's own order. Ranges and moves differ by orders of magnitude,
and a MACD crosses zero: there the weight has to be ``_SWING`` times smaller for the same accuracy.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable

TOLERANCE = 1e-6
"""The relative difference from TA-Lib on an endless series below which a value is settled."""
USABLE_WEIGHT = 1e-3
"""A seed with more weight than this, a thousandth, makes the value absent."""
MEMORY = 500
"""Candles after which every seed but the EMA 200's weighs less than 2e-8: no more are looked at."""
_SWING = 1e4
_FAR = 100_000  # candles; every weight is below any limit by then

_WILDER = 13 / 14
_SLOW = 25 / 27  # of the EMA of 26
_SIGNAL = 0.8  # of the EMA of 9


def _ema(length: int) -> Callable[[int], float]:
    return lambda count: float((1 - 2 / (length + 1)) ** (count - length))


def _wilder(seeded_by: int) -> Callable[[int], float]:
    return lambda count: float(_WILDER ** (count - seeded_by))


def _adx(count: int) -> float:
    return float((1 + (count - 28) / 14) * _WILDER ** (count - 28))


def _macd(count: int) -> float:
    return float(_SLOW ** (count - 26))


def _macd_signal(count: int) -> float:
    return float(_SIGNAL ** (count - 34) + 0.2 / (1 - _SIGNAL / _SLOW) * _macd(count))


_WEIGHTS: dict[str, Callable[[int], float]] = {
    "rsi_14": _wilder(15),
    "atr_14": _wilder(15),
    "plus_di_14": _wilder(14),
    "minus_di_14": _wilder(14),
    "adx_14": _adx,
    "macd": _macd,
    "macd_signal": _macd_signal,
    "macd_histogram": _macd_signal,
    "macd_histogram_previous": lambda count: _macd_signal(count - 1),
    "ema_9": _ema(9),
    "ema_21": _ema(21),
    "ema_50": _ema(50),
    "ema_200": _ema(200),
}

FIRST: dict[str, int] = {
    "rsi_14": 15,
    "macd": 34,
    "macd_signal": 34,
    "macd_histogram": 34,
    "macd_histogram_previous": 35,
    "bollinger_upper": 20,
    "bollinger_middle": 20,
    "bollinger_lower": 20,
    "atr_14": 15,
    "adx_14": 28,
    "plus_di_14": 15,
    "minus_di_14": 15,
    "ema_9": 9,
    "ema_21": 21,
    "ema_50": 50,
    "ema_200": 200,
    "obv": MEMORY,
    "stochastic_k": 18,
    "stochastic_d": 18,
    "vwap_distance_percent": 20,
    "relative_volume_ratio": 21,
    "zscore_20": 20,
    "return_1_percent": 2,
    "volatility_annualised_percent": 31,
}
"""The candles that the definition needs at least; TA-Lib's first value comes with them."""


def seed_weight(name: str, count: int) -> float:
    """The share of the value that still comes from the seed; 0 where nothing is remembered."""
    if count < FIRST[name]:
        return 1.0
    weight = _WEIGHTS.get(name)
    return 0.0 if weight is None else weight(count)


def _candles_for(name: str, limit: float) -> int:
    """The fewest candles that leave the seed no more weight than ``limit``."""
    candidates = range(FIRST[name], _FAR)
    at = bisect.bisect_left(candidates, True, key=lambda count: seed_weight(name, count) <= limit)
    return candidates[at]


def _settled_weight(name: str) -> float:
    return TOLERANCE if name.startswith("ema_") else TOLERANCE / _SWING


USABLE: dict[str, int] = {name: _candles_for(name, USABLE_WEIGHT) for name in FIRST}
"""With fewer candles than this a value is absent: 891 for the EMA of 200, 223 for that of 50."""
SETTLED: dict[str, int] = {name: _candles_for(name, _settled_weight(name)) for name in FIRST}
"""From so many candles on a value is that of an endless series within ``TOLERANCE``.

1,582 for the EMA of 200, which is why windows hold more.
"""


@functools.lru_cache(maxsize=4_096)
def usable(count: int) -> frozenset[str]:
    """The indicators that ``count`` candles are enough for."""
    return frozenset(name for name, needed in USABLE.items() if count >= needed)


@functools.lru_cache(maxsize=4_096)
def settling(count: int) -> dict[str, float]:
    """The seed's weight in each indicator that is usable but not settled. Not to be changed."""
    return {
        name: seed_weight(name, count)
        for name, needed in SETTLED.items()
        if USABLE[name] <= count < needed
    }
