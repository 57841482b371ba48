"""What venues say about our orders, written into the ledger: orders and fills.

Both writes may be repeated any number of times and in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable
from shared.execution.types import VenueFill, VenueOrder
from shared.ledger.connection import Ledger, Row


def record_order(ledger: Ledger, intent_id: str, venue: str, order: VenueOrder) -> None:
    """Keep the newest state of an order; its filled quantity never falls."""
    now = clock.now()
    ledger.execute(
        "INSERT INTO orders AS o (venue, venue_order_id, intent_id, pod, status, quantity, "
        "filled_quantity, average_price, created_at, updated_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (venue, venue_order_id) DO UPDATE SET "
        "status = CASE WHEN o.status = 'open' THEN excluded.status ELSE o.status END, "
        "filled_quantity = greatest(o.filled_quantity, excluded.filled_quantity), "
        "average_price = coalesce(excluded.average_price, o.average_price), "
        "updated_at = excluded.updated_at",
        (
            venue,
            order.venue_order_id,
            intent_id,
            ledger.pod,
            order.status,
            order.quantity,
            order.filled_quantity,
            order.average_price,
            now,
            now,
        ),
    )


def record_fills(
    ledger: Ledger,
    venue: str,
    fills: Sequence[VenueFill],
    fee_rates: Mapping[str, Decimal] | None = None,
) -> int:
    """Write the fills of our own orders; returns how many were new.

    Fills of orders that the ledger does not know are left out: reconciliation reports them.

    Args:
        fee_rates: what a unit of a fee's currency is worth in quote, where it is neither of the
            symbol's own two.

    Raises:
        DataUnavailable: a fee is in a currency without a rate.
    """
    return sum(_record_fill(ledger, venue, fill, fee_rates or {}) for fill in fills)


def open_orders(ledger: Ledger) -> list[Row]:
    """Orders that may still fill: venue, venue_order_id, intent_id, symbol, sent_at."""
    return ledger.query(
        "SELECT o.venue, o.venue_order_id, o.intent_id, i.symbol, i.sent_at, i.purpose "
        "FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.pod = %s AND o.status = 'open' ORDER BY i.sent_at",
        (ledger.pod,),
    )


def filled_of(ledger: Ledger, intent_id: str) -> Decimal:
    """The quantity of an intent that the ledger has fills for."""
    row = ledger.one(
        "SELECT coalesce(sum(quantity), 0) AS quantity FROM fills WHERE intent_id = %s",
        (intent_id,),
    )
    return Decimal(0) if row is None else row["quantity"]


def _record_fill(
    ledger: Ledger, venue: str, fill: VenueFill, fee_rates: Mapping[str, Decimal]
) -> int:
    return ledger.execute(
        "INSERT INTO fills (venue, venue_trade_id, venue_order_id, intent_id, position_id, pod, "
        "symbol, side, price, quantity, fee_cost, fee_currency, fee_quote, liquidity, filled_at, "
        "recorded_at) SELECT %(venue)s, %(trade)s, %(order)s, i.intent_id, i.position_id, i.pod, "
        "%(symbol)s, %(side)s, %(price)s, %(quantity)s, %(fee)s, %(currency)s, %(fee_quote)s, "
        "%(liquidity)s, %(filled_at)s, %(now)s "
        "FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.venue = %(venue)s AND o.venue_order_id = %(order)s AND o.pod = %(pod)s "
        "ON CONFLICT (venue, symbol, venue_trade_id) DO NOTHING",
        {
            "venue": venue,
            "trade": fill.venue_trade_id,
            "order": fill.venue_order_id,
            "symbol": fill.symbol,
            "side": fill.side,
            "price": fill.price,
            "quantity": fill.quantity,
            "fee": fill.fee_cost,
            "currency": fill.fee_currency,
            "fee_quote": _fee_in_quote(fill, fee_rates),
            "liquidity": fill.liquidity,
            "filled_at": fill.filled_at,
            "now": clock.now(),
            "pod": ledger.pod,
        },
    )


def _fee_in_quote(fill: VenueFill, fee_rates: Mapping[str, Decimal]) -> Decimal:
    base, quote = fill.symbol.split("/")
    if fill.fee_currency == quote:
        return fill.fee_cost
    if fill.fee_currency == base:
        return fill.fee_cost * fill.price
    if fill.fee_currency in fee_rates:
        return fill.fee_cost * fee_rates[fill.fee_currency]
    raise DataUnavailable(
        f"fill {fill.venue_trade_id}: fee currency: expected {base} or {quote}, "
        f"was {fill.fee_currency}"
    )
