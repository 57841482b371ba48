"""The candle store: what a cold and a warm minute ask for, and what a lost cache costs."""

from __future__ import annotations

import numpy as np
import pytest

from shared.cache import Cache
from shared.calls import CallLog
from shared.errors import DataUnavailable, VenueUnavailable
from shared.ledger.connection import Ledger
from shared.market.candles import candle_store, candle_upkeep
from shared.market.candles.candle_store import CandleStore, Refreshed, refresh, window
from shared.market.types import TIMEFRAMES
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue, make_run

SYMBOL = "BTC/USDT"
MINUTE = 60_000


@pytest.fixture
def store(redis_url: str) -> CandleStore:
    candle_store._remembered.clear()
    return CandleStore(Cache(redis_url, "test", CallLog()))


def minute(store: CandleStore, venue: FakeVenue, now_ms: int) -> Refreshed:
    """One minute's refresh; returns what it brought, and leaves the calls of it in the venue."""
    venue.calls.clear()
    venue.now_ms = lambda: now_ms
    result = refresh(venue, SYMBOL, store.read(venue.name, [SYMBOL], now_ms)[SYMBOL], now_ms)
    store.write(venue.name, {SYMBOL: result})
    return result


def asked(venue: FakeVenue) -> list[str]:
    return [call[1] for call in venue.calls]


def test_a_cold_start_asks_once_for_each_timeframe(store: CandleStore) -> None:
    venue = healthy_venue()
    result = minute(store, venue, NOW_MS)
    assert asked(venue) == list(TIMEFRAMES)
    # A call brings at most 1,000 candles, of which the venue's newest may still be open.
    assert {len(w) for w in result.windows.values()} <= {999, 1_000}
    assert list(result.windows) == list(TIMEFRAMES)
    assert result.missing == []


def test_two_hours_of_warm_minutes_ask_for_one_minute_each_and_end_like_a_cold_start(
    store: CandleStore,
) -> None:
    venue = healthy_venue()
    minute(store, venue, NOW_MS)
    for i in range(1, 120):
        warm = minute(store, venue, NOW_MS + i * MINUTE)
        assert asked(venue) == ["1m"]
    cold = refresh(venue, SYMBOL, {}, NOW_MS + 119 * MINUTE)
    for timeframe in TIMEFRAMES:
        one, other = warm.windows[timeframe], cold.windows[timeframe]
        assert one.open_ms[-990:].tolist() == other.open_ms[-990:].tolist()
        assert one.close[-990:].tolist() == other.close[-990:].tolist()
        np.testing.assert_allclose(one.volume[-990:], other.volume[-990:], rtol=1e-12)


def test_a_cold_process_reads_what_another_one_has_kept(store: CandleStore) -> None:
    venue = healthy_venue()
    minute(store, venue, NOW_MS)
    candle_store._remembered.clear()
    minute(store, venue, NOW_MS + MINUTE)
    assert asked(venue) == ["1m"]


def test_a_lost_cache_costs_requests_and_nothing_else(redis_url: str, store: CandleStore) -> None:
    import redis

    venue = healthy_venue()
    warm = minute(store, venue, NOW_MS)
    redis.Redis.from_url(redis_url).flushall()
    again = minute(store, venue, NOW_MS)
    assert asked(venue) == list(TIMEFRAMES)
    assert again.windows["1h"].close.tolist() == warm.windows["1h"].close.tolist()
    nowhere = CandleStore(Cache("redis://127.0.0.1:1/0", "test", CallLog()))
    without = minute(nowhere, venue, NOW_MS)
    assert without.windows["1h"].close.tolist() == warm.windows["1h"].close.tolist()


def test_poisoned_cache_values_are_not_used(redis_url: str, store: CandleStore) -> None:
    import redis

    venue = healthy_venue()
    minute(store, venue, NOW_MS)
    client = redis.Redis.from_url(redis_url)
    for key in client.keys("test:candles:*:1h*"):
        client.set(key, b"CNDL poison")
    result = minute(store, venue, NOW_MS)
    assert asked(venue) == ["1h"]
    assert len(result.windows["1h"]) >= 999


