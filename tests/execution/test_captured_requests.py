"""The requests that the adapters really send, as a server on this machine receives them.

They are those of ccxt 4.5.90: an upgrade of it has to be looked at here first.

Expected paths and fields: the requests of ccxt/ccxt's ts/src/test/static/request/{binance,coinbase,
kraken}.json (spot, MIT licence), with our client order id in the field that each venue documents
for it: newClientOrderId, client_order_id, cl_ord_id; and Kraken's ``deadline``, ``expiretm`` and
``stop-loss`` as its "Add Order" documents them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import metadata
from typing import Any

import pytest
from capture_server import FAULTS, Capture, Captured, listen
from captured_venue import NOW, OWN_ID, SYMBOL, VENUES, adapter, ticket

from shared import clock
from shared.errors import OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution.types import VenueOrder
from shared.execution.venues.ccxt_venue import CcxtVenue

CCXT_VERSION = "4.5.90"

# A venue's answer to a request, one a route; only what ccxt reads from it.
BINANCE_ORDER = {
    "symbol": "BTCUSDT",
    "orderId": 7,
    "clientOrderId": OWN_ID,
    "price": "99000.10",
    "origQty": "0.01",
    "executedQty": "0",
    "cummulativeQuoteQty": "0",
    "status": "NEW",
    "type": "LIMIT",
    "side": "BUY",
    "timeInForce": "GTC",
}
COINBASE_ORDER = {
    "order_id": "7",
    "product_id": "BTC-USDT",
    "client_order_id": OWN_ID,
    "side": "BUY",
    "status": "OPEN",
    "order_configuration": {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "99000.1"}},
    "filled_size": "0",
    "average_filled_price": "0",
    "total_fees": "0",
    "created_time": "2025-05-06T12:00:00Z",
}
KRAKEN_ORDER = {
    "cl_ord_id": OWN_ID,
    "status": "closed",
    "opentm": 1746532800.0,
    "descr": {"pair": "XBTUSDT", "type": "buy", "ordertype": "limit", "price": "99000.1"},
    "vol": "0.01",
    "vol_exec": "0.01",
    "cost": "990.001",
    "fee": "0",
    "price": "99000.1",
}
BINANCE_TRADE = {
    "symbol": "BTCUSDT",
    "id": 71,
    "orderId": 7,
    "price": "99000.1",
    "qty": "0.01",
    "commission": "0.99",
    "commissionAsset": "USDT",
    "time": 1746532800000,
    "isBuyer": True,
    "isMaker": False,
}
COINBASE_TRADE = {
    "trade_id": "71",
    "order_id": "7",
    "product_id": "BTC-USDT",
    "price": "99000.1",
    "size": "0.01",
    "commission": "0.99",
    "trade_time": "2025-05-06T12:00:00Z",
    "liquidity_indicator": "TAKER",
    "side": "BUY",
}
KRAKEN_TRADE = {
    "ordertxid": "7",
    "postxid": "P",
    "pair": "XBTUSDT",
    "time": 1746532800.0,
    "type": "buy",
    "ordertype": "limit",
    "price": "99000.1",
    "vol": "0.01",
    "fee": "0.99",
    "cost": "990.001",
    "maker": False,
}
ANSWERS: dict[str, Any] = {
    **{
        f"{method} /{name}/api/v3/order": BINANCE_ORDER | {"status": status}
        for name in ("binance", "binanceus")
        for method, status in (("POST", "NEW"), ("GET", "NEW"), ("DELETE", "CANCELED"))
    },
    **{f"GET /{name}/api/v3/myTrades": [BINANCE_TRADE] for name in ("binance", "binanceus")},
    "GET /coinbase/api/v3/brokerage/orders/historical/fills": {
        "fills": [COINBASE_TRADE],
        "cursor": "",
    },
    "POST /kraken/0/private/QueryOrders": {
        "error": [],
        "result": {"7": KRAKEN_ORDER | {"trades": ["71"]}},
    },
    "POST /kraken/0/private/QueryTrades": {"error": [], "result": {"71": KRAKEN_TRADE}},
    "POST /coinbase/api/v3/brokerage/orders": {
        "success": True,
        "order_id": "7",
        "success_response": {"order_id": "7", "product_id": "BTC-USDT", "side": "BUY"},
    },
    "POST /coinbase/api/v3/brokerage/orders/batch_cancel": {
        "results": [{"success": True, "order_id": "7"}]
    },
    "GET /coinbase/api/v3/brokerage/orders/historical/batch": {"orders": [COINBASE_ORDER]},
    "POST /kraken/0/private/AddOrder": {"error": [], "result": {"txid": ["7"], "descr": {}}},
    "POST /kraken/0/private/CancelOrder": {"error": [], "result": {"count": 1}},
    "POST /kraken/0/private/OpenOrders": {"error": [], "result": {"open": {}}},
    "POST /kraken/0/private/ClosedOrders": {
        "error": [],
        "result": {"closed": {"7": KRAKEN_ORDER}, "count": 1},
    },
}


@pytest.fixture
def capture() -> Iterator[Capture]:
    with listen(ANSWERS) as captured:
        yield captured


@pytest.fixture(params=VENUES)
def venue(request: pytest.FixtureRequest, capture: Capture) -> Iterator[CcxtVenue]:
    clock.install(lambda: clock.to_ms(NOW))
    yield adapter(request.param, capture.base_url)
    clock.install(None)


# A kind of order: its side and time in force, and what else its ticket holds.
END = datetime(2025, 5, 6, 13, tzinfo=UTC)
STOP = Decimal("99500.5")
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "IOC": ("buy", "IOC", {}),
    "FOK": ("buy", "FOK", {}),
    "GTC": ("sell", "GTC", {}),
    "GTD": ("buy", "GTD", {"expires_at": END}),
    "post-only": ("buy", "GTC", {"post_only": True}),
    "post-only GTD": ("buy", "GTD", {"post_only": True, "expires_at": END}),
    "stop_limit": ("sell", "GTC", {"order_type": "stop_limit", "stop_price": STOP}),
    "stop_market": ("sell", "GTC", {"order_type": "stop_market", "stop_price": STOP}),
}
# What a kind is on the wire, besides symbol, side, our id and quantity; absent: refused.
PRICE = {"price": "99000.1"}
SIZES = {"base_size": "0.01", "limit_price": "99000.1"}
DEADLINE = {"deadline": "2025-05-06T12:00:10.000Z"}
WIRE: dict[str, dict[str, dict[str, Any]]] = {
    "binance": {
        "IOC": PRICE | {"type": "LIMIT", "timeInForce": "IOC"},
        "FOK": PRICE | {"type": "LIMIT", "timeInForce": "FOK"},
        "GTC": PRICE | {"type": "LIMIT", "timeInForce": "GTC"},
        "post-only": PRICE | {"type": "LIMIT_MAKER"},
        "stop_limit": PRICE
        | {"type": "STOP_LOSS_LIMIT", "timeInForce": "GTC", "stopPrice": "99500.5"},
    },
    "coinbase": {
        "IOC": {"sor_limit_ioc": SIZES},
        "FOK": {"limit_limit_fok": SIZES},
        "GTC": {"limit_limit_gtc": SIZES | {"post_only": False}},
        "GTD": {
            "limit_limit_gtd": SIZES | {"end_time": "2025-05-06T13:00:00.000Z", "post_only": False}
        },
        "post-only": {"limit_limit_gtc": SIZES | {"post_only": True}},
        "post-only GTD": {
            "limit_limit_gtd": SIZES | {"end_time": "2025-05-06T13:00:00.000Z", "post_only": True}
        },
        "stop_limit": {
            "stop_limit_stop_limit_gtc": SIZES
            | {"stop_price": "99500.5", "stop_direction": "STOP_DIRECTION_STOP_DOWN"}
        },
    },
    "kraken": {
        "IOC": PRICE | DEADLINE | {"ordertype": "limit", "timeinforce": "IOC"},
        "GTC": PRICE | DEADLINE | {"ordertype": "limit", "timeinforce": "GTC"},
        "GTD": PRICE
        | DEADLINE
        | {"ordertype": "limit", "timeinforce": "GTD", "expiretm": "1746536400"},
        "post-only": PRICE
        | DEADLINE
        | {"ordertype": "limit", "timeinforce": "GTC", "oflags": "post"},
        "post-only GTD": PRICE
        | DEADLINE
        | {
            "ordertype": "limit",
            "timeinforce": "GTD",
            "expiretm": "1746536400",
            "oflags": "post",
        },
        "stop_market": {"ordertype": "stop-loss", "price": "99500.5"},
    },
}
WIRE["binanceus"] = WIRE["binance"]


def order_request(venue: str, kind: str) -> Captured:
    """What the venue documents for this kind of order."""
    side, special = KINDS[kind][0], WIRE[venue][kind]
    if venue in ("binance", "binanceus"):
        fields: dict[str, Any] = {
            "symbol": "BTCUSDT",
            "side": side.upper(),
            "quantity": "0.01",
            "newClientOrderId": OWN_ID,
            "newOrderRespType": "FULL",
        }
        return Captured("POST", "/api/v3/order", fields | special)
    if venue == "kraken":
        fields = {"pair": "XBTUSDT", "type": side, "volume": "0.01", "cl_ord_id": OWN_ID}
        return Captured("POST", "/0/private/AddOrder", fields | special)
    fields = {
        "client_order_id": OWN_ID,
        "product_id": "BTC-USDT",
        "side": side.upper(),
        "order_configuration": special,
    }
    return Captured("POST", "/api/v3/brokerage/orders", fields)


def steady(requests: list[Captured]) -> list[Captured]:
    return [Captured(one.method, one.path, one.steady()) for one in requests]


def test_the_wire_is_that_of_the_installed_ccxt() -> None:
    assert metadata.version("ccxt") == CCXT_VERSION


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_is_one_request_or_is_refused_before_anything_is_sent(
    venue: CcxtVenue, capture: Capture, kind: str
) -> None:
    side, time_in_force, changes = KINDS[kind]
    sent = ticket(venue, side, time_in_force, **changes)
    if kind in WIRE[venue.name]:
        assert venue.submit(sent).venue_order_id == "7"
        assert steady(capture.requests) == [order_request(venue.name, kind)]
        return
    field = "order_type" if kind.startswith("stop") else "time_in_force"
    with pytest.raises(OrderRejected, match=rf"{field}: was \w+, expected one of .*nothing sent"):
        venue.submit(sent)
    assert capture.requests == []


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("order_type", {"order_type": "market"}),
        ("stop_price", {"stop_price": STOP}),
        ("stop_price", {"order_type": "protection", "time_in_force": "GTC"}),
        ("time_in_force", {"order_type": "protection", "stop_price": STOP}),
        ("expires_at", {"expires_at": END}),
        ("post_only", {"post_only": True}),
        ("quantity", {"quantity": Decimal("0.000015")}),
        ("quantity", {"quantity": Decimal("-0.01")}),
        ("limit_price", {"limit_price": Decimal("99000.15")}),
        ("quantity", {"quantity": Decimal("0.0001")}),  # below the minimum
        ("notional", {"limit_price": Decimal("99.1")}),
    ],
)
def test_a_ticket_that_no_venue_takes_names_its_fault_and_is_not_sent(
    venue: CcxtVenue, capture: Capture, field: str, changes: dict[str, Any]
) -> None:
    if changes.get("order_type") == "protection":
        changes = changes | {"order_type": venue.protection}
    with pytest.raises(OrderRejected, match=rf"{field}: was .*expected .*; nothing sent"):
        venue.submit(replace(ticket(venue, "sell", "IOC"), **changes))
    assert capture.requests == []


def test_what_ccxt_refuses_by_itself_was_not_sent(venue: CcxtVenue, capture: Capture) -> None:
    """For example a symbol that takes no stop orders, or a client that has no keys."""
    sent = ticket(venue, "buy", "IOC")
    venue.submit(sent)
    capture.requests.clear()
    key, venue._client.apiKey = venue._client.apiKey, ""
    try:
        with pytest.raises(OrderRejected, match=r"\w+Error: .*; nothing sent"):
            venue.submit(sent)
    finally:
        venue._client.apiKey = key
    assert capture.requests == []


@pytest.mark.parametrize("expires_at", [None, NOW])
def test_good_till_date_needs_a_time_to_come(
    venue: CcxtVenue, capture: Capture, expires_at: datetime | None
) -> None:
    field = "expires_at" if "GTD" in WIRE[venue.name] else "time_in_force"
    with pytest.raises(OrderRejected, match=f"{field}: was .*nothing sent"):
        venue.submit(ticket(venue, "buy", "GTD", expires_at=expires_at))
    assert capture.requests == []


def test_a_request_dies_with_its_validity(venue: CcxtVenue, capture: Capture) -> None:
    """recvWindow and Binance's 10 s, Kraken's deadline, the end of Coinbase's token."""
    side, time_in_force, changes = KINDS["IOC"]
    venue.submit(ticket(venue, side, time_in_force, **changes))
    sent = capture.requests[0]
    if venue.name in ("binance", "binanceus"):
        assert sent.fields["timestamp"] == str(clock.to_ms(NOW))
        lives = timedelta(milliseconds=int(sent.fields["recvWindow"]), seconds=10)
        assert sent.fields["recvWindow"] == "5000"
    elif venue.name == "kraken":
        lives = datetime.fromisoformat(sent.fields["deadline"]) - NOW
    else:
        claims = sent.headers["Authorization"].removeprefix("Bearer ").split(".")[1]
        token = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert token["nbf"] == clock.to_ms(NOW) // 1000
        lives = timedelta(seconds=token["exp"] - token["nbf"])
    assert lives == venue.request_validity


