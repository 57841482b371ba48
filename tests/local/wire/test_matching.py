from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from deploy.local.wire.feed import Feed
from deploy.local.wire.matching import Exchange
from deploy.local.wire.orders import Order, OrderRequest, OrderType, Reason, Refused, Status
from deploy.local.wire.rules import VENUE_RULES
from tests.local.wire.fakes import MINUTE_MS, START_MS, FakeSource, Minute

FUNDS = {"USDT": Decimal(1_000_000), "BTC": Decimal(10)}


def exchange(
    venue: str = "binance", minutes: Sequence[Minute] = (), funds: dict[str, Decimal] | None = None
) -> Exchange:
    feed = Feed(FakeSource({"BTC/USDT": minutes}), seed=2)
    return Exchange(VENUE_RULES[venue], feed, FUNDS if funds is None else funds, START_MS)


def place(venue: Exchange, side: str = "buy", quantity: str | None = "0.1", **other: Any) -> Order:
    values: dict[str, Any] = {"order_type": OrderType.LIMIT, "time_in_force": "GTC"}
    for name in ("limit_price", "stop_price", "quote_quantity"):
        if name in other:
            other[name] = Decimal(other[name])
    quantity_ = None if quantity is None else Decimal(quantity)
    request = OrderRequest("BTC/USDT", side, quantity=quantity_, **(values | other))
    return venue.place(request)


def minutes_on(venue: Exchange, count: int) -> None:
    venue.advance(venue.now_ms + count * MINUTE_MS)


# Taking from the book


def test_marketable_order_pays_the_book_and_the_fee_in_what_it_receives_on_binance() -> None:
    venue = exchange()
    best = venue.book("BTC/USDT").asks[0]
    price = Decimal(best[0]) / 100
    order = place(venue, quantity="0.01", limit_price="101000", time_in_force="IOC")
    assert (order.status, order.average_price) == (Status.FILLED, price)
    assert order.fees == Decimal("0.00001")  # 10 bps of 0.01 BTC
    assert venue.account.free["USDT"] == FUNDS["USDT"] - price * Decimal("0.01")
    assert venue.account.free["BTC"] == 10 + Decimal("0.01") - Decimal("0.00001")
    assert venue.account.locked["USDT"] == 0


@pytest.mark.parametrize(("venue_name", "taker_bps"), [("coinbase", 120), ("kraken", 40)])
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_fee_in_quote_on_the_other_venues(venue_name: str, taker_bps: int, side: str) -> None:
    venue = exchange(venue_name)
    order = place(venue, side, "0.001", order_type=OrderType.MARKET)
    assert order.status is Status.FILLED
    assert order.fees == (order.cost * taker_bps / 10_000).quantize(Decimal("1e-8"), "ROUND_DOWN")
    sign = -1 if side == "buy" else 1
    assert venue.account.free["USDT"] == FUNDS["USDT"] + sign * order.cost - order.fees
    assert venue.account.free["BTC"] == 10 - sign * Decimal("0.001")


def test_ioc_takes_what_is_within_its_limit_and_the_rest_expires() -> None:
    venue = exchange()
    price_ticks, steps = venue.book("BTC/USDT").asks[0]
    order = place(venue, quantity="9", limit_price=Decimal(price_ticks) / 100, time_in_force="IOC")
    assert order.status is Status.EXPIRED
    assert order.filled_quantity == Decimal(steps) / 10**5
    assert venue.account.locked["USDT"] == 0


def test_rest_of_a_gtc_order_rests_and_holds_exactly_what_it_may_cost() -> None:
    venue = exchange()
    price_ticks, steps = venue.book("BTC/USDT").asks[0]
    order = place(venue, quantity="9", limit_price=Decimal(price_ticks) / 100)
    assert order.is_open
    assert venue.account.locked["USDT"] == Decimal(price_ticks) / 100 * (9 - Decimal(steps) / 10**5)


def test_what_is_taken_stays_taken_within_the_minute_and_comes_back_with_the_next() -> None:
    venue = exchange()
    price_ticks, steps = venue.book("BTC/USDT").asks[0]
    place(venue, quantity=str(Decimal(steps) / 10**5), limit_price=Decimal(price_ticks) / 100)
    second = place(
        venue, quantity="0.001", limit_price=Decimal(price_ticks) / 100, time_in_force="IOC"
    )
    assert second.filled_quantity == 0
    minutes_on(venue, 1)
    assert venue.book("BTC/USDT").version == 0
    assert venue.book("BTC/USDT").best_ticks("ask") == venue.book("BTC/USDT").asks[0][0]