def test_a_minute_that_is_lacking_makes_the_higher_timeframe_be_asked_for(
    store: CandleStore,
) -> None:
    venue = healthy_venue()
    minute(store, venue, NOW_MS)
    lacking = venue.rows["1m"][:, 0] == NOW_MS + 2 * MINUTE
    venue.rows["1m"] = venue.rows["1m"][~lacking]
    result = minute(store, venue, NOW_MS + 5 * MINUTE)
    assert asked(venue) == ["1m", "5m"]
    assert result.windows["5m"].closed_ms == NOW_MS + 5 * MINUTE
    assert candle_upkeep.lacking(result, {}) == ["1m:gaps=1"]


def test_a_long_pause_starts_the_window_anew_instead_of_joining_over_a_hole(
    store: CandleStore,
) -> None:
    venue = healthy_venue("coinbase", end_ms=NOW_MS + 10 * 3_600_000)
    venue.cap = 300
    assert len(minute(store, venue, NOW_MS).windows["1m"]) == 299
    result = minute(store, venue, NOW_MS + 9 * 3_600_000)
    assert result.windows["1m"].closed_ms == NOW_MS + 9 * 3_600_000
    assert len(result.windows["1m"]) == 299
    assert candle_upkeep.lacking(result, {}) == []


def test_what_lies_in_the_future_of_the_clock_is_not_seen(store: CandleStore) -> None:
    venue = healthy_venue()
    minute(store, venue, NOW_MS + 60 * MINUTE)
    earlier = store.read(venue.name, [SYMBOL], NOW_MS)[SYMBOL]
    assert {t: w.closed_ms <= NOW_MS for t, w in earlier.items()} == dict.fromkeys(TIMEFRAMES, True)
    assert earlier["1m"].closed_ms == NOW_MS


def test_a_timeframe_that_fails_is_named_and_the_rest_goes_on(store: CandleStore) -> None:
    venue = healthy_venue()
    venue.broken = {"candles:4h:BTC/USDT"}
    result = minute(store, venue, NOW_MS)
    assert "4h" not in result.windows
    assert result.missing == [
        "4h:binance.candles: ConnectionError",
        "4h:no candles",
    ]
    assert len(result.windows) == 5


def test_a_stale_series_is_missing(store: CandleStore) -> None:
    venue = healthy_venue()
    venue.rows["1h"] = venue.rows["1h"][venue.rows["1h"][:, 0] < NOW_MS - 4 * 3_600_000]
    result = minute(store, venue, NOW_MS)
    assert "1h" not in result.windows
    assert result.missing == [f"1h:stale since {NOW_MS - 4 * 3_600_000}"]


@pytest.mark.parametrize("error", ["broken", "malformed", "stale"])
def test_without_minutes_the_venue_is_of_no_use(store: CandleStore, error: str) -> None:
    venue = healthy_venue()
    if error == "broken":
        venue.broken = {"candles"}
    elif error == "stale":
        venue.rows["1m"] = venue.rows["1m"][venue.rows["1m"][:, 0] < NOW_MS - 10 * MINUTE]
    else:
        venue.rows["1m"][:, 2] = 0.0
    with pytest.raises((VenueUnavailable, DataUnavailable)):
        minute(store, venue, NOW_MS)


def test_window_reads_the_cache_and_asks_a_venue_only_if_given_one(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock
) -> None:
    run, venue = make_run(ledger, redis_url=redis_url), healthy_venue()
    assert window(run, "binance", SYMBOL, "1h") is None
    fetched = window(run, venue, SYMBOL, "1h")
    assert fetched is not None and len(fetched) >= 999
    cached = window(run, "binance", SYMBOL, "1h")
    assert cached is not None and cached.close.tolist() == fetched.close.tolist()
    assert asked(venue) == ["1h"]
    virtual_clock.advance(hours=3)
    assert window(run, "binance", SYMBOL, "1h") is None
