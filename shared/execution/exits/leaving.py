"""Leave a position: sell what is really held, wherever it is held, as often as it takes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import bands, cancelling
from shared.execution.entries import parents
from shared.execution.exits import protecting
from shared.execution.reconciling import sharing
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import OrderResult
from shared.execution.venues.base import Venue
from shared.ledger import alerts, events
from shared.ledger.connection import Row
from shared.risk.controls.prices import MAX_EXIT_COLLAR_PERCENT, STOP_LIMIT_OFFSET_PERCENT
from shared.risk.facts import RUN_LIMIT
from shared.run import Run

_IN_VAIN_WITHIN = timedelta(minutes=15)

_PLACES = """
SELECT h.venue, p.symbol FROM position_holdings h JOIN positions p USING (position_id)
WHERE h.position_id = %s AND h.quantity > 0 ORDER BY h.venue
"""

# A stop of which nobody knows whether it rests keeps no exit back: the gate says why.
_FREE = """
SELECT h.quantity - coalesce((
           SELECT sum(l.quantity - l.filled_quantity) FROM order_log l
           WHERE l.position_id = h.position_id AND l.venue = h.venue AND l.side = 'sell'
             AND (l.order_status = 'open' OR l.state IN ('SENDING', 'UNKNOWN')
                  AND NOT (l.purpose = 'protect'
                           AND (l.state = 'UNKNOWN' OR l.sent_at <= %s)))), 0) AS quantity
FROM position_holdings h WHERE h.position_id = %s AND h.venue = %s
"""

_OF_OTHERS = """
SELECT coalesce(sum(h.quantity), 0) AS quantity
FROM position_holdings h JOIN positions p USING (position_id)
WHERE p.pod = %s AND p.symbol = %s AND p.closed_at IS NULL
  AND p.position_id <> %s AND h.venue = %s
"""

# Sales of a part, and how many of them have sold something or still may.
_PARTS = """
SELECT count(*) AS sent,
       count(*) FILTER (WHERE filled_quantity > 0 OR state IN ('SENDING', 'UNKNOWN')
                           OR order_status = 'open') AS taken
