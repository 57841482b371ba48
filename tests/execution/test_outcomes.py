"""Which answers prove that an order does not exist, and which prove nothing.

Each is served over HTTP to the unmodified ccxt client, and judged by the adapter. Codes and texts:
Binance's and Binance US's errors.md, Kraken's "Spot Error Messages", Coinbase Advanced's "Create
Order" (see ``rejections``); the shapes of the answers are those of the venues' own examples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from capture_server import FAULTS, Capture, hang_up, listen
from captured_venue import NOW, VENUES, adapter, ticket

from shared import clock
from shared.errors import OrderRejected, OrderUnknown
from shared.execution.venues.answers import Answer
from shared.execution.venues.outcomes import _WORDS, _patterns, definite_rejection
from shared.execution.venues.rejections import DEFINITE_REJECTIONS


def binance(code: int, message: str) -> tuple[int, str]:
    return 400, json.dumps({"code": code, "msg": message})


def kraken(*errors: str) -> tuple[int, str]:
    return 200, json.dumps({"error": list(errors)})


def coinbase(reason: str, *, field: str = "new_order_failure_reason") -> tuple[int, str]:
    response = {
        "error": "UNKNOWN_FAILURE_REASON",
        "message": "",
        "error_details": "",
        "preview_failure_reason": "UNKNOWN_PREVIEW_FAILURE_REASON",
        "new_order_failure_reason": "UNKNOWN_FAILURE_REASON",
    }
    body = {
        "success": False,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": "",
        "error_response": response | {field: reason},
    }
    return 200, json.dumps(body)


def preview(reason: str) -> tuple[int, str]:
    return coinbase(f"PREVIEW_{reason}", field="preview_failure_reason")


def refused(status: int, error: str) -> tuple[int, str]:
    """Coinbase's answer to a request that it does not take."""
    return status, json.dumps({"error": error, "error_details": "", "message": error.lower()})


