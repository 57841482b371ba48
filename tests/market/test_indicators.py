"""Indicators against TA-Lib itself, pandas-ta-classic, and values worked out by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.market import indicators
from shared.market.candle_rows import sliced
from shared.market.types import TIMEFRAMES
from tests.market.fakes import as_candles, walk

CANDLES = as_candles(walk(1_000, "15m", seed=4), "15m")


@pytest.fixture(scope="module")
def talib_series() -> dict[str, np.ndarray]:
    """Whole series from TA-Lib's public functions, called on their own."""
    import talib

    h, low, c, v = CANDLES.high, CANDLES.low, CANDLES.close, CANDLES.volume
    macd, signal, histogram = talib.MACD(c, fastperiod=12, slowperiod=26, signalperiod=9)
    upper, middle, lower = talib.BBANDS(c, timeperiod=20, nbdevup=2, nbdevdn=2)
    k, d = talib.STOCH(h, low, c, fastk_period=14, slowk_period=3, slowd_period=3)
    series = {
        "rsi_14": talib.RSI(c, 14),
        "macd": macd,
        "macd_signal": signal,
        "macd_histogram": histogram,
        "bollinger_upper": upper,
        "bollinger_middle": middle,
        "bollinger_lower": lower,
        "atr_14": talib.ATR(h, low, c, 14),
        "adx_14": talib.ADX(h, low, c, 14),
        "plus_di_14": talib.PLUS_DI(h, low, c, 14),
        "minus_di_14": talib.MINUS_DI(h, low, c, 14),
        "obv": talib.OBV(c, v),
        "stochastic_k": k,
        "stochastic_d": d,
    }
    return series | {f"ema_{n}": talib.EMA(c, n) for n in (9, 21, 50, 200)}


@settings(max_examples=15, deadline=None)
@given(end=st.integers(300, 1_000))
def test_later_candles_change_no_earlier_value(
    talib_series: dict[str, np.ndarray], end: int
) -> None:
    """The value of a cut series is the value at that place in TA-Lib's whole series."""
    values = indicators.compute(sliced(CANDLES, slice(0, end)))
    assert set(talib_series) < set(values)
    for name, series in talib_series.items():
        assert values[name] == pytest.approx(series[end - 1], rel=1e-6), name
    assert values["macd_histogram_previous"] == pytest.approx(
        talib_series["macd_histogram"][end - 2], rel=1e-6
    )


def test_rsi_atr_and_ema_agree_with_pandas_ta_classic() -> None:
    import pandas as pd
    import pandas_ta_classic as ta

    high, low, close = (pd.Series(getattr(CANDLES, n)) for n in ("high", "low", "close"))
    values = indicators.compute(CANDLES)
    expected = {
        "rsi_14": ta.rsi(close, length=14, talib=False),
        "atr_14": ta.atr(high, low, close, length=14, talib=False),
        "ema_50": ta.ema(close, length=50, talib=False),
    }
    for name, series in expected.items():
        assert values[name] == pytest.approx(float(series.iloc[-1]), rel=1e-6), name


def test_an_ema_of_200_has_forgotten_its_seed_in_a_full_window() -> None:
    longer = walk(2_000, "15m", seed=4)
    import talib

    exact = talib.EMA(np.ascontiguousarray(longer[:, 4]), 200)[-1]
    values = indicators.compute(as_candles(longer[-1_000:], "15m"))
    assert values["ema_200"] == pytest.approx(exact, rel=1e-3)


FIRST_AT = {
    "return_1_percent": 2,
    "ema_9": 9,
    "rsi_14": 15,
    "atr_14": 15,
    "plus_di_14": 15,
    "stochastic_d": 18,
    "bollinger_upper": 20,
    "zscore_20": 20,
    "vwap_distance_percent": 20,
    "relative_volume_ratio": 21,
    "adx_14": 28,
    "volatility_annualised_percent": 31,
    "macd_signal": 34,
    "macd_histogram": 34,
    "macd_histogram_previous": 35,
    "ema_50": 50,
    "ema_200": 200,
}


