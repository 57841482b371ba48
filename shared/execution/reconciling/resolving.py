"""Find out what became of orders of unknown outcome, by asking. Nothing is ever sent again.

An order is DEAD when four things hold at once, asked for after its request could no longer make an
order: no order has our id, no fill since it was sent is of an order that nobody knows, and the
venue holds of both currencies exactly what the ledger says. Anything less leaves it UNKNOWN, which
stops new risk and is told to a person once it lasts.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import intents
from shared.execution.intents import QUARANTINE, Unresolved
from shared.execution.reconciling import accounts, strangers
from shared.execution.reconciling.findings import TELL_AFTER, Reconciliation
from shared.execution.reconciling.owners import Owner
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.run import Run


def resolve(run: Run, venues: Mapping[str, Venue], found: Reconciliation) -> None:
    """Ask the venues about every intent of unknown outcome, oldest first."""
    for unresolved in intents.unresolved(run.ledger):
        doubt = _doubt(run, venues.get(unresolved.venue), unresolved, found)
        if doubt is None:
            found.resolved.append(unresolved.intent_id)
            continue
        found.still_unknown.append(unresolved.intent_id)
        if clock.now() - unresolved.sent_at > TELL_AFTER:
            _tell(run, unresolved, doubt)


def _doubt(
    run: Run, venue: Venue | None, unresolved: Unresolved, found: Reconciliation
) -> str | None:
    """Why its outcome is still not known, or ``None`` where it is known now."""
    if venue is None:
        found.cannot_read(unresolved.venue, "is not configured")
        return f"{unresolved.venue} is not among the configured venues"
    if not intents.asks_of(venue, unresolved.mode):
        doubt = f"it was sent {unresolved.mode}, and this run is {venue.mode}: nobody can ask"
        _tell(run, unresolved, doubt)
        return doubt
    asked_at = clock.now()
    try:
        order = venue.find_order(unresolved.intent_id, unresolved.symbol, unresolved.sent_at)
        if order is not None:
            owner = Owner("under way", unresolved.intent_id)
            strangers.adopt(run, venue, owner, order, found)
            return None
        if asked_at <= unresolved.valid_until + QUARANTINE:
            return "no query shows it, and it may still come"
        return _doubt_of_death(run, venue, unresolved, found)
    except VenueUnavailable as error:
        found.cannot_read(venue.name, str(error))
        return str(error)


def _doubt_of_death(
    run: Run, venue: Venue, unresolved: Unresolved, found: Reconciliation
) -> str | None:
    """The other evidence; writes DEAD where all of it agrees."""
    strangers.look_at_fills(run, venue, unresolved.symbol, unresolved.sent_at, found)
    still = run.ledger.one(
        "SELECT 1 AS still FROM intents WHERE intent_id = %s AND state IN ('SENDING', 'UNKNOWN')",
        (unresolved.intent_id,),
    )
    if still is None:
        return None  # its fills have shown it
    pair = frozenset(unresolved.symbol.split("/"))
    unequal = accounts.compare(run, venue, only=pair).differences
    if unequal:
        return "balances differ: " + "; ".join(difference.text for difference in unequal)
    with run.ledger.transaction():
        run.guard()
        why = "no order, no fill and no balance of the venue shows it after quarantine"
        if intents.settle(run.ledger, unresolved.intent_id, "DEAD", why):
            detail = {"intent": unresolved.intent_id, "venue": venue.name}
            events.record(run.ledger, "ORDER_DEAD", detail)
    return None


def _tell(run: Run, unresolved: Unresolved, doubt: str) -> None:
    alerts.put(
        run.ledger,
        f"unknown:{unresolved.intent_id}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{unresolved.venue}: nobody knows what became of an order in {unresolved.symbol}",
        f"{unresolved.side} {unresolved.quantity:f}, sent at {clock.iso(unresolved.sent_at)} as "
        f"{unresolved.intent_id}. {doubt}. Look for that client order id in the venue's order "
        f"history, and at its balances; money that a person moved is booked with `trading-loop "
        f"transfer`. It is never sent again; new positions wait.",
    )