_SYMBOL_ORDERS = "orders are not supported for this symbol."
REJECTED: list[tuple[str, tuple[int, str], str]] = [
    ("binance", binance(-1002, "You are not authorized to execute this request."), "authorised"),
    ("binance", binance(-1013, "Filter failure: PRICE_FILTER"), "filter"),
    ("binance", binance(-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"), "filter"),
    ("binance", binance(-1013, "Filter failure: LOT_SIZE"), "filter"),
    ("binance", binance(-1013, "Filter failure: NOTIONAL"), "filter"),
    ("binance", binance(-1013, "Filter failure: MAX_NUM_ALGO_ORDERS"), "filter"),
    ("binance", binance(-1014, "Unsupported order combination."), "unsupported combination"),
    ("binance", binance(-1015, "Too many new orders; current limit is 50 orders per 10 SECOND."),
     "too many orders"),
    ("binance", binance(-1020, "This operation is not supported."), "not supported"),
    ("binance", binance(-1021, "Timestamp for this request is outside of the recvWindow."),
     "outside recvWindow"),
    ("binance", binance(-1022, "Signature for this request is not valid."), "signature"),
    ("binance", binance(-1100, "Illegal characters found in parameter 'price'; legal range is "
                        "'^([0-9]{1,20})(\\.[0-9]{1,20})?$'."), "illegal characters"),
    ("binance", binance(-1101, "Too many parameters; expected '9' and received '10'."),
     "too many parameters"),
    ("binance", binance(-1102, "Mandatory parameter 'price' was not sent, was empty/null, or "
                        "malformed."), "mandatory"),
    ("binance", binance(-1103, "An unknown parameter was sent."), "unknown parameter"),
    ("binance", binance(-1104, "Not all sent parameters were read; read '8' parameter(s) but was "
                        "sent '9'."), "not all parameters"),
    ("binance", binance(-1105, "Parameter 'newClientOrderId' was empty."), "was empty"),
    ("binance", binance(-1106, "Parameter 'timeInForce' sent when not required."), "not required"),
    ("binance", binance(-1108, "Parameter 'quantity' overflowed."), "overflowed"),
    ("binance", binance(-1111, "Parameter 'price' has too much precision."), "more precision"),
    ("binance", binance(-1112, "No orders on book for symbol."), "no orders on the book"),
    ("binance", binance(-1114, "TimeInForce parameter sent when not required."), "time in force"),
    ("binance", binance(-1115, "Invalid timeInForce."), "invalid time in force"),
    ("binance", binance(-1116, "Invalid orderType."), "order type"),
    ("binance", binance(-1117, "Invalid side."), "invalid side"),
    ("binance", binance(-1118, "New client order ID was empty."), "client order id"),
    ("binance", binance(-1121, "Invalid symbol."), "no such symbol"),
    ("binance", binance(-1128, "Combination of optional parameters invalid."), "combination"),
    ("binance", binance(-1130, "Data sent for parameter 'type' is not valid."), "invalid data"),
    ("binance", binance(-2014, "API-key format invalid."), "key's format"),
    ("binance", binance(-2015, "Invalid API-key, IP, or permissions for action."), "permission"),
    ("binance", binance(-2010, "Account has insufficient balance for requested action."),
     "insufficient balance"),
    ("binance", binance(-2010, "Market is closed."), "market is closed"),
    ("binance", binance(-2010, f"Stop loss limit {_SYMBOL_ORDERS}"), "no stop-limit orders"),
    ("binance", binance(-2010, f"Iceberg {_SYMBOL_ORDERS}"), "no such order"),
    ("binance", binance(-2010, f"Trailing stop {_SYMBOL_ORDERS}"), "no such order"),
    ("binance", binance(-2010, "Price * QTY is zero or less."), "notional is too small"),
    ("binance", binance(-2010, "IcebergQty exceeds QTY."), "visible quantity"),
    ("binance", binance(-2010, "This action is disabled on this account."), "disabled"),
    ("binance", binance(-2010, "This account may not place or cancel orders."), "may not trade"),
    ("binance", binance(-2010, "Unsupported order combination"), "unsupported order combination"),
    ("binance", binance(-2010, "Order would trigger immediately."), "trigger at once"),
    ("binance", binance(-2010, "Stop price would trigger immediately."), "trigger at once"),
    ("binance", binance(-2010, "Order would immediately match and take."), "match at once"),
    ("binance", binance(-2010, "This symbol is not permitted for this account."), "not permitted"),
    ("binance", binance(-2010, "This symbol is restricted for this account."), "restricted"),
    ("binance", binance(-2010, "Rest API trading is not enabled."), "not enabled"),
    ("binance", binance(-2010, "Order book liquidity is less than LOT_SIZE filter minimum "
                        "quantity."), "too little on the book"),
    ("binanceus", binance(-2010, "Account has insufficient balance for requested action."),
     "insufficient balance"),
    ("binanceus", binance(-1013, "Filter failure: MIN_NOTIONAL"), "filter"),
    ("binanceus", binance(-1111, "Precision is over the maximum defined for this asset."),
     "more precision"),
    ("kraken", kraken("EOrder:Insufficient funds"), "insufficient funds"),
    ("kraken", kraken("EOrder:Insufficient margin"), "insufficient margin"),
    ("kraken", kraken("EOrder:Order minimum not met"), "minimum quantity"),
    ("kraken", kraken("EOrder:Order minimum not met (volume too low)"), "minimum quantity"),
    ("kraken", kraken("EOrder:Cost minimum not met"), "minimum cost"),
    ("kraken", kraken("EOrder:Tick size check failed"), "tick grid"),
    ("kraken", kraken("EOrder:Invalid price"), "invalid price"),
    ("kraken", kraken("EOrder:Orders limit exceeded"), "too many open orders"),
    ("kraken", kraken("EOrder:Rate limit exceeded"), "rate limit"),
    ("kraken", kraken("EOrder:Domain rate limit exceeded"), "domain's rate limit"),
    ("kraken", kraken("EOrder:Scheduled orders limit exceeded"), "scheduled orders"),
    ("kraken", kraken("EOrder:Positions limit exceeded"), "too many positions"),
    ("kraken", kraken("EOrder:Trading agreement required"), "may not trade"),
    ("kraken", kraken("EOrder:Post only order"), "match at once"),
    ("kraken", kraken("EOrder:Unknown position"), "no such position"),
    ("kraken", kraken("EOrder:Cannot open opposing position"), "on margin"),
    ("kraken", kraken("EOrder:Margin allowance exceeded"), "margin limit"),
    ("kraken", kraken("EQuery:Unknown asset pair"), "no such pair"),
    ("kraken", kraken("EGeneral:Invalid arguments"), "invalid arguments"),
    ("kraken", kraken("EGeneral:Invalid arguments:volume"), "invalid arguments"),
    ("kraken", kraken("EGeneral:Permission denied"), "may not do this"),
    ("kraken", kraken("EGeneral:Temporary lockout"), "locked out"),
    ("kraken", kraken("EAPI:Invalid key"), "invalid key"),
    ("kraken", kraken("EAPI:Invalid signature"), "invalid signature"),
    ("kraken", kraken("EAPI:Invalid nonce"), "nonce"),
    ("kraken", kraken("EAPI:Rate limit exceeded"), "key's rate limit"),
    ("kraken", kraken("EAccount:Invalid permissions"), "account may not do this"),
    ("kraken", kraken("EAuth:Account unconfirmed"), "not enabled"),
    ("kraken", kraken("EAuth:Too many requests"), "attempts to log in"),
    ("kraken", kraken("EBM:limit exceeded:CAL"), "purchase limit"),
    ("kraken", kraken("EService:Market in cancel_only mode"), "no such order"),
    ("kraken", kraken("EService:Market in post_only mode"), "no such order"),
    ("kraken", kraken("EOrder:Invalid price", "EOrder:Order minimum not met"), "invalid price"),
    ("coinbase", coinbase("INSUFFICIENT_FUND"), "insufficient funds"),
    ("coinbase", coinbase("INSUFFICIENT_FUND", field="error"), "insufficient funds"),
    ("coinbase", preview("INSUFFICIENT_FUND"), "insufficient funds"),
    ("coinbase", coinbase("INVALID_LEDGER_BALANCE"), "does not cover"),
    ("coinbase", coinbase("UNSUPPORTED_ORDER_CONFIGURATION"), "kind of order"),
    ("coinbase", preview("INVALID_ORDER_CONFIG"), "configuration"),
    ("coinbase", coinbase("INVALID_SIDE"), "invalid side"),
    ("coinbase", coinbase("INVALID_PRODUCT_ID"), "no such product"),
    ("coinbase", coinbase("INVALID_SIZE_PRECISION"), "size is off the grid"),
    ("coinbase", coinbase("INVALID_PRICE_PRECISION"), "price is off the grid"),
    ("coinbase", preview("INVALID_BASE_SIZE_TOO_SMALL"), "size out of bounds"),
    ("coinbase", preview("INVALID_PRICE_TOO_LARGE"), "price out of bounds"),
    ("coinbase", coinbase("INVALID_LIMIT_PRICE"), "outside the allowed band"),
    ("coinbase", coinbase("INVALID_LIMIT_PRICE_POST_ONLY"), "match at once"),
    ("coinbase", coinbase("INVALID_NO_LIQUIDITY"), "nothing on the book"),
    ("coinbase", coinbase("INVALID_REQUEST"), "invalid request"),
    ("coinbase", preview("INVALID_STOP_PRICE"), "invalid stop price"),
    ("coinbase", preview("STOP_PRICE_ABOVE_LAST_TRADE_PRICE"), "wrong side"),
    ("coinbase", coinbase("STOP_TRIGGER_PRICE_OUT_OF_BOUNDS"), "stop price is out of bounds"),
    ("coinbase", coinbase("INELIGIBLE_PAIR"), "may not trade this pair"),
    ("coinbase", coinbase("ORDER_ENTRY_DISABLED"), "takes no orders"),
    ("coinbase", coinbase("UNTRADABLE_PRODUCT"), "cannot be traded"),
    ("coinbase", coinbase("PRODUCT_TRADING_HALTED"), "halted"),
    ("coinbase", preview("NOT_ALLOWED_BY_MARKET_STATE"), "takes no such order now"),
    ("coinbase", coinbase("GEOFENCING_RESTRICTION"), "region"),
    ("coinbase", coinbase("FOK_DISABLED"), "fill-or-kill is disabled"),
    ("coinbase", coinbase("FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS"), "needs a limit order"),
    ("coinbase", coinbase("POST_ONLY_NOT_ALLOWED_WITH_FOK"), "excludes"),
    ("coinbase", coinbase("END_TIME_IS_IN_THE_PAST"), "end of the order's time is out"),
    ("coinbase", coinbase("GTD_ORDERS_MUST_HAVE_END_TIME"), "end of the order's time is missing"),
    ("coinbase", coinbase("LIMIT_PRICE_TOO_FAR_FROM_MARKET"), "too far"),
    ("coinbase", coinbase("LIMIT_ORDER_PRICE_EXCEEDS_PRICE_BAND_ON_BUY"), "price band"),
    ("coinbase", preview("BREACHED_PRICE_LIMIT"), "limit of the venue"),
    ("coinbase", preview("COMPLIANCE_PURCHASE_LIMIT_EXCEEDED"), "purchase limit"),
    ("coinbase", refused(400, "INVALID_ARGUMENT"), "invalid argument"),
    ("coinbase", refused(403, "PERMISSION_DENIED"), "key may not do this"),
    ("coinbase", (401, "Unauthorized\n"), "token is not valid"),
]  # fmt: skip

PROVES_NOTHING: list[tuple[str, tuple[int, str]]] = [
    ("binance", binance(-2010, "Duplicate order sent.")),  # an order of ours exists
    ("binance", binance(-1000, "An unknown error occurred while processing the request.")),
    ("binance", binance(-1001, "Internal error; unable to process your request.")),
    ("binance", (429, '{"code":-1003,"msg":"Too many requests queued."}')),
    ("binance", (418, '{"code":-1003,"msg":"Way too much request weight used; IP banned."}')),
    ("binance", binance(-1006, "An unexpected response was received from the message bus.")),
    ("binance", binance(-1007, "Timeout waiting for response from backend server. Send status "
                        "unknown; execution status unknown.")),
    ("binance", binance(-1008, "Server is currently overloaded with other requests.")),
    ("binance", binance(-1016, "This service is no longer available.")),
    ("binance", binance(-2010, "A message that nobody has listed.")),
    ("binance", binance(-2010, "Market is closed. Duplicate order sent.")),
    ("binance", binance(-9999, "Account has insufficient balance for requested action.")),
    ("binance", (503, '{"code":-2010,"msg":"Market is closed."}')),  # whatever a 5xx says
    ("binance", (200, '{"code":-2010,"msg":"Market is closed."}')),
    ("binance", (403, "<html><body>Request blocked (WAF)</body></html>")),
    ("binance", (502, "<html>502 Bad Gateway</html>")),
    ("binance", (400, '{"code":-1013,"msg":"Filter fail')),
    ("binance", (400, '{"code":"-1013","msg":"Filter failure: LOT_SIZE"}')),
    ("binance", (400, '{"code":-1013,"msg":"Filter failure: LOT_SIZE","orderId":7}')),
    ("binance", (400, '[{"code":-1013,"msg":"Filter failure: LOT_SIZE"}]')),
    ("binance", kraken("EOrder:Insufficient funds")),  # another venue's words
    ("binance", (200, "{}")),
    ("binance", (200, "")),
    ("binanceus", binance(-2010, "Duplicate order sent.")),
    ("binanceus", (504, "")),
    ("kraken", kraken("EService:Unavailable")),
    ("kraken", kraken("EService:Timeout")),
    ("kraken", kraken("EService:Busy")),
    ("kraken", kraken("EService:Deadline elapsed")),
    ("kraken", kraken("EGeneral:Internal error")),
    ("kraken", kraken("EGeneral:Internal error:4")),
    ("kraken", kraken("EOrder:Reduce only:Position is closed")),
    ("kraken", kraken("EOrder:Invalid client order id:already in use by an open order")),
    ("kraken", kraken("EOrder:Insufficient funds", "EService:Unavailable")),
    ("kraken", kraken("EOrder:Something new")),
    ("kraken", (200, '{"error":["EOrder:Insufficient funds"],"result":{"txid":["7"]}}')),
    ("kraken", (520, "<html>cloud</html>")),
    ("kraken", (503, kraken("EOrder:Insufficient funds")[1])),
    ("coinbase", (502, coinbase("INSUFFICIENT_FUND")[1])),
    ("kraken", (200, '{"error":[],"result":{}}')),
    ("kraken", (200, "{}")),
    ("coinbase", coinbase("UNKNOWN_FAILURE_REASON")),
    ("coinbase", coinbase("DUPLICATE_CLIENT_ORDER_ID")),
    ("coinbase", coinbase("COMMANDER_REJECTED_NEW_ORDER")),
    ("coinbase", coinbase("A_REASON_OF_TOMORROW")),
    ("coinbase", preview("RISK_PROXY_FAILURE")),
    ("coinbase", (500, refused(500, "INTERNAL")[1])),
    ("coinbase", refused(429, "RESOURCE_EXHAUSTED")),
    ("coinbase", refused(409, "ALREADY_EXISTS")),
    ("coinbase", (200, '{"success":false,"order_id":"7","error_response":'
                  '{"error":"INSUFFICIENT_FUND"}}')),
    ("coinbase", (401, "<html>Unauthorized</html>")),
    ("coinbase", (200, "{}")),
    ("coinbase", (200, '{"success":true}')),
    ("coinbase", (200, "")),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Capture]:
    with listen({}) as captured:
        yield captured


@pytest.fixture(autouse=True)
def _time() -> Iterator[None]:
    clock.install(lambda: clock.to_ms(NOW))
    yield
    clock.install(None)


def saying(status: int, body: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """A server's answer, byte for byte."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        raw = body.encode()
        handler.send_response(status)
        html = body.startswith("<")
        handler.send_header("Content-Type", "text/html" if html else "application/json")
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    return answer


def submit(server: Capture, venue: str, answer: Callable[[BaseHTTPRequestHandler], None]) -> Any:
    server.fault = answer
    server.requests.clear()
    made = adapter(venue, server.base_url)
    try:
        return made.submit(ticket(made, "buy", "IOC"))
    finally:
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("venue", "answer", "meaning"), REJECTED, ids=[f"{v}-{a[1][:90]}" for v, a, _ in REJECTED]
)
def test_a_definite_rejection(
    server: Capture, venue: str, answer: tuple[int, str], meaning: str
) -> None:
    with pytest.raises(OrderRejected, match=f"{venue}: .*{meaning}"):
        submit(server, venue, saying(*answer))


@pytest.mark.parametrize(
    ("venue", "answer"), PROVES_NOTHING, ids=[f"{v}-{a[0]}-{a[1][:80]}" for v, a in PROVES_NOTHING]
)
def test_anything_else_leaves_the_order_unknown(
    server: Capture, venue: str, answer: tuple[int, str]
) -> None:
    with pytest.raises(OrderUnknown):
        submit(server, venue, saying(*answer))


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_wire_that_breaks_leaves_the_order_unknown(
    server: Capture, venue: str, fault: str
) -> None:
    with pytest.raises(OrderUnknown):
        submit(server, venue, FAULTS[fault])


@pytest.mark.parametrize("venue", VENUES)
def test_the_answer_to_an_earlier_order_says_nothing_of_this_one(
    server: Capture, venue: str
) -> None:
    family = {"coinbase": coinbase("INSUFFICIENT_FUND"), "kraken": kraken("EOrder:Invalid price")}
    with pytest.raises(OrderRejected):
        submit(server, venue, saying(*family.get(venue, binance(-1013, "Filter failure: X"))))
    with pytest.raises(OrderUnknown):
        submit(server, venue, hang_up)


def test_there_are_enough_rows_and_each_of_them_is_tried() -> None:
    assert len(DEFINITE_REJECTIONS) >= 60
    assert len(PROVES_NOTHING) >= 25
    keys = [(family, pattern) for family, pattern, _ in DEFINITE_REJECTIONS]
    assert len(keys) == len(set(keys))
    tried = set()
    for venue, (status, body), _ in REJECTED:
        family = venue.removesuffix("us")
        for word in _WORDS[family](Answer(status, {}, body)):
            tried |= {
                (family, pattern.pattern)
                for pattern, _ in _patterns(family)
                if pattern.fullmatch(word)
            }
    assert set(keys) == tried


def test_no_answer_proves_nothing() -> None:
    assert definite_rejection("binance", None) is None
