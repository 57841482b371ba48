"""Binance spot: the REST API of developers.binance.com/docs/binance-spot-api-docs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from deploy.local.wire.orders import (
    Order,
    OrderRequest,
    OrderType,
    Reason,
    Refused,
    TimeInForce,
)
from deploy.local.wire.venues import binance_json as shape
from deploy.local.wire.venues.base import (
    JSON,
    ApiError,
    Params,
    WireAnswer,
    WireRequest,
    decimal,
    dump,
    integer,
    parameters,
    text,
)
from deploy.local.wire.venues.binance_market import BinanceMarket, failure
from deploy.local.wire.venues.signing import hmac_sha256_hex, same

DEFAULT_RECV_WINDOW_MS = 5_000
MOST_RECV_WINDOW_MS = 60_000
# A request may be this far ahead of the server's clock.
_AHEAD_MS = 1_000
_ERRORS: dict[Reason, tuple[int, str]] = {
    Reason.INSUFFICIENT_FUNDS: (-2010, "Account has insufficient balance for requested action."),
    Reason.DUPLICATE_CLIENT_ID: (-2010, "Duplicate order sent."),
    Reason.STOP_WOULD_TRIGGER: (-2010, "Stop price would trigger immediately."),
    Reason.POST_ONLY_WOULD_TAKE: (-2010, "Order would immediately match and take."),
    Reason.PRICE_TICK: (-1013, "Filter failure: PRICE_FILTER"),
    Reason.QUANTITY_STEP: (-1013, "Filter failure: LOT_SIZE"),
    Reason.MIN_QUANTITY: (-1013, "Filter failure: LOT_SIZE"),
    Reason.MIN_NOTIONAL: (-1013, "Filter failure: NOTIONAL"),
    Reason.TOO_MANY_STOPS: (-1013, "Filter failure: MAX_NUM_ALGO_ORDERS"),
    Reason.TOO_MANY_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Reason.CANCEL_ONLY: (-1013, "Market is closed."),
    Reason.MAINTENANCE: (-1013, "Market is closed."),
    Reason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Reason.UNKNOWN_ORDER: (-2013, "Order does not exist."),
}
_CANCEL_ERRORS = {
    Reason.UNKNOWN_ORDER: "Unknown order sent.",
    Reason.MAINTENANCE: "Market is closed.",
}
# There is no GTD.
_TIMES_IN_FORCE: dict[str, TimeInForce] = {"GTC": "GTC", "IOC": "IOC", "FOK": "FOK"}
_TYPES: dict[str, OrderType] = {
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "MARKET": OrderType.MARKET,
    "STOP_LOSS": OrderType.STOP,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
}


class Binance(BinanceMarket):
    """Spot endpoints under ``api/v3`` and the few of ``sapi`` that ccxt asks for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._private: dict[tuple[str, str], Callable[[Params], JSON]] = {
            ("GET", "/api/v3/account"): self._account,
            ("POST", "/api/v3/order"): self._new_order,
            ("GET", "/api/v3/order"): lambda p: shape.order(self._shown(p), self._client_id),
            ("DELETE", "/api/v3/order"): self._cancel,
            ("GET", "/api/v3/openOrders"): self._open_orders,
            ("DELETE", "/api/v3/openOrders"): self._cancel_open_orders,
            ("GET", "/api/v3/allOrders"): self._all_orders,
            ("GET", "/api/v3/myTrades"): self._my_trades,
            ("GET", "/sapi/v1/asset/tradeFee"): self._trade_fee,
            ("GET", "/sapi/v1/account/apiRestrictions"): lambda _: shape.API_RESTRICTIONS,
            ("GET", "/sapi/v1/capital/config/getall"): self._coins,
            ("GET", "/sapi/v1/margin/allPairs"): lambda _: [],
            ("GET", "/sapi/v1/margin/isolated/allPairs"): lambda _: [],
        }

    def answer(self, request: WireRequest) -> WireAnswer:
        key = (request.method, request.path)
        route = f"{request.method} {request.path}"
        try:
            public = self._public.get(key)
            if public is not None:
                return WireAnswer(public(parameters(request.query)), route=route)
            private = self._private.get(key)
            if private is None:
                return self.not_found(request)
            return WireAnswer(dump(private(self._authenticated(request))), route=route)
        except ApiError as error:
            return WireAnswer(dump(error.body), error.status, route)
        except Refused as error:
            code, message = self._error_of(error, request.method)
            return WireAnswer(dump({"code": code, "msg": message}), 400, route)

    def not_found(self, request: WireRequest) -> WireAnswer:
        """The answer to a path that the venue does not have."""
        return WireAnswer(b'{"code":-1100,"msg":"Not found."}', 404)

    def _error_of(self, error: Refused, method: str) -> tuple[int, str]:
        if error.reason is Reason.BAD_PARAMETER:
            return -1102, f"Mandatory parameter was not sent or malformed: {error.detail}"
        if error.reason is Reason.PRICE_COLLAR:
            return -1013, f"Filter failure: {self.exchange.venue.price_filter}"
        if method == "DELETE" and error.reason in _CANCEL_ERRORS:
            return -2011, _CANCEL_ERRORS[error.reason]
        return _ERRORS[error.reason]

    # Authentication

    def _authenticated(self, request: WireRequest) -> Params:
        """The parameters of a request whose key, signature and time are right."""
        if self.credentials is None or not same(
            request.headers.get("X-MBX-APIKEY", ""), self.credentials.api_key
        ):
            raise failure(401, -2015, "Invalid API-key, IP, or permissions for action.")
        payload = request.query + request.body.decode()
        signed, _, signature = payload.rpartition("&signature=")
        if not same(signature, hmac_sha256_hex(self.credentials.secret, signed.encode())):
            raise failure(400, -1022, "Signature for this request is not valid.")
        params = parameters(signed)
        self._check_time(params)
        return params

    def _check_time(self, params: Params) -> None:
        timestamp_ms = integer(params, "timestamp", -1)
        if timestamp_ms < 0:
            raise Refused(Reason.BAD_PARAMETER, "timestamp: expected milliseconds, was absent")
        window_ms = integer(params, "recvWindow", DEFAULT_RECV_WINDOW_MS, most=MOST_RECV_WINDOW_MS)
        if timestamp_ms >= self.clock_ms + _AHEAD_MS:
            raise failure(
                400, -1021, "Timestamp for this request was 1000ms ahead of the server's time."
            )
        if self.clock_ms - timestamp_ms > window_ms:
            raise failure(400, -1021, "Timestamp for this request is outside of the recvWindow.")

    # Account

    def _account(self, params: Params) -> JSON:
        account = self.exchange.account
        return shape.account(
            [
                {
                    "asset": name,
                    "free": text(account.free[name]),
                    "locked": text(account.locked[name]),
                }
                for name in account.currencies()
                if account.total(name) or params.get("omitZeroBalances") != "true"
            ],
            self.exchange.venue,
            self.clock_ms,
        )

    def _coins(self, params: Params) -> JSON:
        account = self.exchange.account
        names = {rules.base for rules in self.exchange.rules.values()} | {"USDT"}
        return [
            shape.coin(name, text(account.free[name]), text(account.locked[name]))
            for name in sorted(names)
        ]

    def _trade_fee(self, params: Params) -> JSON:
        rates = self.exchange.venue
        symbols = [self._symbol(params)] if "symbol" in params else list(self.exchange.rules)
        return [
            {
                "symbol": name.replace("/", ""),
                "makerCommission": str(rates.maker_fee_bps / Decimal(10_000)),
                "takerCommission": str(rates.taker_fee_bps / Decimal(10_000)),
            }
            for name in symbols
        ]

    # Orders

    def _client_id(self, order: Order) -> str:
        """The client's id; Binance makes one up where a client gives none."""
        return order.client_order_id or f"web_{order.order_id:032x}"

    def _new_order(self, params: Params) -> JSON:
        symbol = self._symbol(params)
        for name in ("icebergQty", "trailingDelta"):  # they would make another kind of order
            if name in params:
                raise failure(400, -1106, f"Parameter '{name}' sent when not required.")
        wire_type = params.get("type", "")
        order_type = _TYPES.get(wire_type)
        side = params.get("side", "").lower()
        if order_type is None or side not in ("buy", "sell"):
            raise Refused(Reason.BAD_PARAMETER, f"type={wire_type}, side={side}")
        limited = order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
        given_time = params.get("timeInForce", "GTC" if wire_type == "LIMIT_MAKER" else "")
        if wire_type == "LIMIT_MAKER" and "timeInForce" in params:
            raise failure(400, -1106, "Parameter 'timeInForce' sent when not required.")
        if limited and given_time not in _TIMES_IN_FORCE:
            raise failure(400, -1115, "Invalid timeInForce.")
        stops = order_type in (OrderType.STOP, OrderType.STOP_LIMIT)
        order = self.exchange.place(
            OrderRequest(
                symbol=symbol,
                side="buy" if side == "buy" else "sell",
                order_type=order_type,
                time_in_force=_TIMES_IN_FORCE[given_time] if limited else "GTC",
                quantity=decimal(params, "quantity"),
                quote_quantity=decimal(params, "quoteOrderQty"),
                limit_price=_needed(params, "price") if limited else None,
                stop_price=_needed(params, "stopPrice") if stops else None,
                client_order_id=params.get("newClientOrderId"),
                post_only=wire_type == "LIMIT_MAKER",
            )
        )
        kind = params.get("newOrderRespType", "FULL" if not stops else "ACK")
        return shape.new_order(order, self._client_id, kind)

    def _find(self, params: Params) -> Order:
        symbol = self._symbol(params)
        if "orderId" in params:
            order = self.exchange.order(integer(params, "orderId", 0))
        elif "origClientOrderId" in params:
            order = self._by_client_id(params["origClientOrderId"])
        else:
            raise failure(
                400,
                -1102,
                "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty!",
            )
        if order.symbol != symbol:
            raise Refused(Reason.UNKNOWN_ORDER, symbol)
        return order

    def _shown(self, params: Params) -> Order:
        """The order that a query asks for."""
        return self.shown.order(self._find(params).order_id)

    def _by_client_id(self, client_order_id: str) -> Order:
        made_up = client_order_id.removeprefix("web_")
        if made_up != client_order_id and len(made_up) == 32:
            return self.exchange.order(int(made_up, 16))
        return self.exchange.order_by_client_id(client_order_id)

    def _cancel(self, params: Params) -> JSON:
        order = self.exchange.cancel(self._find(params))
        return shape.cancelled(order, self._client_id, params.get("newClientOrderId"))

    def _open_orders(self, params: Params) -> JSON:
        symbol = self._symbol(params) if "symbol" in params else None
        return [shape.order(order, self._client_id) for order in self.shown.open_orders(symbol)]

    def _cancel_open_orders(self, params: Params) -> JSON:
        orders = self.exchange.open_orders(self._symbol(params))
        if not orders:
            raise Refused(Reason.UNKNOWN_ORDER, "no open orders")
        return [
            shape.cancelled(self.exchange.cancel(order), self._client_id, None) for order in orders
        ]

    def _all_orders(self, params: Params) -> JSON:
        symbol = self._symbol(params)
        since_ms, first_id = integer(params, "startTime", 0), integer(params, "orderId", 0)
        until_ms = integer(params, "endTime", self.clock_ms)
        limit = integer(params, "limit", 500, most=1000)
        found = [
            order
            for order in self.shown.orders()
            if order.symbol == symbol
            and since_ms <= order.created_ms <= until_ms
            and order.order_id >= first_id
        ]
        chosen = found[:limit] if since_ms or first_id else found[-limit:]
        return [shape.order(order, self._client_id) for order in chosen]

    def _my_trades(self, params: Params) -> JSON:
        symbol = self._symbol(params)
        since_ms, first_id = integer(params, "startTime", 0), integer(params, "fromId", 0)
        until_ms = integer(params, "endTime", self.clock_ms)
        order_id = integer(params, "orderId", 0)
        limit = integer(params, "limit", 500, most=1000)
        found = [
            fill
            for fill in self.shown.fills()
            if fill.symbol == symbol
            and since_ms <= fill.at_ms <= until_ms
            and fill.trade_id >= first_id
            and order_id in (0, fill.order_id)
        ]
        if "orderId" in params and since_ms:
            raise failure(400, -1128, "Combination of optional parameters invalid.")
        from_start = since_ms or "fromId" in params
        chosen = found[:limit] if from_start else found[-limit:]
        return [shape.my_trade(fill) for fill in chosen]


def _needed(params: Params, name: str) -> Decimal:
    value = decimal(params, name)
    if value is None:
        raise Refused(Reason.BAD_PARAMETER, f"{name}: expected a number, was absent")
    return value
