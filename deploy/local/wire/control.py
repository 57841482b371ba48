"""What only the local runner may ask: move time, read accounts, count requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from deploy.local.wire.orders import Fill, Order
from deploy.local.wire.venues.base import Personality, text


def accounts(venues: Mapping[str, Personality]) -> dict[str, Any]:
    """Balances, orders, fills and fees of every venue, all amounts as text."""
    return {name: _account(venue) for name, venue in venues.items()}


def stats(requests: Counter[str]) -> dict[str, int]:
    """How many requests each route has served."""
    return dict(sorted(requests.items()))


def _account(venue: Personality) -> dict[str, Any]:
    account = venue.exchange.account
    return {
        "balances": {
            name: {"free": text(account.free[name]), "locked": text(account.locked[name])}
            for name in account.currencies()
        },
        "fees_paid": {name: text(fee) for name, fee in account.fees_paid.items()},
        "orders": [_order(order) for order in venue.exchange.orders.values()],
        "fills": [_fill(fill) for fill in venue.exchange.fills],
    }


def _order(order: Order) -> dict[str, Any]:
    request = order.request
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": str(request.order_type),
        "time_in_force": request.time_in_force,
        "status": str(order.status),
        "quantity": text(order.quantity),
        "filled_quantity": text(order.filled_quantity),
        "limit_price": None if request.limit_price is None else text(request.limit_price),
        "stop_price": None if request.stop_price is None else text(request.stop_price),
        "created_ms": order.created_ms,
        "updated_ms": order.updated_ms,
    }


def _fill(fill: Fill) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "symbol": fill.symbol,
        "side": fill.side,
        "price": text(fill.price),
        "quantity": text(fill.quantity),
        "cost": text(fill.cost),
        "fee": text(fill.fee),
        "fee_currency": fill.fee_currency,
        "is_maker": fill.is_maker,
        "at_ms": fill.at_ms,
    }
