"""Rolled-up windows against the venue's own, in turn and within the three requests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.market.candles import candle_check
from shared.market.candles.candle_refresh import Windows, refresh
from shared.market.types import TIMEFRAMES
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue

SYMBOL = "BTC/USDT"
MINUTE = 60_000
AT_MS = NOW_MS + 3 * MINUTE


@pytest.fixture
def venue() -> FakeVenue:
    return healthy_venue()


@pytest.fixture
def windows(venue: FakeVenue) -> Windows:
    """What a run had two minutes after midnight."""
    venue.now_ms = lambda: AT_MS - MINUTE
    found = refresh(venue, SYMBOL, {}, AT_MS - MINUTE).windows
    venue.calls.clear()
    venue.now_ms = lambda: AT_MS
    return found


def test_every_series_has_its_turn_and_no_minute_that_closes_another_candle() -> None:
    symbols = ("A/USDT", "B/USDT", "C/USDT")
    due = [candle_check.due(symbols, NOW_MS + minute * MINUTE) for minute in range(75)]
    assert set(due) - {None} == {(s, t) for s in symbols for t in TIMEFRAMES[1:]}
    assert [minute % 5 for minute, series in enumerate(due) if series] == [3] * 15
    assert candle_check.due((), AT_MS) is None


@pytest.mark.parametrize("timeframe", TIMEFRAMES[1:])
def test_a_check_takes_the_place_of_the_newest_minute(
    venue: FakeVenue, windows: Windows, timeframe: str
) -> None:
    result = refresh(venue, SYMBOL, windows, AT_MS, check=timeframe)
    assert venue.calls == [("candles", timeframe, SYMBOL)]
    assert result.differences == [] and result.missing == [] and result.changed == []
    assert result.windows == windows
    assert result.windows["1m"].closed_ms == AT_MS - MINUTE
    after = refresh(venue, SYMBOL, result.windows, AT_MS + MINUTE)
    assert after.windows["1m"].closed_ms == AT_MS + MINUTE
    assert len(set(np.diff(after.windows["1m"].open_ms))) == 1


def test_a_difference_is_told_and_repaired_by_the_venues(
    venue: FakeVenue, windows: Windows
) -> None:
    wrong = windows["1h"].high.copy()
    wrong[-3] *= 1.02
    ours = windows | {"1h": replace(windows["1h"], high=wrong)}
    result = refresh(venue, SYMBOL, ours, AT_MS, check="1h")
    (found,) = result.differences
    assert (found.timeframe, found.candles) == ("1h", 1)
    assert found.first_open_ms == windows["1h"].open_ms[-3]
    assert found.largest_percent == pytest.approx(2.0)
    assert result.missing == ["1h:1 candles were not the venue's, by up to 2 %; repaired"]
    assert result.windows["1h"].high.tolist() == windows["1h"].high.tolist()
    assert result.changed == ["1h"]


def test_a_candle_that_is_absent_in_ours_is_a_difference(
    venue: FakeVenue, windows: Windows
) -> None:
    keep = np.arange(len(windows["15m"])) != len(windows["15m"]) - 5
    columns = {n: getattr(windows["15m"], n)[keep] for n in ("open_ms", "open", "high", "low")}
    columns |= {n: getattr(windows["15m"], n)[keep] for n in ("close", "volume")}
    ours = windows | {"15m": replace(windows["15m"], **columns)}
    result = refresh(venue, SYMBOL, ours, AT_MS, check="15m")
    assert result.differences[0].candles == 1
    assert result.windows["15m"].open_ms.tolist() == windows["15m"].open_ms.tolist()


def test_sums_that_differ_in_the_last_digits_are_the_same(
    venue: FakeVenue, windows: Windows
) -> None:
    near = replace(windows["1h"], volume=windows["1h"].volume * (1 + 1e-9))
    assert candle_check.compare(near, windows["1h"]) is None
    far = replace(windows["1h"], volume=windows["1h"].volume * 1.01)
    assert candle_check.compare(far, windows["1h"]) is not None


def test_where_a_window_lacks_the_newest_candle_nothing_is_put_off(
    venue: FakeVenue, windows: Windows
) -> None:
    for lacking in TIMEFRAMES:
        ours = {name: window for name, window in windows.items() if name != lacking}
        assert not candle_check.can_wait(ours, "1h", AT_MS)
    assert not candle_check.can_wait(windows, "1h", AT_MS + MINUTE)  # two minutes behind
    refresh(venue, SYMBOL, windows, AT_MS + MINUTE, check="1h")
    assert venue.calls[0] == ("candles", "1m", SYMBOL)


def test_a_check_that_fails_is_named_and_changes_nothing(
    venue: FakeVenue, windows: Windows
) -> None:
    venue.broken = {"candles:1d:BTC/USDT"}
    result = refresh(venue, SYMBOL, windows, AT_MS, check="1d")
    assert result.missing == ["1d:not checked:binance.candles: ConnectionError"]
    assert result.windows == windows and result.changed == []
