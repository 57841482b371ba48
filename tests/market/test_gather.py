"""Inputs gathered side by side, within a deadline and an allowance; bad answers; a lost Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis

from shared import clock
from shared.analysis import housekeeping
from shared.errors import VenueUnavailable
from shared.ledger import leases
from shared.ledger.connection import Ledger
from shared.market import crosscheck, sentiment
from shared.market.candles import candle_check, candle_store
from shared.market.candles.candle_rows import COLUMNS, WINDOW
from shared.market.gathering import gather, serving
from shared.market.gathering.gather import Gathered, SymbolInputs
from shared.market.sentiment import Sentiment
from shared.market.types import TIMEFRAMES, Book, Quote
from shared.run import Run
from tests.conftest import VirtualClock
from tests.market.fakes import NOW_MS, FakeVenue, healthy_venue, make_run

SYMBOL = "BTC/USDT"
TWENTY = tuple(f"S{i}" for i in range(20))
MINUTE = 60_000
Venues = dict[str, FakeVenue]


@pytest.fixture(autouse=True)
def _cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that remembers nothing; no mood."""
    candle_store._remembered.clear()
    quiet = Sentiment(NOW_MS, None, (), NOW_MS, ())
    monkeypatch.setattr(sentiment, "read", lambda run: quiet)


@pytest.fixture
def run(ledger: Ledger, redis_url: str, virtual_clock: VirtualClock) -> Run:
    return make_run(ledger, redis_url=redis_url)


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


def ask(run: Run, *venues: FakeVenue, symbols: tuple[str, ...] = (SYMBOL,), **how: Any) -> Gathered:
    for venue in venues:
        venue.calls.clear()
    return gather.gather(run, {venue.name: venue for venue in venues}, symbols, **how)


def pairs(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}/USDT" for name in names)


# Side by side, and the deadline


def test_symbols_are_asked_side_by_side(run: Run) -> None:
    """Eight books are under way at once; asked in turn, the first would wait for ever."""
    venue = healthy_venue()
    meeting = threading.Barrier(8, timeout=20)

    def answer(symbol: str) -> Book:
        meeting.wait()
        return Book(symbol, ((99.0, 1.0),), ((101.0, 1.0),), NOW_MS)

    venue.answers["book"] = answer
    found = ask(run, venue, symbols=pairs(TWENTY[:8]))
    assert set(found.by_symbol) == set(pairs(TWENTY[:8]))


def test_what_came_in_time_is_used_and_the_rest_is_named(
    run: Run, hanging: threading.Event
) -> None:
    venue, slow = healthy_venue(), "S3/USDT"

    def book(symbol: str) -> Book:
        if symbol == slow:
            hanging.wait(30)
        return Book(symbol, ((99.0, 1.0),), ((101.0, 1.0),), NOW_MS)

    venue.answers["book"] = book
    started = time.perf_counter()
    found = ask(run, venue, symbols=pairs(TWENTY[:6]), deadline_s=3.0)
    assert time.perf_counter() - started < 10
    assert set(found.by_symbol) == set(pairs(TWENTY[:6])) - {slow}
    assert found.missing_by_symbol[slow] == ["binance: no answer in time"]
    assert found.missing_by_symbol["S0/USDT"] == []


def test_a_symbol_that_hangs_is_served_by_the_next_venue(
    run: Run, hanging: threading.Event
) -> None:
    first, second = healthy_venue(), healthy_venue("coinbase")
    first.answers["book"] = lambda symbol: hanging.wait(30)
    found = ask(run, first, second, deadline_s=4.0)
    assert found.by_symbol[SYMBOL].venue == "coinbase"
    assert found.missing_by_symbol[SYMBOL][0] == "binance: no answer in time"


def test_a_symbol_that_a_venue_does_not_list_is_named_and_taken_over(run: Run) -> None:
    first, second = healthy_venue(), healthy_venue("coinbase")
    first.broken = {"candles:1m:NEW/USDT"}
    found = ask(run, first, second, symbols=(SYMBOL, "NEW/USDT"))
    assert {s: inputs.venue for s, inputs in found.by_symbol.items()} == {
        SYMBOL: "binance",
        "NEW/USDT": "coinbase",
    }
    assert found.missing_by_symbol["NEW/USDT"] == ["binance: binance.candles: ConnectionError"]


# Requests


