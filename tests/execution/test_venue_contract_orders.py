"""The contract for orders that rest: stops, post-only, times in force, and the search by our id."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal

import pytest
from contract_venue import BTC, START, SYMBOLS, VENUES, on_wire, price, start, ticket

from deploy.local.wire.client import WireProcess
from shared import clock
from shared.errors import OrderRejected
from shared.execution.rounding import floor_to
from shared.execution.types import OrderStatus, OrderTicket, VenueOrder
from shared.execution.venues import dialects
from shared.execution.venues.ccxt_venue import CcxtVenue
from tests.conftest import VirtualClock

OVER: tuple[OrderStatus, ...] = ("cancelled", "expired")


@pytest.fixture(scope="module")
def process() -> Iterator[WireProcess]:
    with start() as started:
        yield started


@pytest.fixture
def wire(process: WireProcess) -> Iterator[WireProcess]:
    """The wire as it was at the start, whatever a test has done to it."""
    snapshot = process.snapshot()
    yield process
    process.restore(snapshot)


@pytest.fixture
def market(wire: WireProcess, virtual_clock: VirtualClock) -> VirtualClock:
    virtual_clock.set(START)
    return virtual_clock


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest, wire: WireProcess, market: VirtualClock) -> CcxtVenue:
    return on_wire(request.param, wire)


def advance(wire: WireProcess, market: VirtualClock, minutes: int = 1) -> None:
    market.advance(minutes=minutes)
    wire.advance(market.now_ms)


def stop(venue: CcxtVenue, factor: str = "0.97") -> OrderTicket:
    """A protective stop below the best bid, for 0.01 that the account holds."""
    trigger = price(venue, "sell", factor)
    return ticket(
        venue, "sell", order_type=venue.protection, time_in_force="GTC",
        stop_price=trigger, limit_price=price(venue, "sell", "0.9"),
    )  # fmt: skip


def holding(venue: CcxtVenue) -> CcxtVenue:
    """The venue after 0.02 were bought; fees in base leave at least 0.01."""
    venue.submit(ticket(venue, quantity="0.02"))
    return venue


def state(venue: CcxtVenue, order: VenueOrder) -> VenueOrder:
    return venue.order(order.venue_order_id, BTC)


def test_a_stop_rests_and_holds_back_what_it_would_sell(venue: CcxtVenue) -> None:
    holding(venue)
    free = venue.balances()["BTC"].free
    sent = stop(venue)
    order = venue.submit(sent)
    (resting,) = venue.open_orders(SYMBOLS)
    assert (resting.venue_order_id, resting.status) == (order.venue_order_id, "open")
    assert resting.client_order_id == sent.client_order_id
    assert (resting.side, resting.quantity, resting.filled_quantity) == ("sell", sent.quantity, 0)
    assert state(venue, order).status == "open"
    assert free - venue.balances()["BTC"].free == sent.quantity


def test_a_stop_is_cancelled_and_gives_back_what_it_held(venue: CcxtVenue) -> None:
    holding(venue)
    free = venue.balances()["BTC"].free
    order = venue.submit(stop(venue))
    venue.cancel(order.venue_order_id, BTC)
    assert state(venue, order).status == "cancelled"
    assert venue.open_orders(SYMBOLS) == []
    assert venue.balances()["BTC"].free == free


def test_a_stop_triggers_when_the_market_comes_to_it(
    venue: CcxtVenue, wire: WireProcess, market: VirtualClock
) -> None:
    holding(venue)
    held = venue.balances()["BTC"].total
    sent = stop(venue, "0.9995")
    order = venue.submit(sent)
    for _ in range(120):
        advance(wire, market)
        if state(venue, order).status != "open":
            break
    seen = state(venue, order)
    assert (seen.status, seen.filled_quantity) == ("filled", sent.quantity)
    fills = [f for f in venue.fills(BTC, START) if f.venue_order_id == order.venue_order_id]
    assert sum(fill.quantity for fill in fills) == sent.quantity
    assert all(fill.side == "sell" and fill.fee_cost > 0 for fill in fills)
    assert seen.average_price is not None and seen.average_price < price(venue, "sell", "1.1")
    assert venue.balances()["BTC"].total == held - sent.quantity
    assert venue.open_orders(SYMBOLS) == []


def test_a_stop_above_the_market_never_rests(venue: CcxtVenue) -> None:
    """Binance and Coinbase refuse it; Kraken sells at once, which protects as well."""
    holding(venue)
    trigger = price(venue, "sell", "1.01")
    sent = ticket(
        venue, "sell", order_type=venue.protection, time_in_force="GTC",
        stop_price=trigger, limit_price=price(venue, "sell", "0.95"),
    )  # fmt: skip
    if venue.name == "kraken":
        assert state(venue, venue.submit(sent)).status == "filled"
    else:
        with pytest.raises(OrderRejected):
            venue.submit(sent)
    assert venue.open_orders(SYMBOLS) == []


def test_a_stop_for_more_than_is_held_is_a_definite_rejection(venue: CcxtVenue) -> None:
    sent = stop(venue)
    with pytest.raises(OrderRejected):
        venue.submit(sent)
    assert venue.find_order(sent.client_order_id, BTC, START) is None


def test_post_only_rests_as_a_maker_or_is_not_taken(
    venue: CcxtVenue, wire: WireProcess, market: VirtualClock
) -> None:
    crossing = ticket(venue, time_in_force="GTC", post_only=True)
    with pytest.raises(OrderRejected):
        venue.submit(crossing)
    assert venue.open_orders(SYMBOLS) == []
    low = price(venue, "buy", "0.999")
    resting = venue.submit(ticket(venue, time_in_force="GTC", post_only=True, limit_price=low))
    assert state(venue, resting).status == "open"
    for _ in range(180):
        advance(wire, market)
        if state(venue, resting).status == "filled":
            break
    fills = [f for f in venue.fills(BTC, START) if f.venue_order_id == resting.venue_order_id]
    assert {fill.liquidity for fill in fills} == {"maker"}
    maker_bps = venue.rules(BTC).maker_fee_bps
    for fill in fills:
        worth = fill.fee_cost * (fill.price if fill.fee_currency == "BTC" else 1)
        assert worth == pytest.approx(
            fill.price * fill.quantity * maker_bps / 10_000, rel=Decimal("0.001")
        )


@pytest.mark.parametrize("venue", ["binance", "binanceus", "coinbase"], indirect=True)
def test_fill_or_kill_fills_in_full_or_not_at_all(venue: CcxtVenue) -> None:
    filled = venue.submit(ticket(venue, time_in_force="FOK"))
    assert state(venue, filled).status == "filled"
    book = venue.book(BTC, 5)
    offered = Decimal(str(book.asks[0][1]))
    step = venue.rules(BTC).quantity_step
    best = price(venue, "buy", "1")
    more = (offered * 2 // step) * step
    killed = ticket(venue, quantity=str(more), time_in_force="FOK", limit_price=best)
    try:
        order = state(venue, venue.submit(killed))
    except OrderRejected:
        found = venue.find_order(killed.client_order_id, BTC, START)
        assert found is None or found.filled_quantity == 0
        return
    assert (order.status in OVER, order.filled_quantity) == (True, 0)


@pytest.mark.parametrize("venue", ["coinbase", "kraken"], indirect=True)
def test_good_till_date_rests_and_ends_by_itself(
    venue: CcxtVenue, wire: WireProcess, market: VirtualClock
) -> None:
    end = START + timedelta(minutes=5)
    low = price(venue, "buy", "0.8")
    order = venue.submit(ticket(venue, time_in_force="GTD", expires_at=end, limit_price=low))
    assert state(venue, order).status == "open"
    free = venue.balances()["USDT"].free
    advance(wire, market, 6)
    assert state(venue, order).status in OVER
    assert venue.open_orders(SYMBOLS) == []
    assert venue.balances()["USDT"].free > free


def test_our_id_finds_an_order_whatever_became_of_it(venue: CcxtVenue) -> None:
    low = price(venue, "buy", "0.9")
    sent = {
        "open": ticket(venue, time_in_force="GTC", limit_price=low),
        "filled": ticket(venue),
        "cancelled": ticket(venue, time_in_force="GTC", limit_price=low),
        "expired": ticket(venue, limit_price=low),  # immediate-or-cancel
    }
    ids = {name: venue.submit(each).venue_order_id for name, each in sent.items()}
    venue.cancel(ids["cancelled"], BTC)
    for name, each in sent.items():
        found = venue.find_order(each.client_order_id, BTC, START)
        assert found is not None
        assert (found.venue_order_id, found.client_order_id) == (ids[name], each.client_order_id)
        assert found.status in (OVER if name in OVER else (name,))
        assert found.filled_quantity == (each.quantity if name == "filled" else 0)
    stop_order = stop(holding(venue))
    venue.submit(stop_order)
    found = venue.find_order(stop_order.client_order_id, BTC, START)
    assert found is not None and found.status == "open"


def test_the_smallest_order_of_the_rules_is_taken_and_a_smaller_one_is_not(
    venue: CcxtVenue,
) -> None:
    rules = venue.rules(BTC)
    best = price(venue, "buy", "1.002")
    steps = (rules.min_notional / (best * rules.quantity_step)).to_integral_value(ROUND_CEILING)
    least = max(steps * rules.quantity_step, rules.min_quantity)
    assert state(venue, venue.submit(ticket(venue, quantity=str(least)))).filled_quantity == least
    with pytest.raises(OrderRejected, match="nothing sent"):
        venue.submit(ticket(venue, quantity=str(least - rules.quantity_step)))


@pytest.mark.parametrize("name", ["binance", "binanceus"])
def test_a_fee_in_the_venues_own_token_is_told_in_that_token(
    name: str, wire: WireProcess, market: VirtualClock
) -> None:
    wire.configure_venue(name, fee_token=True)
    venue = on_wire(name, wire)
    before = venue.balances()
    order = venue.submit(ticket(venue))
    fills = [f for f in venue.fills(BTC, START) if f.venue_order_id == order.venue_order_id]
    assert fills and {fill.fee_currency for fill in fills} == {"BNB"}
    after = venue.balances()
    assert before["BNB"].total - after["BNB"].total == sum(fill.fee_cost for fill in fills) > 0
    assert after["BTC"].total == sum(fill.quantity for fill in fills)
    assert "BNB/USDT" in venue.quotes(["BNB/USDT"])


def test_a_venue_whose_clock_is_ahead_takes_orders_by_its_own_time(
    venue: CcxtVenue, wire: WireProcess
) -> None:
    """Once the offset is known; see ``venue_time`` for how it becomes so."""
    wire.configure_venue(venue.name, clock_offset_ms=30_000)
    venue._client.options["clockOffsetMs"] = 30_000
    try:
        assert state(venue, venue.submit(ticket(venue))).status == "filled"
        assert abs(venue.server_time_ms() - clock.to_ms(START) - 30_000) <= 1_000
    finally:
        venue._client.options["clockOffsetMs"] = 0


def sweep(venue: CcxtVenue) -> OrderTicket:
    """An order that takes six levels of the book, a fill each."""
    book = venue.book(BTC, 20)
    quantity = sum((Decimal(str(size)) for _, size in book.asks[:6]), Decimal(0))
    return ticket(
        venue,
        quantity=str(floor_to(quantity, venue.rules(BTC).quantity_step)),
        limit_price=Decimal(str(book.asks[5][0])),
    )


def requests_of(wire: WireProcess) -> dict[str, int]:
    return {route: count for route, count in wire.stats().items() if "_control" not in route}


def test_the_fills_of_an_order_are_told_at_once(venue: CcxtVenue, wire: WireProcess) -> None:
    """In one request, on Kraken in two; they are those that the symbol's fills show."""
    venue.submit(ticket(venue))
    order = venue.submit(sweep(venue))
    before = requests_of(wire)
    fills = venue.fills_of(order)
    after = requests_of(wire)
    asked = [route for route in after for _ in range(after[route] - before.get(route, 0))]
    assert len(asked) == (2 if venue.name == "kraken" else 1), asked
    assert len(fills) >= 5
    assert {fill.venue_order_id for fill in fills} == {order.venue_order_id}
    assert sum(fill.quantity for fill in fills) == state(venue, order).filled_quantity
    since = START - timedelta(minutes=1)
    shown = [f for f in venue.fills(BTC, since) if f.venue_order_id == order.venue_order_id]
    assert sorted(fills, key=str) == sorted(shown, key=str)


