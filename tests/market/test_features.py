"""Features: one definition for training and scanning, blind to the future and to scale."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shared.market.candles.candle_rows import roll_up, sliced
from shared.market.score import features
from shared.market.types import TIMEFRAME_MS, Candles
from tests.market.fakes import as_candles, walk

HOUR_MS = TIMEFRAME_MS["1h"]
HOURS = as_candles(walk(24 * 200, "1h", seed=4), "1h")


def windows(hours: Candles) -> dict[str, Candles]:
    four_hours = roll_up(hours, "4h", 0)
    return {"1h": hours, "4h": four_hours, "1d": roll_up(four_hours, "1d", 0)}


WHOLE = features.table(windows(HOURS))


def seen_at(row: int, count: int | None = None) -> dict[str, Candles]:
    """What a scan knows at the close of an hour, with at most ``count`` candles a timeframe."""
    known = windows(sliced(HOURS, slice(0, row + 1)))
    return known if count is None else {t: sliced(c, slice(-count, None)) for t, c in known.items()}


@pytest.mark.parametrize("row", [24 * 200 - 1, 24 * 199 + 3, 24 * 180 + 11, 24 * 150])
@pytest.mark.parametrize("count", [None, 1_000, 500])
def test_scanning_gives_what_training_saw(row: int, count: int | None) -> None:
    known = seen_at(row, count)
    newest = features.newest("binance", known, known["1h"].closed_ms + 1_000)
    assert newest.at_ms == WHOLE.at_ms[row]
    assert newest.values.keys() == WHOLE.columns.keys()
    for name, value in newest.values.items():
        assert value == pytest.approx(WHOLE.columns[name][row], rel=1e-9, abs=1e-9), name


def test_later_candles_change_no_earlier_value() -> None:
    for cut in (24 * 150, 24 * 150 + 5):
        earlier = features.table(windows(sliced(HOURS, slice(0, cut))))
        for name, column in earlier.columns.items():
            assert np.array_equal(column, WHOLE.columns[name][:cut], equal_nan=True), name


def test_a_coarser_candle_counts_once_it_is_closed() -> None:
    """Within four hours the 4h features stay; they change at the fourth close."""
    column, hour = WHOLE.columns["rsi_4h"], WHOLE.at_ms // HOUR_MS
    changes = np.flatnonzero(np.diff(column[24 * 150 :]) != 0) + 24 * 150 + 1
    assert len(changes) > 200
    assert set((hour[changes] % 4).tolist()) == {0}


def test_a_coarser_candle_that_is_not_closed_yet_is_not_used() -> None:
    row = 24 * 180 + 1
    known = seen_at(row)
    peeking = known | {"4h": windows(HOURS)["4h"], "1d": windows(HOURS)["1d"]}
    at_ms = known["1h"].closed_ms
    assert features.newest("a", peeking, at_ms) == features.newest("b", known, at_ms)


def test_scale_is_of_no_matter() -> None:
    """A coin a thousand times dearer, traded in a thousandth of the units, looks the same."""
    prices = {name: 1_000 * getattr(HOURS, name) for name in ("open", "high", "low", "close")}
    dearer = dataclasses.replace(HOURS, **prices, volume=HOURS.volume / 1_000)
    other = features.table(windows(dearer))
    for name, column in other.columns.items():
        np.testing.assert_allclose(column, WHOLE.columns[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_a_missing_timeframe_takes_only_its_own_features_away() -> None:
    known = seen_at(24 * 190)
    now_ms = known["1h"].closed_ms
    del known["1d"]
    found = features.newest("binance", known, now_ms)
    absent = WHOLE.columns.keys() - found.values.keys()
    assert absent == {"trend_1d", "momentum_30d", "volatility_90d", "below_high_90d"}


def test_a_coarser_timeframe_that_lags_is_missing() -> None:
    known = seen_at(24 * 190)
    lagging = known | {"4h": sliced(known["4h"], slice(0, -1))}
    found = features.newest("binance", lagging, known["1h"].closed_ms)
    assert "rsi_4h" not in found.values and "volatility" not in found.values
    assert "rsi_1h" in found.values


@pytest.mark.parametrize("late_ms", [0, 3 * HOUR_MS])
def test_old_hours_are_missing(late_ms: int) -> None:
    known = seen_at(24 * 190)
    found = features.newest("binance", known, known["1h"].closed_ms + late_ms)
    assert (found.at_ms is None) == bool(late_ms)
    assert bool(found.values) != bool(late_ms)


def test_too_short_a_window_gives_no_value() -> None:
    found = features.newest("binance", seen_at(24 * 190, 60), WHOLE.at_ms[24 * 190])
    assert "rsi_1h" not in found.values and "volatility_7d" not in found.values
    assert "volatility_6h" in found.values
    first = {name: np.flatnonzero(np.isfinite(c))[0] for name, c in WHOLE.columns.items()}
    assert first["rsi_1h"] == 249 and first["volatility_7d"] == 168
    assert first["volatility_90d"] >= 24 * 91 - 1


def test_a_market_that_stands_still_has_no_volatility() -> None:
    flat = np.full(len(HOURS), 100.0)
    still = dataclasses.replace(HOURS, open=flat, high=flat, low=flat, close=flat)
    found = features.newest("binance", windows(still), still.closed_ms)
    assert found.values.keys() == {"volume_1h", "hour_sine", "hour_cosine", "weekend"}


def test_known_values() -> None:
    """A price that rises by 1 % an hour: by hand."""
    close = 100 * 1.01 ** np.arange(len(HOURS))
    before = np.append(close[0], close[:-1])
    rising = dataclasses.replace(
        HOURS, open=before, high=close, low=before, close=close, volume=np.ones(len(close))
    )
    values = features.newest("binance", windows(rising), rising.closed_ms).values
    assert values["rsi_1h"] == pytest.approx(1)
    assert values["momentum_24h"] == pytest.approx(24**0.5)
    assert values["volatility_24h"] == pytest.approx(np.log(100 * np.log(1.01) * 24**0.5))
    assert values["below_high_7d"] == pytest.approx(0)
    assert values["above_low_7d"] == pytest.approx(168 / 24**0.5)
    assert values["volume_1h"] == pytest.approx(0)
    assert values["breakout_1h"] > 0


def test_the_clock_is_utc() -> None:
    weekend = WHOLE.columns["weekend"]
    days = {int(day) for day in WHOLE.at_ms[weekend == 1] // 86_400_000}
    assert {(day + 4) % 7 for day in days} == {6, 0}  # counted from Sunday
    midnight = WHOLE.at_ms % 86_400_000 == 0
    assert WHOLE.columns["hour_cosine"][midnight] == pytest.approx(1)
