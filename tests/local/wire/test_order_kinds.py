"""Times in force, stops, partial fills and what a venue's conditions do to an order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from deploy.local.wire.matching import Exchange
from deploy.local.wire.orders import OrderType, Reason, Refused, Status
from deploy.local.wire.queries import Queries
from deploy.local.wire.rules import VENUES
from tests.local.wire.fakes import MINUTE_MS, START_MS, Minute
from tests.local.wire.test_matching import FUNDS, exchange, minutes_on, place

FLAT: Minute = (100_000, 100_000, 100_000, 100_000)
# Through 99,500 in each of three minutes.
DIPS: list[Minute] = [(100_000, 100_000, 99_000, 100_000)] * 3
every_venue = pytest.mark.parametrize("name", VENUES)


def configure(venue: Exchange, **settings: Any) -> Exchange:
    venue.conditions.change(venue.venue, settings)
    return venue


def refusal(venue: Exchange, *args: str, **request: Any) -> Reason:
    before = dict(venue.account.free)
    with pytest.raises(Refused) as refused:
        place(venue, *args, **request)
    assert dict(venue.account.free) == before
    return refused.value.reason


# Fill or kill


def test_fok_fills_whole_or_not_at_all() -> None:
    venue = exchange()
    ticks, steps = venue.book("BTC/USDT").asks[0]
    price, top = Decimal(ticks) / 100, Decimal(steps) / 10**5
    killed = place(
        venue, quantity=str(top + Decimal("0.00001")), limit_price=price, time_in_force="FOK"
    )
    assert (killed.status, killed.filled_quantity) == (Status.EXPIRED, 0)
    assert venue.account.locked["USDT"] == 0
    filled = place(venue, quantity=str(top), limit_price=price, time_in_force="FOK")
    assert (filled.status, filled.filled_quantity) == (Status.FILLED, top)


# Orders that end by themselves


def gtd(venue: Exchange, after_ms: int, price: str = "99500") -> Any:
    return place(
        venue, limit_price=price, time_in_force="GTD", expires_ms=venue.clock_ms + after_ms
    )


@pytest.mark.parametrize(
    ("after_ms", "status"),
    [
        (MINUTE_MS - 1, Status.EXPIRED),  # within the minute: it does not fill in it
        (MINUTE_MS, Status.FILLED),
    ],
)
def test_gtd_ends_at_its_time(after_ms: int, status: Status) -> None:
    venue = exchange(minutes=DIPS)
    order = gtd(venue, after_ms)
    minutes_on(venue, 2)
    assert order.status is status
    assert order.timed_out == (status is Status.EXPIRED)
    assert venue.account.locked["USDT"] == 0
    assert order.updated_ms == START_MS + after_ms


def test_gtd_ends_between_two_minutes() -> None:
    venue = exchange()
    order = gtd(venue, 5_000)
    venue.advance(START_MS + 4_999)
    assert order.is_open
    venue.advance(START_MS + 5_000)
    assert not order.is_open


def test_gtd_needs_an_end_to_come() -> None:
    venue = exchange()
    request = {"limit_price": "99500", "time_in_force": "GTD"}
    assert refusal(venue, **request) is Reason.BAD_PARAMETER
    assert refusal(venue, **request, expires_ms=START_MS) is Reason.END_IN_THE_PAST


@every_venue
def test_the_venue_ends_a_stop_by_itself(name: str) -> None:
    venue = configure(exchange(name), expire_after_ms=90_000)
    order = place(
        venue, "sell", order_type=OrderType.STOP_LIMIT, stop_price=99_000, limit_price=98_000
    )
    minutes_on(venue, 1)
    assert order.is_open
    minutes_on(venue, 1)
    assert (order.status, order.timed_out) == (Status.EXPIRED, True)
    assert venue.account.locked["BTC"] == 0


# Partial fills


@pytest.mark.parametrize(
    ("time_in_force", "status"), [("GTC", Status.OPEN), ("IOC", Status.EXPIRED)]
)
def test_a_scripted_share_of_the_next_order(time_in_force: str, status: Status) -> None:
    venue = configure(exchange(), fill_share="0.25")
    request = {"quantity": "0.00006", "limit_price": "101000", "time_in_force": time_in_force}
    order = place(venue, **request)
    assert (order.status, order.filled_quantity) == (status, Decimal("0.00001"))
    assert place(venue, **request).status is Status.FILLED


def test_a_share_of_nothing_leaves_a_market_order_without_fills() -> None:
    venue = configure(exchange(), fill_share=0)
    order = place(venue, order_type=OrderType.MARKET)
    assert (order.status, order.fills) == (Status.EXPIRED, [])
    assert dict(venue.account.free) == FUNDS | {}


def test_a_resting_order_fills_over_several_minutes() -> None:
    venue = configure(exchange("kraken", minutes=DIPS), resting_fill_minutes=3)
    order = place(venue, quantity="0.10000001", limit_price="99500")
    filled = []
    for _ in range(3):
        minutes_on(venue, 1)
        filled.append(order.filled_quantity)
        held = Decimal(99_500) * order.remaining * (1 + Decimal("0.004"))
        assert venue.account.locked["USDT"] == held
    third = Decimal("0.03333334")
    assert filled == [third, 2 * third, Decimal("0.10000001")]
    assert [fill.at_ms - START_MS for fill in order.fills] == [
        MINUTE_MS * count for count in (1, 2, 3)
    ]


# Stops


@pytest.mark.parametrize(
    ("minute", "limit", "filled_at"),
    [
        ((100_000, 100_000, 98_900, 99_500), "98000", "99000"),  # at the stop
        ((98_500, 98_600, 98_000, 98_200), "98000", "98500"),  # opens beyond it: at the open
        ((97_500, 97_900, 97_000, 97_200), "98000", None),  # beyond the limit: rests as one
    ],
)
@pytest.mark.parametrize("name", ["binance", "coinbase", "kraken"])
def test_stop_limit_sells_down_to_its_limit(
    name: str, minute: Minute, limit: str, filled_at: str | None
) -> None:
    venue = exchange(name, minutes=[FLAT, minute, (97_200, 98_400, 97_200, 98_300)])
    order = place(
        venue, "sell", order_type=OrderType.STOP_LIMIT, stop_price="99000", limit_price=limit
    )
    assert venue.account.locked["BTC"] == order.quantity
    minutes_on(venue, 2)
    factor = 1 + venue.feed.basis(venue.venue.name, "BTC/USDT", START_MS + 2 * MINUTE_MS)
    if filled_at is None:
        assert order.is_open
        assert order.triggered
        minutes_on(venue, 1)
        assert order.average_price == Decimal(limit)
    else:
        price = Decimal(filled_at)
        near = Decimal(filled_at) * Decimal(factor)
        assert order.average_price in (price, round(near, venue.rules["BTC/USDT"].price_decimals))


def test_a_stop_that_may_not_rest_expires_beyond_its_limit() -> None:
    venue = exchange(minutes=[(97_500, 97_900, 97_000, 97_200)])
    order = place(
        venue,
        "sell",
        order_type=OrderType.STOP_LIMIT,
        stop_price="99000",
        limit_price="98000",
        time_in_force="IOC",
    )
    minutes_on(venue, 1)
    assert (order.status, order.fills) == (Status.EXPIRED, [])


def test_binance_takes_five_stops_of_a_symbol() -> None:
    venue = exchange()
    stop = {"order_type": OrderType.STOP_LIMIT, "stop_price": "99000", "limit_price": "98000"}
    orders = [place(venue, "sell", **stop) for _ in range(5)]
    assert refusal(venue, "sell", **stop) is Reason.TOO_MANY_STOPS
    venue.cancel(orders[0])
    assert place(venue, "sell", **stop).is_open
    assert place(venue, "sell", limit_price="101000").is_open  # no stop, no limit on their number


# Collars


@pytest.mark.parametrize(
    ("name", "percent", "side", "price", "allowed"),
    [
        ("binance", None, "buy", "19000", False),
        ("binance", None, "buy", "21000", True),
        ("binance", None, "sell", "501000", False),
        ("kraken", None, "buy", "19000", True),  # publishes no figure
        ("kraken", 5, "buy", "94000", False),
        ("kraken", 5, "buy", "96000", True),
        ("coinbase", 5, "sell", "106000", False),
        ("binance", 5, "sell", "106000", False),
    ],
)
def test_price_collar(name: str, percent: int | None, side: str, price: str, allowed: bool) -> None:
    venue = configure(exchange(name), price_collar_percent=percent)
    if allowed:
        assert place(venue, side, limit_price=price).is_open
    else:
        assert refusal(venue, side, limit_price=price) is Reason.PRICE_COLLAR


# Status


@pytest.mark.parametrize(
    ("status", "reason", "cancels"),
    [
        ("cancel_only", Reason.CANCEL_ONLY, True),
        ("post_only", Reason.POST_ONLY_MODE, True),
        ("maintenance", Reason.MAINTENANCE, False),
    ],
)
def test_nothing_trades_unless_the_venue_is_online(
    status: str, reason: Reason, cancels: bool
) -> None:
    venue = exchange("kraken", minutes=DIPS)
    order = place(venue, limit_price="99500")
    configure(venue, status=status)
    assert refusal(venue, limit_price="99500") is reason
    if status == "post_only":
        assert place(venue, limit_price="99000", post_only=True).is_open
    minutes_on(venue, 1)
    assert (order.is_open, order.fills) == (True, [])
    if cancels:
        assert venue.cancel(order).status is Status.CANCELLED
    else:
        with pytest.raises(Refused):
            venue.cancel(order)
        configure(venue, status="online")
        minutes_on(venue, 1)
        assert order.status is Status.FILLED


# Clock and queries


def test_a_wrong_clock_stamps_orders_and_fills_but_moves_no_market() -> None:
    venue = configure(exchange(minutes=DIPS), clock_offset_ms=-3_000)
    order = place(venue, limit_price="99500")
    assert order.created_ms == START_MS - 3_000
    minutes_on(venue, 1)
    assert order.fills[0].at_ms == START_MS + MINUTE_MS - 3_000
    ends_by_its_clock = gtd(venue, 10_000, "90000")
    venue.advance(venue.now_ms + 10_000)
    assert not ends_by_its_clock.is_open


def test_queries_lag_while_balances_do_not() -> None:
    venue = configure(exchange(minutes=DIPS), query_lag_ms=2_000)
    shown = Queries(venue)
    order = place(venue, quantity="0.0001", limit_price="101000", client_order_id="tl1")
    assert venue.account.free["BTC"] > FUNDS["BTC"]
    for query in (lambda: shown.order(order.order_id), lambda: shown.order_by_client_id("tl1")):
        with pytest.raises(Refused) as refused:
            query()
        assert refused.value.reason is Reason.UNKNOWN_ORDER
    resting = place(venue, limit_price="90000")
    assert (shown.orders(), shown.open_orders(), shown.fills()) == ([], [], [])
    venue.advance(START_MS + 2_000)
    assert shown.order(order.order_id) is shown.order_by_client_id("tl1") is order
    assert (shown.orders(), shown.open_orders()) == ([order, resting], [resting])
    assert shown.fills() == order.fills


# Fees in the venue's own coin


@pytest.mark.parametrize("name", ["binance", "binanceus"])
def test_fees_in_bnb_as_long_as_there_is_some(name: str) -> None:
    venue = configure(exchange(name, funds=FUNDS | {"BNB": Decimal("0.002")}), fee_token=True)
    bnb = venue.market.last("BNB/USDT")
    assert bnb == pytest.approx(Decimal(600), rel=Decimal("0.01"))
    order = place(venue, quantity="0.001", limit_price="101000")
    (fill,) = order.fills
    rate = venue.venue.taker_fee_bps / 10_000
    expected = (fill.cost * rate * Decimal("0.75") / bnb).quantize(Decimal("1e-8"), "ROUND_DOWN")
    if expected <= Decimal("0.002"):
        assert (fill.fee, fill.fee_currency) == (expected, "BNB")
        assert venue.account.free["BTC"] == FUNDS["BTC"] + Decimal("0.001")
        assert venue.account.free["BNB"] == Decimal("0.002") - expected
    spent = place(venue, quantity="0.1", limit_price="101000").fills
    assert {one.fee_currency for one in spent} == {"BTC"}  # too little BNB is left


def test_the_fee_token_is_priced_in_the_quote_of_the_order() -> None:
    venue = exchange()
    assert venue.market.cross("BNB", "BTC") == venue.market.last("BNB/USDT") / venue.market.last(
        "BTC/USDT"
    )
