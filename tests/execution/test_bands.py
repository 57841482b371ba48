"""Prices and the band of a venue: what is surely inside, what is asked for, what is put inside."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_venue import ScriptedVenue

from shared.execution import bands
from shared.execution.intents import Intent
from shared.execution.types import MarketRules, OrderTicket, PriceBand, Side
from shared.market.types import Book

WIDE = PriceBand(Decimal("0.2"), Decimal(5), Decimal("0.2"), Decimal(5), 5)
# The example of Binance's "Filters".
NARROW = PriceBand(Decimal("0.2"), Decimal("1.2"), Decimal("0.8"), Decimal(5), 1)
BOOK = Book("BTC/USDT", ((99.95, 1.0),), ((100.05, 1.0),), 0)
BUY: Side = "buy"
SELL: Side = "sell"


def rules(band: PriceBand | None) -> MarketRules:
    return replace(ScriptedVenue().rules("BTC/USDT"), price_band=band)


def sale(price: str) -> Intent:
    ticket = OrderTicket(
        "tl1", "binance", "BTC/USDT", "sell", "limit", "IOC", Decimal(1), Decimal(price)
    )
    return Intent("key", 1, None, None, "exit", ticket, Decimal(100), Decimal(100))


@pytest.mark.parametrize(("side", "expected"), [(BUY, ("20.0", "120.0")), (SELL, ("80.0", "500"))])
def test_the_ends_of_a_band_by_side(side: Side, expected: tuple[str, str]) -> None:
    assert bands.limits(NARROW, side, Decimal(100)) == tuple(Decimal(end) for end in expected)


@pytest.mark.parametrize(
    ("band", "side", "price", "sure"),
    [
        (WIDE, SELL, "80.00", True),  # 0.2 of four times the mid
        (WIDE, SELL, "79.99", False),
        (WIDE, BUY, "100.50", True),
        (WIDE, BUY, "125.00", True),  # 5 times a quarter of it
        (WIDE, BUY, "125.01", False),
        (NARROW, BUY, "100.50", False),
        (NARROW, SELL, "98.00", False),
    ],
)
def test_what_is_inside_whatever_the_average(
    band: PriceBand, side: Side, price: str, sure: bool
) -> None:
    assert bands.is_sure(band, side, Decimal(price), Decimal(100)) is sure


multiples = st.decimals("0.01", "10", places=2)


@given(
    band=st.builds(
        lambda low, high, sell_low, sell_high: PriceBand(
            min(low, high), max(low, high), min(sell_low, sell_high), max(sell_low, sell_high), 5
        ),
        multiples, multiples, multiples, multiples,
    ),
    side=st.sampled_from([BUY, SELL]),
    price=st.decimals("1", "1000", places=2),
    apart=st.decimals("0.25", "4", places=3),
)  # fmt: skip
def test_what_is_sure_is_inside_for_each_average(
    band: PriceBand, side: Side, price: Decimal, apart: Decimal
) -> None:
    if bands.is_sure(band, side, price, Decimal(100)):
        low, high = bands.limits(band, side, 100 * apart)
        assert low <= price <= high


def test_an_average_is_asked_for_only_where_it_matters() -> None:
    venue = ScriptedVenue()
    venue.price_band, venue.average = NARROW, Decimal(101)
    ask = bands.average_for
    assert ask(venue, "sell", Decimal(98), rules(None), BOOK) is None
    assert ask(venue, "sell", Decimal(98), rules(WIDE), BOOK) is None
    assert venue.averages_asked == 0
    assert ask(venue, "sell", Decimal(98), rules(NARROW), BOOK) == Decimal(101)
    assert venue.averages_asked == 1
    venue.down = True
    assert ask(venue, "sell", Decimal(98), rules(NARROW), BOOK) is None


@pytest.mark.parametrize(
    ("average", "price", "expected"),
    [
        (None, "50", "50"),  # nobody knows: the venue judges it
        ("100", "98.00", "98.00"),
        ("100", "80.08", "80.08"),
        ("100", "80.07", "80.08"),  # 10 bps inside of 80
        ("100", "60.00", "80.08"),
        ("140", "98.00", "112.12"),  # the market has fallen out of the band
        ("19", "98.00", "94.90"),  # and out of it upwards: 10 bps below 95, and on the grid
    ],
)
def test_a_sale_is_put_inside(average: str | None, price: str, expected: str) -> None:
    known = None if average is None else Decimal(average)
    fitted = bands.fitted_sale(sale(price), rules(NARROW), known)
    assert fitted.ticket.limit_price == Decimal(expected)
    assert fitted == replace(sale(price), ticket=fitted.ticket)
    assert bands.fitted_sale(sale(price), rules(None), known) == sale(price)


@given(average=st.decimals("1", "1000", places=2), price=st.decimals("1", "1000", places=2))
def test_what_is_put_inside_is_inside_and_on_the_grid(average: Decimal, price: Decimal) -> None:
    fitted = bands.fitted_sale(sale(str(price)), rules(NARROW), average).ticket.limit_price
    low, high = bands.limits(NARROW, "sell", average)
    assert low <= fitted <= high
    assert fitted % Decimal("0.01") == 0


@pytest.mark.parametrize(
    ("order_type", "judged"),
    [("limit", True), ("stop_limit", True), ("stop_market", False), ("market", False)],
)
def test_what_is_at_market_has_no_price_to_be_judged(order_type: str, judged: bool) -> None:
    made = replace(sale("98").ticket, order_type=order_type)  # type: ignore[arg-type]
    assert bands.has_limit(made) is judged
