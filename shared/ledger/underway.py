"""What is under way: parents that still want something, orders that rest, outcomes not known."""

from __future__ import annotations

from typing import Any

from shared.ledger.connection import Ledger

_PARENTS = """
SELECT p.parent_id, p.symbol, p.side, p.purpose, p.reason, p.urgency, p.quantity, p.slices,
       p.decision_mid, p.created_at, p.expires_at,
       coalesce(sum(l.filled_quantity), 0) AS filled_quantity,
       coalesce(sum(l.quantity - l.filled_quantity) FILTER (
           WHERE l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open'), 0)
           AS in_flight_quantity,
       coalesce(max(l.slice) + 1, 0) AS slices_sent, count(l.intent_id) AS orders_sent
FROM parent_orders p LEFT JOIN order_log l USING (parent_id)
WHERE p.pod = %s AND p.state = 'WORKING' GROUP BY p.parent_id ORDER BY p.created_at, p.parent_id
"""
_OPEN_ORDERS = """
SELECT venue, venue_order_id, client_order_id, symbol, side, purpose, order_type, quantity,
       filled_quantity, limit_price, stop_price, sent_at
FROM order_log WHERE pod = %s AND order_status = 'open' ORDER BY sent_at, client_order_id
"""
_UNKNOWN = """
SELECT client_order_id, venue, symbol, side, purpose, quantity, limit_price, sent_at, valid_until,
       state, error
FROM intents WHERE pod = %s AND state IN ('SENDING', 'UNKNOWN') ORDER BY sent_at, client_order_id
"""


def gather(ledger: Ledger) -> dict[str, Any]:
    """``parents``, ``open_orders`` and ``unknown_intents``, oldest first, as the ledger has them.

    Quantities are in base currency. A parent's ``in_flight_quantity`` is what may still fill.
    """
    return {
        "parents": ledger.query(_PARENTS, (ledger.pod,)),
        "open_orders": ledger.query(_OPEN_ORDERS, (ledger.pod,)),
        "unknown_intents": ledger.query(_UNKNOWN, (ledger.pod,)),
    }
