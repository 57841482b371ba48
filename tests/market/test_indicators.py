"""Indicators against TA-Lib itself, pandas, pandas-ta-classic, and values worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploy.research.indicator_reference import relative_difference, whole_series
from shared.market.candles.candle_rows import WINDOW, sliced
from shared.market.technical import indicators, warmup
from shared.market.types import TIMEFRAMES, Candles
from tests.market.fakes import as_candles, walk

LONG = as_candles(walk(20_000, "15m", seed=4), "15m")
CANDLES = sliced(LONG, slice(-WINDOW, None))
RECORDED = (
    "binance/LINK-USDT/1h",  # with the flash print of 2020-03-12
    "binance/DOGE-USDT/1h",
    "binance/BTC-USDT/1d",
    "binance/SOL-USDT/5m",
    "binanceusdm/BTC-USDT-PERP/1m",
    "kraken/USDC-USD/1m-2023-03",  # a price that hardly moves
)


@pytest.fixture(scope="module")
def endless() -> dict[str, NDArray[np.float64]]:
    """Every indicator by TA-Lib's public functions over 20,000 candles."""
    return whole_series(LONG)


def recorded(data_dir: Path, name: str) -> Candles:
    """The newest 20,000 candles of a recorded file, or all of a file with a flash print."""
    import pyarrow.parquet as parquet

    columns = ["timestamp", "open", "high", "low", "close", "volume"]
    table = parquet.read_table(data_dir / f"{name}-earlier.parquet", columns=columns)
    rows = np.column_stack([table[column].to_numpy() for column in columns]).astype(np.float64)
    timeframe = name.rpartition("/")[2].partition("-")[0]
    return as_candles(rows if "LINK" in name else rows[-20_000:], timeframe)


def worst_differences(
    candles: Candles, series: dict[str, NDArray[np.float64]], ends: list[int]
) -> dict[str, float]:
    """Of each indicator, over windows just long enough for it, that end at ``ends``."""
    worst = dict.fromkeys(indicators.NAMES, 0.0)
    for length in sorted(set(warmup.SETTLED.values())):
        names = [name for name, needed in warmup.SETTLED.items() if needed == length]
        for end in ends:
            values = indicators.compute(sliced(candles, slice(end - length, end)))
            for name in names:
                if name in values:
                    different = relative_difference(
                        name, values[name], float(series[name][end - 1])
                    )
                    worst[name] = max(worst[name], different)
    return worst


def test_from_its_warm_up_on_a_value_is_that_of_an_endless_series(
    endless: dict[str, NDArray[np.float64]],
) -> None:
    """Windows of exactly ``SETTLED`` candles, the least that counts as settled."""
    worst = worst_differences(LONG, endless, [2_000, 7_013, 12_345, 20_000])
    assert {name: value for name, value in worst.items() if not value <= 1e-6} == {}


@pytest.mark.parametrize("name", RECORDED)
def test_from_its_warm_up_on_a_value_of_recorded_candles_is_that_of_the_whole_recording(
    name: str, market_data_dir: Path
) -> None:
    candles = recorded(market_data_dir, name)
    ends = np.random.default_rng(7).integers(WINDOW, len(candles), 40).tolist()
    if "LINK" in name:
        flash = int(np.argmin(candles.low))
        assert candles.low[flash] == 0.0001
        # Windows that just hold the print, that begin after it, and that begin beside it.
        ends += [
            flash + length + after
            for length in (71, 326, 383, 396, 500, 1_582)
            for after in (-1, 0, 1, 14)
        ]
    worst = worst_differences(candles, whole_series(candles), ends)
    assert {name: value for name, value in worst.items() if not value <= 1e-6} == {}


@settings(max_examples=30, deadline=None)
@given(end=st.integers(WINDOW, 20_000))
def test_later_candles_change_no_earlier_value(
    endless: dict[str, NDArray[np.float64]], end: int
) -> None:
    """The value of a series cut at ``end`` is the one at that place in the whole series."""
    values = indicators.compute(sliced(LONG, slice(end - WINDOW, end)))
    assert set(values) == {*indicators.NAMES, "close", "closed_at_ms"}
    for name in indicators.NAMES:
        different = relative_difference(name, values[name], float(endless[name][end - 1]))
        assert different <= 1e-6, name


