"""Leave a position: sell what is really held, wherever it is held, as often as it takes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import parents
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import OrderResult
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Row
from shared.run import Run

_SELLABLE = """
SELECT h.venue, p.symbol, h.quantity - coalesce((
           SELECT sum(l.quantity - l.filled_quantity) FROM order_log l
           WHERE l.position_id = h.position_id AND l.venue = h.venue AND l.side = 'sell'
             AND (l.state IN ('SENDING', 'UNKNOWN') OR l.order_status = 'open')), 0) AS quantity
FROM position_holdings h JOIN positions p USING (position_id)
WHERE h.position_id = %s ORDER BY h.venue
"""


def leave(
    run: Run, venues: Mapping[str, Venue], position_id: int, *, reason: str, fraction: Decimal
) -> list[OrderResult]:
    """Sell ``fraction`` of what the position holds and has not under way, on each venue.

    Selling is state-based: a repeat in the next run sells only what is left, so that it may be
    repeated until nothing is left. A whole exit ends the position's entries first.
    """
    if fraction >= 1:
        _commit_to_leaving(run, position_id, reason)
    results = []
    for row in run.ledger.query(_SELLABLE, (position_id,)):
        result = _sell(run, venues, position_id, row, fraction)
        if result is not None:
            results.append(result)
    return results


def _commit_to_leaving(run: Run, position_id: int, reason: str) -> None:
    """From now on nothing is bought for the position, and each run sells what is left of it."""
    with run.ledger.transaction():
        run.guard()
        # The position first: who adds to it holds this row, so no parent slips in between.
        run.ledger.execute(
            "UPDATE positions SET exit_reason = %s WHERE position_id = %s AND closed_at IS NULL",
            (reason, position_id),
        )
        parents.cancel_of_position(run.ledger, position_id, reason)


def cancel_entries(run: Run, venues: Mapping[str, Venue], reason: str) -> int:
    """End every parent that buys and cancel what rests on a venue; returns how many."""
    ledger = run.ledger
    with ledger.transaction():
        run.guard()
        ended = ledger.execute(
            "UPDATE parent_orders SET state = 'CANCELLED', ended_reason = %s "
            "WHERE pod = %s AND state = 'WORKING' AND side = 'buy'",
            (reason, ledger.pod),
        )
    resting = ledger.query(
        "SELECT o.venue, o.venue_order_id, i.symbol FROM orders o JOIN intents i "
        "USING (intent_id) WHERE o.pod = %s AND o.status = 'open' AND i.purpose <> 'protect'",
        (ledger.pod,),
    )
    for row in resting:
        try:
            venues[row["venue"]].cancel(row["venue_order_id"], row["symbol"])
        except (VenueUnavailable, KeyError) as error:
            events.record(ledger, "CANCEL_FAILED", {**row, "error": str(error)})
    return ended + len(resting)


def _sell(
    run: Run, venues: Mapping[str, Venue], position_id: int, row: Row, fraction: Decimal
) -> OrderResult | None:
    try:
        venue = venues[row["venue"]]
        book = venue.book(row["symbol"])
        rules = venue.rules(row["symbol"])
    except (VenueUnavailable, KeyError) as error:
        detail = {"position_id": position_id, "venue": row["venue"], "why": str(error)}
        events.record(run.ledger, "EXIT_DELAYED", detail)
        alerts.put(
            run.ledger,
            f"exit-delayed:{position_id}:{clock.now():%Y-%m-%dT%H}",
            "HIGH",
            f"{row['symbol']}: an exit on {row['venue']} is delayed",
            f"{error}. It is tried again in every run.",
        )
        return None
    at = clock.iso(run.event_at)
    wish = Wish(
        logical_key=f"exit:{run.ledger.pod}:{position_id}:{venue.name}:{run.workflow}:{at}",
        position_id=position_id,
        symbol=row["symbol"],
        side="sell",
        purpose="exit",
        quantity=row["quantity"] * fraction,
        decision_mid=Decimal(str(book.mid)),
    )
    intent = marketable_intent(wish, rules, book, collar_bps=run.config.price_collar_bps)
    return None if intent is None else send(run, venue, intent, rules, book)
