"""Orders of the account that the ledger does not know: ours that came late, or somebody else's.

Ours are adopted. Somebody else's halt trading until a person re-arms: the account is this
system's alone, and who else can order on it can also be a thief.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fills
from shared.execution.reconciling import amending, owners
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.reconciling.owners import Owner
from shared.execution.sending import acknowledge, import_fills
from shared.execution.types import VenueOrder
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events, state
from shared.run import Run

CLOCK_MARGIN = timedelta(seconds=60)
"""How far a venue's clock may be behind ours, where we ask it for what came since a time."""

LATE_WITHIN = timedelta(hours=24)
"""How long after it was sent an order that was given up is still looked for."""

_MOST_LOOKED_FOR = 5  # a difference stays for as long as a person lets it


def adopt(run: Run, venue: Venue, owner: Owner, order: VenueOrder, found: Reconciliation) -> None:
    """Write an order of ours with its fills, whatever its intent was taken for."""
    if owner.intent_id is None:
        raise AssertionError(f"{order.venue_order_id}: expected an order of this pod")
    acknowledge(run, owner.intent_id, venue.name, order)
    if not import_fills(run, venue, owner.intent_id, order):
        found.cannot_read(venue.name, f"fills of {owner.intent_id}")
    if owner.kind == "given up":
        found.amended.append(owner.intent_id)


def look_at_resting(
    run: Run, venue: Venue, resting: Sequence[VenueOrder], found: Reconciliation
) -> None:
    """Adopt what is ours and was given up; halt on what is not ours."""
    foreign = []
    owner_of = owners.owners(run.ledger, venue.name, resting)
    for order in resting:
        owner = owner_of[order.venue_order_id]
        if owner.kind == "given up":
            adopt(run, venue, owner, order, found)
        elif owner.kind == "foreign" and not (
            order.client_order_id is None and found.still_unknown
        ):
            # without an id of its own it may be the one that is still looked for
            foreign.append(order.venue_order_id)
    if foreign:
        _halt(run, venue, sorted(foreign), found)


def look_at_fills(
    run: Run, venue: Venue, symbol: str, since: datetime, found: Reconciliation
) -> None:
    """Ask the venue what was filled since a time, and who ordered what the ledger does not know.

    An order of ours is adopted. One whose own answer shows that it is not ours is foreign, and is
    told once: it is over, so that it does not halt again after a person has re-armed.

    Raises:
        VenueUnavailable: the fills, or one of those orders, cannot be read.
    """
    executions = venue.fills(symbol, since - CLOCK_MARGIN)
    unknown = _not_in_ledger(run, venue.name, {fill.venue_order_id for fill in executions})
    orders = [venue.order(venue_order_id, symbol) for venue_order_id in unknown]
    owner_of = owners.owners(run.ledger, venue.name, orders)
    foreign = []
    for order in orders:
        owner = owner_of[order.venue_order_id]
        if owner.kind in ("given up", "under way"):
            adopt(run, venue, owner, order, found)
        elif owner.kind == "foreign":
            foreign.append(order.venue_order_id)
    new = [order_id for order_id in foreign if not _told(run, venue.name, order_id)]
    if new:
        _halt(run, venue, sorted(new), found)


def look_for_late(run: Run, venue: Venue, found: Reconciliation) -> bool:
    """Look for what the ledger lacks of our orders, because something differs; whether it is found.

    Orders that were given up are looked for by the fills of their symbols, and by our own ids where
    nobody had seen one at all. Orders that ended short are asked for once more.
    """
    given_up = run.ledger.query(
        "SELECT intent_id, symbol, sent_at, state FROM order_log WHERE pod = %s AND venue = %s "
        "AND state IN ('DEAD', 'REJECTED') AND (mode IS NULL OR mode = %s) "
        "AND venue_order_id IS NULL AND sent_at > %s ORDER BY state, sent_at DESC LIMIT %s",
        (run.ledger.pod, venue.name, venue.mode, clock.now() - LATE_WITHIN, _MOST_LOOKED_FOR),
    )
    before = len(found.amended)
    try:
        for symbol in sorted({row["symbol"] for row in given_up}):
            oldest = min(row["sent_at"] for row in given_up if row["symbol"] == symbol)
            look_at_fills(run, venue, symbol, oldest, found)
        for row in given_up:
            if row["state"] == "DEAD" and row["intent_id"] not in found.amended:
                order = venue.find_order(row["intent_id"], row["symbol"], row["sent_at"])
                if order is not None:
                    owner = Owner("given up", row["intent_id"])
                    adopt(run, venue, owner, order, found)
        _fill_up(run, venue, found)
    except VenueUnavailable as error:
        found.cannot_read(venue.name, str(error))
    return len(found.amended) > before


def _fill_up(run: Run, venue: Venue, found: Reconciliation) -> None:
    """Ask again for orders that ended short: a venue may call an order over before it shows all
    of its fills.

    Raises:
        VenueUnavailable: one of those orders cannot be read.
    """
    short = run.ledger.query(
        "SELECT intent_id, venue_order_id, symbol FROM order_log WHERE pod = %s "
        "AND venue = %s AND order_status <> 'open' AND filled_quantity < quantity "
        "AND (mode IS NULL OR mode = %s) AND sent_at > %s ORDER BY sent_at DESC LIMIT %s",
        (run.ledger.pod, venue.name, venue.mode, clock.now() - LATE_WITHIN, _MOST_LOOKED_FOR),
    )
    for row in short:
        order = venue.order(row["venue_order_id"], row["symbol"])
        if order.filled_quantity <= fills.filled_of(run.ledger, row["intent_id"]):
            continue
        amending.amend_short(run.ledger, row["intent_id"], venue.name, order)
        if not import_fills(run, venue, row["intent_id"], order):
            found.cannot_read(venue.name, f"fills of {row['intent_id']}")
        found.amended.append(row["intent_id"])


def _not_in_ledger(run: Run, venue_name: str, order_ids: set[str]) -> list[str]:
    """Known by any pod is known: an account that two pods share shows the fills of both."""
    rows = run.ledger.query(
        "SELECT venue_order_id FROM orders WHERE venue = %s AND venue_order_id = ANY(%s)",
        (venue_name, sorted(order_ids)),
    )
    return sorted(order_ids - {row["venue_order_id"] for row in rows})


def _told(run: Run, venue_name: str, order_id: str) -> bool:
    row = run.ledger.one(
        "SELECT 1 AS told FROM events WHERE pod = %s AND kind = 'FOREIGN_ORDER' "
        "AND detail->>'venue' = %s AND detail->>'order' = %s",
        (run.ledger.pod, venue_name, order_id),
    )
    return row is not None


def _halt(run: Run, venue: Venue, foreign: list[str], found: Reconciliation) -> None:
    found.foreign_orders.extend(foreign)
    reason = f"{venue.name}: orders that are not ours: {', '.join(foreign)}"
    with run.ledger.transaction():
        halted = state.tighten(
            run.ledger, "HALTED", reason=reason, set_by="reconciliation", rearm_required=True
        )
        for order_id in foreign:
            if not _told(run, venue.name, order_id):
                events.record(run.ledger, "FOREIGN_ORDER", {"venue": venue.name, "order": order_id})
        if halted:
            at = f"{clock.now():%Y-%m-%dT%H:%M}"
            alerts.put(
                run.ledger, f"foreign:{foreign[0]}:{at}", "CRITICAL", "Foreign order", reason
            )
