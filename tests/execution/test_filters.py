"""What is read of Binance's filters: real records, and records that have got another form."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from shared.cache import Cache
from shared.calls import CallLog
from shared.execution.types import PriceBand
from shared.execution.venues import filters
from shared.execution.venues.filters import Filters
from shared.execution.venues.markets import Catalogue

WIDE = PriceBand(Decimal("0.2"), Decimal(5), Decimal("0.2"), Decimal(5), 5)

BY_SIDE = {
    "filterType": "PERCENT_PRICE_BY_SIDE",
    "bidMultiplierUp": "5",
    "bidMultiplierDown": "0.2",
    "askMultiplierUp": "5",
    "askMultiplierDown": "0.2",
    "avgPriceMins": 5,
}
PERCENT = {
    "filterType": "PERCENT_PRICE",
    "multiplierUp": "5",
    "multiplierDown": "0.2",
    "avgPriceMins": 5,
}
ORDERS = {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200}
STOPS = {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5}
OTHERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
    {"filterType": "ICEBERG_PARTS", "limit": 10},
    {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 20},
]
# The example of Binance's "Filters" (filters.md).
DOCUMENTED = BY_SIDE | {
    "bidMultiplierUp": "1.2",
    "askMultiplierDown": "0.8",
    "avgPriceMins": 1,
}


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        # BTCUSDT on Binance, BTCUSD4 and XRPUSD4 on Binance US (exchangeInfo of 2025-05-28)
        ([*OTHERS, BY_SIDE, ORDERS, STOPS], Filters(WIDE, 200, 5)),
        ([*OTHERS, PERCENT, ORDERS, STOPS], Filters(WIDE, 200, 5)),
        ([*OTHERS, PERCENT, BY_SIDE, ORDERS, STOPS], Filters(WIDE, 200, 5)),
        (
            [DOCUMENTED],
            Filters(PriceBand(Decimal("0.2"), Decimal("1.2"), Decimal("0.8"), Decimal(5), 1)),
        ),
        # both have to be passed: of each side the narrower
        (
            [
                PERCENT | {"multiplierUp": "1.3", "multiplierDown": "0.7"},
                DOCUMENTED | {"avgPriceMins": 5},
            ],
            Filters(PriceBand(Decimal("0.7"), Decimal("1.2"), Decimal("0.8"), Decimal("1.3"), 5)),
        ),
        ([STOPS], Filters(max_stop_orders=5)),
        ([ORDERS | {"maxNumOrders": "25"}], Filters(max_orders=25)),
        ([PERCENT | {"avgPriceMins": 0}], Filters(PriceBand(*[Decimal("0.2"), Decimal(5)] * 2, 0))),
        (OTHERS, Filters()),
        ([], Filters()),
    ],
)
def test_what_is_listed(listed: list[dict[str, Any]], expected: Filters) -> None:
    assert filters.read({"filters": listed}) == expected


@pytest.mark.parametrize(
    "info",
    [None, [], {}, {"altname": "XBTUSDT", "ordermin": "0.00005"}, {"product_id": "BTC-USDT"}],
)
def test_other_venues_list_no_filters(info: object) -> None:
    assert filters.read(info) == Filters()


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (PERCENT | {"multiplierUp": "NaN"}, "PERCENT_PRICE multiplierUp: expected a number"),
        (PERCENT | {"multiplierUp": "five"}, "multiplierUp: expected a number, was 'five'"),
        (PERCENT | {"multiplierDown": "0"}, "multiplierDown: expected above 0, was '0'"),
        (PERCENT | {"multiplierDown": "6"}, "multiples of a buy: expected the lowest first"),
        (BY_SIDE | {"askMultiplierDown": "6"}, "multiples of a sell: expected the lowest first"),
        (PERCENT | {"avgPriceMins": "-1"}, "avgPriceMins: expected a whole number from 0"),
        (PERCENT | {"avgPriceMins": "2.5"}, "avgPriceMins: expected a whole number from 0"),
        ({"filterType": "PERCENT_PRICE"}, "multiplierDown: expected a number, was 'nothing'"),
        (STOPS | {"maxNumAlgoOrders": "0"}, "maxNumAlgoOrders: expected a whole number from 1"),
        ({"filterType": "MAX_NUM_ORDERS", "limit": 200}, "maxNumOrders: expected a number"),
    ],
)
def test_what_cannot_be_read_is_named_and_no_rule(listed: dict[str, Any], words: str) -> None:
    found = filters.read({"filters": [*OTHERS, listed]})
    assert (found.price_band, found.max_orders, found.max_stop_orders) == (None, None, None)
    assert len(found.unread) == 1
    assert words in found.unread[0]


def test_two_averages_cannot_be_asked_for() -> None:
    found = filters.read({"filters": [PERCENT, DOCUMENTED]})
    assert found.price_band is None
    assert found.unread == ("avgPriceMins: expected one for all filters, was [1, 5]",)


def test_the_catalogue_hands_them_on() -> None:
    market = {
        "symbol": "BTC/USDT", "precision": {"price": 0.01, "amount": 0.001}, "taker": 0.001,
        "limits": {"amount": {"min": 0.001}, "cost": {"min": 5}}, "maker": 0.001, "active": True,
        "info": {"filters": [BY_SIDE, ORDERS, STOPS | {"maxNumAlgoOrders": "many"}]},
    }  # fmt: skip
    client = SimpleNamespace(markets={"BTC/USDT": market})
    store = Cache(None, "test", CallLog())
    rules = Catalogue("binance", client, ("BTC/USDT",), store).rules("BTC/USDT")
    assert (rules.price_band, rules.max_orders, rules.max_stop_orders) == (WIDE, 200, None)
    assert rules.unread_filters == (
        "MAX_NUM_ALGO_ORDERS maxNumAlgoOrders: expected a number, was 'many'",
    )
