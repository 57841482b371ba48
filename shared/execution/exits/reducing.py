"""Sell a part of a position over some minutes: a parent order that sells.

The schedule, the keys and the lock are those of parents that buy, so a kill at any point and a
repeat sell nothing twice. What differs is where: on the venues that hold the position, the best
price after fees first. Each sale lifts the stop that rests there, because a stop locks what it
would sell; whoever works the parents lets ``protecting.protect`` cover the rest again.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.entries import parents, routing
from shared.execution.entries.offers import Offer
from shared.execution.entries.parents import NewParent, Parent
from shared.execution.exits import leaving, protecting
from shared.execution.sending import send
from shared.execution.ticketing import Wish, marketable_intent
from shared.execution.types import MarketRules, OrderResult
from shared.execution.venues.base import Venue
from shared.run import Run

MAX_SLICES = 3
"""Each slice leaves the rest without a stop for as long as it takes to replace it, so a sale is cut
into fewer parts than a buy."""

_NOTHING_LEFT = ("DENIED", "REJECTED")  # outcomes that leave no order on the venue

_HOLDING = """
SELECT h.venue, h.quantity FROM position_holdings h
WHERE h.position_id = %s AND h.quantity > 0 ORDER BY h.venue
"""


def reduce(
    run: Run,
    venues: Mapping[str, Venue],
    position_id: int,
    *,
    quantity: Decimal,
    decision_mid: Decimal,
    key: str,
) -> str:
    """Write a parent that sells ``quantity`` of a position; a repeat of ``key`` finds it.

    Returns:
        The parent's id, which is ``key``.

    Raises:
        DataUnavailable: the position is not open, or is being left.
        OrderDenied: no venue that holds it takes an order as small as this.
    """
    ledger = run.ledger
    with ledger.transaction():
        run.guard()
        row = ledger.one(
            "SELECT symbol FROM positions WHERE pod = %s AND position_id = %s "
            "AND closed_at IS NULL AND exit_reason IS NULL FOR UPDATE",
            (ledger.pod, position_id),
        )
        if row is None:
            raise DataUnavailable(
                f"position {position_id}: expected to be open and to stay, was not"
            )
        minimums = _minimums(run, venues, position_id, row["symbol"], decision_mid)
        notional = quantity * decision_mid
        if not minimums or notional < min(minimums):
            raise OrderDenied("SIZE_BELOW_MINIMUM", size=notional, minimum=min(minimums, default=0))
        wanted = min(run.config.twap_slices, MAX_SLICES)
        parents.insert(
            ledger,
            NewParent(
                parent_id=key,
                position_id=position_id,
                decision_id=None,
                symbol=row["symbol"],
                side="sell",
                purpose="rebalance",
                reason="rebalance",
                quantity=quantity,
                decision_mid=decision_mid,
                urgency="normal",
                slices=parents.slices_for(notional, wanted, max(minimums)),
                interval_seconds=run.config.twap_interval_seconds,
            ),
        )
    return key


def smallest_sale_quote(
    run: Run, venues: Mapping[str, Venue], position_id: int, symbol: str, mid: Decimal
) -> Decimal | None:
    """The least that may be sold of a position, in quote; ``None`` where no venue tells."""
    return min(_minimums(run, venues, position_id, symbol, mid), default=None)


def sell(
    run: Run, venues: Mapping[str, Venue], parent: Parent, number: int, *, passive: bool
) -> list[OrderResult]:
    """Send the parts of slice ``number``, largest first, each venue at most one."""
    results: list[OrderResult] = []
    left = parents.quantity_due(parent, number)
    offers = _offers(run, venues, parent, passive=passive) if left > 0 else {}
    while parts := routing.allocate(left, list(offers.values())):
        part = parts[0]
        offer = offers.pop(part.venue)
        result = _sell(run, venues[part.venue], parent, number, part.quantity, offer)
        results.append(result)
        if result.outcome == "UNKNOWN":
            break  # it counts as in flight; nothing more is sent until it is resolved
        if result.outcome not in _NOTHING_LEFT:
            left -= part.quantity
    return results


def _sell(
    run: Run, venue: Venue, parent: Parent, number: int, quantity: Decimal, offer: Offer
) -> OrderResult:
    if not protecting.lift(run, venue, parent.position_id, why="rebalance"):
        return _not_sent(parent, venue, quantity, "a stop may still rest")
    wish = Wish(
        logical_key=f"{parent.parent_id}:{number}:{venue.name}",
        position_id=parent.position_id,
        symbol=parent.symbol,
        side="sell",
        purpose="rebalance",
        # the stop may have sold something before it was lifted
        quantity=min(quantity, leaving.sellable(run, venue, parent.position_id, parent.symbol)),
        decision_mid=parent.decision_mid,
        parent_id=parent.parent_id,
        slice=number,
    )
    intent = marketable_intent(
        wish, offer.rules, offer.book, collar_bps=offer.collar_bps, passive=offer.passive
    )
    if intent is None:
        return _not_sent(parent, venue, quantity, "nothing that the venue takes is left there")
    return send(run, venue, intent, offer.rules, offer.book)


def _not_sent(parent: Parent, venue: Venue, quantity: Decimal, why: str) -> OrderResult:
    return OrderResult(
        None, venue.name, parent.symbol, "sell", quantity, "DENIED", Decimal(0), None, Decimal(0),
        why,
    )  # fmt: skip


def _offers(
    run: Run, venues: Mapping[str, Venue], parent: Parent, *, passive: bool
) -> dict[str, Offer]:
    """What each venue that holds the position pays for it now."""
    offers = {}
    for row in run.ledger.query(_HOLDING, (parent.position_id,)):
        venue = venues.get(row["venue"])
        rules = None if venue is None else _rules(venue, parent.symbol)
        if venue is None or rules is None:
            continue
        try:
            book = venue.book(parent.symbol)
        except VenueUnavailable:
            continue  # nothing was sent: the other venues serve; counted in the call log
        offers[venue.name] = Offer(
            rules=rules,
            book=book,
            side="sell",
            funds=row["quantity"],
            collar_bps=run.config.price_collar_bps,
            passive=passive,
        )
    return offers


def _minimums(
    run: Run, venues: Mapping[str, Venue], position_id: int, symbol: str, mid: Decimal
) -> list[Decimal]:
    """The smallest sale on each venue that holds the position and can sell so much, in quote."""
    found = []
    for row in run.ledger.query(_HOLDING, (position_id,)):
        venue = venues.get(row["venue"])
        rules = None if venue is None else _rules(venue, symbol)
        if rules is None:
            continue
        smallest = max(rules.min_notional, max(rules.min_quantity, rules.quantity_step) * mid)
        if smallest <= row["quantity"] * mid:
            found.append(smallest)
    return found


def _rules(venue: Venue, symbol: str) -> MarketRules | None:
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None  # it takes no order of any size now
