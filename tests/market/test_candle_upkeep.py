"""Windows made whole over runs: holes asked for once, pages within an allowance, notes kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from shared.errors import DataUnavailable
from shared.market.candles import candle_source, candle_upkeep
from shared.market.candles.candle_refresh import Refreshed, begin, refresh
from shared.market.candles.candle_rows import WINDOW, gaps
from shared.market.candles.candle_source import Allowance
from shared.market.candles.candle_upkeep import Note, Notes, notes_from_bytes, notes_to_bytes
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue, walk

SYMBOL = "BTC/USDT"
MINUTE = 60_000


def long_venue(name: str, cap: int) -> FakeVenue:
    """A venue with more than a window of every timeframe that it serves."""
    venue = FakeVenue(name, cap=cap)
    venue.now_ms = lambda: NOW_MS
    served = [t for t in TIMEFRAMES if t not in candle_source.supply(name).built]
    venue.rows = {t: walk(8_000 if t == "1h" else 2_500, t, end_ms=NOW_MS) for t in served}
    return venue


def keep_up(
    venue: FakeVenue, result: Refreshed, notes: Notes, requests: int = 60, now_ms: int = NOW_MS
) -> Notes:
    """One run's upkeep; the calls that it made are left in the venue."""
    venue.calls.clear()
    with ThreadPoolExecutor(4) as pool:
        changed = candle_upkeep.keep_up(
            venue, {SYMBOL: result}, {SYMBOL: notes}, now_ms, Allowance(requests), pool, 10.0
        )
    return notes | changed.get(SYMBOL, {})


@pytest.mark.parametrize(("name", "cap"), [("binance", 1_000), ("coinbase", 300)])
def test_short_windows_grow_page_by_page_within_the_allowance(name: str, cap: int) -> None:
    venue = long_venue(name, cap)
    result, notes, runs = refresh(venue, SYMBOL, {}, NOW_MS), Notes(), 0
    whole = {t: len(w) for t, w in result.windows.items()}
    assert max(whole.values()) <= cap
    while candle_upkeep.wanting(name, {SYMBOL: result}) and runs < 30:
        notes = keep_up(venue, result, notes, requests=4)
        assert len(venue.calls) <= 4
        runs += 1
    for timeframe, window in result.windows.items():
        assert len(window) == WINDOW, timeframe
        assert gaps(window) == 0, timeframe
    rows = venue.rows["1m"]
    assert result.windows["1m"].close.tolist() == rows[-WINDOW:, 4].tolist()
    assert set(result.changed) == set(TIMEFRAMES)


def test_four_hours_on_coinbase_are_built_from_its_hours() -> None:
    venue = long_venue("coinbase", 300)
    result = refresh(venue, SYMBOL, {}, NOW_MS)
    assert ("candles", "4h", SYMBOL) not in venue.calls
    hours, built = result.windows["1h"], result.windows["4h"]
    assert built.closed_ms == NOW_MS and len(built) >= 70
    assert built.high[-1] == hours.high[-4:].max() and built.open[-1] == hours.open[-4]


def test_kraken_is_asked_for_no_page_that_it_does_not_have() -> None:
    venue = long_venue("kraken", 720)
    result = refresh(venue, SYMBOL, {}, NOW_MS)
    assert {len(w) for w in result.windows.values()} == {720}
    assert candle_upkeep.wanting("kraken", {SYMBOL: result}) == []
    assert keep_up(venue, result, {}) == {} and venue.calls == []


def test_a_listing_that_is_young_is_noted_and_asked_no_more() -> None:
    venue = healthy_venue()
    venue.now_ms = lambda: NOW_MS
    venue.rows["1d"] = venue.rows["1d"][-100:]
    result = refresh(venue, SYMBOL, {}, NOW_MS)
    notes = keep_up(venue, result, {})
    assert notes["1d"].oldest
    notes = keep_up(venue, result, notes)
    assert ("candles", "1d", SYMBOL) not in venue.calls
    assert len(result.windows["1d"]) <= 100


def test_pages_that_fail_are_given_up_after_three_runs() -> None:
    venue = long_venue("binance", 1_000)
    result, notes = refresh(venue, SYMBOL, {}, NOW_MS), Notes()
    venue.broken = {"candles"}
    for _ in range(3):
        notes = keep_up(venue, result, notes)
        assert len(venue.calls) == len(TIMEFRAMES)
    keep_up(venue, result, notes)
    assert venue.calls == []
    assert notes["1h"] == Note(oldest=True, tries=3)


