"""Work the parent orders: send the slice that is due, on the venue where it costs least."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution import parents, routing
from shared.execution.parents import Parent
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import OrderResult
from shared.execution.venues.base import Venue
from shared.ledger import state
from shared.market.types import Quote
from shared.run import Run

_PRICE_MAX_AGE = timedelta(seconds=90)


def work(
    run: Run, venues: Mapping[str, Venue], parent: Parent, *, may_buy: bool
) -> OrderResult | None:
    """Send what ``parent`` is due, or end it where its time or its permission is over."""
    now = clock.now()
    if now >= parent.expires_at:
        parents.end(run.ledger, parent.parent_id, "EXPIRED", "its time is over")
        return None
    trading = state.read(run.ledger)
    if not trading.allows_new_risk:
        parents.end(run.ledger, parent.parent_id, "CANCELLED", f"trading is {trading.state}")
        return None
    number = parents.due_slice(parent, now)
    if number is None or not may_buy:
        return None
    result = _buy(run, venues, parent, number, passive=trading.limit_orders_only)
    if number >= parent.slices - 1:
        _end_if_complete(run, venues, parent, result)
    return result


def _buy(
    run: Run, venues: Mapping[str, Venue], parent: Parent, number: int, *, passive: bool
) -> OrderResult | None:
    wish = Wish(
        logical_key=f"{parent.parent_id}:{number}",
        position_id=parent.position_id,
        symbol=parent.symbol,
        side="buy",
        purpose=parent.purpose,
        quantity=parents.quantity_due(parent, number),
        decision_mid=parent.decision_mid,
        parent_id=parent.parent_id,
        slice=number,
    )
    ranked = routing.rank_for_buying(
        venues,
        recent_quotes(run, parent.symbol),
        _free_cash(run),
        parent.symbol,
        wish.quantity * parent.decision_mid,
    )
    for name in ranked:
        try:
            book = venues[name].book(parent.symbol)
        except VenueUnavailable:
            continue  # nothing was sent: the next best venue takes the slice
        rules = venues[name].rules(parent.symbol)
        collar_bps = run.config.price_collar_bps
        intent = marketable_intent(wish, rules, book, collar_bps=collar_bps, passive=passive)
        if intent is not None:
            return send(run, venues[name], intent, rules, book)
    return None


def _end_if_complete(
    run: Run, venues: Mapping[str, Venue], parent: Parent, result: OrderResult | None
) -> None:
    filled = parent.filled_quantity + (result.filled_quantity if result else Decimal(0))
    rest = parent.quantity - filled
    smallest = [_smallest_order(venue, parent) for venue in venues.values()]
    known = [order for order in smallest if order is not None]
    if known and rest < min(known):
        parents.end(run.ledger, parent.parent_id, "DONE", "filled")


def _smallest_order(venue: Venue, parent: Parent) -> Decimal | None:
    try:
        rules = venue.rules(parent.symbol)
    except VenueUnavailable:
        return None  # it takes no order of any size now
    return max(rules.min_quantity, rules.min_notional / parent.decision_mid)


def recent_quotes(run: Run, symbol: str) -> dict[str, Quote]:
    """What the scanner saw within the last 90 s, by venue."""
    rows = run.ledger.query(
        "SELECT venue, bid, ask, at FROM prices WHERE pod = %s AND symbol = %s AND at >= %s",
        (run.ledger.pod, symbol, clock.now() - _PRICE_MAX_AGE),
    )
    return {
        row["venue"]: Quote(float(row["bid"]), float(row["ask"]), clock.to_ms(row["at"]))
        for row in rows
    }


def _free_cash(run: Run) -> dict[str, Decimal]:
    """Quote currency by venue, less what buys under way may still take."""
    rows = run.ledger.query(
        "SELECT b.venue, b.amount - coalesce((SELECT sum((l.quantity - l.filled_quantity) "
        "* l.limit_price) FROM order_log l WHERE l.pod = b.pod AND l.venue = b.venue "
        "AND l.side = 'buy' AND (l.state IN ('SENDING', 'UNKNOWN') "
        "OR l.order_status = 'open')), 0) AS free FROM balances b "
        "WHERE b.pod = %s AND b.currency = %s",
        (run.ledger.pod, run.config.quote_currency),
    )
    return {row["venue"]: row["free"] for row in rows}
