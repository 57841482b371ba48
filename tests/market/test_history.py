"""Candles in PostgreSQL: written once, read back to the last digit, pruned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shared.ledger.connection import Ledger
from shared.market.candles import history
from shared.market.candles.candle_rows import COLUMNS, WINDOW
from shared.market.types import TIMEFRAME_MS, TIMEFRAMES, Candles
from tests.market.fakes import NOW_MS, as_candles, walk

SYMBOL = "BTC/USDT"
DAY_MS = 86_400_000


def window(timeframe: str = "1m", count: int = 200, *, end_ms: int = NOW_MS) -> Candles:
    return as_candles(walk(count, timeframe, end_ms=end_ms), timeframe)


def same(one: Candles, other: Candles) -> bool:
    return all(np.array_equal(getattr(one, n), getattr(other, n)) for n in COLUMNS)


def part(whole: Candles, start: int, end: int) -> Candles:
    return replace(whole, **{name: getattr(whole, name)[start:end] for name in COLUMNS})


def test_what_is_kept_is_read_back_to_the_last_digit(ledger: Ledger) -> None:
    kept = [window(timeframe) for timeframe in TIMEFRAMES]
    assert history.keep(ledger, "binance", kept) == 6 * 200
    series = [(SYMBOL, timeframe) for timeframe in TIMEFRAMES]
    found = history.newest(ledger, "binance", series, NOW_MS)
    assert list(found) == series
    assert all(same(found[SYMBOL, w.timeframe], w) for w in kept)
    whole = history.read(ledger, "binance", SYMBOL, "1h", 0, NOW_MS)
    assert same(whole, kept[TIMEFRAMES.index("1h")])
    few = history.read(
        ledger, "binance", SYMBOL, "1m", int(kept[0].open_ms[5]), int(kept[0].open_ms[8])
    )
    assert few.open_ms.tolist() == kept[0].open_ms[5:8].tolist()


def test_a_candle_is_written_once(ledger: Ledger) -> None:
    whole = window(count=300)
    assert history.keep(ledger, "binance", [part(whole, 0, 250)]) == 250
    assert history.keep(ledger, "binance", [part(whole, 0, 250)]) == 0
    assert history.keep(ledger, "binance", [part(whole, 100, 300)]) == 50
    assert same(history.read(ledger, "binance", SYMBOL, "1m", 0, NOW_MS), whole)
    assert history.keep(ledger, "binance", []) == 0


def test_a_large_window_is_written_over_several_hours(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT_AT_ONCE", 300)
    whole = [window("1m", 200), window("5m", 200)]
    assert [history.keep(ledger, "binance", whole) for _ in range(3)] == [300, 100, 0]
    assert same(history.read(ledger, "binance", SYMBOL, "5m", 0, NOW_MS), whole[1])


def test_series_of_venues_and_symbols_are_apart(ledger: Ledger) -> None:
    one, other = window(), replace(window(), symbol="ETH/USDT")
    history.keep(ledger, "binance", [one, other])
    history.keep(ledger, "kraken", [part(one, 0, 10)])
    found = history.newest(ledger, "kraken", [(SYMBOL, "1m"), ("ETH/USDT", "1m")], NOW_MS)
    assert {key: len(kept) for key, kept in found.items()} == {(SYMBOL, "1m"): 10}
    assert history.newest(ledger, "kraken", [], NOW_MS) == {}
    assert len(history.read(ledger, "coinbase", SYMBOL, "1m", 0, NOW_MS)) == 0


def test_nothing_is_read_that_was_not_closed_yet(ledger: Ledger) -> None:
    history.keep(ledger, "binance", [window()])
    earlier_ms = NOW_MS - 30 * 60_000 - 1
    found = history.newest(ledger, "binance", [(SYMBOL, "1m")], earlier_ms)[SYMBOL, "1m"]
    assert found.closed_ms == NOW_MS - 31 * 60_000


def test_a_long_hole_ends_what_a_window_is_filled_from(ledger: Ledger) -> None:
    whole = window()
    gone = np.r_[0:100, 150:200]
    history.keep(
        ledger, "binance", [replace(whole, **{n: getattr(whole, n)[gone] for n in COLUMNS})]
    )
    found = history.newest(ledger, "binance", [(SYMBOL, "1m")], NOW_MS)[SYMBOL, "1m"]
    assert same(found, part(whole, 150, 200))


def test_values_that_cannot_be_right_are_not_read(ledger: Ledger) -> None:
    history.keep(ledger, "binance", [window()])
    ledger.execute("UPDATE candles SET low = high + 1")
    assert history.newest(ledger, "binance", [(SYMBOL, "1m")], NOW_MS) == {}


@pytest.mark.parametrize("days", [7, 90])
def test_old_candles_go_but_none_that_a_window_needs(ledger: Ledger, days: int) -> None:
    for timeframe in TIMEFRAMES:
        ends = [NOW_MS, NOW_MS - days * DAY_MS, NOW_MS - 2_000 * DAY_MS]
        parts = [window(timeframe, 5, end_ms=end) for end in ends]
        opens = np.concatenate([p.open_ms for p in reversed(parts)])
        columns = {n: np.concatenate([getattr(p, n) for p in reversed(parts)]) for n in COLUMNS[1:]}
        history.keep(ledger, "binance", [replace(parts[0], open_ms=opens, **columns)])
    history.prune(ledger, NOW_MS, days)
    for timeframe in TIMEFRAMES:
        oldest_ms = NOW_MS - max(days * DAY_MS, WINDOW * TIMEFRAME_MS[timeframe])
        left = history.read(ledger, "binance", SYMBOL, timeframe, 0, NOW_MS)
        assert left.open_ms[0] >= oldest_ms, timeframe
        needed = WINDOW * TIMEFRAME_MS[timeframe] > days * DAY_MS
        assert len(left) == (10 if needed else 5), timeframe
    assert history.prune(ledger, NOW_MS, days) == 0
