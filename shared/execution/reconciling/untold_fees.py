"""Fees that a venue had not told with their fills, asked for again where the balances differ."""

from __future__ import annotations

from shared import clock
from shared.execution import fees, fills
from shared.execution.reconciling.strangers import LATE_WITHIN
from shared.execution.venues.base import Venue
from shared.ledger.connection import Ledger
from shared.run import Run

_MOST_ASKED_FOR = 5  # a difference stays for as long as a person lets it


def ask(run: Run, venue: Venue) -> bool:
    """Ask for the fills of the last day's orders whose fees are untold; whether one is told now.

    Later a person has booked the difference, or will: a fee that came after that would make the
    balances differ the other way.

    Raises:
        VenueUnavailable: one of those orders, or its fills, cannot be read.
    """
    before = _untold(run.ledger, venue.name)
    rows = run.ledger.query(
        "SELECT DISTINCT f.venue_order_id, f.symbol FROM fills f JOIN intents i USING (intent_id) "
        "WHERE f.pod = %s AND f.venue = %s AND f.fee_cost IS NULL AND f.filled_at > %s "
        "AND (i.mode IS NULL OR i.mode = %s) ORDER BY 1 LIMIT %s",
        (
            run.ledger.pod,
            venue.name,
            clock.now() - LATE_WITHIN,
            venue.mode,
            _MOST_ASKED_FOR,
        ),
    )
    for row in rows:
        executions = venue.fills_of(venue.order(row["venue_order_id"], row["symbol"]))
        rates = fees.rates(run, venue, executions)
        fills.record_fills(run.ledger, venue.name, executions, rates)
    return bool(rows) and _untold(run.ledger, venue.name) < before


def _untold(ledger: Ledger, venue_name: str) -> int:
    row = ledger.one(
        "SELECT count(*) AS untold FROM fills WHERE pod = %s AND venue = %s AND fee_cost IS NULL",
        (ledger.pod, venue_name),
    )
    return 0 if row is None else int(row["untold"])
