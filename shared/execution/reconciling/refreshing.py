"""Bring the orders that may still fill up to date, with their fills."""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fills, intents
from shared.execution.reconciling.findings import TELL_AFTER, Reconciliation
from shared.execution.sending import import_fills
from shared.execution.venues.base import Venue
from shared.ledger import alerts
from shared.ledger.connection import Row
from shared.run import Run


def refresh_open_orders(
    run: Run, venues: Mapping[str, Venue], found: Reconciliation, *, only: str | None = None
) -> bool:
    """Ask for every order that counts as open, or for those on the venue ``only``.

    Returns whether the ledger has all that they have filled.

    An order that was sent in another mode is asked of nobody. It stays open, counts in the limits
    and stops new risk.
    """
    complete = True
    for row in fills.open_orders(run.ledger):
        if only is not None and row["venue"] != only:
            continue
        venue = venues.get(row["venue"])
        if venue is not None and intents.asks_of(venue, row["mode"]):
            complete &= _refresh(run, venue, row, found)
            continue
        complete = False
        if venue is None:
            found.cannot_read(row["venue"], f"is not configured, has {row['venue_order_id']}")
        else:
            found.cannot_read(venue.name, f"{row['venue_order_id']} was sent {row['mode']}")
            _tell_other_mode(run, venue, row)
    return complete


def _refresh(run: Run, venue: Venue, row: Row, found: Reconciliation) -> bool:
    try:
        order = venue.order(row["venue_order_id"], row["symbol"])
    except VenueUnavailable as error:
        found.cannot_read(row["venue"], str(error))
        return False
    found.refreshed += 1
    complete = import_fills(run, venue, row["intent_id"], order, just_asked=True)
    if not complete:
        found.cannot_read(venue.name, f"fills of {row['intent_id']}")
        if row["purpose"] != "protect" and clock.now() - row["sent_at"] > TELL_AFTER:
            _tell_fills_missing(run, venue, row)
    return complete


def _tell_fills_missing(run: Run, venue: Venue, row: Row) -> None:
    """Not of a stop: it may have been resting for days when its first fill comes a little late."""
    alerts.put(
        run.ledger,
        f"fills-missing:{row['intent_id']}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{venue.name}: fills of an order in {row['symbol']} are missing",
        f"{row['venue_order_id']} on the venue, {row['intent_id']} to us, sent at "
        f"{clock.iso(row['sent_at'])}: the venue says that it has filled and does not tell all its "
        f"fills. No new positions are opened meanwhile.",
    )


def _tell_other_mode(run: Run, venue: Venue, row: Row) -> None:
    alerts.put(
        run.ledger,
        f"other-mode:{row['intent_id']}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{venue.name}: an order of {row['mode']} trading is open, and this run is {venue.mode}",
        f"{row['venue_order_id']} on the venue, {row['intent_id']} to us: nobody follows it until "
        f"runs are {row['mode']} again. No new positions are opened meanwhile.",
    )