@pytest.mark.parametrize(("name", "count"), FIRST_AT.items())
def test_a_value_is_absent_and_named_until_its_warm_up_is_over(name: str, count: int) -> None:
    before = indicators.compute(sliced(CANDLES, slice(0, count - 1)))
    after = indicators.compute(sliced(CANDLES, slice(0, count)))
    assert name not in before and name in indicators.absent(before)
    assert name in after and name not in indicators.absent(after)


def test_every_value_is_there_with_a_full_window() -> None:
    assert indicators.absent(indicators.compute(CANDLES)) == []


def test_no_candles_no_values() -> None:
    assert indicators.compute(sliced(CANDLES, slice(0, 0))) == {}


def test_without_volume_there_is_no_vwap_and_no_relative_volume() -> None:
    rows = walk(100, "15m")
    rows[:, 5] = 0
    assert {"vwap_distance_percent", "relative_volume_ratio"} <= set(
        indicators.absent(indicators.compute(as_candles(rows, "15m")))
    )


def test_a_price_that_does_not_move_has_no_zscore() -> None:
    rows = walk(100, "15m")
    rows[:, 1:5] = 100.0
    values = indicators.compute(as_candles(rows, "15m"))
    assert "zscore_20" not in values
    assert values["volatility_annualised_percent"] == 0
    assert values["return_1_percent"] == 0


def test_volume_and_return_values_by_hand() -> None:
    """20 candles at 100 with volume 10, then one from 100 to 110 with volume 30.

    VWAP of the last 20: (19 * 10 * 100 + 30 * typical) / 220 with typical (110+100+110)/3.
    z-score: mean 100.5, population deviation sqrt(19 * 0.25 + 90.25) / sqrt(20) = 2.17945.
    """
    rows = walk(21, "1h")
    rows[:, 1:5], rows[:, 5] = 100.0, 10.0
    rows[-1, 1:] = (100, 110, 100, 110, 30)
    values = indicators.compute(as_candles(rows, "1h"))
    assert values["return_1_percent"] == pytest.approx(10)
    assert values["relative_volume_ratio"] == pytest.approx(3)
    assert values["vwap_distance_percent"] == pytest.approx(100 * (110 / 100.909090909 - 1))
    assert values["zscore_20"] == pytest.approx(9.5 / 2.179449)
    assert values["close"] == 110


@pytest.mark.parametrize(
    ("timeframe", "periods_a_year"),
    list(zip(TIMEFRAMES, (525_600, 105_120, 35_040, 8_760, 2_190, 365), strict=True)),
)
def test_volatility_is_annualised_by_the_candles_in_a_year(
    timeframe: str, periods_a_year: int
) -> None:
    """Log returns of +1 % and -1 % in turn: the sample deviation of 30 is 0.01 * sqrt(30/29)."""
    rows = walk(31, timeframe)
    price = 100 * np.exp(0.01 * (np.arange(31) % 2))
    rows[:, 1:5] = price[:, None]
    values = indicators.compute(as_candles(rows, timeframe))
    expected = 100 * 0.01 * (30 / 29) ** 0.5 * periods_a_year**0.5
    assert values["volatility_annualised_percent"] == pytest.approx(expected)


def test_a_window_is_computed_once_and_a_correction_is_a_new_window() -> None:
    calls = []
    memo = indicators.Memo(lambda candles: calls.append(candles) or len(calls))
    rows = walk(50, "1m")
    assert [memo("binance", as_candles(rows, "1m")) for _ in range(3)] == [1, 1, 1]
    assert memo("kraken", as_candles(rows, "1m")) == 2
    corrected = rows.copy()
    corrected[10, 5] += 1
    assert memo("binance", as_candles(corrected, "1m")) == 3


def test_talib_is_imported_without_pandas_and_pandas_can_be_imported_afterwards() -> None:
    script = (
        "import sys\n"
        "from shared.market.talib_lean import functions\n"
        "functions()\n"
        "assert 'pandas' not in sys.modules and 'polars' not in sys.modules\n"
        "import pandas\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