def test_a_cancel_names_the_venues_order(venue: CcxtVenue, capture: Capture) -> None:
    venue.cancel("7", SYMBOL)
    family = venue.name.removesuffix("us")
    expected = {
        "binance": Captured("DELETE", "/api/v3/order", {"symbol": "BTCUSDT", "orderId": "7"}),
        "coinbase": Captured("POST", "/api/v3/brokerage/orders/batch_cancel", {"order_ids": ["7"]}),
        "kraken": Captured("POST", "/0/private/CancelOrder", {"txid": "7"}),
    }[family]
    assert steady(capture.requests) == [expected]


def test_an_order_is_looked_up_by_our_id(venue: CcxtVenue, capture: Capture) -> None:
    """Coinbase has no such filter: its newest orders are read, and ours is picked out."""
    found = venue.find_order(OWN_ID, SYMBOL, NOW)
    assert found is not None
    assert (found.venue_order_id, found.client_order_id) == ("7", OWN_ID)
    own = {"cl_ord_id": OWN_ID}
    expected = {
        "binance": [("GET", "/api/v3/order", {"origClientOrderId": OWN_ID, "symbol": "BTCUSDT"})],
        "coinbase": [
            (
                "GET",
                "/api/v3/brokerage/orders/historical/batch",
                {
                    "product_id": "BTC-USDT",
                    "limit": "100",
                    "start_date": "2025-05-06T11:59:00.000Z",
                },
            )
        ],
        "kraken": [
            ("POST", "/0/private/OpenOrders", own),
            ("POST", "/0/private/ClosedOrders", own),
        ],
    }[venue.name.removesuffix("us")]
    assert [(one.method, one.path, one.steady()) for one in capture.requests] == expected