FROM order_log WHERE pod = %s AND position_id = %s AND starts_with(logical_key, %s)
"""


def leave(
    run: Run, venues: Mapping[str, Venue], position_id: int, *, reason: str, fraction: Decimal
) -> list[OrderResult]:
    """Sell ``fraction`` of what the position holds and has not under way, on each venue.

    The stops that rest there are cancelled first, because they lock what is to be sold; whoever
    calls this lets ``protecting.protect`` cover again what was not sold.

    Selling is state-based: a repeat in the next run sells only what is left, so that it may be
    repeated until nothing is left. A whole exit ends the position's entries first. A part is sold
    once on each venue in a position's life: while its sale may still fill, nothing is sold.
    """
    if fraction >= 1:
        _commit_to_leaving(run, position_id, reason)
    results = []
    for row in run.ledger.query(_PLACES, (position_id,)):
        result = _leave_venue(run, venues, position_id, row, reason, fraction)
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
            venue = venues[row["venue"]]
            cancelling.cancel(ledger, venue, row["venue_order_id"], row["symbol"])
        except (VenueUnavailable, KeyError) as error:
            events.record(ledger, "CANCEL_FAILED", {**row, "error": str(error)})
    return ended + len(resting)


def _leave_venue(
    run: Run,
    venues: Mapping[str, Venue],
    position_id: int,
    row: Row,
    reason: str,
    fraction: Decimal,
) -> OrderResult | None:
    key = _key(run, position_id, row["venue"], fraction)
    if key is None:
        return None
    try:
        venue = venues[row["venue"]]
        if not protecting.lift(run, venue, position_id, why=f"exit: {reason}"):
            raise VenueUnavailable(f"{venue.name}: a stop may still rest")
        quantity = sellable(run, venue, position_id, row["symbol"]) * fraction
        return None if quantity <= 0 else _sell(run, venue, position_id, row, key, quantity)
    except (VenueUnavailable, KeyError) as error:
        _tell_delayed(run, position_id, row, str(error))
        return None


def _key(run: Run, position_id: int, venue_name: str, fraction: Decimal) -> str | None:
    """The sale's logical key, or ``None`` where the part was sold here, or still may be.

    A whole exit has a key of its run, since its size follows from what is left. A part would be
    taken of the rest again by a run that does not know of the first sale, so it is known by its
    intent: only one that certainly sold nothing is followed by another.
    """
    if fraction >= 1:
        name = f"exit:{run.ledger.pod}:{position_id}:{venue_name}"
        return f"{name}:{run.workflow}:{clock.iso(run.event_at)}"
    name = f"partial:{run.ledger.pod}:{position_id}:{venue_name}:"
    parts = run.ledger.one(_PARTS, (run.ledger.pod, position_id, name))
    if parts is None or parts["taken"]:
        return None
    return f"{name}{parts['sent']}"


def sellable(run: Run, venue: Venue, position_id: int, symbol: str) -> Decimal:
    """What a position holds on a venue that no sale under way claims and that is really there."""
    quantity = _free(run, position_id, venue.name)
    return _really_there(run, venue, position_id, symbol, quantity)


def _free(run: Run, position_id: int, venue_name: str) -> Decimal:
    """What no sale under way claims of a holding."""
    died_before = clock.now() - RUN_LIMIT
    row = run.ledger.one(_FREE, (died_before, position_id, venue_name))
    return Decimal(0) if row is None else row["quantity"]


def _really_there(
    run: Run, venue: Venue, position_id: int, symbol: str, quantity: Decimal
) -> Decimal:
    """``quantity``, or less where the venue has less that is free and not of others.

    The ledger may not have heard yet of a sale that the venue has made; what is left there then
    belongs to other positions, or to other pods on the account. What of theirs is locked by their
    stops is not free, and counts in the total. No exit waits for a venue that does not tell its
    balances: it still refuses to sell what is not there.
    """
    currency = symbol.split("/")[0]
    try:
        balance = venue.balances().get(currency)
    except VenueUnavailable:
        return quantity
    if balance is None:
        return Decimal(0)
    row = run.ledger.one(_OF_OTHERS, (run.ledger.pod, symbol, position_id, venue.name))
    others = Decimal(0) if row is None else row["quantity"]
    others += sharing.held_by_others(run.ledger, venue).get(currency, Decimal(0))
    return min(quantity, balance.free, balance.total - others)


def _sell(
    run: Run, venue: Venue, position_id: int, row: Row, key: str, quantity: Decimal
) -> OrderResult | None:
    book = venue.book(row["symbol"])
    rules = venue.rules(row["symbol"])
    wish = Wish(
        logical_key=key,
        position_id=position_id,
        symbol=row["symbol"],
        side="sell",
        purpose="exit",
        quantity=quantity,
        decision_mid=Decimal(str(book.mid)),
    )
    collar_bps = _collar_bps(run, position_id, venue.name)
    intent = marketable_intent(wish, rules, book, collar_bps=collar_bps)
    if intent is None:
        return None
    price = intent.ticket.limit_price
    average = bands.average_for(venue, "sell", price, rules, book)
    intent = bands.fitted_sale(intent, rules, average)
    best_bid = Decimal(str(book.bids[0][0]))
    if intent.ticket.limit_price > max(price, best_bid):
        least = intent.ticket.limit_price
        why = f"{venue.name}: takes no sale below {least}, and the bid is {best_bid}"
        _tell_delayed(run, position_id, row, why)
    return send(run, venue, intent, rules, book, average_price=average)


def _collar_bps(run: Run, position_id: int, venue_name: str) -> Decimal:
    """How far below the mid this exit may sell: as far as the stop that it replaces at first, and
    twice as far after each try that sold nothing, so that a wide spread holds nobody for long."""
    row = run.ledger.one(
        "SELECT count(*) AS in_vain FROM order_log WHERE position_id = %s AND venue = %s "
        "AND purpose = 'exit' AND filled_quantity = 0 AND state = 'ACKNOWLEDGED' "
        "AND sent_at > %s",
        (position_id, venue_name, clock.now() - _IN_VAIN_WITHIN),
    )
    in_vain = 0 if row is None else int(row["in_vain"])
    first = max(run.config.price_collar_bps, STOP_LIMIT_OFFSET_PERCENT * 100)
    return min(first * 2**in_vain, max(first, MAX_EXIT_COLLAR_PERCENT * 100))


def _tell_delayed(run: Run, position_id: int, row: Row, why: str) -> None:
    detail = {"position_id": position_id, "venue": row["venue"], "why": why}
    events.record(run.ledger, "EXIT_DELAYED", detail)
    alerts.put(
        run.ledger,
        f"exit-delayed:{position_id}:{clock.now():%Y-%m-%dT%H}",
        "HIGH",
        f"{row['symbol']}: an exit on {row['venue']} is delayed",
        f"{why}. It is tried again in every run.",
    )