def test_an_order_with_more_fills_than_a_page_has_them_all(
    venue: CcxtVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = venue.submit(sweep(venue))
    whole = venue.fills_of(order)
    for page in ("BINANCE_FILLS", "COINBASE_FILLS", "KRAKEN_FILLS"):
        monkeypatch.setattr(dialects, page, 2)
    venue.submit(ticket(venue))
    paged = venue.fills_of(order)
    assert len(paged) >= 5
    assert sorted(paged, key=str) == sorted(whole, key=str)


def test_a_page_that_the_fills_just_fill_is_no_reason_to_ask_for_nothing(
    venue: CcxtVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither Binance's next page, which is empty, nor no id at all, which Kraken refuses."""
    order = venue.submit(sweep(venue))
    whole = venue.fills_of(order)
    for page in ("BINANCE_FILLS", "COINBASE_FILLS", "KRAKEN_FILLS"):
        monkeypatch.setattr(dialects, page, len(whole))
    assert len(venue.fills_of(order)) == len(whole)


def test_a_stop_that_rested_shows_its_fills_behind_those_of_later_orders(
    venue: CcxtVenue, wire: WireProcess, market: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the venue showed two fills a page, and the stop had been sent long ago."""
    for page in ("BINANCE_FILLS", "COINBASE_FILLS", "KRAKEN_FILLS"):
        monkeypatch.setattr(dialects, page, 2)
    holding(venue)
    order = venue.submit(stop(venue, "0.9995"))
    for _ in range(120):
        advance(wire, market)
        venue.submit(ticket(venue, quantity="0.001"))
        if state(venue, order).status != "open":
            break
    for _ in range(4):
        venue.submit(ticket(venue, quantity="0.001"))
    fills = venue.fills_of(order)
    assert sum(fill.quantity for fill in fills) == Decimal("0.01")
    assert {fill.side for fill in fills} == {"sell"}