ORDER = VenueOrder("7", OWN_ID, SYMBOL, "buy", "open", Decimal("0.01"), Decimal(0), None)


def test_fills_are_asked_for_by_the_order_and_by_no_time(
    venue: CcxtVenue, capture: Capture
) -> None:
    """So that a stop that rested for weeks shows them as soon as one that was sent just now."""
    (fill,) = venue.fills_of(ORDER)
    assert (fill.venue_trade_id, fill.venue_order_id) == ("71", "7")
    assert (fill.symbol, fill.side, fill.liquidity) == (SYMBOL, "buy", "taker")
    assert (fill.price, fill.quantity) == (Decimal("99000.1"), Decimal("0.01"))
    assert (fill.fee_cost, fill.fee_currency) == (Decimal("0.99"), "USDT")
    expected = {
        "binance": [
            (
                "GET",
                "/api/v3/myTrades",
                {"symbol": "BTCUSDT", "orderId": "7", "fromId": "0", "limit": "1000"},
            )
        ],
        "coinbase": [
            (
                "GET",
                "/api/v3/brokerage/orders/historical/fills",
                {"product_id": "BTC-USDT", "order_ids": "7", "limit": "100"},
            )
        ],
        "kraken": [
            ("POST", "/0/private/QueryOrders", {"txid": "7", "trades": "true"}),
            ("POST", "/0/private/QueryTrades", {"txid": "71"}),
        ],
    }[venue.name.removesuffix("us")]
    assert [(one.method, one.path, one.steady()) for one in capture.requests] == expected


