"""What a venue tells us to wait for holds over runs; what we may ask in a minute is shared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from capture_server import Capture, listen, reply
from captured_venue import SYMBOL, VENUES, adapter, ticket

from shared import clock
from shared.cache import Cache
from shared.calls import CallLog
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.types import VenueOrder
from shared.execution.venues import limits
from shared.execution.venues.budget import ALLOWANCES, Budget
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.limits import Block
from shared.execution.venues.traffic import Traffic
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock

CALLS: dict[str, Callable[[CcxtVenue], Any]] = {
    "candles": lambda venue: venue.candles(SYMBOL, "1m", since_ms=None, limit=10),
    "book": lambda venue: venue.book(SYMBOL),
    "trades": lambda venue: venue.trades(SYMBOL),
    "quotes": lambda venue: venue.quotes([SYMBOL]),
    "time": lambda venue: venue.server_time_ms(),
    "find_order": lambda venue: venue.find_order("mine", SYMBOL, clock.now()),
    "order": lambda venue: venue.order("7", SYMBOL),
    "cancel": lambda venue: venue.cancel("7", SYMBOL),
    "open_orders": lambda venue: venue.open_orders([SYMBOL]),
    "fills": lambda venue: venue.fills(SYMBOL, clock.now()),
    "fills_of": lambda venue: venue.fills_of(
        VenueOrder("7", None, SYMBOL, "buy", "open", Decimal(1), Decimal(0), None)
    ),
    "balances": lambda venue: venue.balances(),
}


def no_cache() -> Cache:
    return Cache(None, "test", CallLog())


def traffic(ledger: Ledger, cache: Cache | None = None) -> Traffic:
    """As the next run has it."""
    return Traffic(limits.in_force(ledger, clock.now()), lambda: ledger, cache or no_cache())


def wait(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: reply(handler, status, {}, **headers)


def ask(capture: Capture, venue: CcxtVenue, name: str = "balances") -> None:
    with pytest.raises(VenueUnavailable):
        CALLS[name](venue)


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize(("status", "banned"), [(429, False), (418, True)])
def test_retry_after_holds_for_the_runs_that_follow(
    ledger: Ledger, virtual_clock: VirtualClock, name: str, status: int, banned: bool
) -> None:
    with listen({}) as capture:
        capture.fault = wait(status, Retry_After="300")
        ask(capture, adapter(name, capture.base_url, traffic=traffic(ledger)))
        block = limits.in_force(ledger, clock.now())[name]
        assert (block.until - clock.now(), block.banned) == (timedelta(seconds=300), banned)

        next_run = adapter(name, capture.base_url, traffic=traffic(ledger))
        capture.requests.clear()
        for each in CALLS.values():
            with pytest.raises(VenueUnavailable, match=rf"{name}: .* blocked until"):
                each(next_run)
        for side in ("buy", "sell"):
            with pytest.raises(OrderRejected, match="blocked until .*nothing sent"):
                next_run.submit(ticket(next_run, side, "IOC"))
        assert capture.requests == []

        virtual_clock.advance(seconds=301)
        ask(capture, adapter(name, capture.base_url, traffic=traffic(ledger)))
        assert len(capture.requests) == 1


def test_a_run_heeds_at_once_what_it_was_told(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    with listen({}) as capture:
        capture.fault = wait(429, Retry_After="60")
        venue = adapter("kraken", capture.base_url, traffic=traffic(ledger))
        with pytest.raises(OrderUnknown):
            venue.submit(ticket(venue, "buy", "IOC"))
        with pytest.raises(OrderRejected, match="blocked"):
            venue.submit(ticket(venue, "buy", "IOC"))
        assert len(capture.requests) == 1
        assert set(limits.in_force(ledger, clock.now())) == {"kraken"}  # and no other venue


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "7"}, 7),
        (429, {"Retry-After": "Tue, 06 May 2025 00:01:00 GMT"}, 60),
        (429, {"retry-after": "0"}, None),
        (429, {"Retry-After": "Mon, 05 May 2025 00:00:00 GMT"}, None),
        (429, {"Retry-After": "soon"}, 60),
        (429, {}, None),
        (418, {}, 120),
        (418, {"Retry-After": "5"}, 120),
        (418, {"Retry-After": "99999999"}, 3 * 86_400),
        (503, {"Retry-After": "60"}, None),
        (200, {}, None),
    ],
)
def test_what_an_answer_asks_to_wait(
    virtual_clock: VirtualClock, status: int, headers: dict[str, str], seconds: int | None
) -> None:
    from requests.structures import CaseInsensitiveDict

    block = limits.block_of("binance", status, CaseInsensitiveDict(headers), clock.now())
    waited = None if block is None else (block.until - clock.now()).total_seconds()
    assert waited == seconds


def test_a_shorter_block_does_not_shorten_a_longer_one(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    now = clock.now()
    ban = Block("binance", now + timedelta(hours=1), True, "HTTP 418")
    limits.record(ledger, ban, now)
    limits.record(ledger, Block("binance", now + timedelta(minutes=1), False, "HTTP 429"), now)
    assert limits.in_force(ledger, now) == {"binance": ban}
    assert limits.in_force(ledger, now + timedelta(hours=1)) == {}


# The budget of a minute -----------------------------------------------------------------------


def cache(redis_url: str, pod: str = "test") -> Cache:
    return Cache(redis_url, pod, CallLog())


def spend(budget: Budget, call: str, times: int) -> int:
    """How many of them are allowed."""
    return sum(budget.allows(call) for _ in range(times))


def test_the_budget_is_shared_by_runs_and_pods_and_keeps_a_reserve(
    redis_url: str, virtual_clock: VirtualClock
) -> None:
    allowance = ALLOWANCES["binance"]
    ordinary = allowance.per_minute * 70 // 100 // allowance.weights["trades"]
    first, second = Budget("binance", cache(redis_url)), Budget("binance", cache(redis_url, "b"))
    allowed = spend(first, "trades", ordinary // 2) + spend(second, "trades", ordinary)
    assert 0.8 * ordinary <= allowed <= ordinary
    third = Budget("binance", cache(redis_url))
    assert not third.allows("candles")
    assert not third.allows("submit", new_risk=True)
    assert third.allows("submit")  # an exit or a stop
    assert all(third.allows(call) for call in ("cancel", "book", "balances", "fills", "order"))
    virtual_clock.advance(minutes=1)
    assert third.allows("candles")
    assert Budget("coinbase", cache(redis_url)).allows("candles")


def test_a_minute_of_calls_is_few_additions(redis_url: str, virtual_clock: VirtualClock) -> None:
    log = CallLog()
    budget = Budget("binance", Cache(redis_url, "test", log))
    assert spend(budget, "candles", 100) == 100
    assert log.by_service["redis"].calls == 1


@pytest.mark.parametrize("address", [None, "redis://127.0.0.1:1"])
def test_without_redis_there_is_no_soft_budget_and_no_error(
    virtual_clock: VirtualClock, address: str | None
) -> None:
    budget = Budget("binance", Cache(address, "test", CallLog()))
    assert spend(budget, "trades", 1_000) == 1_000


def test_over_budget_nothing_goes_out_but_what_may_use_the_reserve(
    ledger: Ledger, redis_url: str, virtual_clock: VirtualClock
) -> None:
    store = cache(redis_url)
    spend(Budget("binance", store), "trades", 300)
    with listen({}) as capture:
        capture.fault = wait(500)
        venue = adapter("binance", capture.base_url, traffic=traffic(ledger, store))
        with pytest.raises(VenueUnavailable, match="budget is used up"):
            CALLS["candles"](venue)
        with pytest.raises(OrderRejected, match="budget is used up; nothing sent"):
            venue.submit(ticket(venue, "buy", "IOC"))
        assert capture.requests == []
        with pytest.raises(OrderUnknown):
            venue.submit(ticket(venue, "sell", "IOC"))
        ask(capture, venue, "cancel")
        assert len(capture.requests) == 2
