"""Positions end when nothing sellable is left of them and nothing is under way."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.exits import naked
from shared.execution.venues.base import Venue
from shared.ledger import events, state
from shared.ledger.connection import Row
from shared.run import Run

_CANDIDATES = """
SELECT s.position_id, s.symbol, s.bought_quantity, s.quantity, s.sold_quantity,
       s.exit_reason,
       s.high_water_price >= s.trailing_activation_price AS has_trailed,
       (SELECT i.purpose FROM fills f JOIN intents i USING (intent_id)
        WHERE f.position_id = s.position_id AND f.side = 'sell'
        ORDER BY f.filled_at DESC, i.sent_at DESC LIMIT 1) AS last_sold_by,
       (SELECT jsonb_object_agg(h.venue, h.quantity::text) FROM position_holdings h
        WHERE h.position_id = s.position_id) AS by_venue,
       (SELECT bid FROM prices p WHERE p.pod = s.pod AND p.symbol = s.symbol
        ORDER BY p.at DESC, p.venue LIMIT 1) AS bid
FROM position_summary s
WHERE s.pod = %(pod)s AND s.closed_at IS NULL
  AND (s.sold_quantity > 0 OR s.bought_quantity = 0 OR s.exit_reason IS NOT NULL)
  AND s.position_id = coalesce(%(position_id)s, s.position_id)
  AND NOT EXISTS (SELECT 1 FROM parent_orders p
                  WHERE p.position_id = s.position_id AND p.state = 'WORKING')
  AND NOT EXISTS (SELECT 1 FROM order_log l WHERE l.position_id = s.position_id
                  AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open'))
"""


def close_finished_positions(run: Run, venues: Mapping[str, Venue]) -> list[int]:
    """Close what is empty, or holds only dust that no venue would take; returns the ids.

    Dust stays in the balances, and in the position's record as ``dust_quantity``.
    """
    closed = []
    for row in run.ledger.query(_CANDIDATES, {"pod": run.ledger.pod, "position_id": None}):
        if row["bought_quantity"] > 0 and not _is_dust(venues, row):
            continue
        if _close(run, row):
            closed.append(int(row["position_id"]))
    return closed


def _close(run: Run, row: Row) -> bool:
    """Close it unless something of it has changed since it was looked at."""
    with run.ledger.transaction():
        run.guard()
        state.read(run.ledger, lock=True)  # no order is under way that cannot be seen
        again = {"pod": run.ledger.pod, "position_id": row["position_id"]}
        if run.ledger.query(_CANDIDATES, again) != [row]:
            return False
        run.ledger.execute(
            "UPDATE positions SET closed_at = %s, close_reason = %s WHERE position_id = %s",
            (clock.now(), _reason(row), row["position_id"]),
        )
        naked.end_all(run.ledger, row["position_id"])
        if row["last_sold_by"] == "protect":
            detail = {"position_id": row["position_id"], "symbol": row["symbol"]}
            events.record(run.ledger, "STOP_TRIGGERED", detail | {"reason": _reason(row)})
    return True


def _reason(row: Row) -> str:
    """What sold the last of it. A stop that has trailed is the trailing stop doing its work."""
    if row["bought_quantity"] <= 0:
        return "not filled"
    if row["last_sold_by"] == "protect":
        return "trailing" if row["has_trailed"] else "stop"
    return row["exit_reason"] or "sold"


def _is_dust(venues: Mapping[str, Venue], row: Row) -> bool:
    for venue_name, held in (row["by_venue"] or {}).items():
        quantity = Decimal(held)
        if quantity <= 0:
            continue
        venue = venues.get(venue_name)
        if venue is None or row["bid"] is None:
            return False
        try:
            rules = venue.rules(row["symbol"])
        except VenueUnavailable:
            return False  # it may be sellable: ask again in the next run
        if quantity >= rules.min_quantity and quantity * row["bid"] >= rules.min_notional:
            return False
    return True
