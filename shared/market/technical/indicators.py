"""Technical indicators of one window of closed candles: the newest value of each.

Definitions and defaults are TA-Lib's. A value is a function of the window alone. One whose
warm-up the window is too short for, or whose denominator is zero, is absent and named; one that
still carries a little of its seed is told with the seed's weight (``warmup``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.market.candles.candle_rows import sliced
from shared.market.candles.memo import Memo
from shared.market.technical import warmup
from shared.market.technical.talib_lean import functions
from shared.market.types import TIMEFRAME_MS, Candles

_YEAR_MS = 365 * 86_400_000  # crypto trades on every day of the year
_AVERAGED = 20  # candles in the volume baseline, the VWAP, the bands and the z-score
_BAND_DEVIATIONS = 2
_VOLATILITY_RETURNS = 30
_STOCHASTIC_REACH = 18  # candles behind a stochastic of 14, 3, 3

NAMES: tuple[str, ...] = tuple(warmup.FIRST)

Array = NDArray[np.float64]


def compute(candles: Candles) -> dict[str, float]:
    """The newest value of each of ``NAMES`` that the window allows, ``close`` and ``closed_at_ms``.

    Prices are in quote currency, ``atr_14`` too. ``obv`` is the on-balance volume of the newest
    500 candles, in base currency; one that counts from the listing differs by a constant that
    moves along. The VWAP is the rolling one over 20 candles, of typical prices; relative volume
    compares with the mean of the 20 candles before. Volatility is the standard deviation of the
    last 30 log returns times the square root of the candles in a year.
    """
    if not len(candles):
        return {}
    usable = warmup.usable(len(candles))
    recent = sliced(candles, slice(-warmup.MEMORY, None))
    values = _with_memory(recent)
    values |= _stochastic(recent) | _bands(recent) | _from_volume(recent) | _from_returns(recent)
    if "ema_200" in usable:
        values["ema_200"] = functions().EMA(candles.close, 200).item(-1)
    found = {n: value for n, value in values.items() if n in usable and math.isfinite(value)}
    return found | {"close": candles.close.item(-1), "closed_at_ms": candles.closed_ms}


def absent(values: Mapping[str, float], count: int) -> list[str]:
    """What ``compute`` could not give for a window of ``count`` candles, and why.

    ``ema_200: 320 of 1582 candles`` names the candles that a settled value needs.
    """
    usable = warmup.usable(count)
    return [
        f"{name}: not defined, nothing moved or traded"
        if name in usable
        else f"{name}: {count} of {warmup.SETTLED[name]} candles"
        for name in NAMES
        if name not in values
    ]


def settling(values: Mapping[str, float], count: int) -> dict[str, float]:
    """The share of the seed in each of ``values`` that has not forgotten it to 1e-6."""
    weights = warmup.settling(count)
    return {name: float(f"{weight:.2g}") for name, weight in weights.items() if name in values}


def _with_memory(candles: Candles) -> dict[str, float]:
    ta, close = functions(), candles.close
    macd, signal, histogram = ta.MACD(close, 12, 26, 9)
    values = {
        "macd": macd.item(-1),
        "macd_signal": signal.item(-1),
        "macd_histogram": histogram.item(-1),
        "atr_14": ta.ATR(candles.high, candles.low, close, 14).item(-1),
        "ema_9": ta.EMA(close, 9).item(-1),
        "ema_21": ta.EMA(close, 21).item(-1),
        "ema_50": ta.EMA(close, 50).item(-1),
        "obv": ta.OBV(close, candles.volume).item(-1),
    }
    if len(close) > 1:
        values["macd_histogram_previous"] = histogram.item(-2)
        values |= _quotients(candles)
    return values


def _quotients(candles: Candles) -> dict[str, float]:
    """RSI and the directional indicators: quotients of averages of moves."""
    ta, high, low, close = functions(), candles.high, candles.low, candles.close
    values = {
        "rsi_14": ta.RSI(close, 14).item(-1),
        "adx_14": ta.ADX(high, low, close, 14).item(-1),
        "plus_di_14": ta.PLUS_DI(high, low, close, 14).item(-1),
        "minus_di_14": ta.MINUS_DI(high, low, close, 14).item(-1),
    }
    if close[-1] == close[-2]:
        _drop_unforgotten(values, candles)
    return values


def _drop_unforgotten(values: dict[str, float], candles: Candles) -> None:
    """Take out the quotients of averages whose seed the last move left in force.

    While nothing moves, numerator and denominator fade together, and the seed with them: what
    counts is the candles up to the newest move. Without any, TA-Lib tells 0.
    """
    close_moved = candles.close[1:] != candles.close[:-1]
    range_moved = close_moved | (candles.high != candles.low)[1:]
    for name in tuple(values):
        moves = np.flatnonzero(close_moved if name == "rsi_14" else range_moved)
        if not len(moves) or name not in warmup.usable(int(moves[-1]) + 2):
            del values[name]


def _stochastic(candles: Candles) -> dict[str, float]:
    """Slow %K and %D of 14, 3, 3: means of where a close lies in the range of 14 candles."""
    if len(candles) < _STOCHASTIC_REACH:
        return {}
    high, low, close = (a[-_STOCHASTIC_REACH:] for a in (candles.high, candles.low, candles.close))
    if (high[:5] == low[:5]).any() and not _has_ranges(high, low):
        return {}
    k, d = functions().STOCH(high, low, close, 14, 3, 0, 3, 0)
    return {"stochastic_k": float(k[-1]), "stochastic_d": float(d[-1])}


def _has_ranges(high: Array, low: Array) -> bool:
    """Whether each of the five ranges of 14 candles behind %D is wider than nothing."""
    return all(high[i : i + 14].max() > low[i : i + 14].min() for i in range(5))


def _bands(candles: Candles) -> dict[str, float]:
    """Bollinger's bands and the z-score, of the population's deviation as John Bollinger has it."""
    if len(candles) < _AVERAGED:
        return {}
    close = float(candles.close[-1])
    offsets = candles.close[-_AVERAGED:] - close  # exact zeros where nothing moves
    mean_offset = float(offsets.sum()) / _AVERAGED
    deviations = offsets - mean_offset
    deviation = math.sqrt(float(deviations @ deviations) / _AVERAGED)
    mean = close + mean_offset
    values = {
        "bollinger_upper": mean + _BAND_DEVIATIONS * deviation,
        "bollinger_middle": mean,
        "bollinger_lower": mean - _BAND_DEVIATIONS * deviation,
    }
    return values | ({"zscore_20": -mean_offset / deviation} if deviation > 0 else {})


def _from_volume(candles: Candles) -> dict[str, float]:
    count = len(candles)
    if count < _AVERAGED:
        return {}
    values: dict[str, float] = {}
    high, low, close = (a[-_AVERAGED:] for a in (candles.high, candles.low, candles.close))
    volume = candles.volume[-_AVERAGED:]
    total, newest = float(volume.sum()), float(volume[-1])
    if total > 0:
        vwap = float((high + low + close) @ volume) / (3 * total)
        values["vwap_distance_percent"] = 100 * (float(close[-1]) / vwap - 1)
    if count > _AVERAGED:
        baseline = float(candles.volume[-_AVERAGED - 1 : -1].sum()) / _AVERAGED
        if baseline > 0:
            values["relative_volume_ratio"] = newest / baseline
    return values


def _from_returns(candles: Candles) -> dict[str, float]:
    close, values = candles.close, {}
    if len(close) >= 2:
        values["return_1_percent"] = 100 * (float(close[-1]) / float(close[-2]) - 1)
    if len(close) > _VOLATILITY_RETURNS:
        logs = np.log(close[-_VOLATILITY_RETURNS - 1 :])
        returns = logs[1:] - logs[:-1]
        deviations = returns - float(returns.sum()) / _VOLATILITY_RETURNS
        variance = float(deviations @ deviations) / (_VOLATILITY_RETURNS - 1)
        periods = _YEAR_MS / TIMEFRAME_MS[candles.timeframe]
        values["volatility_annualised_percent"] = 100 * math.sqrt(variance * periods)
    return values


newest: Memo[dict[str, float]] = Memo(compute)
"""``compute``, once for each window of a venue."""
