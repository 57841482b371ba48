"""What the live book would have given for an order on paper."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.execution.rounding import floor_to
from shared.execution.types import MarketRules, Side, VenueFill
from shared.market.types import Book

PAPER_PREFIX = "paper-"


@dataclass(frozen=True)
class Taker:
    """An order that takes from the book now.

    Attributes:
        limit_price: the worst price; ``None`` for one at the market.
        first_number: the number of its next fill, so that trade ids do not repeat.
    """

    client_order_id: str
    symbol: str
    side: Side
    quantity: Decimal
    limit_price: Decimal | None
    first_number: int = 0


def take(taker: Taker, book: Book, rules: MarketRules) -> list[VenueFill]:
    """Its fills: level by level, in whole steps, within its limit, with the taker fee."""
    left = taker.quantity
    fills: list[VenueFill] = []
    for price, offered in _levels(taker, book):
        quantity = floor_to(min(left, offered), rules.quantity_step)
        if left <= 0 or not _within(taker, price):
            break
        if quantity > 0:
            number = taker.first_number + len(fills)
            fills.append(_fill(taker, number, price, quantity, rules))
            left -= quantity
    return fills


def _levels(taker: Taker, book: Book) -> list[tuple[Decimal, Decimal]]:
    levels = book.asks if taker.side == "buy" else book.bids
    return [(Decimal(str(price)), Decimal(str(quantity))) for price, quantity in levels]


def _within(taker: Taker, price: Decimal) -> bool:
    if taker.limit_price is None:
        return True
    return price <= taker.limit_price if taker.side == "buy" else price >= taker.limit_price


def _fill(
    taker: Taker, number: int, price: Decimal, quantity: Decimal, rules: MarketRules
) -> VenueFill:
    return VenueFill(
        venue_trade_id=f"{PAPER_PREFIX}{taker.client_order_id}-{number}",
        venue_order_id=f"{PAPER_PREFIX}{taker.client_order_id}",
        symbol=taker.symbol,
        side=taker.side,
        price=price,
        quantity=quantity,
        fee_cost=price * quantity * rules.taker_fee_bps / 10_000,
        fee_currency=taker.symbol.split("/")[1],
        liquidity="taker",
        filled_at=clock.now(),
    )
