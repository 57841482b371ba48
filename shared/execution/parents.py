"""TWAP: a parent order lives in the ledger, and each run sends the slice that is due.

A step cannot sleep for ten minutes, so the schedule is state: slice ``n`` of a parent is due
``n x interval`` after the parent was made. A slice asks for what is missing from the schedule, so
that missed minutes and unfilled rests are caught up without a memory of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.errors import OrderDenied
from shared.execution.types import Purpose, Side, Urgency
from shared.ledger.connection import Ledger

_OVERTIME_SLICES = 3  # chances to fill what the schedule has left unfilled


@dataclass(frozen=True)
class Parent:
    """A working parent order with what has become of it so far, in base quantity."""

    parent_id: str
    position_id: int
    symbol: str
    side: Side
    purpose: Purpose
    reason: str
    quantity: Decimal
    decision_mid: Decimal
    urgency: Urgency
    slices: int
    interval_seconds: int
    created_at: datetime
    expires_at: datetime
    filled_quantity: Decimal
    in_flight_quantity: Decimal
    last_slice: int | None


@dataclass(frozen=True)
class NewParent:
    """What is needed to open a parent order."""

    parent_id: str
    position_id: int
    decision_id: str | None
    symbol: str
    side: Side
    purpose: Purpose
    reason: str
    quantity: Decimal
    decision_mid: Decimal
    urgency: Urgency
    slices: int
    interval_seconds: int


def slices_for(notional_quote: Decimal, wanted: int, min_notional: Decimal) -> int:
    """How many slices a size allows: each well above the venue's minimum, at least one.

    A slice keeps twice the minimum, so that a rest after a partial fill can still be sent.
    """
    if min_notional <= 0:
        return wanted
    return max(1, min(wanted, int(notional_quote / (2 * min_notional))))


def due_slice(parent: Parent, now: datetime) -> int | None:
    """The number of the slice that is due now, or ``None`` where it was sent already."""
    elapsed = (now - parent.created_at).total_seconds()
    number = int(elapsed // parent.interval_seconds)
    if parent.last_slice is not None and number <= parent.last_slice:
        return None
    return number


def quantity_due(parent: Parent, number: int) -> Decimal:
    """What slice ``number`` has to buy or sell so that the parent is on schedule again.

    What is in flight counts as done until its outcome is known, so it is never sent twice.
    """
    scheduled = parent.quantity * min(number + 1, parent.slices) / parent.slices
    return max(Decimal(0), scheduled - parent.filled_quantity - parent.in_flight_quantity)


def insert(ledger: Ledger, parent: NewParent) -> bool:
    """Open a parent; ``False`` where it exists already."""
    now = clock.now()
    lifetime = timedelta(seconds=parent.interval_seconds * (parent.slices + _OVERTIME_SLICES))
    changed = ledger.execute(
        "INSERT INTO parent_orders (parent_id, pod, position_id, decision_id, symbol, side, "
        "purpose, reason, quantity, decision_mid, urgency, slices, interval_seconds, created_at, "
        "expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (parent_id) DO NOTHING",
        (
            parent.parent_id,
            ledger.pod,
            parent.position_id,
            parent.decision_id,
            parent.symbol,
            parent.side,
            parent.purpose,
            parent.reason,
            parent.quantity,
            parent.decision_mid,
            parent.urgency,
            parent.slices,
            parent.interval_seconds,
            now,
            now + lifetime,
        ),
    )
    return changed == 1


def working(ledger: Ledger) -> list[Parent]:
    """All parents that still want something, oldest first."""
    rows = ledger.query(
        "SELECT p.parent_id, p.position_id, p.symbol, p.side, p.purpose, p.reason, p.quantity, "
        "p.decision_mid, p.urgency, p.slices, p.interval_seconds, p.created_at, p.expires_at, "
        "coalesce(sum(l.filled_quantity), 0) AS filled_quantity, "
        "coalesce(sum(l.quantity - l.filled_quantity) FILTER ("
        "  WHERE l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open'), 0) "
        "  AS in_flight_quantity, "
        "max(l.slice) AS last_slice "
        "FROM parent_orders p LEFT JOIN order_log l USING (parent_id) "
        "WHERE p.pod = %s AND p.state = 'WORKING' GROUP BY p.parent_id ORDER BY p.created_at",
        (ledger.pod,),
    )
    return [Parent(**row) for row in rows]


def hold_working(ledger: Ledger, parent_id: str) -> None:
    """Inside an intent's transaction: the parent still wants it, and ends only after the commit.

    Raises:
        OrderDenied: another workflow has ended the parent since it was read.
    """
    row = ledger.one("SELECT state FROM parent_orders WHERE parent_id = %s FOR SHARE", (parent_id,))
    state = None if row is None else row["state"]
    if state != "WORKING":
        raise OrderDenied("PARENT_ENDED", parent_id=parent_id, state=state)


def end(
    ledger: Ledger, parent_id: str, state: Literal["DONE", "EXPIRED", "CANCELLED"], reason: str
) -> None:
    """Close a parent; nothing more is sent for it."""
    ledger.execute(
        "UPDATE parent_orders SET state = %s, ended_reason = %s "
        "WHERE parent_id = %s AND state = 'WORKING'",
        (state, reason, parent_id),
    )


def cancel_of_position(ledger: Ledger, position_id: int, reason: str) -> int:
    """Close the working entries of a position, because it is to be left."""
    return ledger.execute(
        "UPDATE parent_orders SET state = 'CANCELLED', ended_reason = %s "
        "WHERE position_id = %s AND state = 'WORKING' AND side = 'buy'",
        (reason, position_id),
    )
