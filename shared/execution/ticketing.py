"""From a wish to an order on the venue's grid."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared.execution import intents
from shared.execution.entries import offers
from shared.execution.intents import Intent
from shared.execution.rounding import floor_to, limit_price
from shared.execution.types import MarketRules, OrderTicket, Purpose, Side
from shared.market.types import Book


@dataclass(frozen=True)
class Wish:
    """What is wanted of one venue now. ``decision_mid`` is the mid when the trade was decided."""

    logical_key: str
    position_id: int
    symbol: str
    side: Side
    purpose: Purpose
    quantity: Decimal
    decision_mid: Decimal
    parent_id: str | None = None
    slice: int | None = None


def marketable_intent(
    wish: Wish,
    rules: MarketRules,
    book: Book,
    *,
    collar_bps: Decimal,
    passive: bool = False,
    ceiling: Decimal | None = None,
) -> Intent | None:
    """An immediate-or-cancel limit order, or ``None`` where the venue takes none so small.

    The quantity is rounded down and the price away from paying more, so rounding never raises
    what is risked.

    Args:
        ceiling: the most that a purchase may pay; none is made where the best ask lies above it.
    """
    quantity = floor_to(wish.quantity, rules.quantity_step)
    if quantity <= 0:
        return None
    wanted = offers.marketable_price(book, wish.side, quantity, collar_bps, passive=passive)
    if ceiling is not None and wish.side == "buy":
        if Decimal(str(book.asks[0][0])) > ceiling:
            return None
        wanted = min(wanted, ceiling)
    price = limit_price(wanted, wish.side, rules.price_tick)
    if quantity < rules.min_quantity or quantity * price < rules.min_notional:
        return None
    ticket = OrderTicket(
        client_order_id=intents.client_order_id(wish.logical_key),
        venue=rules.venue,
        symbol=wish.symbol,
        side=wish.side,
        order_type="limit",
        time_in_force="IOC",
        quantity=quantity,
        limit_price=price,
    )
    return Intent(
        logical_key=wish.logical_key,
        position_id=wish.position_id,
        parent_id=wish.parent_id,
        slice=wish.slice,
        purpose=wish.purpose,
        ticket=ticket,
        decision_mid=wish.decision_mid,
        arrival_mid=Decimal(str(book.mid)),
    )
