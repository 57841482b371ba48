"""Whatever is sent to a venue, no money appears or vanishes."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.wire.feed import Feed
from deploy.local.wire.matching import Exchange
from deploy.local.wire.orders import OrderRequest, OrderType, Refused
from deploy.local.wire.rules import VENUE_RULES, VENUES
from shared.errors import ConfigurationError
from tests.local.wire.fakes import MINUTE_MS, START_MS, FakeSource

FUNDS = {
    "USDT": Decimal("50000.12345678"),
    "BTC": Decimal("0.7"),
    "ETH": Decimal(3),
    "BNB": Decimal("0.03"),
}
_SWINGS = [
    (100_000.0, 100_900.0, 99_000.0, 99_200.0),
    (99_200.0, 99_300.0, 97_000.0, 97_100.0),
    (96_000.0, 101_500.0, 95_500.0, 101_000.0),
    (101_000.0, 103_000.0, 100_500.0, 102_500.0),
] * 4
_SOURCE = FakeSource({"BTC/USDT": _SWINGS})
_orders = st.tuples(
    st.sampled_from(["buy", "sell"]),
    st.sampled_from(list(OrderType)),
    st.sampled_from(["IOC", "FOK", "GTC", "GTD"]),
    st.integers(1, 60_000),  # quantity in 0.00001 BTC
    st.integers(-400, 400),  # limit against 100,000, in units of 10
    st.integers(-400, 400),  # stop, likewise
    st.booleans(),
)
_settings = st.one_of(
    st.fixed_dictionaries({"fee_token": st.booleans()}),
    st.fixed_dictionaries({"fill_share": st.lists(st.sampled_from(["0", "0.3", "1"]), max_size=2)}),
    st.fixed_dictionaries({"resting_fill_minutes": st.integers(1, 4)}),
    st.fixed_dictionaries({"expire_after_ms": st.sampled_from([None, 30_000, 150_000])}),
    st.fixed_dictionaries({"status": st.sampled_from(["online", "cancel_only", "maintenance"])}),
    st.fixed_dictionaries({"clock_offset_ms": st.integers(-90_000, 90_000)}),
    st.fixed_dictionaries({"price_collar_percent": st.sampled_from([None, 1])}),
)
_actions = st.one_of(
    st.tuples(st.just("order"), _orders),
    st.tuples(st.just("advance"), st.integers(1, 100_000)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("configure"), _settings),
)


def _request(values: tuple[str, OrderType, str, int, int, int, bool]) -> OrderRequest:
    side, order_type, time_in_force, steps, limit, stop, by_quote = values
    limited = order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
    stops = order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
    quantity = Decimal(steps) / 10**5
    by_quote = by_quote and order_type is OrderType.MARKET
    return OrderRequest(
        "BTC/USDT",
        side,
        order_type,
        time_in_force,
        quantity=None if by_quote else quantity,
        quote_quantity=quantity * 100_000 if by_quote else None,
        limit_price=Decimal(100_000 + limit * 10) if limited else None,
        stop_price=Decimal(100_000 + stop * 10) if stops else None,
        expires_ms=START_MS + steps * 10 if time_in_force == "GTD" else None,
    )


def _check(venue: Exchange) -> None:
    expected: dict[str, Decimal] = defaultdict(Decimal, FUNDS)
    fees: dict[str, Decimal] = defaultdict(Decimal)
    for fill in venue.fills:
        sign = 1 if fill.side == "buy" else -1
        expected["BTC"] += sign * fill.quantity
        expected["USDT"] -= sign * fill.price * fill.quantity
        expected[fill.fee_currency] -= fill.fee
        fees[fill.fee_currency] += fill.fee
    account = venue.account
    for currency in {*expected, *account.currencies()}:
        assert account.total(currency) == expected[currency], currency
        assert account.free[currency] >= 0
        assert account.locked[currency] >= 0
        assert account.fees_paid[currency] == fees[currency]
    reserved: dict[str, Decimal] = defaultdict(Decimal)
    for order in venue.orders.values():
        assert 0 <= order.filled_quantity <= order.quantity
        assert order.filled_quantity == sum((fill.quantity for fill in order.fills), Decimal(0))
        assert order.is_open or order.reserved == 0
        reserved["USDT" if order.side == "buy" else "BTC"] += order.reserved
    for currency in FUNDS:
        assert account.locked[currency] == reserved[currency]


@pytest.mark.parametrize("name", VENUES)
@settings(max_examples=60, deadline=None)
@given(actions=st.lists(_actions, max_size=25))
def test_balances_and_fees_add_up(name: str, actions: list[tuple[str, object]]) -> None:
    venue = Exchange(VENUE_RULES[name], Feed(_SOURCE, seed=4), FUNDS, START_MS)
    for kind, value in actions:
        if kind == "advance":
            venue.advance(min(venue.now_ms + value, START_MS + 1_000 * MINUTE_MS))
        elif kind == "cancel":
            with suppress(Refused):
                for order in venue.open_orders()[value : value + 1]:
                    venue.cancel(order)
        elif kind == "configure":
            with suppress(ConfigurationError):  # only Binance takes fees in a coin of its own
                venue.conditions.change(venue.venue, value)
        else:
            with suppress(Refused):
                venue.place(_request(value))
        _check(venue)
