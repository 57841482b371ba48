"""Kraken spot: the REST API of docs.kraken.com/api. Errors come with HTTP 200."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from deploy.local.wire.orders import (
    Fill,
    Order,
    Reason,
    Refused,
)
from deploy.local.wire.venues import kraken_json as shape
from deploy.local.wire.venues.base import (
    JSON,
    ApiError,
    Params,
    WireAnswer,
    WireRequest,
    dump,
    integer,
    parameters,
    text,
)
from deploy.local.wire.venues.kraken_market import KrakenMarket, wrapped
from deploy.local.wire.venues.kraken_requests import order_request, user_reference
from deploy.local.wire.venues.signing import kraken_signature, same

PAGE = 50
QUERY_TRADES_MOST = 20
_ERRORS: dict[Reason, str] = {
    Reason.INSUFFICIENT_FUNDS: "EOrder:Insufficient funds",
    Reason.PRICE_TICK: "EOrder:Tick size check failed",
    Reason.QUANTITY_STEP: "EGeneral:Invalid arguments:volume",
    Reason.MIN_QUANTITY: "EOrder:Order minimum not met",
    Reason.MIN_NOTIONAL: "EOrder:Cost minimum not met",
    Reason.DUPLICATE_CLIENT_ID: "EOrder:Invalid client order id:already in use by an open order",
    Reason.STOP_WOULD_TRIGGER: "EOrder:Invalid price",
    Reason.POST_ONLY_WOULD_TAKE: "EOrder:Post only order",
    Reason.PRICE_COLLAR: "EOrder:Invalid price",
    Reason.END_IN_THE_PAST: "EGeneral:Invalid arguments:expiretm",
    Reason.DEADLINE_ELAPSED: "EService:Deadline elapsed",
    Reason.CANCEL_ONLY: "EService:Market in cancel_only mode",
    Reason.POST_ONLY_MODE: "EService:Market in post_only mode",
    Reason.MAINTENANCE: "EService:Unavailable",
    Reason.UNKNOWN_SYMBOL: "EQuery:Unknown asset pair",
    Reason.UNKNOWN_ORDER: "EOrder:Unknown order",
}


class Kraken(KrakenMarket):
    """Endpoints under ``0/public`` and ``0/private``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._nonce = -1
        self._private: dict[str, Callable[[Params], JSON]] = {
            "Balance": self._balance,
            "BalanceEx": self._balance_ex,
            "TradeVolume": self._trade_volume,
            "AddOrder": self._add_order,
            "QueryOrders": self._query_orders,
            "OpenOrders": self._open_orders,
            "ClosedOrders": self._closed_orders,
            "CancelOrder": self._cancel_order,
            "CancelAll": self._cancel_all,
            "QueryTrades": self._query_trades,
            "TradesHistory": self._trades_history,
        }

    def answer(self, request: WireRequest) -> WireAnswer:
        _, _, scope, name = (*request.path.split("/", 3), "", "", "")[:4]
        route = f"{request.method} {request.path}"
        try:
            if scope == "public" and name in self._public:
                return WireAnswer(self._public[name](parameters(request.query)), route=route)
            if scope == "private" and name in self._private:
                params = self._authenticated(request)
                return WireAnswer(dump(wrapped(self._private[name](params))), route=route)
            return WireAnswer(dump({"error": ["EGeneral:Unknown method"]}), 404)
        except ApiError as error:
            return WireAnswer(dump(error.body), error.status, route)
        except Refused as error:
            return WireAnswer(dump({"error": [_message(error)]}), route=route)

    def _authenticated(self, request: WireRequest) -> Params:
        """The parameters of a request whose key, signature and nonce are right."""
        if self.credentials is None or not same(
            request.headers.get("API-Key", ""), self.credentials.api_key
        ):
            raise _failure("EAPI:Invalid key")
        params = parameters(request.body.decode())
        nonce = params.get("nonce", "")
        expected = kraken_signature(self.credentials.secret, request.path, nonce, request.body)
        if not same(request.headers.get("API-Sign", ""), expected):
            raise _failure("EAPI:Invalid signature")
        if not nonce.isdecimal() or int(nonce) <= self._nonce:
            raise _failure("EAPI:Invalid nonce")
        self._nonce = int(nonce)
        return params

    # Account

    def _balance(self, params: Params) -> JSON:
        account = self.exchange.account
        return {shape.asset_id(name): text(account.total(name)) for name in account.currencies()}

    def _balance_ex(self, params: Params) -> JSON:
        account = self.exchange.account
        return {
            shape.asset_id(name): {
                "balance": text(account.total(name)),
                "hold_trade": text(account.locked[name]),
            }
            for name in account.currencies()
        }

    def _trade_volume(self, params: Params) -> JSON:
        return shape.trade_volume(self._several(params), self.exchange.venue)

    # Orders

    def _add_order(self, params: Params) -> JSON:
        """Place an order; with ``validate`` only check its inputs, which tells nothing of funds."""
        request = order_request(params, self._symbol, self.clock_ms)
        only_checks = params.get("validate", "false").lower() != "false"
        order = self.exchange.check(request) if only_checks else self.exchange.place(request)
        volume = request.quote_quantity or order.quantity
        answer: JSON = {"descr": {"order": shape.description(order, volume)}}
        return answer if only_checks else answer | {"txid": [shape.order_txid(order)]}

    def _query_orders(self, params: Params) -> JSON:
        with_trades = params.get("trades", "").lower() == "true"
        return {
            txid: shape.order(self.shown.order(self._by_txid(txid).order_id), with_trades)
            for txid in params.get("txid", "").split(",")
        }

    def _by_txid(self, txid: str) -> Order:
        order_id = shape.order_id(txid)
        if order_id is None:
            raise Refused(Reason.UNKNOWN_ORDER, txid)
        return self.exchange.order(order_id)

    def _open_orders(self, params: Params) -> JSON:
        found = _of_client(self.shown.open_orders(), params)
        with_trades = params.get("trades", "").lower() == "true"
        return {"open": {shape.order_txid(one): shape.order(one, with_trades) for one in found}}

    def _closed_orders(self, params: Params) -> JSON:
        start, end = integer(params, "start", 0), integer(params, "end", 1 << 40)
        found = [
            order
            for order in _of_client(self.shown.orders(), params)
            if not order.is_open and start * 1000 < order.updated_ms <= end * 1000
        ]
        found.sort(key=lambda order: (order.updated_ms, order.order_id), reverse=True)
        offset = integer(params, "ofs", 0)
        with_trades = params.get("trades", "").lower() == "true"
        page = found[offset : offset + PAGE]
        return {
            "closed": {shape.order_txid(one): shape.order(one, with_trades) for one in page},
            "count": len(found),
        }

    def _cancel_order(self, params: Params) -> JSON:
        orders = self._to_cancel(params)
        for order in orders:
            self.exchange.cancel(order)
        return {"count": len(orders)}

    def _to_cancel(self, params: Params) -> list[Order]:
        """The orders that ``cl_ord_id`` or ``txid`` names; a ``txid`` may be a user reference."""
        client_order_id, txid = params.get("cl_ord_id"), params.get("txid", "")
        if client_order_id is not None:
            return [self.exchange.order_by_client_id(client_order_id)]
        if txid.lstrip("-").isdecimal():
            found = _of_client(self.exchange.open_orders(), {"userref": txid})
            if not found:
                raise Refused(Reason.UNKNOWN_ORDER, txid)
            return found
        return [self._by_txid(txid)]

    def _cancel_all(self, params: Params) -> JSON:
        orders = self.exchange.open_orders()
        for order in orders:
            self.exchange.cancel(order)
        return {"count": len(orders)}

    def _query_trades(self, params: Params) -> JSON:
        """The fills with the ids in ``txid``; an id that none has is left out."""
        asked = params.get("txid", "").split(",")
        if asked == [""] or len(asked) > QUERY_TRADES_MOST:
            raise Refused(Reason.BAD_PARAMETER, f"txid: {len(asked)} ids")
        by_id = {shape.trade_txid(fill): fill for fill in self.shown.fills()}
        orders = self.exchange.orders
        return {
            txid: shape.my_trade(by_id[txid], orders[by_id[txid].order_id])
            for txid in asked
            if txid in by_id
        }

    def _trades_history(self, params: Params) -> JSON:
        start, end = integer(params, "start", 0), integer(params, "end", 1 << 40)
        found: list[Fill] = [
            fill for fill in reversed(self.shown.fills()) if start * 1000 < fill.at_ms <= end * 1000
        ]
        offset = integer(params, "ofs", 0)
        page = found[offset : offset + PAGE]
        orders = self.exchange.orders
        return {
            "trades": {
                shape.trade_txid(fill): shape.my_trade(fill, orders[fill.order_id]) for fill in page
            },
            "count": len(found),
        }


def _of_client(orders: Iterable[Order], params: Params) -> list[Order]:
    """Orders that pass the filters ``cl_ord_id`` and ``userref``; all without them."""
    own_id, reference = params.get("cl_ord_id"), user_reference(params)
    return [
        order
        for order in orders
        if own_id in (None, order.client_order_id)
        and reference in (None, order.request.user_reference)
    ]


def _message(error: Refused) -> str:
    if error.reason is Reason.BAD_PARAMETER:
        return f"EGeneral:Invalid arguments:{error.detail.split(':')[0]}"
    return _ERRORS[error.reason]


def _failure(message: str) -> ApiError:
    return ApiError(200, {"error": [message]})
