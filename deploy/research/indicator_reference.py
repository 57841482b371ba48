"""Every indicator of the scan once more, by TA-Lib's public functions over a whole history.

The scan sees one window, starts cold, and keeps the newest value. Here a function runs over all
that was ever recorded, so that its warm-up lies in the distant past. Nothing is shared with
``shared.market.technical.indicators`` but the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.market.technical import warmup
from shared.market.types import TIMEFRAME_MS, Candles

Array = NDArray[np.float64]
_YEAR_MS = 365 * 86_400_000
_OSCILLATORS = ("stochastic_k", "stochastic_d", "zscore_20", "vwap_distance_percent")
_ROUNDING = 1e-4
"""Oscillators touch zero, where running sums leave some 1e-12 of rounding: a smaller value is
compared with this, a ten-thousandth of a percent or of a deviation."""


@dataclass(frozen=True)
class Comparison:
    """One value of the scan beside TA-Lib's.

    Attributes:
        expected: TA-Lib's; ``None`` where it has none at this candle.
        difference: relative to the larger of both; ``None`` without ``expected``.
        seed_weight: what the scan's value still carries of its start; 0 once it is settled.
    """

    timeframe: str
    name: str
    value: float
    expected: float | None
    difference: float | None
    seed_weight: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within 1e-6; a value that is settling is not judged."""
        if self.seed_weight > 0:
            return True
        return self.difference is not None and self.difference <= warmup.TOLERANCE


def compare(
    values: Mapping[str, float], settling: Mapping[str, float], history: Candles
) -> list[Comparison]:
    """The indicators of one timeframe beside those of ``history``, which ends with the same candle.

    Raises:
        ValueError: ``history`` ends with another candle than ``values``.
    """
    if (closed_ms := values["closed_at_ms"]) != history.closed_ms:
        raise ValueError(
            f"history: expected to end at {closed_ms} as the values do, was {history.closed_ms}"
        )
    series = whole_series(history)
    found = []
    for name, value in values.items():
        if name in ("close", "closed_at_ms"):
            continue
        expected = float(series[name][-1])
        known = bool(np.isfinite(expected))
        found.append(
            Comparison(
                timeframe=history.timeframe,
                name=name,
                value=value,
                expected=expected if known else None,
                difference=relative_difference(name, value, expected) if known else None,
                seed_weight=settling.get(name, 0.0),
            )
        )
    return found


def relative_difference(name: str, value: float, expected: float) -> float:
    """The difference of two values of the indicator ``name``, relative to the larger one."""
    floor = _ROUNDING if name in _OSCILLATORS else 0.0
    largest = max(abs(value), abs(expected), floor)
    return abs(value - expected) / largest if largest else 0.0


def whole_series(candles: Candles) -> dict[str, Array]:
    """Every indicator at every candle; NaN before its warm-up is over."""
    return _recursive(candles) | _stochastic_and_bands(candles) | _averages(candles)


def _recursive(candles: Candles) -> dict[str, Array]:
    import talib

    bars, close = (candles.high, candles.low, candles.close), candles.close
    macd, signal, histogram = talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)
    emas = {f"ema_{length}": talib.EMA(close, length) for length in (9, 21, 50, 200)}
    return emas | {
        "rsi_14": talib.RSI(close, 14),
        "macd": macd,
        "macd_signal": signal,
        "macd_histogram": histogram,
        "macd_histogram_previous": _earlier(histogram, 1),
        "atr_14": talib.ATR(*bars, timeperiod=14),
        "adx_14": talib.ADX(*bars, timeperiod=14),
        "plus_di_14": talib.PLUS_DI(*bars, timeperiod=14),
        "minus_di_14": talib.MINUS_DI(*bars, timeperiod=14),
        "obv": _recent_obv(talib.OBV(close, candles.volume), candles.volume),
    }


def _recent_obv(total: Array, volume: Array) -> Array:
    """The last 500 candles' part; TA-Lib starts with the first candle's volume."""
    first = warmup.MEMORY - 1
    return total - _earlier(total, first) + _earlier(volume, first)


def _stochastic_and_bands(candles: Candles) -> dict[str, Array]:
    import talib

    bars, close = (candles.high, candles.low, candles.close), candles.close
    k, d = talib.STOCH(*bars, fastk_period=14, slowk_period=3, slowd_period=3)
    upper, middle, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2, nbdevdn=2)
    return {
        "stochastic_k": k,
        "stochastic_d": d,
        "bollinger_upper": upper,
        "bollinger_middle": middle,
        "bollinger_lower": lower,
    }


def _averages(candles: Candles) -> dict[str, Array]:
    """What TA-Lib has no function of its own for, from its sums, means and deviations.

    Its deviation subtracts sums of squares; prices are taken from the last one, so that fewer
    digits are lost.
    """
    import talib

    close, volume = candles.close, candles.volume
    centred = close - close[-1]
    returns = np.append(np.nan, np.diff(np.log(close)))
    per_year = _YEAR_MS / TIMEFRAME_MS[candles.timeframe]
    sample = np.sqrt(30 / 29)
    with np.errstate(divide="ignore", invalid="ignore"):
        typical = talib.TYPPRICE(candles.high, candles.low, close)
        vwap = talib.SUM(typical * volume, 20) / talib.SUM(volume, 20)
        return {
            "vwap_distance_percent": 100 * (close / vwap - 1),
            "relative_volume_ratio": volume / _earlier(talib.SMA(volume, 20), 1),
            "zscore_20": (centred - talib.SMA(centred, 20)) / talib.STDDEV(centred, 20, 1),
            "return_1_percent": talib.ROC(close, 1),
            "volatility_annualised_percent": 100
            * sample
            * np.sqrt(per_year)
            * np.append(np.nan, talib.STDDEV(returns[1:], 30, 1)),
        }


def _earlier(values: Array, candles: int) -> Array:
    """The values of so many candles before, NaN where there were none."""
    return np.append(np.full(candles, np.nan), values)[: len(values)]
