"""The requests that the adapters really send, as a server on this machine receives them.

Expected paths and fields: the requests of ccxt/ccxt's ts/src/test/static/request/{binance,coinbase,
kraken}.json (spot, MIT licence), with our client order id in the field that each venue documents
for it: newClientOrderId, client_order_id, cl_ord_id.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from capture_server import FAULTS, Capture, Captured, listen

from deploy.local.wire.client import key_variables, make_credentials
from shared import cache, calls, clock, config
from shared.errors import OrderUnknown, VenueUnavailable
from shared.execution import intents
from shared.execution.types import OrderTicket
from shared.execution.venues import clients
from shared.execution.venues.ccxt_venue import CcxtVenue
from shared.execution.venues.dialects import DIALECTS
from shared.execution.venues.markets import Catalogue

NOW = datetime(2025, 5, 6, 12, tzinfo=UTC)
SYMBOL = "BTC/USDT"
VENUES = ("binance", "coinbase", "kraken")
MARKET_IDS = {"binance": "BTCUSDT", "coinbase": "BTC-USDT", "kraken": "XBTUSDT"}
OWN_ID = intents.client_order_id("captured")
CREDENTIALS = make_credentials(5)

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
ANSWERS: dict[str, Any] = {
    "POST /binance/api/v3/order": BINANCE_ORDER,
    "GET /binance/api/v3/order": BINANCE_ORDER,
    "DELETE /binance/api/v3/order": BINANCE_ORDER | {"status": "CANCELED"},
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
    """The adapter as it is built for live trading, but for the address and the known market."""
    name = request.param
    variables = {"SIMULATED_WIRE_URL": capture.base_url, "VENUES": ",".join(VENUES)}
    variables |= key_variables(CREDENTIALS)
    clock.install(lambda: clock.to_ms(NOW))
    log = calls.CallLog()
    client = clients.client(config.load(variables), name)
    client.set_markets([market(MARKET_IDS[name])])
    yield CcxtVenue(
        name,
        client,
        DIALECTS[name],
        Catalogue(name, client, (SYMBOL,), cache.Cache(None, "test", log)),
        log,
    )
    clock.install(None)


def market(market_id: str) -> dict[str, Any]:
    kinds = dict.fromkeys(
        ("margin", "swap", "future", "option", "contract", "linear", "inverse"), False
    )
    return kinds | {
        "id": market_id,
        "symbol": SYMBOL,
        "base": "BTC",
        "quote": "USDT",
        "baseId": "BTC",
        "quoteId": "USDT",
        "type": "spot",
        "spot": True,
        "active": True,
        "precision": {"price": 0.1, "amount": 0.00001},
        "limits": {name: {"min": None, "max": None} for name in ("amount", "price", "cost")},
        "info": {"orderTypes": ["LIMIT", "MARKET", "STOP_LOSS_LIMIT"]},
    }


def ticket(venue: CcxtVenue, side: str, time_in_force: str) -> OrderTicket:
    return OrderTicket(
        client_order_id=OWN_ID,
        venue=venue.name,
        symbol=SYMBOL,
        side=side,  # type: ignore[arg-type]
        order_type="limit",
        time_in_force=time_in_force,  # type: ignore[arg-type]
        quantity=Decimal("0.01"),
        limit_price=Decimal("99000.1"),
    )


def order_request(venue: str, side: str, time_in_force: str) -> Captured:
    """What the venue documents for a limit order."""
    if venue == "binance":
        fields: dict[str, Any] = {
            "symbol": "BTCUSDT",
            "side": side.upper(),
            "type": "LIMIT",
            "timeInForce": time_in_force,
            "quantity": "0.01",
            "price": "99000.1",
            "newClientOrderId": OWN_ID,
            "newOrderRespType": "FULL",
        }
        return Captured("POST", "/api/v3/order", fields)
    if venue == "kraken":
        fields = {
            "pair": "XBTUSDT",
            "type": side,
            "ordertype": "limit",
            "timeinforce": time_in_force,
            "volume": "0.01",
            "price": "99000.1",
            "cl_ord_id": OWN_ID,
        }
        return Captured("POST", "/0/private/AddOrder", fields)
    sizes: dict[str, Any] = {"base_size": "0.01", "limit_price": "99000.1"}
    configuration = {
        "IOC": {"sor_limit_ioc": sizes},
        "GTC": {"limit_limit_gtc": sizes | {"post_only": False}},
    }[time_in_force]
    fields = {
        "client_order_id": OWN_ID,
        "product_id": "BTC-USDT",
        "side": side.upper(),
        "order_configuration": configuration,
    }
    return Captured("POST", "/api/v3/brokerage/orders", fields)


def steady(requests: list[Captured]) -> list[Captured]:
    return [Captured(one.method, one.path, one.steady()) for one in requests]


@pytest.mark.parametrize(("side", "time_in_force"), [("buy", "IOC"), ("sell", "GTC")])
def test_an_order_is_one_request_with_our_id_and_time_in_force(
    venue: CcxtVenue, capture: Capture, side: str, time_in_force: str
) -> None:
    order = venue.submit(ticket(venue, side, time_in_force))
    assert order.venue_order_id == "7"
    assert steady(capture.requests) == [order_request(venue.name, side, time_in_force)]


def test_a_cancel_names_the_venues_order(venue: CcxtVenue, capture: Capture) -> None:
    venue.cancel("7", SYMBOL)
    expected = {
        "binance": Captured("DELETE", "/api/v3/order", {"symbol": "BTCUSDT", "orderId": "7"}),
        "coinbase": Captured("POST", "/api/v3/brokerage/orders/batch_cancel", {"order_ids": ["7"]}),
        "kraken": Captured("POST", "/0/private/CancelOrder", {"txid": "7"}),
    }[venue.name]
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
    }[venue.name]
    assert [(one.method, one.path, one.steady()) for one in capture.requests] == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_an_order_is_sent_once_whatever_the_server_does(
    venue: CcxtVenue, capture: Capture, fault: str
) -> None:
    """Neither the adapter nor ccxt, requests or urllib3 sends it again."""
    capture.fault = FAULTS[fault]
    with pytest.raises(OrderUnknown):
        venue.submit(ticket(venue, "buy", "IOC"))
    assert steady(capture.requests) == [order_request(venue.name, "buy", "IOC")]


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