def test_market_order_by_quote_spends_at_most_that_much_with_the_fee() -> None:
    venue = exchange("kraken")
    order = place(venue, quantity=None, quote_quantity="50", order_type=OrderType.MARKET)
    assert Decimal("49.9") < order.cost + order.fees <= 50


def test_post_only_order_does_not_take() -> None:
    venue = exchange()
    with pytest.raises(Refused) as refused:
        place(venue, limit_price="101000", post_only=True)
    assert refused.value.reason is Reason.POST_ONLY_WOULD_TAKE
    assert place(venue, limit_price="99000", post_only=True).is_open


# Resting


@pytest.mark.parametrize(
    ("side", "limit", "extreme", "fills"),
    [
        ("buy", "99500", 99_500.00, False),  # touched
        ("buy", "99500", 99_499.99, True),  # strictly through
        ("sell", "100500", 100_500.00, False),
        ("sell", "100500", 100_500.01, True),
    ],
)
def test_limit_order_fills_only_where_the_price_went_through(
    side: str, limit: str, extreme: float, fills: bool
) -> None:
    high, low = max(100_000, extreme), min(100_000, extreme)
    venue = exchange(minutes=[(100_000, high, low, 100_000)])
    order = place(venue, side, limit_price=limit)
    minutes_on(venue, 1)
    assert order.is_open is not fills
    if fills:
        (fill,) = order.fills
        assert (fill.price, fill.is_maker) == (Decimal(limit), True)
        assert fill.at_ms == START_MS + MINUTE_MS


def test_maker_fee_is_the_makers() -> None:
    venue = exchange("kraken", [(100_000, 100_000, 90_000, 100_000)])
    order = place(venue, limit_price="99000")
    minutes_on(venue, 1)
    assert order.fees == Decimal("99000") * Decimal("0.1") * 25 / 10_000


def test_order_placed_inside_a_minute_is_not_matched_by_that_minute() -> None:
    venue = exchange(minutes=[(100_000, 100_000, 90_000, 100_000)])
    venue.advance(START_MS + 20_000)
    order = place(venue, limit_price="99000")
    venue.advance(START_MS + MINUTE_MS)
    assert order.is_open


def test_many_minutes_at_once_give_the_same_as_one_by_one() -> None:
    minutes = [(100_000, 100_100, 99_900, 100_000), (100_000, 100_000, 98_000, 98_500)]
    once, stepwise = exchange(minutes=minutes), exchange(minutes=minutes)
    for venue in (once, stepwise):
        place(venue, limit_price="99000")
        place(venue, limit_price="97000")
    minutes_on(once, 2)
    minutes_on(stepwise, 1)
    minutes_on(stepwise, 1)
    assert once.fills == stepwise.fills
    assert once.account.free == stepwise.account.free


# Stops: (open, high, low, close) of the minute, stop, limit, fill price or None


@pytest.mark.parametrize(
    ("minute", "limit", "filled_at"),
    [
        ((100_000, 100_000, 98_000.01, 99_000), "97000", None),  # not touched
        ((100_000, 100_000, 98_000.00, 99_000), "97000", "98000"),  # touched
        ((97_500, 97_600, 97_400, 97_500), "97000", "97500"),  # opens below: the open
        ((96_000, 96_500, 95_000, 96_000), "97000", None),  # gapped through its limit
        ((96_000, 96_500, 95_000, 96_000), None, "96000"),  # without a limit: the open
    ],
)
def test_sell_stop(minute: Minute, limit: str | None, filled_at: str | None) -> None:
    venue = exchange(minutes=[minute])
    kind = OrderType.STOP if limit is None else OrderType.STOP_LIMIT
    other = {} if limit is None else {"limit_price": limit}
    order = place(venue, "sell", stop_price="98000", order_type=kind, **other)
    minutes_on(venue, 1)
    if filled_at is None:
        assert order.is_open
    else:
        (fill,) = order.fills
        assert (fill.price, fill.is_maker) == (Decimal(filled_at), False)


def test_stop_that_gapped_through_its_limit_fills_when_the_price_returns() -> None:
    gap = (96_000.0, 99_000.0, 95_000.0, 96_000.0)
    venue = exchange(
        minutes=[gap, (96_000, 96_900, 96_000, 96_500), (96_500, 97_001, 96_500, 97_000)]
    )
    order = place(venue, "sell", stop_price="98000", limit_price="97000",
                  order_type=OrderType.STOP_LIMIT)  # fmt: skip
    minutes_on(venue, 2)
    assert order.is_open
    assert order.triggered
    minutes_on(venue, 1)
    assert order.fills[0].price == 97_000


