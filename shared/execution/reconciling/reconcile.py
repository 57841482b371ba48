"""The ledger and the venues agree, or nothing new is risked.

First in every run: bring open orders up to date, find out what became of orders that nobody knows
of, and, where new risk is wanted, compare balances and look for orders that are not ours. A minute
in which nothing is open and nothing is wanted asks the venues nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import fees
from shared.execution.intents import QUARANTINE
from shared.execution.reconciling import accounts, sharing, strangers, untold_fees
from shared.execution.reconciling.accounts import Comparison
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.reconciling.refreshing import refresh_open_orders
from shared.execution.reconciling.resolving import resolve
from shared.execution.venues.base import Venue
from shared.ledger.connection import Ledger, Row
from shared.run import Run

__all__ = ["Reconciliation", "compare", "reconcile"]


def reconcile(run: Run, venues: Mapping[str, Venue], *, compare_accounts: bool) -> Reconciliation:
    """Refresh, resolve, and with ``compare_accounts`` compare with what the venues hold.

    Open orders come first: a stop that was filled in between would make the balances differ, by
    which an order of unknown outcome is judged.
    """
    found = Reconciliation()
    pending = _pending(run.ledger)
    if pending["open_orders"]:
        refresh_open_orders(run, venues, found)
    if pending["unresolved"]:
        resolve(run, venues, found)
    if pending["unvalued_fees"]:
        fees.value_later(run, venues)
    if compare_accounts:
        compare(run, venues, found)
    return found


def compare(run: Run, venues: Mapping[str, Venue], found: Reconciliation) -> None:
    """Balances and resting orders of every venue; what differs is told, what is foreign halts."""
    for venue in venues.values():
        _compare_account(run, venue, found)
    found.accounts_compared = True


def _compare_account(run: Run, venue: Venue, found: Reconciliation) -> None:
    try:
        resting = venue.open_orders(run.pairs)
        comparison = _settled_comparison(run, venue, found)
        if comparison.differences:
            late = strangers.look_for_late(run, venue, found)
            if untold_fees.ask(run, venue) or late:
                comparison = _settled_comparison(run, venue, found)
    except VenueUnavailable as error:
        found.cannot_read(venue.name, str(error))
        return
    if not comparison.differences:
        run.compared_at[venue.name] = clock.now()
    elif comparison.moved:
        found.busy.append(venue.name)
    else:
        for difference in comparison.differences:
            found.differences.append(accounts.report(run, venue.name, difference))
    strangers.look_at_resting(run, venue, resting, found)


def _settled_comparison(run: Run, venue: Venue, found: Reconciliation) -> Comparison:
    """A difference is looked at twice where orders of ours may have made it.

    One of them may have been filled since it was last asked for. ``moved`` then means that the
    venue is still too busy to tell: the ledger moved again, an order has no known outcome, or the
    fills of one are not all in the ledger. So it is where another pod on the account has such
    orders, which only its own runs bring up to date.
    """
    comparison = accounts.compare(run, venue)
    if not comparison.differences:
        return comparison
    if comparison.moved or _under_way(run.ledger, venue.name):
        complete = refresh_open_orders(run, {venue.name: venue}, found, only=venue.name)
        comparison = accounts.compare(run, venue)
        moved = comparison.moved or not complete or _in_flight(run.ledger, venue.name)
        comparison = Comparison(comparison.differences, moved)
    if comparison.differences and not comparison.moved and sharing.others_move(run, venue):
        return Comparison(comparison.differences, moved=True)
    return comparison


def _pending(ledger: Ledger) -> Row:
    """What there is to do, in one question: in most minutes nothing."""
    row = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM orders WHERE pod = %(pod)s AND status = 'open') "
        "AS open_orders, "
        "EXISTS (SELECT 1 FROM intents WHERE pod = %(pod)s AND state IN ('SENDING', 'UNKNOWN')) "
        "AS unresolved, "
        "EXISTS (SELECT 1 FROM fills WHERE pod = %(pod)s AND fee_quote IS NULL "
        "AND fee_cost IS NOT NULL) AS unvalued_fees",
        {"pod": ledger.pod},
    )
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("pending: expected one row")
    return row


def _in_flight(ledger: Ledger, venue_name: str) -> bool:
    """Whether an order may be changing the account of which the ledger knows no outcome.

    One whose quarantine is over may not: what differs then is told, and waits for a person.
    """
    row = ledger.one(
        "SELECT 1 AS found FROM intents WHERE pod = %s AND venue = %s "
        "AND state IN ('SENDING', 'UNKNOWN') AND valid_until >= %s LIMIT 1",
        (ledger.pod, venue_name, clock.now() - QUARANTINE),
    )
    return row is not None


def _under_way(ledger: Ledger, venue_name: str) -> bool:
    row = ledger.one(
        "SELECT 1 AS found FROM orders WHERE pod = %s AND venue = %s AND status = 'open' LIMIT 1",
        (ledger.pod, venue_name),
    )
    return row is not None or _in_flight(ledger, venue_name)
