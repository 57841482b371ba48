"""Coinbase Advanced Trade: the REST API of docs.cdp.coinbase.com."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from deploy.local.wire.orders import (
    Order,
    OrderRequest,
    OrderType,
    Reason,
    Refused,
)
from deploy.local.wire.venues import coinbase_json as shape
from deploy.local.wire.venues.base import (
    JSON,
    ApiError,
    WireAnswer,
    WireRequest,
    decimal,
    dump,
)
from deploy.local.wire.venues.coinbase_market import (
    BROKERAGE,
    CoinbaseMarket,
    Handler,
    Query,
    integer_of,
)
from deploy.local.wire.venues.jwt import BadToken, TokenCheck
from shared import clock


class Coinbase(CoinbaseMarket):
    """Endpoints under ``api/v3/brokerage``, and ``v2`` where ccxt still reads it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token_check = (
            None
            if self.credentials is None
            else TokenCheck(self.credentials.api_key, self.credentials.secret)
        )
        self._private_get: dict[str, Handler] = {
            "/v2/accounts": lambda *_: dump(self._accounts_v2()),
            f"{BROKERAGE}accounts": lambda *_: dump(self._accounts_v3()),
            f"{BROKERAGE}transaction_summary": lambda *_: dump(
                shape.fee_summary(self.exchange.venue)
            ),
            f"{BROKERAGE}key_permissions": lambda *_: dump(shape.KEY_PERMISSIONS),
            f"{BROKERAGE}products": self._list_products,
            f"{BROKERAGE}products/*": self._product,
            f"{BROKERAGE}products/*/ticker": self._ticker,
            f"{BROKERAGE}products/*/candles": self._candles,
            f"{BROKERAGE}product_book": self._product_book,
            f"{BROKERAGE}best_bid_ask": self._best_bid_ask,
            f"{BROKERAGE}orders/historical/batch": self._list_orders,
            f"{BROKERAGE}orders/historical/fills": self._list_fills,
            f"{BROKERAGE}orders/historical/*": self._order,
        }
        self._private_post: dict[str, Callable[[dict[str, Any]], JSON]] = {
            f"{BROKERAGE}orders": self._new_order,
            f"{BROKERAGE}orders/batch_cancel": self._batch_cancel,
        }

    def answer(self, request: WireRequest) -> WireAnswer:
        route, argument = self._route(request.path)
        name = f"{request.method} {route}"
        try:
            if request.method == "GET":
                handler = self._public.get(route)
                if handler is None:
                    handler = self._private_get.get(route)
                    if handler is None:
                        return WireAnswer(dump({"error": "not_found"}), 404)
                    self._authenticate(request)
                query = parse_qs(request.query) if request.query else {}
                return WireAnswer(handler(query, argument), route=name)
            command = self._private_post.get(route) if request.method == "POST" else None
            if command is None:
                return WireAnswer(dump({"error": "not_found"}), 404)
            self._authenticate(request)
            return WireAnswer(dump(command(_json_object(request.body))), route=name)
        except ApiError as error:
            return WireAnswer(dump(error.body), error.status, name)
        except Refused as error:
            return WireAnswer(
                dump(
                    {
                        "error": "INVALID_ARGUMENT",
                        "error_details": error.detail,
                        "message": str(error),
                    }
                ),
                400,
                name,
            )

    def _route(self, path: str) -> tuple[str, str]:
        """The route of a path, with ``*`` for the one part that names a product or an order."""
        if path in self._public or path in self._private_get or path in self._private_post:
            return path, ""
        for prefix in ("market/products/", "products/", "orders/historical/"):
            head = BROKERAGE + prefix
            if path.startswith(head):
                argument, slash, tail = path[len(head) :].partition("/")
                return f"{head}*{slash}{tail}", argument
        return path, ""

    def _authenticate(self, request: WireRequest) -> None:
        if self._token_check is None:
            raise ApiError(401, {"error": "unauthorized", "message": "Unauthorized"})
        try:
            self._token_check.check(
                request.headers.get("Authorization", ""),
                request.method,
                request.url,
                self.clock_ms / 1000,
            )
        except BadToken as error:
            body = {"error": "unauthorized", "error_details": str(error), "message": "Unauthorized"}
            raise ApiError(401, body) from error

    # Account

    def _accounts_v3(self) -> JSON:
        account = self.exchange.account
        rows = [
            shape.account_v3(name, account.free[name], account.locked[name], self.clock_ms)
            for name in account.currencies()
        ]
        return {"accounts": rows, "has_next": False, "cursor": "", "size": len(rows)}

    def _accounts_v2(self) -> JSON:
        account = self.exchange.account
        rows = [
            shape.account_v2(name, account.total(name), self.clock_ms)
            for name in account.currencies()
        ]
        return {"pagination": shape.WHOLE_PAGE, "data": rows}

    # Orders

    def _new_order(self, body: dict[str, Any]) -> JSON:
        configuration = body.get("order_configuration")
        try:
            return shape.accepted(self.exchange.place(self._request(body, configuration)))
        except Refused as error:
            if error.reason is Reason.UNKNOWN_ORDER:
                raise
            return shape.rejected(error.reason, error.detail, configuration)

    def _request(self, body: dict[str, Any], configuration: Any) -> OrderRequest:
        client_order_id, side = body.get("client_order_id"), body.get("side")
        if body.get("attached_order_configuration"):
            raise Refused(Reason.BAD_PARAMETER, "attached_order_configuration: not supported")
        if not isinstance(client_order_id, str) or not client_order_id:
            raise Refused(Reason.BAD_PARAMETER, "client_order_id: expected text")
        if side not in ("BUY", "SELL"):
            raise Refused(Reason.BAD_PARAMETER, "side: expected BUY or SELL")
        if not isinstance(configuration, dict) or len(configuration) != 1:
            raise Refused(Reason.BAD_PARAMETER, "order_configuration: expected exactly one")
        ((kind, values),) = configuration.items()
        if kind not in shape.CONFIGURATIONS or not isinstance(values, dict):
            raise Refused(Reason.BAD_PARAMETER, f"order_configuration: {kind} is not supported")
        order_type, time_in_force = shape.CONFIGURATIONS[kind]
        symbol = self._products.get(str(body.get("product_id")))
        if symbol is None:
            raise Refused(Reason.UNKNOWN_SYMBOL, str(body.get("product_id")))
        limit_price, stop_price = decimal(values, "limit_price"), decimal(values, "stop_price")
        if (order_type is not OrderType.MARKET and limit_price is None) or (
            order_type is OrderType.STOP_LIMIT and stop_price is None
        ):
            raise Refused(Reason.BAD_PARAMETER, "limit_price, stop_price: expected a number")
        self._check_direction(values, side)
        return OrderRequest(
            symbol=symbol,
            side="buy" if side == "BUY" else "sell",
            order_type=order_type,
            time_in_force=time_in_force,
            quantity=decimal(values, "base_size"),
            quote_quantity=decimal(values, "quote_size"),
            limit_price=limit_price,
            stop_price=stop_price,
            client_order_id=client_order_id,
            post_only=values.get("post_only") is True,
            expires_ms=_end(values) if time_in_force == "GTD" else None,
        )

    def _check_direction(self, values: Mapping[str, Any], side: str) -> None:
        """Only stops against a loss are modelled: sells below the market, buys above it."""
        expected = f"STOP_DIRECTION_STOP_{'UP' if side == 'BUY' else 'DOWN'}"
        if values.get("stop_direction", expected) != expected:
            raise Refused(Reason.BAD_PARAMETER, f"stop_direction: only {expected} is supported")

    def _batch_cancel(self, body: dict[str, Any]) -> JSON:
        results = []
        for order_id in body.get("order_ids", []):
            reason = "UNKNOWN_CANCEL_FAILURE_REASON"
            try:
                self.exchange.cancel(self._find(str(order_id)))
                success = True
            except Refused as error:
                success, reason = False, "UNKNOWN_CANCEL_ORDER"
                if error.reason is Reason.MAINTENANCE:
                    reason = "COMMANDER_REJECTED_CANCEL_ORDER"
            results.append({"success": success, "failure_reason": reason, "order_id": order_id})
        return {"results": results}

    def _find(self, text_id: str) -> Order:
        number = shape.order_number(text_id)
        if number is None:
            raise Refused(Reason.UNKNOWN_ORDER, text_id)
        return self.exchange.order(number)

    def _order(self, query: Query, order_id: str) -> bytes:
        try:
            order = self.shown.order(self._find(order_id).order_id)
        except Refused as error:
            message = "order with this orderID was not found"
            body = {"error": "NOT_FOUND", "error_details": message, "message": message}
            raise ApiError(404, body) from error
        return dump({"order": shape.order(order)})

    def _list_orders(self, query: Query, _: str) -> bytes:
        symbols = {rules.symbol for rules in self._several(query)}
        statuses, ids = query.get("order_status", []), query.get("order_ids", [])
        start_ms, end_ms = _moment(query, "start_date", 0), _moment(query, "end_date", 1 << 60)
        found = [
            order
            for order in reversed(self.shown.orders())
            if order.symbol in symbols
            and start_ms <= order.created_ms < end_ms
            and (not statuses or shape.status(order) in statuses)
            and (not ids or shape.order_uuid(order.order_id) in ids)
        ]
        page, cursor = _page(found, query, 1000)
        orders = [shape.order(order) for order in page]
        return dump({"orders": orders, "sequence": "0", "has_next": bool(cursor), "cursor": cursor})

    def _list_fills(self, query: Query, _: str) -> bytes:
        symbols = {rules.symbol for rules in self._several(query)}
        ids = {*query.get("order_id", []), *query.get("order_ids", [])}
        start_ms = _moment(query, "start_sequence_timestamp", 0)
        end_ms = _moment(query, "end_sequence_timestamp", 1 << 60)
        found = [
            fill
            for fill in reversed(self.shown.fills())
            if fill.symbol in symbols
            and start_ms <= fill.at_ms <= end_ms
            and (not ids or shape.order_uuid(fill.order_id) in ids)
        ]
        page, cursor = _page(found, query, 1000)
        return dump({"fills": [shape.fill(fill) for fill in page], "cursor": cursor})


