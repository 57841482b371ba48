"""One order before the gate in memory, and its verdict.

The order buys 0.5 BTC at 100, a notional of 50, and passes every control.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from shared import clock, config
from shared.errors import OrderDenied
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState
from shared.market.types import Book
from shared.risk import gate
from shared.risk.controls.case import Case
from shared.risk.controls.order import deny_unless_numbers, deny_unless_state_allows
from shared.risk.facts import Facts
from shared.risk.lately import Lately
from tests.risk.world import BTC, dec, rules, ticket

NOW = datetime(2025, 5, 6, 12, tzinfo=UTC)
NOW_MS = clock.to_ms(NOW)
NO_RISK: dict[str, Any] = {
    "run_started_at": NOW,
    "position_symbol": BTC,
    "sleeve": "tactical",
    "symbol_held_quantity": dec(0),
    "others_held_quote": dec(0),
    "other_sleeve_held_quote": dec(0),
    "other_positions": 0,
    "symbol_pending_buy_quote": dec(0),
    "others_pending_buy_quote": dec(0),
    "other_sleeve_pending_buy_quote": dec(0),
    "venue_pending_buy_quote": dec(0),
    "unresolved": 0,
    "pending_sell_quantity": dec(0),
    "unknown_stop_quantity": dec(0),
    "opposing": 0,
    "held_on_venue": dec(1),
    "venue_cash_quote": dec(6_000),
    "orders_last_hour": 0,
    "orders_last_minute": 0,
    "stops_last_hour": 0,
    "stops_last_minute": 0,
    "resting_orders": 0,
    "resting_stops": 0,
    "own_resting_stops": 0,
    "messages_last_hour": 0,
    "messages_last_minute": 0,
    "symbol_messages_last_hour": 0,
    "symbol_messages_last_minute": 0,
    "other_venue_mids": [dec(100)],
}
QUIET = Lately(
    dec("99.9"), dec("100.1"), dec(5e7), dec(0), 0, 0, 0, 0, "momentum", None, 0, [dec(1)], None
)
FLAT = Standing(*[dec(10_000), NOW], *[dec(10_000)] * 5)
BOOK = Book(BTC, ((99.99, 7.0), (99.0, 7.0)), ((100.01, 8.0), (101.0, 8.0)), NOW_MS)
ACTIVE = TradingState("ACTIVE", "test", "test", NOW, None, False, dec(1), False, False)
STOP = {"order_type": "stop_limit", "stop_price": dec(98), "limit_price": dec(97)}
_OF_RULES = ("min_", "max_", "taker_", "price_t", "price_b", "unread_", "is_open")


def case(purpose: Any = "entry", **changes: Any) -> Case:
    """A case by fields of its parts: facts, ticket, standing, rules, state; and of itself."""
    sells = purpose in ("exit", "protect")
    side = {"side": "sell", "limit_price": dec(100)} if sells else {}
    known = dataclasses.replace(Facts(**NO_RISK), **_taken(changes, Facts))
    recent = dataclasses.replace(QUIET, **_taken(changes, Lately))
    market = {k: changes.pop(k) for k in [*changes] if k.startswith(_OF_RULES)}
    if "quantity_step" in changes:
        market["quantity_step"] = changes.pop("quantity_step")
    stands = dataclasses.replace(FLAT, **_taken(changes, Standing))
    seen = changes.pop("book", BOOK)
    now_ms = changes.pop("now_ms", NOW_MS)
    settings = config.load({"POD": "test"}).model_copy(update=changes.pop("settings", {}))
    market_rules = changes.pop("rules", rules(**market))
    compared_at = changes.pop("compared_at", NOW)
    average_price = changes.pop("average_price", None)
    trading = dataclasses.replace(ACTIVE, **_taken(changes, TradingState))
    order = ticket(**(side | changes))
    return Case(
        settings, order, purpose, market_rules, seen, now_ms, trading, known, recent, stands,
        settings.pairs, compared_at, average_price,
    )  # fmt: skip


def _taken(changes: dict[str, Any], kind: Any) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(kind)} & changes.keys()
    return {name: changes.pop(name) for name in names}


def denial(judged: Case) -> OrderDenied | None:
    """The denial of the first control that refuses, with those that ask nothing of the ledger."""
    try:
        deny_unless_state_allows(judged.trading, judged.ticket, judged.purpose)
        deny_unless_numbers(judged.ticket)
        for control in gate.CONTROLS:
            control(judged)
    except OrderDenied as denied:
        return denied
    return None


def verdict(judged: Case) -> str | None:
    """The code of the first control that refuses."""
    denied = denial(judged)
    return None if denied is None else denied.code


def book(bid: float | None, ask: float | None) -> Book:
    return Book(
        BTC,
        () if bid is None else ((bid, 7.0),),
        () if ask is None else ((ask, 8.0),),
        NOW_MS,
    )
