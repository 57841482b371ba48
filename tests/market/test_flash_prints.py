"""Prices that nobody could have traded at: found, left out, and never found in a real fall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.market.candles.flash_prints import newest, without_flash_prints
from shared.market.technical import indicators
from shared.market.types import TIMEFRAME_MS, Candles
from tests.market.fakes import NOW_MS, as_candles, walk

# The hours around 2020-03-12T10:00Z of LINK/USDT on Binance, and the days around 2017-04-15 of
# BTC-USD on Coinbase, as the venues tell them: open, high, low, close, volume.
LINK = (
    (3.1410, 3.1868, 3.0460, 3.1448, 1851837.84),
    (3.1439, 3.2178, 3.0549, 3.1719, 1605624.15),
    (3.1745, 3.1966, 3.0600, 3.0647, 961709.46),
    (3.0634, 3.0765, 0.0001, 2.4693, 6364776.50),
    (2.4467, 2.6052, 2.0000, 2.3479, 5251376.25),
    (2.3479, 2.6766, 2.2882, 2.4344, 4822322.19),
    (2.4380, 2.4731, 2.1380, 2.3193, 4488689.34),
)
BITCOIN = (
    (1224.28, 1227.86, 1209.61, 1214.18, 6432.199021),
    (1214.88, 1219.49, 1148.98, 1176.82, 9052.627032),
    (1177.09, 1196.92, 1170.14, 1173.66, 5502.691567),
    (1173.13, 1190.99, 0.06, 1178.85, 3877.797206),
    (1178.84, 1189.93, 1171.70, 1177.97, 3062.379204),
    (1177.63, 1197.60, 1170.85, 1189.92, 6343.044702),
    (1190.95, 1206.65, 1189.76, 1201.93, 6155.699746),
)
PRINTED_AT = 3


def series(rows: tuple[tuple[float, ...], ...], timeframe: str = "1h") -> Candles:
    step = TIMEFRAME_MS[timeframe]
    opens = (NOW_MS // step - len(rows) + np.arange(len(rows))) * step
    return as_candles(np.column_stack((opens, np.array(rows))), timeframe)


@pytest.mark.parametrize(
    ("rows", "price", "low"), [(LINK, 0.0001, 2.4693), (BITCOIN, 0.06, 1173.13)]
)
def test_a_flash_print_is_left_out_and_told(
    rows: tuple[tuple[float, ...], ...], price: float, low: float
) -> None:
    window = series(rows)
    cleaned = without_flash_prints(window)
    (found,) = cleaned.prints
    assert (found.column, found.price) == ("low", price)
    assert found.open_ms == window.open_ms[PRINTED_AT]
    assert cleaned.newest is None
    assert cleaned.candles.low[PRINTED_AT] == low
    others = np.arange(len(window)) != PRINTED_AT
    assert (cleaned.candles.low[others] == window.low[others]).all()
    for name in ("open", "high", "close", "volume"):
        assert getattr(cleaned.candles, name).tolist() == getattr(window, name).tolist()
    assert window.low[PRINTED_AT] == price  # what the venue said stays in the store


@pytest.mark.parametrize("rows", [LINK, BITCOIN])
def test_a_flash_print_in_the_newest_candle_is_told_as_such(
    rows: tuple[tuple[float, ...], ...],
) -> None:
    cleaned = without_flash_prints(series(rows[: PRINTED_AT + 1]))
    assert cleaned.newest is not None and cleaned.newest.column == "low"
    assert "flash print low" in cleaned.newest.told()


def test_a_close_that_nobody_follows_is_put_to_the_usual_price() -> None:
    rows = walk(50, "1m")
    rows[20, 3:5] = 0.0001
    rows[21, 1] = rows[21, 3] = 0.0001  # the next one opens there
    window = as_candles(rows, "1m")
    cleaned = without_flash_prints(window)
    assert {p.column for p in cleaned.prints} == {"low", "close", "open"}
    assert cleaned.candles.low.min() > 50
    assert (cleaned.candles.low <= cleaned.candles.close).all()
    assert (cleaned.candles.low <= cleaned.candles.open).all()


def test_a_spike_upwards_is_left_out_too() -> None:
    rows = walk(50, "1m")
    rows[20, 2] = 1e6
    cleaned = without_flash_prints(as_candles(rows, "1m"))
    assert [p.column for p in cleaned.prints] == ["high"]
    assert cleaned.candles.high[20] == max(rows[20, 1], rows[20, 4])


def test_a_fall_that_lasts_stays_as_it_was() -> None:
    rows = np.array([(100.0, 101.0, 99.0, 100.0, 5.0)] * 30)
    rows[15:, :4] *= 0.3
    rows[15, :4] = (100.0, 100.0, 28.0, 30.0)
    window = series(tuple(map(tuple, rows)))
    assert without_flash_prints(window).prints == ()
    # While it is the newest, a fall of 70 % cannot be told from a print.
    fresh = without_flash_prints(series(tuple(map(tuple, rows[:16]))))
    assert fresh.newest is not None and fresh.newest.column == "close"
    # Two candles later it stands.
    assert without_flash_prints(series(tuple(map(tuple, rows[:18])))).prints == ()


def test_a_rise_that_lasts_stays_as_it_was() -> None:
    rows = np.array([(100.0, 101.0, 99.0, 100.0, 5.0)] * 30)
    rows[15:, :4] *= 3.3
    rows[15, :4] = (100.0, 340.0, 100.0, 330.0)
    assert without_flash_prints(series(tuple(map(tuple, rows)))).prints == ()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 200))
def test_an_ordinary_window_is_given_back_as_it_is(seed: int, count: int) -> None:
    window = as_candles(walk(count, "1h", seed=seed), "1h")
    assert without_flash_prints(window).candles is window


@settings(max_examples=50, deadline=None)
@given(at=st.integers(0, 59), factor=st.sampled_from([1e-6, 0.1, 0.45, 2.1, 10.0, 1e6]))
def test_any_wick_beyond_twice_the_usual_price_is_found(at: int, factor: float) -> None:
    rows = np.array([(100.0, 101.0, 99.0, 100.0, 5.0)] * 60)
    rows[at, 1 if factor > 1 else 2] = 100.0 * factor
    (found,) = without_flash_prints(series(tuple(map(tuple, rows)))).prints
    assert found.price == 100.0 * factor and found.column == ("high" if factor > 1 else "low")


def test_indicators_do_not_see_the_print() -> None:
    quiet = walk(300, "1h")
    printed = quiet.copy()
    printed[-5, 3] = 0.0001
    clean = indicators.compute(as_candles(quiet, "1h"))
    seen = indicators.compute(newest("binance", as_candles(printed, "1h")).candles)
    wild = indicators.compute(as_candles(printed, "1h"))
    assert wild["atr_14"] > 3 * clean["atr_14"]
    assert seen["atr_14"] == pytest.approx(clean["atr_14"], rel=0.05)
    assert seen["stochastic_k"] == pytest.approx(clean["stochastic_k"], abs=15)


@pytest.mark.recorded_data
@pytest.mark.parametrize(
    ("file", "open_ms", "price"),
    [
        ("binance/LINK-USDT/1h-earlier.parquet", 1_584_007_200_000, 0.0001),
        ("coinbase/BTC-USD/1d-earlier.parquet", 1_492_214_400_000, 0.06),
    ],
)
def test_the_recorded_prints_are_found_and_nothing_else_near(
    market_data_dir: Path, file: str, open_ms: int, price: float
) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(market_data_dir / file)
    names = ("timestamp", "open", "high", "low", "close", "volume")
    rows = np.column_stack([table[name].to_numpy().astype(float) for name in names])
    timeframe = Path(file).name.split("-")[0]
    at = int(np.flatnonzero(rows[:, 0] == open_ms)[0])
    window = as_candles(rows[max(0, at - 500) : at + 500], timeframe)
    found = without_flash_prints(window)
    assert [(p.open_ms, p.column, p.price) for p in found.prints] == [(open_ms, "low", price)]
    upto = without_flash_prints(replace_until(window, open_ms))
    assert upto.newest is not None and upto.newest.price == price


def replace_until(window: Candles, open_ms: int) -> Candles:
    """``window`` as it was when the candle of ``open_ms`` had just closed."""
    end = int(np.flatnonzero(window.open_ms == open_ms)[0]) + 1
    names = ("open_ms", "open", "high", "low", "close", "volume")
    return replace(window, **{name: getattr(window, name)[:end] for name in names})