@pytest.mark.parametrize("told", [None, "absent", "", "NaN"])
def test_a_fee_that_is_not_told_hides_no_fill(
    venue: CcxtVenue, capture: Capture, told: str | None
) -> None:
    family = venue.name.removesuffix("us")
    field = {"binance": "commission", "coinbase": "commission", "kraken": "fee"}[family]
    trade = {"binance": BINANCE_TRADE, "coinbase": COINBASE_TRADE, "kraken": KRAKEN_TRADE}[family]
    changed = trade | {field: told}
    if told == "absent":
        del changed[field]
    route, body = {
        "binance": (f"GET /{venue.name}/api/v3/myTrades", [changed]),
        "coinbase": (
            "GET /coinbase/api/v3/brokerage/orders/historical/fills",
            {"fills": [changed], "cursor": ""},
        ),
        "kraken": ("POST /kraken/0/private/QueryTrades", {"error": [], "result": {"71": changed}}),
    }[family]
    capture.answers = {**ANSWERS, route: body}
    (fill,) = venue.fills_of(ORDER)
    assert (fill.quantity, fill.fee_cost, fill.fee_currency) == (Decimal("0.01"), None, None)


@pytest.mark.parametrize("fault", FAULTS)
def test_an_order_is_sent_once_whatever_the_server_does(
    venue: CcxtVenue, capture: Capture, fault: str
) -> None:
    """Neither the adapter nor ccxt, requests or urllib3 sends it again."""
    capture.fault = FAULTS[fault]
    with pytest.raises(OrderUnknown):
        venue.submit(ticket(venue, "buy", "IOC"))
    assert steady(capture.requests) == [order_request(venue.name, "IOC")]


def test_an_order_is_sent_once_on_a_connection_that_was_in_use(
    venue: CcxtVenue, capture: Capture
) -> None:
    venue.submit(ticket(venue, "buy", "IOC"))
    capture.fault = FAULTS["no answer"]
    with pytest.raises(OrderUnknown):
        venue.submit(ticket(venue, "sell", "GTC"))
    assert [one.path for one in capture.requests] == [capture.requests[0].path] * 2


@pytest.mark.parametrize("fault", ["500", "no answer"])
def test_a_cancel_is_sent_once(venue: CcxtVenue, capture: Capture, fault: str) -> None:
    capture.fault = FAULTS[fault]
    with pytest.raises(VenueUnavailable):
        venue.cancel("7", SYMBOL)
    assert len(capture.requests) == 1
