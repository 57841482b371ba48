"""Other pods on the same accounts: what is theirs there, and whether it is moving.

Pods that were made from templates have the keys of their project. The ledger tells what each of
them holds; the venue tells only the sum.
"""

from __future__ import annotations

from decimal import Decimal

from shared.execution.venues.base import Venue
from shared.ledger import pods
from shared.ledger.connection import Ledger, Row
from shared.run import Run


def held_by_others(ledger: Ledger, venue: Venue) -> dict[str, Decimal]:
    """What the ledger says that other pods hold of this account, by currency."""
    others = pods.sharing_accounts(ledger, venue.mode)
    return pods.held_by(ledger, others, venue.name, venue.mode) if others else {}


def others_move(run: Run, venue: Venue) -> bool:
    """Whether an order of another pod may explain a difference.

    One of which nobody knows the outcome may; one that rests there may if the venue tells
    something else of it than the ledger: its fills are still to be written, by its own pod's runs.

    Raises:
        VenueUnavailable: one of those orders cannot be read.
    """
    others = pods.sharing_accounts(run.ledger, venue.mode)
    if not others:
        return False
    if _in_flight(run.ledger, others, venue):
        return True
    for row in _open_orders(run.ledger, others, venue):
        order = venue.order(row["venue_order_id"], row["symbol"])
        if order.status != "open" or order.filled_quantity != row["filled_quantity"]:
            return True
    return False


def _in_flight(ledger: Ledger, others: list[str], venue: Venue) -> bool:
    row = ledger.one(
        "SELECT 1 AS found FROM intents WHERE pod = ANY(%s) AND venue = %s AND mode = %s "
        "AND state IN ('SENDING', 'UNKNOWN') LIMIT 1",
        (others, venue.name, venue.mode),
    )
    return row is not None


def _open_orders(ledger: Ledger, others: list[str], venue: Venue) -> list[Row]:
    return ledger.query(
        "SELECT o.venue_order_id, o.filled_quantity, i.symbol FROM orders o "
        "JOIN intents i USING (intent_id) WHERE o.pod = ANY(%s) AND o.venue = %s "
        "AND i.mode = %s AND o.status = 'open' ORDER BY o.created_at",
        (others, venue.name, venue.mode),
    )
