"""One contract that every venue adapter passes, over unmodified ccxt and real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from contract_venue import START, SYMBOLS, VENUES, on_wire, start, ticket

from deploy.local.wire.client import WireProcess
from shared import clock
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution import intents
from shared.execution.venues.ccxt_venue import CcxtVenue


@pytest.fixture(scope="module")
def wire() -> Iterator[WireProcess]:
    with start() as started:
        yield started


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest, wire: WireProcess) -> Iterator[CcxtVenue]:
    clock.install(lambda: clock.to_ms(START))
    yield on_wire(request.param, wire)
    clock.install(None)


def test_rules_are_complete(venue: CcxtVenue) -> None:
    rules = venue.rules("BTC/USDT")
    assert 0 < rules.quantity_step <= rules.min_quantity or rules.min_notional > 0
    assert rules.price_tick > 0
    expected = {
        "binance": (10, 10),
        "binanceus": (60, 40),
        "kraken": (40, 25),
        "coinbase": (120, 60),
    }[venue.name]
    assert (rules.taker_fee_bps, rules.maker_fee_bps) == expected


def test_candles_are_rows_of_six_and_ascend(venue: CcxtVenue) -> None:
    rows = venue.candles("BTC/USDT", "1m", since_ms=None, limit=100)
    assert rows.shape[1] == 6
    assert len(rows) >= 100
    assert (rows[1:, 0] - rows[:-1, 0] >= 60_000).all()


def test_the_book_is_ordered_and_not_crossed(venue: CcxtVenue) -> None:
    book = venue.book("ETH/USDT", 20)
    assert [p for p, _ in book.bids] == sorted((p for p, _ in book.bids), reverse=True)
    assert [p for p, _ in book.asks] == sorted(p for p, _ in book.asks)
    assert book.bids[0][0] < book.asks[0][0]


def test_quotes_of_several_symbols_come_in_one_request(venue: CcxtVenue, wire: WireProcess) -> None:
    venue.rules("BTC/USDT")
    venue.quotes(SYMBOLS)
    before = sum(wire.stats().values())
    quotes = venue.quotes(SYMBOLS)
    assert sum(wire.stats().values()) - before <= 2  # the request, and perhaps this count
    assert set(quotes) == set(SYMBOLS)
    assert all(0 < quote.bid < quote.ask for quote in quotes.values())


def test_public_trades_have_a_taker_side(venue: CcxtVenue) -> None:
    trades = venue.trades("BTC/USDT", 50)
    assert {trade.side for trade in trades} <= {"buy", "sell"}
    assert len(trades) > 0


def test_the_clock_is_the_venues(venue: CcxtVenue) -> None:
    assert abs(venue.server_time_ms() - clock.to_ms(START)) <= 1000


def test_an_order_fills_and_moves_the_balances_by_price_and_fee(venue: CcxtVenue) -> None:
    before = venue.balances()
    sent = ticket(venue)
    order = venue.submit(sent)
    state = venue.order(order.venue_order_id, "BTC/USDT")
    assert state.status == "filled"
    assert state.filled_quantity == sent.quantity
    fills = [
        fill
        for fill in venue.fills("BTC/USDT", START - timedelta(minutes=1))
        if fill.venue_order_id == order.venue_order_id
    ]
    assert sum(fill.quantity for fill in fills) == sent.quantity
    after = venue.balances()
    paid = sum(
        fill.price * fill.quantity + (fill.fee_cost if fill.fee_currency == "USDT" else 0)
        for fill in fills
    )
    assert before["USDT"].total - after["USDT"].total == pytest.approx(paid, abs=Decimal("1e-9"))
    assert after["BTC"].total > 0


def test_the_client_order_id_reaches_the_wire_and_finds_the_order(
    venue: CcxtVenue, wire: WireProcess
) -> None:
    sent = ticket(venue)
    order = venue.submit(sent)
    found = venue.find_order(sent.client_order_id, "BTC/USDT", START)
    assert found is not None
    assert found.venue_order_id == order.venue_order_id
    assert found.client_order_id == sent.client_order_id
    assert sent.client_order_id in str(wire.accounts()[venue.name])


def test_an_order_that_was_never_sent_is_not_found(venue: CcxtVenue) -> None:
    assert venue.find_order(intents.client_order_id("never"), "BTC/USDT", START) is None


def test_immediate_or_cancel_leaves_nothing_behind(venue: CcxtVenue) -> None:
    rules = venue.rules("BTC/USDT")
    low = Decimal(str(venue.book("BTC/USDT").bids[0][0])) * Decimal("0.97")
    price = (low / rules.price_tick).to_integral_value() * rules.price_tick
    order = venue.submit(ticket(venue, limit_price=price))
    state = venue.order(order.venue_order_id, "BTC/USDT")
    assert state.status in ("cancelled", "expired")
    assert state.filled_quantity == 0
    assert venue.open_orders(SYMBOLS) == []


def test_a_resting_order_is_seen_and_can_be_cancelled(venue: CcxtVenue) -> None:
    rules = venue.rules("BTC/USDT")
    low = Decimal(str(venue.book("BTC/USDT").bids[0][0])) * Decimal("0.97")
    price = (low / rules.price_tick).to_integral_value() * rules.price_tick
    sent = ticket(venue, limit_price=price, time_in_force="GTC")
    order = venue.submit(sent)
    resting = venue.open_orders(SYMBOLS)
    assert [(o.venue_order_id, o.status) for o in resting] == [(order.venue_order_id, "open")]
    held = venue.balances()["USDT"]
    assert held.total - held.free >= price * sent.quantity
    venue.cancel(order.venue_order_id, "BTC/USDT")
    assert venue.order(order.venue_order_id, "BTC/USDT").status == "cancelled"
    assert venue.open_orders(SYMBOLS) == []


def test_more_than_the_account_holds_is_a_definite_rejection(venue: CcxtVenue) -> None:
    with pytest.raises(OrderRejected):
        venue.submit(ticket(venue, quantity="90"))


def test_below_the_minimum_is_a_definite_rejection(venue: CcxtVenue) -> None:
    rules = venue.rules("BTC/USDT")
    with pytest.raises((OrderRejected, OrderUnknown)) as caught:
        venue.submit(ticket(venue, quantity=str(rules.quantity_step)))
    assert caught.type is OrderRejected


def test_a_symbol_that_is_not_listed_is_unavailable(venue: CcxtVenue) -> None:
    with pytest.raises(VenueUnavailable, match="not listed"):
        venue.rules("XYZ/USDT")
    with pytest.raises(VenueUnavailable):
        venue.book("XYZ/USDT")


def test_the_books_open_and_close_within_one_account(venue: CcxtVenue) -> None:
    venue.submit(ticket(venue))
    held = venue.balances()["BTC"].free
    rules = venue.rules("BTC/USDT")
    quantity = (held / rules.quantity_step).to_integral_value(rounding="ROUND_FLOOR")
    order = venue.submit(ticket(venue, "sell", str(quantity * rules.quantity_step)))
    assert venue.order(order.venue_order_id, "BTC/USDT").status == "filled"
    assert venue.balances()["BTC"].total < rules.quantity_step
