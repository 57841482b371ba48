"""TWAP: a parent order lives in the ledger, and each run sends the slice that is due.

A step cannot sleep for ten minutes, so the schedule is state: slice ``n`` of a parent is due
``n x interval`` after the parent was made. A slice asks for what is missing from the schedule, so
that missed minutes and unfilled rests are caught up without a memory of their own: at most three
slices at once, because a TWAP that is caught up in one order is a TWAP no more. What does not fit
into the overtime of three slices is not bought.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.errors import OrderDenied
from shared.execution.types import Purpose, Side, Urgency
from shared.ledger import events
from shared.ledger.connection import Ledger

_OVERTIME_SLICES = 3  # chances to fill what the schedule has left unfilled
_CATCH_UP_SLICES = 3  # the most that one slice asks for, in slices
ADDITIONS = ("pyramid", "average_down")
"""Reasons of parents that add to a position within a risk that was reckoned at one worst price."""

_JITTER_SHARE = 0.25  # of an interval: a run that is so early in its minute sends its slice

_PROGRESS = """
coalesce(sum(l.filled_quantity), 0) AS filled_quantity,
coalesce(sum(l.quantity - l.filled_quantity) FILTER (
    WHERE l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open'), 0) AS in_flight_quantity
"""
# A HOLD ends no parent: a symbol with an open position is offered to no model for buying, so that
# a HOLD is about another symbol, or for want of an answer. A SELL is about this one.
_WORKING = f"""
SELECT p.parent_id, p.position_id, p.symbol, p.side, p.purpose, p.reason, p.quantity,
       p.decision_mid, p.urgency, p.slices, p.interval_seconds, p.created_at, p.expires_at,
       max(l.slice) AS last_slice, {_PROGRESS},
       (SELECT min(d.decision_id) FROM decisions d
        WHERE d.pod = p.pod AND d.at > p.created_at AND d.symbol = p.symbol
          AND d.action = 'SELL' AND p.purpose = 'entry') AS sell_decision_id,
       EXISTS (SELECT 1 FROM fills f
               WHERE f.position_id = p.position_id AND f.side = 'sell'
                 AND f.filled_at > p.created_at) AS position_sold
FROM parent_orders p LEFT JOIN order_log l USING (parent_id)
WHERE p.pod = %s AND p.state = 'WORKING' GROUP BY p.parent_id ORDER BY p.created_at, p.parent_id
"""  # noqa: S608 - nothing but the constant above is put in


@dataclass(frozen=True)
class Parent:
    """A working parent order with what has become of it so far, in base quantity.

    Attributes:
        sell_decision_id: a decision to sell the symbol that is younger than this entry.
        position_sold: something of its position was sold after it was made.
    """

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
    sell_decision_id: str | None = None
    position_sold: bool = False

    def ceiling(self, collar_bps: Decimal) -> Decimal | None:
        """The most that a slice may pay for a unit: an addition is not bought after the price."""
        if self.reason not in ADDITIONS:
            return None
        return self.decision_mid * (1 + collar_bps / 10_000)


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
    """The number of the slice that is due now, or ``None`` where it was sent already.

    Minutes are not exact: a slice is due a quarter of an interval before its time.
    """
    elapsed = (now - parent.created_at).total_seconds() / parent.interval_seconds
    number = int(elapsed + _JITTER_SHARE)
    if parent.last_slice is not None and number <= parent.last_slice:
        return None
    return number


def quantity_due(parent: Parent, number: int) -> Decimal:
    """What slice ``number`` asks for: what is missing from the schedule, three slices at most.

    What is in flight counts as done until its outcome is known, so it is never sent twice.
    """
    scheduled = _scheduled(parent.quantity, parent.slices, number)
    missing = scheduled - parent.filled_quantity - parent.in_flight_quantity
    return max(Decimal(0), min(missing, parent.quantity * _CATCH_UP_SLICES / parent.slices))


def _scheduled(quantity: Decimal, slices: int, number: int) -> Decimal:
    """What is to be filled or in flight once slice ``number`` has been sent."""
    return quantity * min(number + 1, slices) / slices


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
    return [Parent(**row) for row in ledger.query(_WORKING, (ledger.pod,))]


def progress(ledger: Ledger, parent_id: str) -> tuple[Decimal, Decimal]:
    """Filled and in-flight base quantity of a parent now."""
    row = ledger.one(
        f"SELECT {_PROGRESS} FROM order_log l WHERE l.parent_id = %s",  # noqa: S608 - nothing but the constant above is put in
        (parent_id,),
    )
    if row is None:  # an aggregate without GROUP BY always has its row
        raise AssertionError("progress: expected one row")
    return row["filled_quantity"], row["in_flight_quantity"]


def hold_working(ledger: Ledger, parent_id: str, number: int | None, quantity: Decimal) -> None:
    """Inside an intent's transaction: the parent still wants ``quantity``, in slice ``number``.

    Holds the parent's row until the commit. So the parent ends only afterwards, and of two runs
    that send for it at once, the second sees what the first has in flight: whatever their keys and
    venues are, a parent never has more filled and in flight than is due.

    Args:
        number: the slice that the intent belongs to; ``None`` for the parent as a whole.

    Raises:
        OrderDenied: another workflow has ended the parent, or it wants less by now.
    """
    row = ledger.one(
        "SELECT state, quantity, slices FROM parent_orders WHERE parent_id = %s FOR NO KEY UPDATE",
        (parent_id,),
    )
    if row is None or row["state"] != "WORKING":
        state = None if row is None else row["state"]
        raise OrderDenied("PARENT_ENDED", parent_id=parent_id, state=state)
    # A statement of its own: it has to see what was committed while the row was waited for.
    filled, in_flight = progress(ledger, parent_id)
    last = row["slices"] - 1
    due = _scheduled(row["quantity"], row["slices"], last if number is None else number)
    if filled + in_flight + quantity > due:
        raise OrderDenied(
            "PARENT_EXCEEDED",
            parent_id=parent_id,
            quantity=quantity,
            filled=filled,
            in_flight=in_flight,
            due=due,
        )


def end(
    ledger: Ledger, parent_id: str, state: Literal["DONE", "EXPIRED", "CANCELLED"], reason: str
) -> bool:
    """Close a parent; nothing more is sent for it. ``False`` where it is not working."""
    changed = ledger.execute(
        "UPDATE parent_orders SET state = %s, ended_reason = %s "
        "WHERE parent_id = %s AND pod = %s AND state = 'WORKING'",
        (state, reason, parent_id, ledger.pod),
    )
    return changed == 1


def cancel(ledger: Ledger, parent_id: str, reason: str) -> bool:
    """A person ends a working parent; ``False`` where it has ended or does not exist.

    It holds from the next order on, because each passes ``hold_working``. Slices never rest on a
    venue, so there is nothing else to cancel; what was bought stays, and is managed as before.
    """
    with ledger.transaction():
        ended = end(ledger, parent_id, "CANCELLED", reason)
        if ended:
            events.record(ledger, "PARENT_CANCELLED", {"parent_id": parent_id, "reason": reason})
    return ended


def cancel_of_position(ledger: Ledger, position_id: int, reason: str) -> int:
    """Close all that a position still wants, because it is to be left whole."""
    return ledger.execute(
        "UPDATE parent_orders SET state = 'CANCELLED', ended_reason = %s "
        "WHERE position_id = %s AND state = 'WORKING'",
        (reason, position_id),
    )
