"""The order protocol: intent first, send once, three outcomes.

1. One short transaction holds the lease, passes the gate (trading state and every limit, with
   unknown orders at full size) and inserts the intent under its unique logical key.
2. The order is sent, once, with retries off.
3. A second transaction notes what happened: acknowledged with its fills, definitely rejected, or
   UNKNOWN. If this process dies anywhere in between, the intent stays behind as SENDING and the
   resolver of the next run finds out by query.

Which writes need the lease: the intent, and whatever decides something (DEAD, parents, positions).
What tells only what has happened needs none: outcome, order, fills, events, alerts, and a halt.
Whoever sent an order must be able to say what became of it, even when its lease has passed on.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import OrderDenied, OrderRejected, OrderUnknown, VenueUnavailable
from shared.execution import bands, fees, fills, intents
from shared.execution.entries import parents
from shared.execution.intents import Intent
from shared.execution.reconciling import amending
from shared.execution.types import MarketRules, OrderResult, VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import events
from shared.ledger.connection import Row
from shared.market.types import Book
from shared.risk import gate
from shared.run import Run

SEND_WITHIN = timedelta(seconds=5)
"""An intent that was committed longer ago is not sent any more: this process stood still, and by
the time that the order arrives another run may have taken it for dead."""


def send(
    run: Run,
    venue: Venue,
    intent: Intent,
    rules: MarketRules,
    book: Book,
    *,
    average_price: Decimal | None = None,
) -> OrderResult:
    """Take one intent through the protocol. Never raises for what a venue does.

    Args:
        average_price: the venue's own, where the caller has asked for it; else it is asked for
            here, if the order's price is to be judged by it.

    Raises:
        LeaseLost: another run has taken over; nothing was written and nothing sent.
        LedgerUnavailable: it does not answer; what was sent by then stays SENDING.
    """
    ticket = intent.ticket
    if average_price is None and bands.has_limit(ticket):
        average_price = bands.average_for(venue, ticket.side, ticket.limit_price, rules, book)
    sent_at = clock.now()
    try:
        with run.ledger.transaction():
            run.guard()
            known = intents.by_key(run.ledger, intent.logical_key)
            if known is not None:
                return _as_result(known)
            if intent.parent_id is not None:
                parents.hold_working(run.ledger, intent.parent_id, intent.slice, ticket.quantity)
            gate.check(
                run,
                ticket,
                purpose=intent.purpose,
                position_id=intent.position_id,
                rules=rules,
                book=book,
                now_ms=clock.now_ms(),
                mode=venue.mode,
                parent_id=intent.parent_id,
                average_price=average_price,
            )
            if not intents.insert(run.ledger, intent, run.epoch, venue):
                raise OrderDenied("INTENT_EXISTS", logical_key=intent.logical_key)
    except OrderDenied as denied:
        gate.note(run.ledger, denied)
        return _result(intent, "DENIED", detail=str(denied))
    if clock.now() - sent_at > SEND_WITHIN:
        late = f"SEND_LATE: not sent, {clock.now() - sent_at} after its intent was begun"
        intents.settle(run.ledger, intent.intent_id, "REJECTED", late)
        return _result(intent, "REJECTED", detail=late)
    try:
        order = venue.submit(ticket)
    except OrderRejected as rejected:
        intents.settle(run.ledger, intent.intent_id, "REJECTED", str(rejected))
        return _result(intent, "REJECTED", detail=str(rejected))
    except OrderUnknown as unknown:
        intents.settle(run.ledger, intent.intent_id, "UNKNOWN", str(unknown))
        events.record(
            run.ledger, "ORDER_UNKNOWN", {"intent": intent.intent_id, "error": str(unknown)}
        )
        return _result(intent, "UNKNOWN", detail=str(unknown))
    acknowledge(run, intent.intent_id, venue.name, order)
    import_fills(run, venue, intent.intent_id, order)
    final = intents.by_key(run.ledger, intent.logical_key)
    return _result(intent, "UNKNOWN") if final is None else _as_result(final)


def acknowledge(run: Run, intent_id: str, venue_name: str, order: VenueOrder) -> None:
    """Note that the venue has the order.

    What it says to have filled is noted with the fills themselves: an order whose fills are not
    in the ledger stays open there, so that they are asked for however this run ends. An intent
    that was given up stays as it is, and its order is an amendment.
    """
    if order.filled_quantity > 0:
        order = _still_open(order, Decimal(0))
    with run.ledger.transaction():
        intents.settle(run.ledger, intent_id, "ACKNOWLEDGED")
        if fills.record_order(run.ledger, intent_id, venue_name, order):
            amending.amend_if_given_up(run.ledger, intent_id, venue_name, order)


def import_fills(
    run: Run, venue: Venue, intent_id: str, order: VenueOrder, *, just_asked: bool = False
) -> bool:
    """Bring order and fills of an acknowledged intent up to date.

    Some venues answer an order with its id alone, so its state is asked for again while it
    counts as open, unless it was ``just_asked`` for. Returns whether the ledger now has the whole
    of it; what a venue does not tell now is asked for by the next run.
    """
    try:
        if order.status == "open" and not just_asked:
            order = venue.order(order.venue_order_id, order.symbol)
        missing = order.filled_quantity > fills.filled_of(run.ledger, intent_id)
        own = venue.fills_of(order) if missing else []
        fee_rates = fees.rates(run, venue, own)
    except VenueUnavailable as error:
        events.record(run.ledger, "ORDER_STATE_UNREAD", {"intent": intent_id, "error": str(error)})
        return False
    with run.ledger.transaction():
        fills.record_fills(run.ledger, venue.name, own, fee_rates)
        recorded = fills.filled_of(run.ledger, intent_id)
        complete = recorded >= order.filled_quantity
        if not complete:  # it may be closed on the venue, but fills are still to come: keep asking
            order = _still_open(order, recorded)
        fills.record_order(run.ledger, intent_id, venue.name, order)
    return complete


def _still_open(order: VenueOrder, recorded: Decimal) -> VenueOrder:
    """As it counts in the limits while fills are missing: what has no fill yet is under way."""
    return dataclasses.replace(
        order,
        status="open",
        filled_quantity=recorded,
        average_price=order.average_price if recorded > 0 else None,
    )


def _result(intent: Intent, outcome: str, detail: str = "") -> OrderResult:
    ticket = intent.ticket
    return OrderResult(
        intent.intent_id,
        ticket.venue,
        ticket.symbol,
        ticket.side,
        ticket.quantity,
        outcome,
        Decimal(0),
        None,
        Decimal(0),
        detail,
    )


def _as_result(row: Row) -> OrderResult:
    return OrderResult(
        row["intent_id"],
        row["venue"],
        row["symbol"],
        row["side"],
        row["quantity"],
        outcome_of(row),
        row["filled_quantity"],
        row["average_price"],
        Decimal(0),
        row["error"] or "",
    )


def outcome_of(row: Row) -> str:
    """The outcome of an ``order_log`` row in the words of ``OrderResult``."""
    if row["state"] in ("REJECTED", "DEAD") and row["order_status"] is None:
        return "REJECTED" if row["state"] == "REJECTED" else "NOT_FILLED"
    if row["order_status"] is None:
        return "UNKNOWN"
    if row["filled_quantity"] >= row["quantity"]:
        return "FILLED"
    if row["order_status"] == "open":
        return "OPEN"
    return "PARTIALLY_FILLED" if row["filled_quantity"] > 0 else "NOT_FILLED"