def test_a_cold_start_of_many_symbols_serves_all_and_puts_off_what_can_wait(run: Run) -> None:
    venue, symbols = healthy_venue(), pairs(TWENTY)
    found = ask(run, venue, symbols=symbols)
    assert set(found.by_symbol) == set(symbols)
    assert venue.count("book") == venue.count("trades") == 20
    assert venue.count("candles") == 20 + serving.CANDLE_REQUESTS
    lacking = [
        note for s in symbols for note in found.by_symbol[s].missing if "put off: this run" in note
    ]
    assert len(lacking) == 20 * 5 - serving.CANDLE_REQUESTS
    runs = 1
    while venue.count("candles") > 20 and runs < 20:
        found = ask(run, venue, symbols=symbols)
        runs += 1
        assert venue.count("candles") <= 20 + serving.CANDLE_REQUESTS
    for symbol in symbols:
        windows = found.by_symbol[symbol].refreshed.windows
        assert list(windows) == list(TIMEFRAMES)
        assert {len(window) for name, window in windows.items() if name != "1d"} <= {
            *range(1_200, WINDOW + 1)
        }


def test_no_minute_of_an_hour_asks_more_than_three_times_a_symbol(
    run: Run, virtual_clock: VirtualClock
) -> None:
    venue, symbols = healthy_venue(), (SYMBOL, "ETH/USDT")
    while ask(run, venue, symbols=symbols) and venue.count("candles") > 2:
        pass
    checked = set()
    for _ in range(60):
        virtual_clock.advance(minutes=1)
        found = ask(run, venue, symbols=symbols)
        for symbol in symbols:
            asked = [call for call in venue.calls if call[-1] == symbol]
            assert [call[0] for call in asked] == ["candles", "book", "trades"]
            checked |= {(symbol, asked[0][1])} - {(symbol, "1m")}
            newest_ms = found.by_symbol[symbol].refreshed.windows["1m"].closed_ms
            assert newest_ms >= clock.now_ms() - MINUTE
    assert checked == {(s, t) for s in symbols for t in candle_check.HIGHER}


def test_a_window_that_is_not_the_venues_becomes_an_event(
    run: Run, virtual_clock: VirtualClock
) -> None:
    venue = healthy_venue()
    while ask(run, venue) and venue.count("candles") > 1:
        pass
    virtual_clock.advance(minutes=2)
    ask(run, venue)
    virtual_clock.advance(minutes=1)
    due = candle_check.due([SYMBOL], clock.now_ms())
    assert due is not None
    rows = venue.rows[due[1]]
    at = np.flatnonzero(rows[:, 0] < NOW_MS)[-5]
    rows[at, 2] *= 1.5
    ask(run, venue)
    (event,) = run.ledger.query("SELECT kind, detail FROM events WHERE kind = 'CANDLES_DIFFER'")
    assert event["detail"]["timeframe"] == due[1] and event["detail"]["candles"] == 1
    ask(run, venue)
    assert len(run.ledger.query("SELECT * FROM events WHERE kind = 'CANDLES_DIFFER'")) == 1


# A lost Redis


def test_after_a_redis_loss_the_history_gives_what_kraken_does_not_have_any_more(
    run: Run, redis_url: str, virtual_clock: VirtualClock
) -> None:
    venue = healthy_venue("kraken")
    venue.cap = 720
    for _ in range(20):
        last = ask(run, venue)
        virtual_clock.advance(minutes=1)
    assert len(last.by_symbol[SYMBOL].refreshed.windows["1m"]) == 719 + 19
    run.config = run.config.model_copy(update={"venues": ("kraken",)})
    run.epoch = leases.acquire(run.ledger, run.workflow, "an hour later") or 0
    assert housekeeping.keep_house(run)["candles_kept"] >= 5 * 719
    virtual_clock.advance(minutes=10)
    redis.Redis.from_url(redis_url).flushall()
    candle_store._remembered.clear()
    after = ask(run, venue).by_symbol[SYMBOL].refreshed.windows
    assert len(after["1m"]) == 719 + 19 + 11
    assert after["1m"].closed_ms == clock.now_ms()
    assert set(np.diff(after["1m"].open_ms)) == {MINUTE}
    assert len(after["1d"]) >= 719 and list(after) == list(TIMEFRAMES)
    # What came from the ledger is in the cache again, the day that has not changed as well.
    candle_store._remembered.clear()
    assert list(
        candle_store.CandleStore(run.cache).read("kraken", [SYMBOL], clock.now_ms())[SYMBOL]
    ) == list(TIMEFRAMES)