@pytest.mark.parametrize("name", ["ema_200", "ema_50", "adx_14", "rsi_14", "macd_signal"])
def test_the_warm_up_is_not_longer_than_it_must_be(
    name: str, endless: dict[str, NDArray[np.float64]]
) -> None:
    """With a quarter of the candles the seed shows: the bound is about memory, not a guess."""
    count = max(warmup.USABLE[name], warmup.SETTLED[name] // 4)
    differences = []
    for end in range(3_000, 20_000, 500):
        value = indicators.compute(sliced(LONG, slice(end - count, end)))[name]
        differences.append(relative_difference(name, value, float(endless[name][end - 1])))
    assert max(differences) > 1e-6


def test_values_agree_with_pandas_ta_classic_where_the_definitions_do() -> None:
    """With ``talib=False``, its own formulas. Its z-score divides by the sample's deviation."""
    import pandas as pd
    import pandas_ta_classic as ta

    high, low, close, volume = (
        pd.Series(getattr(CANDLES, name)) for name in ("high", "low", "close", "volume")
    )
    bars, own = (high, low, close), {"talib": False}
    macd = ta.macd(close, 12, 26, 9, **own).iloc[-1].tolist()
    bands = ta.bbands(close, 20, 2, ddof=0, **own).iloc[-1].tolist()
    directed = ta.adx(*bars, 14, **own).iloc[-1]
    stochastic = ta.stoch(*bars, 14, 3, 3, **own).iloc[-1].tolist()
    balance = ta.obv(close, volume, **own)
    expected = {
        "macd": macd[0],
        "macd_histogram": macd[1],
        "macd_signal": macd[2],
        "bollinger_lower": bands[0],
        "bollinger_middle": bands[1],
        "bollinger_upper": bands[2],
        "adx_14": directed["ADX_14"],
        "plus_di_14": directed["DMP_14"],
        "minus_di_14": directed["DMN_14"],
        "stochastic_k": stochastic[0],
        "stochastic_d": stochastic[1],
        "rsi_14": ta.rsi(close, length=14, **own).iloc[-1],
        "atr_14": ta.atr(*bars, length=14, **own).iloc[-1],
        "obv": balance.iloc[-1] - balance.iloc[-500] + volume.iloc[-500],
        "zscore_20": ta.zscore(close, 20, **own).iloc[-1] * (20 / 19) ** 0.5,
    }
    expected |= {f"ema_{n}": ta.ema(close, length=n, **own).iloc[-1] for n in (9, 21, 50, 200)}
    values = indicators.compute(CANDLES)
    for name, value in expected.items():
        assert values[name] == pytest.approx(float(value), rel=1e-6), name


def test_what_talib_has_no_function_for_agrees_with_pandas() -> None:
    import pandas as pd

    frame = pd.DataFrame({n: getattr(CANDLES, n) for n in ("high", "low", "close", "volume")})
    close, volume = frame["close"], frame["volume"]
    typical = (frame["high"] + frame["low"] + close) / 3
    vwap = (typical * volume).rolling(20).sum() / volume.rolling(20).sum()
    window = close.rolling(20)
    returns = np.log(close).diff()
    expected = {
        "vwap_distance_percent": 100 * (close / vwap - 1),
        "relative_volume_ratio": volume / volume.rolling(20).mean().shift(1),
        "zscore_20": (close - window.mean()) / window.std(ddof=0),
        "return_1_percent": 100 * close.pct_change(),
        "volatility_annualised_percent": 100 * returns.rolling(30).std() * (365 * 96) ** 0.5,
    }
    values = indicators.compute(CANDLES)
    for name, series in expected.items():
        assert values[name] == pytest.approx(float(series.iloc[-1]), rel=1e-6), name


@pytest.mark.parametrize(("name", "count"), warmup.USABLE.items())
def test_a_value_is_absent_and_named_until_it_may_be_used(name: str, count: int) -> None:
    before = indicators.compute(sliced(LONG, slice(0, count - 1)))
    after = indicators.compute(sliced(LONG, slice(0, count)))
    told = f"{name}: {count - 1} of {warmup.SETTLED[name]} candles"
    assert name not in before and told in indicators.absent(before, count - 1)
    assert name in after and name not in _names(indicators.absent(after, count))


def test_a_value_that_still_holds_some_of_its_seed_says_how_much() -> None:
    thousand = indicators.compute(sliced(LONG, slice(0, 1_000)))
    assert indicators.settling(thousand, 1_000) == {"ema_200": 0.00034}  # (199 / 201) ** 800
    assert indicators.settling(indicators.compute(CANDLES), WINDOW) == {}


def test_what_is_absent_is_not_settling() -> None:
    assert "rsi_14" in indicators.settling({"rsi_14": 50.0}, 200)
    assert indicators.settling({}, 200) == {}


def test_every_value_is_there_with_a_full_window() -> None:
    assert indicators.absent(indicators.compute(CANDLES), WINDOW) == []


@pytest.mark.parametrize("count", range(3))
def test_one_or_two_candles_are_no_error(count: int) -> None:
    values = indicators.compute(sliced(LONG, slice(0, count)))
    known = {"close", "closed_at_ms", "return_1_percent"}
    assert set(values) == (
        set() if count == 0 else known if count == 2 else known - {"return_1_percent"}
    )


def test_without_volume_there_is_no_vwap_and_no_relative_volume() -> None:
    rows = walk(WINDOW, "15m")
    rows[:, 5] = 0
    absent = indicators.absent(indicators.compute(as_candles(rows, "15m")), WINDOW)
    assert absent == [
        "vwap_distance_percent: not defined, nothing moved or traded",
        "relative_volume_ratio: not defined, nothing moved or traded",
    ]


@pytest.mark.parametrize("price", [0.1, 100.0, 3.3e-7])
def test_a_price_that_never_moves_has_no_oscillators(price: float) -> None:
    """TA-Lib tells 0 for them, an oversold market that nobody has seen."""
    rows = walk(WINDOW, "15m")
    rows[:, 1:5] = price
    values = indicators.compute(as_candles(rows, "15m"))
    assert set(_names(indicators.absent(values, WINDOW))) == {
        "rsi_14",
        "adx_14",
        "plus_di_14",
        "minus_di_14",
        "stochastic_k",
        "stochastic_d",
        "zscore_20",
    }
    assert values["volatility_annualised_percent"] == values["return_1_percent"] == 0
    assert values["bollinger_upper"] == values["bollinger_lower"] == price


@pytest.mark.parametrize("still", [1, 200, 380, 420])
def test_a_market_that_stands_still_keeps_its_rsi_as_long_as_the_seed_is_forgotten(
    still: int,
) -> None:
    """500 candles are looked at, and 109 up to the last move are what an RSI needs: 391 may rest.

    The value is that of the last move, as in an endless series.
    """
    rows = walk(WINDOW, "15m")
    moving = WINDOW - still
    last = indicators.compute(as_candles(rows[:moving], "15m"))
    rows[moving:, 1:5] = rows[moving - 1, 4]
    values = indicators.compute(as_candles(rows, "15m"))
    if still <= 391:
        assert values["rsi_14"] == pytest.approx(last["rsi_14"], rel=1e-3)
    else:
        assert "rsi_14" not in values
    assert ("plus_di_14" in values) == (still <= 392)
    assert ("stochastic_k" in values) == (still < 14)


@settings(max_examples=30, deadline=None)
@given(exponent=st.integers(-40, 20), still=st.integers(0, 60))
@example(exponent=-40, still=60)
def test_the_unit_of_the_price_changes_nothing(exponent: int, still: int) -> None:
    """Down to 1e-10: coins of a millionth have bands with width, and an RSI in quiet hours.

    Older builds of TA-Lib took what is below 1e-14 for zero and told an RSI of 0.
    """
    rows = walk(600, "15m")
    rows[600 - still :, 1:5] = rows[599 - still, 4]
    scaled = rows.copy()
    scaled[:, 1:5] *= 2.0**exponent
    one = indicators.compute(as_candles(rows, "15m"))
    other = indicators.compute(as_candles(scaled, "15m"))
    prices = ("macd", "bollinger", "atr", "ema", "close")
    for name, value in one.items():
        unit = 2.0**exponent if name.startswith(prices) and name != "closed_at_ms" else 1
        assert other[name] == pytest.approx(value * unit, rel=1e-9), name


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 700),
    flat=st.lists(st.tuples(st.integers(0, 700), st.integers(1, 60)), max_size=5),
    scale=st.sampled_from([1e-8, 1.0, 1e5]),
)
def test_no_value_is_ever_nan_or_infinite(
    seed: int, count: int, flat: list[tuple[int, int]], scale: float
) -> None:
    rows = walk(count, "1m", seed=seed)
    rows[:, 1:5] *= scale
    for start, length in flat:
        if start < count:
            rows[start : start + length, 1:5] = rows[start, 4]
            rows[start : start + length, 5] = 0
    values = indicators.compute(as_candles(rows, "1m"))
    assert all(np.isfinite(value) for value in values.values())
    assert all(type(value) in (float, int) for value in values.values())


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
    assert values["bollinger_upper"] == pytest.approx(100.5 + 2 * 2.179449)
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
        "from shared.market.technical.talib_lean import functions\n"
        "functions()\n"
        "assert 'pandas' not in sys.modules and 'polars' not in sys.modules\n"
        "import pandas\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def _names(absent: list[str]) -> list[str]:
    return [line.partition(":")[0] for line in absent]