def test_buy_stop_is_the_mirror_image() -> None:
    venue = exchange(minutes=[(103_000, 103_100, 102_900, 103_000)])
    order = place(venue, stop_price="102000", limit_price="104000", order_type=OrderType.STOP_LIMIT)
    minutes_on(venue, 1)
    assert order.average_price == 103_000


def test_buy_stop_without_limit_buys_no_more_than_its_reserve_pays() -> None:
    venue = exchange(
        minutes=[(104_000, 104_000, 104_000, 104_000)], funds={"USDT": Decimal(10_200)}
    )
    order = place(venue, stop_price="102000", order_type=OrderType.STOP)
    minutes_on(venue, 1)
    assert order.status is Status.EXPIRED
    assert Decimal("0.098") < order.filled_quantity < Decimal("0.1")
    assert venue.account.locked["USDT"] == 0


def test_stop_that_the_price_has_passed() -> None:
    stop = {"stop_price": "101000", "limit_price": "90000", "order_type": OrderType.STOP_LIMIT}
    with pytest.raises(Refused) as refused:
        place(exchange("binance"), "sell", **stop)
    assert refused.value.reason is Reason.STOP_WOULD_TRIGGER
    assert place(exchange("kraken"), "sell", **stop).status is Status.FILLED


# Refusals


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"limit_price": "99000.001"}, Reason.PRICE_TICK),
        ({"limit_price": "-1"}, Reason.PRICE_TICK),
        ({"limit_price": "99000", "quantity": "0.100001"}, Reason.QUANTITY_STEP),
        ({"limit_price": "99000", "quantity": "0"}, Reason.QUANTITY_STEP),
        ({"limit_price": "99000", "quantity": "0.00005"}, Reason.MIN_NOTIONAL),
        ({"limit_price": "99000", "quantity": None}, Reason.BAD_PARAMETER),
        ({"limit_price": "99000", "quantity": "11"}, Reason.INSUFFICIENT_FUNDS),
        ({"limit_price": "101000", "quantity": "11", "side": "sell"}, Reason.INSUFFICIENT_FUNDS),
    ],
)
def test_refused_order_changes_nothing(order: dict[str, Any], reason: Reason) -> None:
    venue = exchange(funds={"USDT": Decimal(1_000_000), "BTC": Decimal(10)})
    with pytest.raises(Refused) as refused:
        place(venue, **order)
    assert refused.value.reason is reason
    assert dict(venue.account.free) == FUNDS
    assert not venue.orders


def test_minimum_quantity_on_kraken() -> None:
    with pytest.raises(Refused) as refused:
        place(exchange("kraken"), quantity="0.00004", limit_price="99000")
    assert refused.value.reason is Reason.MIN_QUANTITY


def test_client_id_is_unique_among_open_orders_only() -> None:
    venue = exchange()
    first = place(venue, limit_price="99000", client_order_id="a")
    with pytest.raises(Refused) as refused:
        place(venue, limit_price="99000", client_order_id="a")
    assert refused.value.reason is Reason.DUPLICATE_CLIENT_ID
    venue.cancel(first)
    second = place(venue, limit_price="99000", client_order_id="a")
    assert second is not first
    assert venue.order_by_client_id("a") is second


def test_coinbase_answers_a_known_client_id_with_the_original_order() -> None:
    venue = exchange("coinbase")
    first = place(venue, quantity="0.001", limit_price="101000", client_order_id="a")
    assert first.status is Status.FILLED
    assert place(venue, quantity="5", limit_price="1", client_order_id="a") is first
    assert len(venue.orders) == 1


def test_cancel_gives_the_reserve_back_and_works_once() -> None:
    venue = exchange("coinbase")
    order = place(venue, limit_price="99000")
    assert venue.account.locked["USDT"] == Decimal("9900") * (1 + Decimal("0.012"))
    venue.cancel(order)
    assert dict(venue.account.free)["USDT"] == FUNDS["USDT"]
    with pytest.raises(Refused):
        venue.cancel(order)


def test_time_does_not_run_backwards() -> None:
    venue = exchange()
    with pytest.raises(ValueError, match="now_ms"):
        venue.advance(START_MS - 1)
