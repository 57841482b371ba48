"""Work the parent orders: send the slice that is due, over the venues where it costs least.

Those that buy are worked here, those that sell a part of a core position in ``exits/reducing``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

from shared import clock
from shared.errors import VenueUnavailable
from shared.execution.entries import liquidity, parents, routing
from shared.execution.entries.liquidity import Liquidity
from shared.execution.entries.offers import Offer
from shared.execution.entries.parents import Parent
from shared.execution.exits import reducing
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import OrderResult
from shared.execution.venues.base import Venue
from shared.ledger import state
from shared.ledger.state import TradingState
from shared.run import Run

NONE_KEPT_OUT: Mapping[str, Venue] = MappingProxyType({})
_NOTHING_LEFT = ("DENIED", "REJECTED")  # outcomes that leave no order on the venue


def work(
    run: Run,
    venues: Mapping[str, Venue],
    parent: Parent,
    *,
    may_buy: bool,
    kept_out: Mapping[str, Venue] = NONE_KEPT_OUT,
) -> list[OrderResult]:
    """Send what ``parent`` is due, or end it where its time, reason or permission is over.

    Args:
        venues: those that an order may go to in this run.
        kept_out: those that may take one in a later run, of which this parent has overtime.
    """
    now, trading = clock.now(), state.read(run.ledger)
    over = _why_over(run, parent, now, trading)
    if over is not None:
        parents.end(run.ledger, parent.parent_id, *over)
        return []
    number = parents.due_slice(parent, now)
    if number is None or not may_buy:
        return []
    send_slice = _buy if parent.side == "buy" else reducing.sell
    results = send_slice(run, venues, parent, number, passive=trading.limit_orders_only)
    if number >= parent.slices - 1:
        _end_if_complete(run, {**venues, **kept_out}, parent)
    return results


def _why_over(
    run: Run, parent: Parent, now: datetime, trading: TradingState
) -> tuple[Literal["EXPIRED", "CANCELLED"], str] | None:
    """A parent is not worked to its end for its own sake: what it was made for must still hold."""
    if parent.sell_decision_id is not None:
        return "CANCELLED", f"decision {parent.sell_decision_id} says SELL"
    buys = parent.side == "buy"
    if buys and parent.position_sold:
        return "CANCELLED", "its position is being sold"
    if buys and parent.symbol not in run.universe.buyable:
        return "CANCELLED", f"{parent.symbol} is no longer in the universe"
    if not trading.allows_new_risk:
        return "CANCELLED", f"trading is {trading.state}"
    if now >= parent.expires_at:
        return "EXPIRED", f"its time is over, {parent.filled_quantity:f} filled"
    return None


def _buy(
    run: Run, venues: Mapping[str, Venue], parent: Parent, number: int, *, passive: bool
) -> list[OrderResult]:
    """Send the parts of a slice, largest first, each venue at most one.

    After each part the rest is allocated anew among the venues that have had none. So what a venue
    refuses, or the gate denies it, goes to the next best ones; what filled in part is carried into
    the next slice; and after an unknown outcome nothing more is sent.
    """
    results: list[OrderResult] = []
    left = parents.quantity_due(parent, number)
    if left <= 0:
        return results
    candidates = liquidity.candidates_for_buying(run, venues, parent.symbol)
    market = Liquidity(candidates, parent.symbol, run.config.price_collar_bps, passive=passive)
    while parts := routing.allocate(left, market.offers(left)):
        part = parts[0]
        offer = market.drop(part.venue)
        result = _send(run, venues[part.venue], parent, number, part.quantity, offer)
        if result is None:
            continue
        results.append(result)
        if result.outcome == "UNKNOWN":
            break  # it counts as in flight; its symbol is blocked until it is resolved
        if result.outcome not in _NOTHING_LEFT:
            left -= part.quantity
    return results


def _send(
    run: Run, venue: Venue, parent: Parent, number: int, quantity: Decimal, offer: Offer
) -> OrderResult | None:
    wish = Wish(
        logical_key=f"{parent.parent_id}:{number}:{venue.name}",
        position_id=parent.position_id,
        symbol=parent.symbol,
        side="buy",
        purpose=parent.purpose,
        quantity=quantity,
        decision_mid=parent.decision_mid,
        parent_id=parent.parent_id,
        slice=number,
    )
    intent = marketable_intent(
        wish,
        offer.rules,
        offer.book,
        collar_bps=offer.collar_bps,
        passive=offer.passive,
        ceiling=parent.ceiling(run.config.price_collar_bps),
    )
    return None if intent is None else send(run, venue, intent, offer.rules, offer.book)


def _end_if_complete(run: Run, venues: Mapping[str, Venue], parent: Parent) -> None:
    """After the last slice: a rest that no venue takes is told, and ends the parent."""
    filled, _ = parents.progress(run.ledger, parent.parent_id)
    rest = parent.quantity - filled
    smallest = [_smallest_order(venue, parent) for venue in venues.values()]
    known = [order for order in smallest if order is not None]
    if known and rest < min(known):
        told = "filled" if rest <= 0 else f"filled but for {rest:f}, which no venue takes"
        parents.end(run.ledger, parent.parent_id, "DONE", told)


def _smallest_order(venue: Venue, parent: Parent) -> Decimal | None:
    try:
        rules = venue.rules(parent.symbol)
    except VenueUnavailable:
        return None  # it takes no order of any size now
    return max(rules.min_quantity, rules.quantity_step, rules.min_notional / parent.decision_mid)
