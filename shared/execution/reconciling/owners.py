"""Whose order it is that a venue shows: ours, known or new, another pod's, or a stranger's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.execution.types import VenueOrder
from shared.ledger.connection import Ledger, Row

Kind = Literal["known", "under way", "given up", "another pod's", "foreign"]


@dataclass(frozen=True)
class Owner:
    """Who an order belongs to.

    Attributes:
        kind: ``known``: in the ledger. ``under way``: of an intent whose outcome is not known
            yet. ``given up``: of an intent that is DEAD or REJECTED. ``another pod's``: its intent
            is in this ledger, under another pod: not ours to book, and nobody's attack either.
            ``foreign``: everything else, a second order under an id of ours among it.
        intent_id: of the intent of this pod, where there is one.
    """

    kind: Kind
    intent_id: str | None = None


def owners(ledger: Ledger, venue_name: str, orders: Sequence[VenueOrder]) -> dict[str, Owner]:
    """The owner of each order, by the venue's id."""
    if not orders:
        return {}
    rows = ledger.query(
        "SELECT i.intent_id, i.client_order_id, i.pod, i.state, o.venue_order_id "
        "FROM intents i LEFT JOIN orders o USING (intent_id) WHERE i.venue = %s "
        "AND (o.venue_order_id = ANY(%s) OR i.client_order_id = ANY(%s))",
        (
            venue_name,
            [order.venue_order_id for order in orders],
            [order.client_order_id for order in orders],
        ),
    )
    return {order.venue_order_id: _owner(ledger.pod, order, rows) for order in orders}


def _owner(pod: str, order: VenueOrder, rows: Sequence[Row]) -> Owner:
    for row in rows:
        if row["venue_order_id"] == order.venue_order_id:
            kind: Kind = "known" if row["pod"] == pod else "another pod's"
            return Owner(kind, row["intent_id"])
    for row in rows:
        if row["client_order_id"] != order.client_order_id or row["venue_order_id"] is not None:
            continue
        if row["pod"] != pod:
            return Owner("another pod's")
        given_up = row["state"] in ("DEAD", "REJECTED")
        kind = "given up" if given_up else "under way"
        return Owner(kind, row["intent_id"])
    return Owner("foreign")
