"""Technical indicators of one window of closed candles: the newest value of each.

TA-Lib's definitions and defaults, on at most 1,000 candles. A value whose warm-up is longer than
the window, or whose denominator is zero, is absent and named.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.market.memo import Memo
from shared.market.talib_lean import functions
from shared.market.types import TIMEFRAME_MS, Candles

_YEAR_MS = 365 * 86_400_000  # crypto trades on every day of the year
_AVERAGED = 20  # candles in the volume baseline, the VWAP and the z-score
_VOLATILITY_RETURNS = 30

NAMES: tuple[str, ...] = (
    "rsi_14",
    "macd",
    "macd_signal",
    "macd_histogram",
    "macd_histogram_previous",
    "bollinger_upper",
    "bollinger_middle",
    "bollinger_lower",
    "atr_14",
    "adx_14",
    "plus_di_14",
    "minus_di_14",
    "ema_9",
    "ema_21",
    "ema_50",
    "ema_200",
    "obv",
    "stochastic_k",
    "stochastic_d",
    "vwap_distance_percent",
    "relative_volume_ratio",
    "zscore_20",
    "return_1_percent",
    "volatility_annualised_percent",
)


def compute(candles: Candles) -> dict[str, float]:
    """The newest value of each of ``NAMES`` that the window allows, ``close`` and ``closed_at_ms``.

    Prices are in quote currency, ``atr_14`` too; ``obv`` is in base currency and counts from the
    window's start, so that only its changes mean anything. The VWAP is the rolling one over 20
    candles, of typical prices; relative volume compares with the mean of the 20 candles before.
    Volatility is the standard deviation of the last 30 log returns times the square root of the
    candles in a year.
    """
    if not len(candles):
        return {}
    values = _from_talib(candles) | _from_volume(candles) | _from_returns(candles)
    found = {name: value for name, value in values.items() if math.isfinite(value)}
    return found | {"close": float(candles.close[-1]), "closed_at_ms": candles.closed_ms}


def absent(values: dict[str, float]) -> list[str]:
    """The indicators that ``compute`` could not give."""
    return [name for name in NAMES if name not in values]


def _from_talib(candles: Candles) -> dict[str, float]:
    ta = functions()
    high, low, close = candles.high, candles.low, candles.close
    values: dict[str, float] = {}

    def put(needs: int, names: tuple[str, ...], function: Any, *arguments: Any) -> None:
        if len(candles) < needs:
            return
        result = function(*arguments)
        columns = result if isinstance(result, tuple) else (result,)
        values.update({n: float(c[-1]) for n, c in zip(names, columns, strict=True)})

    bands = ("bollinger_upper", "bollinger_middle", "bollinger_lower")
    put(15, ("rsi_14",), ta.RSI, close, 14)
    put(20, bands, ta.BBANDS, close, 20, 2.0, 2.0, 0)
    put(15, ("atr_14",), ta.ATR, high, low, close, 14)
    put(28, ("adx_14",), ta.ADX, high, low, close, 14)
    put(15, ("plus_di_14",), ta.PLUS_DI, high, low, close, 14)
    put(15, ("minus_di_14",), ta.MINUS_DI, high, low, close, 14)
    put(18, ("stochastic_k", "stochastic_d"), ta.STOCH, high, low, close, 14, 3, 0, 3, 0)
    put(1, ("obv",), ta.OBV, close, candles.volume)
    for length in (9, 21, 50, 200):
        put(length, (f"ema_{length}",), ta.EMA, close, length)
    if len(candles) >= 34:
        macd, signal, histogram = ta.MACD(close, 12, 26, 9)
        values |= {"macd": float(macd[-1]), "macd_signal": float(signal[-1])}
        values["macd_histogram"] = float(histogram[-1])
        values["macd_histogram_previous"] = float(histogram[-2])
    return values


def _from_volume(candles: Candles) -> dict[str, float]:
    values: dict[str, float] = {}
    volume, close = candles.volume[-_AVERAGED:], float(candles.close[-1])
    if len(candles) >= _AVERAGED and (total := float(volume.sum())) > 0:
        recent = slice(-_AVERAGED, None)
        typical = (candles.high[recent] + candles.low[recent] + candles.close[recent]) / 3
        vwap = float(typical @ volume) / total
        values["vwap_distance_percent"] = 100 * (close / vwap - 1)
    if len(candles) > _AVERAGED:
        baseline = float(candles.volume[-_AVERAGED - 1 : -1].mean())
        if baseline > 0:
            values["relative_volume_ratio"] = float(candles.volume[-1]) / baseline
    return values


def _from_returns(candles: Candles) -> dict[str, float]:
    values: dict[str, float] = {}
    close = candles.close
    if len(close) >= 2:
        values["return_1_percent"] = 100 * (float(close[-1]) / float(close[-2]) - 1)
    if len(close) >= _AVERAGED and (spread := float(close[-_AVERAGED:].std())) > 0:
        values["zscore_20"] = (float(close[-1]) - float(close[-_AVERAGED:].mean())) / spread
    if len(close) > _VOLATILITY_RETURNS:
        returns: NDArray[np.float64] = np.diff(np.log(close[-_VOLATILITY_RETURNS - 1 :]))
        periods = _YEAR_MS / TIMEFRAME_MS[candles.timeframe]
        values["volatility_annualised_percent"] = 100 * float(returns.std(ddof=1)) * periods**0.5
    return values


newest: Memo[dict[str, float]] = Memo(compute)
"""``compute``, once for each window of a venue."""
