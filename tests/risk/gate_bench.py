"""One order before the gate, over a ledger."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shared import clock
from shared.errors import OrderDenied
from shared.execution.types import MarketRules, Mode, OrderTicket
from shared.market.types import Book
from shared.risk import gate
from tests.risk.world import World, book, dec, rules, ticket


def judge(
    world: World,
    order: OrderTicket | None = None,
    *,
    purpose: Any = "entry",
    position_id: int,
    market: MarketRules | None = None,
    seen: Book | None = None,
    now_ms: int | None = None,
    mode: Mode = "paper",
    calm: bool = True,
) -> str | None:
    """The code of the denial, or ``None`` where the order passes.

    Args:
        calm: a further venue shows the book's mid in a quiet minute, and the run has just compared
            the balances.
    """
    order = order or ticket()
    seen = seen or book(symbol=order.symbol)
    if calm:
        quieten(world, order.symbol, seen)
    try:
        with world.ledger.transaction():
            gate.check(
                world.run,
                order,
                purpose=purpose,
                position_id=position_id,
                rules=market or rules(order.venue, order.symbol),
                book=seen,
                now_ms=clock.now_ms() if now_ms is None else now_ms,
                mode=mode,
            )
    except OrderDenied as denied:
        return denied.code
    return None


def quieten(world: World, symbol: str, seen: Book) -> None:
    """What the scanner and reconciliation of a quiet minute leave behind for an order."""
    world.run.compared_at = dict.fromkeys(world.run.compared_at, clock.now())
    if seen.bids and seen.asks and math.isfinite(seen.mid) and seen.bids[0][0] > 0:
        world.calm(symbol, seen.mid)


def sale(**changes: Any) -> OrderTicket:
    return ticket(**({"side": "sell", "quantity": dec(1), "limit_price": dec("99.9")} | changes))


def deny_change_during_check(
    world: World, position: int, database_url: str, mode: str, change: str
) -> None:
    """Until the gate's transaction ends, nobody else can make ``change``."""
    import psycopg2

    quieten(world, "BTC/USDT", book())
    other = psycopg2.connect(database_url)
    other.autocommit = True
    try:
        with world.ledger.transaction(), other.cursor() as cursor:
            gate.check(
                world.run,
                ticket(),
                purpose="entry",
                position_id=position,
                rules=rules(),
                book=book(),
                now_ms=clock.now_ms(),
                mode=mode,  # type: ignore[arg-type]
            )
            cursor.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg2.errors.LockNotAvailable):
                cursor.execute(change)
    finally:
        other.close()