def test_without_a_redis_and_a_history_each_minute_starts_anew(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    run, venue = make_run(ledger, redis_url="redis://127.0.0.1:1/0"), healthy_venue()
    for _ in range(2):
        found = ask(run, venue)
        assert list(found.by_symbol[SYMBOL].refreshed.windows) == list(TIMEFRAMES)
        assert venue.count("candles") == len(TIMEFRAMES)  # no page that would be lost at once


# Bad answers


def changed(column: str, value: float, *, ago: int = 1) -> Any:
    """The venue's minutes with one value of the newest closed candle put to ``value``."""

    def answer(timeframe: str) -> Any:
        rows = healthy_venue().rows[timeframe]
        rows = rows[rows[:, 0] < NOW_MS][-500:].copy()
        rows[-ago, COLUMNS.index(column)] = value
        return rows

    return answer


def unavailable(timeframe: str) -> Any:
    raise VenueUnavailable("binance: candles: malformed answer")


BAD: list[tuple[Any, str]] = [
    (lambda timeframe: np.empty((0, 6)), "1m:no candles"),
    (lambda timeframe: [[1, 2, 3]], "rows: expected 6 columns"),
    (lambda timeframe: [["a"] * 6], "rows: expected numbers"),
    (lambda timeframe: {"error": "busy"}, "rows: expected numbers"),
    (unavailable, "malformed answer"),
    (changed("low", -5.0), "low: was -5.0"),
    (changed("low", float("nan")), "low: was nan"),
    (changed("high", 1.0), "high: was 1.0"),
    (changed("volume", -1.0), "volume: was -1.0"),
    (changed("open_ms", NOW_MS + 3_600_000), "open_ms: was"),
    (changed("open_ms", NOW_MS - 90_001), "open_ms: was"),
]


@pytest.mark.parametrize(("answer", "named"), BAD)
def test_candles_that_cannot_be_believed_are_refused_by_name(
    run: Run, answer: Any, named: str
) -> None:
    first, second = healthy_venue(), healthy_venue("coinbase")
    first.answers["candles"] = answer
    found = ask(run, first, second)
    assert found.by_symbol[SYMBOL].venue == "coinbase"
    assert named in found.missing_by_symbol[SYMBOL][0]
    store = candle_store.CandleStore(run.cache)
    assert store.read("binance", [SYMBOL], clock.now_ms()) == {SYMBOL: {}}


def flash(venue: FakeVenue, timeframe: str, price: float, *, ago: int) -> None:
    """Print ``price`` in the low of a closed candle."""
    rows = venue.rows[timeframe]
    rows[np.flatnonzero(rows[:, 0] < NOW_MS)[-ago], 3] = price


def verdict(inputs: SymbolInputs, **quotes: Quote) -> crosscheck.Verdict:
    seen = quotes or {"binance": Quote(inputs.book.mid, inputs.book.mid, NOW_MS)}
    return crosscheck.judge(seen, inputs.refreshed.windows["1m"], inputs.flash_prints)


@pytest.mark.parametrize(("timeframe", "price"), [("1h", 0.0001), ("1d", 0.06), ("1m", 0.0001)])
def test_a_flash_print_in_the_newest_candle_is_an_anomaly_and_in_no_window(
    run: Run, timeframe: str, price: float
) -> None:
    venue = healthy_venue()
    flash(venue, timeframe, price, ago=1)
    inputs = ask(run, venue).by_symbol[SYMBOL]
    anomaly = verdict(inputs).anomaly
    assert anomaly is not None and anomaly.startswith(f"{timeframe} flash print low {price:g}")
    assert inputs.refreshed.windows[timeframe].low.min() > 10
    assert any(f"{timeframe}:flash print low" in note for note in inputs.missing)
    kept = candle_store.CandleStore(run.cache).read("binance", [SYMBOL], NOW_MS)[SYMBOL]
    assert kept[timeframe].low.min() == price  # as the venue told it


def test_a_print_of_a_day_is_news_for_an_hour(run: Run, virtual_clock: VirtualClock) -> None:
    venue = healthy_venue()
    flash(venue, "1d", 0.06, ago=1)
    virtual_clock.advance(minutes=59)
    assert ask(run, venue).by_symbol[SYMBOL].flash_prints
    virtual_clock.advance(minutes=1)
    later = ask(run, venue).by_symbol[SYMBOL]
    assert later.flash_prints == () and later.refreshed.windows["1d"].low.min() > 10


def test_an_older_flash_print_is_left_out_and_no_anomaly(run: Run) -> None:
    venue = healthy_venue()
    flash(venue, "1h", 0.0001, ago=30)
    inputs = ask(run, venue).by_symbol[SYMBOL]
    assert verdict(inputs).anomaly is None and inputs.flash_prints == ()
    assert inputs.refreshed.windows["1h"].low.min() > 10
    first = inputs.refreshed.windows["1h"]
    assert ask(run, venue).by_symbol[SYMBOL].refreshed.windows["1h"] is first  # cleaned once


def test_a_position_is_not_stopped_out_by_a_print(run: Run, virtual_clock: VirtualClock) -> None:
    """The window that exits look at has no flash print either."""
    venue = healthy_venue()
    flash(venue, "1m", 0.0001, ago=2)
    ask(run, venue)
    window = candle_store.window(run, "binance", SYMBOL, "1m")
    assert window is not None and window.low.min() > 10
