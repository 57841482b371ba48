"""What the AI score looks at: numbers without a scale, from closed candles of 1h, 4h and 1d.

Training computes them for every hour of a history (``table``), the scanner for the newest one
(``newest``); both call the same functions, and a test holds them together. Each timeframe has a
function of its own candles alone, whose row *i* knows nothing after candle *i*. Rows without
enough candles before them are NaN: there a feature is missing.

Distances are in average true ranges or in standard deviations, so that a feature means the same
for every symbol; volatilities are logarithms of a day's standard deviation in percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.market.candles.candle_rows import closed_by, is_stale, sliced
from shared.market.candles.memo import Memo
from shared.market.technical.talib_lean import functions
from shared.market.types import TIMEFRAME_MS, Candles

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_WILDER_WARM_UP = 250  # (13/14)^236: what is left of the seed of a Wilder average of 14
_NEWEST_NEEDS = 500  # candles; what is older moves no newest value by as much as 1e-9
_RANGE = 14


@dataclass(frozen=True)
class Table:
    """Features by the hour: ``at_ms`` is the close of the 1h candle that a row knows last."""

    at_ms: NDArray[np.int64]
    columns: Columns


@dataclass(frozen=True)
class Newest:
    """The features of one moment, the ones that could not be had absent."""

    at_ms: int | None
    values: dict[str, float]


def table(windows: Mapping[str, Candles]) -> Table:
    """The features at the close of every 1h candle.

    A candle of 4h or 1d counts from its close on, and until the next one should have closed.
    """
    hours = windows["1h"]
    at_ms = hours.open_ms + TIMEFRAME_MS["1h"]
    columns: Columns = {}
    for timeframe, compute in FRAMES.items():
        columns |= _aligned(compute(windows[timeframe]), windows[timeframe], at_ms)
    return Table(at_ms, columns | _clock(at_ms) | _combined(columns))


def newest(venue: str, windows: Mapping[str, Candles], now_ms: int) -> Newest:
    """The features at the newest 1h close.

    A timeframe that is absent, stale, or lacks the candle that closed last, gives none.
    """
    hours = windows.get("1h")
    if hours is None or not len(hours) or is_stale(hours, now_ms):
        return Newest(None, {})
    at_ms = hours.closed_ms
    found: dict[str, float] = {}
    for timeframe, memo in _NEWEST.items():
        candles = windows.get(timeframe)
        known = None if candles is None else closed_by(candles, at_ms)
        if known is not None and len(known) and known.closed_ms == _last_close(timeframe, at_ms):
            found |= memo(venue, known)
    columns = {name: np.array([value]) for name, value in found.items()}
    others = _clock(np.array([at_ms])) | _combined(columns)
    return Newest(at_ms, found | _finite({name: float(c[0]) for name, c in others.items()}))


def _hours(candles: Candles) -> Columns:
    close, volume = candles.close, candles.volume
    returns = _log_returns(close)
    day, week = _root_mean_square(returns, 24), _root_mean_square(returns, 168)
    return _shape(candles, "1h") | {
        "momentum_24h": _change(close, 24) / (week * math.sqrt(24)),
        "momentum_72h": _change(close, 72) / (week * math.sqrt(72)),
        "volatility_6h": _log_percent(_root_mean_square(returns, 6) * math.sqrt(24)),
        "volatility_24h": _log_percent(day * math.sqrt(24)),
        "volatility_7d": _log_percent(week * math.sqrt(24)),
        "range_24h": _log_percent(_parkinson(candles, 24) * math.sqrt(24)),
        "volume_1h": np.log(volume / _mean(volume, 24)),
        "below_high_7d": np.log(_highest(candles.high, 168) / close) / (week * math.sqrt(24)),
        "above_low_7d": np.log(close / _lowest(candles.low, 168)) / (week * math.sqrt(24)),
        "breakout_1h": _breakout(candles, 20),
    }


def _four_hours(candles: Candles) -> Columns:
    returns = _log_returns(candles.close)
    month = _root_mean_square(returns, 180)
    return _shape(candles, "4h") | {
        "momentum_7d": _change(candles.close, 42) / (month * math.sqrt(42)),
        "volatility_30d": _log_percent(month * math.sqrt(6)),
    }


def _days(candles: Candles) -> Columns:
    close = candles.close
    returns = _log_returns(close)
    quarter = _root_mean_square(returns, 90)
    true_range = _mean(_true_range(candles), _RANGE)
    return {
        "trend_1d": (_mean(close, 20) - _mean(close, 50)) / true_range,
        "momentum_30d": _change(close, 30) / (quarter * math.sqrt(30)),
        "volatility_90d": _log_percent(quarter),
        "below_high_90d": np.log(_highest(candles.high, 90) / close) / quarter,
    }


def _shape(candles: Candles, timeframe: str) -> Columns:
    """Trend, RSI, directed strength and Bollinger position of one timeframe."""
    ta, close = functions(), candles.close
    if len(candles) < _WILDER_WARM_UP:
        nothing = np.full(len(candles), np.nan)
        names = ("trend", "rsi", "directed_strength", "bollinger")
        return {f"{name}_{timeframe}": nothing for name in names}
    bars = (candles.high, candles.low, close)
    atr, rsi = ta.ATR(*bars, _RANGE), ta.RSI(close, _RANGE)
    rsi[_mean(np.abs(_log_returns(close)), _RANGE) == 0] = np.nan  # TA-Lib's 0 would mean a fall
    plus, minus, adx = ta.PLUS_DI(*bars, _RANGE), ta.MINUS_DI(*bars, _RANGE), ta.ADX(*bars, _RANGE)
    mean = _mean(close, 20)
    deviation = _root_mean_square_about(close, mean, 20)
    return {
        f"trend_{timeframe}": (mean - _mean(close, 50)) / _warmed(atr),
        f"rsi_{timeframe}": _warmed(rsi - 50) / 50,
        f"directed_strength_{timeframe}": _warmed((plus - minus) / (plus + minus) * adx) / 100,
        f"bollinger_{timeframe}": (close - mean) / (2 * deviation),
    }


def _combined(columns: Mapping[str, Floats]) -> Columns:
    """A day's volatility to be expected: horizons of a day, a week and a month weigh the same.

    Corsi, A Simple Approximate Long-Memory Model of Realized Volatility, Journal of Financial
    Econometrics 7 (2009), forecasts by the same three horizons.
    """
    parts = [columns.get(name) for name in ("volatility_24h", "volatility_7d", "volatility_30d")]
    known = [part for part in parts if part is not None]
    return {} if len(known) < len(parts) else {"volatility": np.asarray(sum(known) / len(known))}


def _clock(at_ms: NDArray[np.int64]) -> Columns:
    angle = 2 * math.pi * (at_ms % _DAY_MS) / _DAY_MS
    weekday = (at_ms // _DAY_MS + 3) % 7  # the epoch was a Thursday; Monday is 0
    return {
        "hour_sine": np.sin(angle),
        "hour_cosine": np.cos(angle),
        "weekend": (weekday >= 5).astype(np.float64),
    }


def _aligned(columns: Columns, candles: Candles, at_ms: NDArray[np.int64]) -> Columns:
    """Each hour's row of a coarser timeframe: the candle that closed last, if it is there."""
    step = TIMEFRAME_MS[candles.timeframe]
    closes = candles.open_ms + step
    row = np.searchsorted(closes, at_ms, side="right") - 1
    fresh = (row >= 0) & (closes[np.maximum(row, 0)] == at_ms // step * step)
    return {name: np.where(fresh, values[row], np.nan) for name, values in columns.items()}


def _last_close(timeframe: str, at_ms: int) -> int:
    step = TIMEFRAME_MS[timeframe]
    return at_ms // step * step


def _newest_of(compute: Callable[[Candles], Columns]) -> Memo[dict[str, float]]:
    def values(candles: Candles) -> dict[str, float]:
        columns = compute(sliced(candles, slice(-_NEWEST_NEEDS, None)))
        return _finite({name: float(column[-1]) for name, column in columns.items()})

    return Memo(values)


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _quiet(compute: Callable[[Candles], Columns]) -> Callable[[Candles], Columns]:
    """``compute`` with what has no value (a market that stands still) as NaN, not as a warning."""

    def columns(candles: Candles) -> Columns:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = compute(candles)
        return {name: np.where(np.isfinite(c), c, np.nan) for name, c in found.items()}

    return columns


def _windows(values: Floats, count: int) -> Floats | None:
    return sliding_window_view(values, count) if len(values) >= count else None


def _rolling(values: Floats, count: int, reduce: Callable[[Floats], Floats]) -> Floats:
    """``reduce`` over the last ``count`` values of each row; NaN before there are so many."""
    result = np.full(len(values), np.nan)
    windows = _windows(values, count)
    if windows is not None:
        result[count - 1 :] = reduce(windows)
    return result


def _mean(values: Floats, count: int) -> Floats:
    return _rolling(values, count, lambda windows: windows.mean(axis=1))


def _highest(values: Floats, count: int) -> Floats:
    return _rolling(values, count, lambda windows: windows.max(axis=1))


def _lowest(values: Floats, count: int) -> Floats:
    return _rolling(values, count, lambda windows: windows.min(axis=1))


def _root_mean_square(values: Floats, count: int) -> Floats:
    """Volatility about zero: the mean of a few returns is mostly noise."""
    return np.sqrt(_mean(values**2, count))


def _root_mean_square_about(values: Floats, mean: Floats, count: int) -> Floats:
    result = np.full(len(values), np.nan)
    windows = _windows(values, count)
    if windows is not None:
        centred = windows - mean[count - 1 :, None]
        result[count - 1 :] = np.sqrt((centred**2).mean(axis=1))
    return result


def _parkinson(candles: Candles, count: int) -> Floats:
    """Volatility of a candle by its range (Parkinson, Journal of Business 53, 1980)."""
    squares = np.log(candles.high / candles.low) ** 2 / (4 * math.log(2))
    return np.sqrt(_mean(squares, count))


def _true_range(candles: Candles) -> Floats:
    before = np.append(np.nan, candles.close[:-1])
    top, bottom = np.maximum(candles.high, before), np.minimum(candles.low, before)
    return np.asarray(top - bottom)


def _log_returns(close: Floats) -> Floats:
    return np.append(np.nan, np.diff(np.log(close)))


def _change(close: Floats, count: int) -> Floats:
    result = np.full(len(close), np.nan)
    result[count:] = np.log(close[count:] / close[:-count])
    return result


def _breakout(candles: Candles, count: int) -> Floats:
    """How far the close lies outside the ``count`` candles before, in true ranges; 0 inside."""
    top, bottom = np.full((2, len(candles)), np.nan)
    top[1:] = _highest(candles.high, count)[:-1]
    bottom[1:] = _lowest(candles.low, count)[:-1]
    beyond = np.maximum(candles.close - top, 0) + np.minimum(candles.close - bottom, 0)
    return np.asarray(beyond / _mean(_true_range(candles), _RANGE))


def _log_percent(share: Floats) -> Floats:
    return np.asarray(np.log(100 * share))


def _warmed(values: Floats) -> Floats:
    result = values.copy()
    result[: _WILDER_WARM_UP - 1] = np.nan
    return np.asarray(result)


FRAMES: dict[str, Callable[[Candles], Columns]] = {
    "1h": _quiet(_hours),
    "4h": _quiet(_four_hours),
    "1d": _quiet(_days),
}
_NEWEST = {timeframe: _newest_of(compute) for timeframe, compute in FRAMES.items()}