def _page[T](found: list[T], query: Query, most: int) -> tuple[list[T], str]:
    """One page of a list and the cursor of the next, empty on the last."""
    limit = max(1, integer_of(query, "limit", 100, most))
    offset = integer_of(query, "cursor", 0)
    end = offset + limit
    return found[offset:end], str(end) if end < len(found) else ""


def _moment(query: Query, name: str, default: int) -> int:
    """An ISO 8601 time in milliseconds. Raises ``Refused`` where it is none."""
    given = query.get(name)
    if not given:
        return default
    try:
        return clock.to_ms(datetime.fromisoformat(given[0]))
    except ValueError as error:
        raise Refused(Reason.BAD_PARAMETER, f"{name}: {error}") from None


def _end(values: Mapping[str, Any]) -> int:
    """The ``end_time`` of a GTD order. Raises ``Refused`` where it is no time with a zone."""
    given = values.get("end_time")
    try:
        return clock.to_ms(datetime.fromisoformat(str(given)))
    except ValueError:
        raise Refused(
            Reason.BAD_PARAMETER, f"end_time: expected a time in RFC 3339, was {given!r}"
        ) from None


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise Refused(Reason.BAD_PARAMETER, f"body: expected JSON, {error}") from None
    if not isinstance(value, dict):
        raise Refused(Reason.BAD_PARAMETER, "body: expected an object")
    return value
