"""What only the local runner may ask: move time, read accounts, count requests, cause faults.

====================  ==========================================================================
POST advance          ``{"now_ms": 1746532860000}``
GET accounts, stats
POST faults           ``{"seed": 7, "rules": [...]}`` replaces all rules; see ``faults.schema``
GET, DELETE faults    what was injected; an end to all faults
POST venue            ``{"venue": "kraken", "status": "cancel_only", ...}``
POST snapshot         answers ``{"id": 1}``
POST restore          ``{"id": 1}``
====================  ==========================================================================

What is wrong with a request comes back as ``{"error": ...}`` with status 400.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from deploy.local.wire.faults.schema import parse_rules
from deploy.local.wire.orders import Fill, Order
from deploy.local.wire.snapshots import Snapshots
from deploy.local.wire.venues.base import Personality, text
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from deploy.local.wire.server import Wire


def routes(wire: Wire) -> list[web.RouteDef]:
    """The control interface of one wire, under ``/_control``."""
    kept = Snapshots()

    def post(name: str, do: Callable[[dict[str, Any]], Any]) -> web.RouteDef:
        async def handle(request: web.Request) -> web.Response:
            try:
                return web.json_response(do(await _json_object(request)))
            except ConfigurationError as error:
                return web.json_response({"error": str(error)}, status=400)

        return web.post(f"/_control/{name}", handle)

    def get(name: str, read: Callable[[], Any]) -> web.RouteDef:
        async def handle(_: web.Request) -> web.Response:
            return web.json_response(read())

        return web.get(f"/_control/{name}", handle)

    async def clear_faults(_: web.Request) -> web.Response:
        wire.faults.set_rules(0, [])
        return web.json_response({})

    def restore(body: dict[str, Any]) -> dict[str, int]:
        wire.restore(kept.get(body.get("id")))
        return {"now_ms": wire.now_ms}

    return [
        post("advance", lambda body: _advance(wire, body)),
        get("accounts", lambda: accounts(wire.venues)),
        get("stats", lambda: stats(wire.requests)),
        post("faults", lambda body: _set_faults(wire, body)),
        get("faults", wire.faults.report),
        web.delete("/_control/faults", clear_faults),
        post("venue", lambda body: _configure(wire, body)),
        post("snapshot", lambda _: {"id": kept.keep(wire.snapshot())}),
        post("restore", restore),
    ]


def accounts(venues: Mapping[str, Personality]) -> dict[str, Any]:
    """Balances, orders, fills and fees of every venue, all amounts as text."""
    return {name: _account(venue) for name, venue in venues.items()}


def stats(requests: Counter[str]) -> dict[str, int]:
    """How many requests each route has served."""
    return dict(sorted(requests.items()))


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        body = await request.json() if request.body_exists else {}
    except ValueError as error:
        raise ConfigurationError(f"body: expected JSON, {error}") from None
    if not isinstance(body, dict):
        raise ConfigurationError(f"body: expected an object, was {body!r}")
    return body


def _advance(wire: Wire, body: dict[str, Any]) -> dict[str, int]:
    now_ms = body.get("now_ms")
    if not isinstance(now_ms, int) or now_ms < wire.now_ms:
        raise ConfigurationError(
            f"now_ms: expected an integer of at least {wire.now_ms}, was {now_ms!r}"
        )
    wire.advance(now_ms)
    return {"now_ms": wire.now_ms}


def _set_faults(wire: Wire, body: dict[str, Any]) -> dict[str, int]:
    seed = body.get("seed", 0)
    if not isinstance(seed, int):
        raise ConfigurationError(f"seed: expected an integer, was {seed!r}")
    rules = parse_rules(body.get("rules"), wire.faults.services, wire.venues)
    wire.faults.set_rules(seed, rules)
    return {"rules": len(rules)}


def _configure(wire: Wire, body: dict[str, Any]) -> dict[str, Any]:
    name, settings = body.get("venue"), {k: v for k, v in body.items() if k != "venue"}
    venue = wire.venues.get(name) if isinstance(name, str) else None
    if venue is None:
        raise ConfigurationError(f"venue: expected one of {', '.join(wire.venues)}, was {name!r}")
    venue.configure(**settings)
    return {"venue": name}


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
