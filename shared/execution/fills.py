"""What venues say about our orders, written into the ledger: orders and fills.

Both writes may be repeated any number of times and in any order. A fill is what its trade id first
said; what an order has filled never falls and never exceeds what was ordered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from shared import clock
from shared.execution import fees
from shared.execution.types import VenueFill, VenueOrder
from shared.ledger import alerts, events
from shared.ledger.connection import Ledger, Row


def record_order(ledger: Ledger, intent_id: str, venue: str, order: VenueOrder) -> bool:
    """Keep the newest state of an order; returns whether the ledger had not known it.

    Its filled quantity never falls, and never exceeds the intent's.
    """
    now = clock.now()
    row = ledger.one(
        "INSERT INTO orders AS o (venue, venue_order_id, intent_id, pod, status, quantity, "
        "filled_quantity, average_price, created_at, updated_at) "
        "SELECT %(venue)s, %(order)s, i.intent_id, %(pod)s, %(status)s, %(quantity)s, "
        "least(%(filled)s, i.quantity), %(average)s, %(now)s, %(now)s "
        "FROM intents i WHERE i.intent_id = %(intent)s "
        "ON CONFLICT (venue, venue_order_id) DO UPDATE SET "
        "status = CASE WHEN o.status = 'open' THEN excluded.status ELSE o.status END, "
        "filled_quantity = greatest(o.filled_quantity, excluded.filled_quantity), "
        "average_price = coalesce(excluded.average_price, o.average_price), "
        "updated_at = excluded.updated_at "
        "RETURNING xmax = 0 AS is_new",  # PostgreSQL's own mark of a row that was not there before
        {
            "venue": venue,
            "order": order.venue_order_id,
            "intent": intent_id,
            "pod": ledger.pod,
            "status": order.status,
            "quantity": order.quantity,
            "filled": order.filled_quantity,
            "average": order.average_price,
            "now": now,
        },
    )
    return row is not None and bool(row["is_new"])


def record_fills(
    ledger: Ledger,
    venue: str,
    fills: Sequence[VenueFill],
    fee_rates: Mapping[str, Decimal] | None = None,
) -> int:
    """Write the fills of our own orders; returns how many were new.

    Fills of orders that the ledger does not know are left out: reconciliation looks for those. A
    fill that contradicts an earlier one of its trade id, or that would fill more than was ordered,
    changes nothing and is told as an event and an alert. So is a fill without its fee, which is
    written all the same; its fee is added when the venue tells it later.

    Args:
        fee_rates: what a unit of a fee's currency is worth in quote, where it is neither of the
            symbol's own two. A fee without a rate is valued later.
    """
    with ledger.transaction():
        return sum(_record_fill(ledger, venue, fill, fee_rates or {}) for fill in fills)


def open_orders(ledger: Ledger) -> list[Row]:
    """Orders that may still fill: venue, venue_order_id, intent_id, mode, symbol, sent_at."""
    return ledger.query(
        "SELECT o.venue, o.venue_order_id, o.intent_id, i.mode, i.symbol, i.sent_at, i.purpose "
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
    # The order's row is held, so that two imports at once do not fill it beyond its quantity.
    order = ledger.one(
        "SELECT i.intent_id, i.position_id, i.quantity FROM orders o JOIN intents i "
        "USING (intent_id) WHERE o.venue = %s AND o.venue_order_id = %s AND o.pod = %s "
        "FOR UPDATE OF o",
        (venue, fill.venue_order_id, ledger.pod),
    )
    if order is None:
        return 0
    known = ledger.one(
        "SELECT venue_order_id, side, price, quantity FROM fills "
        "WHERE venue = %s AND symbol = %s AND venue_trade_id = %s",
        (venue, fill.symbol, fill.venue_trade_id),
    )
    if known is not None:
        said = _as_said(fill)
        if known != said:
            _tell(ledger, "FILL_CONTRADICTED", venue, fill, {"first": known, "now": said})
        elif fill.fee_cost is not None:
            _add_fee(ledger, venue, fill, fees.in_quote(fill, fee_rates))
        return 0
    recorded = filled_of(ledger, order["intent_id"])
    if recorded + fill.quantity > order["quantity"]:
        ordered = {"ordered": order["quantity"], "recorded": recorded, "now": _as_said(fill)}
        _tell(ledger, "FILL_EXCEEDS_ORDER", venue, fill, ordered)
        return 0
    if fill.fee_cost is None:
        _tell_fee_untold(ledger, venue, fill)
    return _insert(ledger, venue, fill, order, fees.in_quote(fill, fee_rates))


def _add_fee(ledger: Ledger, venue: str, fill: VenueFill, fee_quote: Decimal | None) -> None:
    added = ledger.execute(
        "UPDATE fills SET fee_cost = %s, fee_currency = %s, fee_quote = %s WHERE venue = %s "
        "AND symbol = %s AND venue_trade_id = %s AND fee_cost IS NULL",
        (
            fill.fee_cost,
            fill.fee_currency,
            fee_quote,
            venue,
            fill.symbol,
            fill.venue_trade_id,
        ),
    )
    if added:
        detail = {"venue": venue, "trade": fill.venue_trade_id, "order": fill.venue_order_id}
        events.record(ledger, "FEE_TOLD", detail)


def _insert(
    ledger: Ledger, venue: str, fill: VenueFill, order: Row, fee_quote: Decimal | None
) -> int:
    return ledger.execute(
        "INSERT INTO fills (venue, venue_trade_id, venue_order_id, intent_id, position_id, pod, "
        "symbol, side, price, quantity, fee_cost, fee_currency, fee_quote, liquidity, filled_at, "
        "recorded_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (venue, symbol, venue_trade_id) DO NOTHING",
        (
            venue,
            fill.venue_trade_id,
            fill.venue_order_id,
            order["intent_id"],
            order["position_id"],
            ledger.pod,
            fill.symbol,
            fill.side,
            fill.price,
            fill.quantity,
            fill.fee_cost,
            fill.fee_currency,
            fee_quote,
            fill.liquidity,
            fill.filled_at,
            clock.now(),
        ),
    )


def _as_said(fill: VenueFill) -> Row:
    return {
        "venue_order_id": fill.venue_order_id,
        "side": fill.side,
        "price": fill.price,
        "quantity": fill.quantity,
    }


def _tell_fee_untold(ledger: Ledger, venue: str, fill: VenueFill) -> None:
    detail = {"venue": venue, "trade": fill.venue_trade_id, "order": fill.venue_order_id}
    events.record(ledger, "FEE_UNTOLD", detail)
    alerts.put(
        ledger,
        f"fee-untold:{venue}:{fill.symbol}:{fill.venue_trade_id}",
        "HIGH",
        f"{venue}: fill {fill.venue_trade_id} of {fill.symbol} came without its fee",
        "The fill is in the ledger without a fee. While the balances differ by it, no new "
        "positions are opened, and the venue is asked for it again.",
    )


def _tell(ledger: Ledger, kind: str, venue: str, fill: VenueFill, detail: Row) -> None:
    """Once for a trade id: a venue repeats what it says in every run."""
    first_time = alerts.put(
        ledger,
        f"{kind}:{venue}:{fill.symbol}:{fill.venue_trade_id}",
        "HIGH",
        f"{venue}: fill {fill.venue_trade_id} of {fill.symbol} is not as it should be",
        f"{kind}: {detail}. The ledger stays as it was; balances tell what is true.",
    )
    if first_time:
        events.record(ledger, kind, {"venue": venue, "trade": fill.venue_trade_id, **detail})
