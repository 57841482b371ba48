"""Candles from untrusted rows; roll-ups against a plain-Python reference."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import DataUnavailable
from shared.market.candles import candle_rows
from tests.market.fakes import NOW_MS, as_candles, rolled, walk

T0 = NOW_MS - 600_000


def row(minute: int, **changed: float) -> list[float]:
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0} | changed
    return [T0 + minute * 60_000, *values.values()]


def read(rows: Any, now_ms: int = NOW_MS) -> Any:
    return candle_rows.from_rows("BTC/USDT", "1m", rows, now_ms)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, close=math.nan)], "close: was nan, expected a finite number"),
        ([row(0, high=math.inf)], "high: was inf, expected a finite number"),
        ([row(0, low=0.0)], "low: was 0.0, expected > 0 and <= open and close"),
        ([row(0, low=-1.0)], "low: was -1.0"),
        ([row(0, low=10.5)], "low: was 10.5, expected > 0 and <= open and close"),
        ([row(0), row(1, high=10.9)], "row 1: high: was 10.9, expected finite and >= open and"),
        ([row(0, volume=-5.0)], "volume: was -5.0, expected >= 0"),
        (
            [row(0), row(12)],
            f"row 1: open_ms: was {T0 + 720_000}, expected at most {NOW_MS + 60_000}",
        ),
        ([[T0 + 1, 10, 12, 9, 11, 5]], f"open_ms: was {T0 + 1}, expected a multiple of 60000"),
        ([[T0, 10, 12, 9, 11]], "expected 6 columns, was shape (1, 5)"),
        ([["x", 10, 12, 9, 11, 5]], "rows: expected numbers"),
        ([row(0), row(1)[:4]], "rows: expected numbers"),
        ({"code": -1121}, "rows: expected numbers"),
    ],
)
def test_a_malformed_row_is_refused_by_name(rows: Any, message: str) -> None:
    with pytest.raises(DataUnavailable) as caught:
        read(rows)
    assert message in str(caught.value)
    assert str(caught.value).startswith("BTC/USDT 1m: ")


def test_order_is_restored_and_the_last_of_two_rows_for_a_time_counts() -> None:
    candles = read([row(2), row(0), row(1), row(0, close=10.5)])
    assert candles.open_ms.tolist() == [T0, T0 + 60_000, T0 + 120_000]
    assert candles.close.tolist() == [10.5, 11.0, 11.0]


@pytest.mark.parametrize(("now_ms", "count"), [(T0 + 119_999, 1), (T0 + 120_000, 2), (T0, 0)])
def test_only_closed_candles_are_taken(now_ms: int, count: int) -> None:
    assert len(read([row(0), row(1)], now_ms)) == count


def test_no_rows_are_no_candles() -> None:
    assert len(read([])) == 0


@pytest.mark.parametrize(("minutes", "lacking"), [([0, 1, 2], 0), ([0, 2, 6], 4), ([5], 0)])
def test_gaps_stay_gaps_and_are_counted(minutes: list[int], lacking: int) -> None:
    candles = read([row(minute) for minute in minutes])
    assert len(candles) == len(minutes)
    assert candle_rows.gaps(candles) == lacking


@settings(max_examples=25, deadline=None)
@given(
    timeframe=st.sampled_from(["5m", "15m", "1h", "4h"]),
    dropped=st.sets(st.integers(0, 699), max_size=5),
    seed=st.integers(0, 1_000),
)
def test_roll_up_equals_building_each_period_from_its_minutes(
    timeframe: str, dropped: set[int], seed: int
) -> None:
    minutes = np.delete(walk(700, "1m", seed=seed), sorted(dropped), axis=0)
    result = candle_rows.roll_up(as_candles(minutes, "1m"), timeframe, 0)
    expected = rolled(minutes, timeframe)
    assert result.open_ms.tolist() == expected[:, 0].tolist()
    for column, name in enumerate(("open", "high", "low", "close"), start=1):
        assert getattr(result, name).tolist() == expected[:, column].tolist()
    assert result.volume == pytest.approx(expected[:, 5], rel=1e-12)


def test_roll_up_in_stages_equals_rolling_up_at_once() -> None:
    minutes = as_candles(walk(1_000, "1m"), "1m")
    quarters = candle_rows.roll_up(candle_rows.roll_up(minutes, "5m", 0), "15m", 0)
    direct = candle_rows.roll_up(minutes, "15m", 0)
    assert quarters.open_ms.tolist() == direct.open_ms.tolist()
    assert quarters.high.tolist() == direct.high.tolist()
    assert quarters.volume == pytest.approx(direct.volume, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 50), overlap=st.integers(0, 10))
def test_merged_parts_are_the_whole_series(cut: int, overlap: int) -> None:
    rows = walk(50, "1m")
    older, newer = as_candles(rows[:cut], "1m"), as_candles(rows[max(cut - overlap, 0) :], "1m")
    whole = candle_rows.merged(older, newer)
    assert whole.open_ms.tolist() == rows[:, 0].astype(int).tolist()
    assert whole.close.tolist() == rows[:, 4].tolist()


def test_a_correction_replaces_the_known_candle_and_the_window_stays_bounded() -> None:
    rows = walk(candle_rows.WINDOW, "1m")
    corrected = walk(2, "1m", end_ms=NOW_MS + 60_000, seed=9)
    whole = candle_rows.merged(as_candles(rows, "1m"), as_candles(corrected, "1m"))
    assert len(whole) == candle_rows.WINDOW
    assert whole.close[-2:].tolist() == corrected[:, 4].tolist()
    assert whole.open_ms[0] == rows[1, 0]


@pytest.mark.parametrize(
    ("timeframe", "age_minutes", "stale"), [("1m", 5, False), ("1m", 6, True), ("1h", 124, True)]
)
def test_a_series_is_stale_when_more_than_one_candle_is_lacking(
    timeframe: str, age_minutes: int, stale: bool
) -> None:
    candles = as_candles(walk(3, timeframe), timeframe)
    assert candle_rows.is_stale(candles, candles.closed_ms + age_minutes * 60_000) is stale