def lacking_minutes(venue: FakeVenue, *ago: int) -> None:
    """Take minutes out of the venue, counted back from the newest closed one."""
    gone = {NOW_MS - n * MINUTE for n in ago}
    venue.rows["1m"] = np.array([row for row in venue.rows["1m"] if row[0] not in gone])


def test_a_hole_that_the_venue_can_fill_is_filled_by_one_request() -> None:
    venue = long_venue("binance", 1_000)
    whole = venue.rows["1m"]
    lacking_minutes(venue, 30, 31, 40)
    result = begin(venue, SYMBOL, {}, NOW_MS)
    assert candle_upkeep.lacking(result, {}) == ["1m:gaps=3"]
    venue.rows["1m"] = whole
    notes = keep_up(venue, result, {}, requests=1)
    assert venue.calls == [("candles", "1m", SYMBOL)]
    assert gaps(result.windows["1m"]) == 0 and result.changed == ["1m"]
    assert candle_upkeep.lacking(result, notes) == []
    assert result.windows["1m"].close.tolist() == whole[-len(result.windows["1m"]) :, 4].tolist()


def test_a_minute_without_a_trade_is_asked_for_once_and_then_only_named() -> None:
    venue = long_venue("kraken", 720)
    lacking_minutes(venue, 10, 50)
    result = begin(venue, SYMBOL, {}, NOW_MS)
    notes = keep_up(venue, result, {})
    assert venue.calls == [("candles", "1m", SYMBOL)]
    assert candle_upkeep.lacking(result, notes) == ["1m:gaps=2 (asked for, not to be had)"]
    again = keep_up(venue, result, notes)
    assert venue.calls == [] and again == notes
    # A later hole is a new question.
    later = NOW_MS + 20 * MINUTE
    venue.rows["1m"] = np.vstack((venue.rows["1m"], walk(10, "1m", end_ms=later)))
    venue.now_ms = lambda: later
    newer = begin(venue, SYMBOL, {"1m": result.windows["1m"]}, later)
    assert candle_upkeep.lacking(newer, notes) == ["1m:gaps=12"]
    keep_up(venue, newer, notes, now_ms=later)
    assert venue.calls == [("candles", "1m", SYMBOL)]


def test_without_an_allowance_nothing_is_asked() -> None:
    venue = long_venue("binance", 1_000)
    result = refresh(venue, SYMBOL, {}, NOW_MS)
    assert keep_up(venue, result, {}, requests=0) == {} and venue.calls == []
    assert Allowance(5, lambda: False).left == 0
    with pytest.raises(DataUnavailable, match="time is up"):
        Allowance(5, lambda: False).take()
    spent = Allowance(1)
    spent.take()
    with pytest.raises(DataUnavailable, match="has made its 1 requests"):
        spent.take()


@pytest.mark.parametrize(
    "blob", [None, b"", b"[]", b"{}", b"\xff", b'{"1m": 3}', b'{"1m": ["x", "y", "z"]}', b"nan"]
)
def test_notes_that_cannot_be_read_are_none(blob: bytes | None) -> None:
    assert notes_from_bytes(blob) == {}


def test_notes_survive_the_cache() -> None:
    notes = {"1m": Note(True, NOW_MS, 2), "1d": Note()}
    assert notes_from_bytes(notes_to_bytes(notes)) == notes


def test_a_page_is_as_long_as_the_venue_allows() -> None:
    assert candle_source.page_size("coinbase", "4h") == 75
    assert candle_source.page_size("binance", "4h") == 1_000
    assert candle_source.page_size("somewhere", "1m") == 300
    assert TIMEFRAME_MS["4h"] // TIMEFRAME_MS[candle_source.FINER["4h"]] == 4


def test_a_request_for_a_hole_that_fails_is_no_answer() -> None:
    venue = long_venue("binance", 1_000)
    whole = venue.rows["1m"]
    lacking_minutes(venue, 30, 31)
    result = begin(venue, SYMBOL, {}, NOW_MS)
    venue.rows["1m"] = whole
    notes = Notes()
    for _ in range(2):
        venue.broken = {"candles"}
        notes = keep_up(venue, result, notes, requests=1)
        assert candle_upkeep.lacking(result, notes) == ["1m:gaps=2"]
    venue.broken = set()
    notes = keep_up(venue, result, notes, requests=1)
    assert gaps(result.windows["1m"]) == 0
    assert notes["1m"].tries == 0
