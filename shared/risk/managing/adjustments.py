"""What makes a position that stays open safer: its stop raised, its profit taken in part.

What adds to one stands in ``managing.growing``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared.errors import DataUnavailable, VenueUnavailable
from shared.execution.types import MarketRules
from shared.ledger import events, positions
from shared.ledger.positions import Position
from shared.risk.controls.prices import STOP_LIMIT_OFFSET_PERCENT
from shared.risk.exit_rules import Seen, raised_stop
from shared.risk.looks import STOP_RAISED
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

PARTIAL_PROFIT_PERCENT = Decimal(10)
_HALF = Decimal("0.5")
_TAKEN = ("FILLED", "PARTIALLY_FILLED", "OPEN")

Action = dict[str, Any]


def follow(run: Run, position: Position, bid: Decimal, seen: Seen | None) -> Action | None:
    """Raise the high-water mark and the trailing stop; tells of a stop that moved."""
    high = bid if seen is None else max(bid, Decimal(repr(seen.high)))
    stop = raised_stop(position, high)
    if stop is None and position.high_water_price is not None and high <= position.high_water_price:
        return None
    with run.ledger.transaction():
        run.guard()
        positions.raise_high_water(run.ledger, position.position_id, high)
        if stop is None:
            return None
        stop = raise_stop(run, position, stop, why="trailing")
    return action(position, "tighten_stop", before=position.stop_price, after=stop)


def raise_stop(run: Run, position: Position, stop_price: Decimal, *, why: str) -> Decimal:
    """Raise a stop inside the caller's transaction; a lower one changes nothing.

    Its time is told by an event, so that the next look leaves out what lay below it before.
    Returns the stop in force.

    Raises:
        DataUnavailable: the position has been closed meanwhile.
    """
    stop = positions.tighten_stop(run.ledger, position.position_id, stop_price)
    if stop > position.stop_price:
        told = action(position, why, before=position.stop_price, after=stop)
        events.record(run.ledger, STOP_RAISED, told)
    return stop


def take_partial(run: Run, desk: Desk, position: Position, bid: Decimal) -> Action | None:
    """Sell half above +10 %, once, where both halves stay sellable.

    The desk sells a part once, whatever became of this run: the mark below only tells of it. A sale
    of unknown fate is not marked: either it is found to have sold something, or it may be repeated.
    """
    if position.partial_taken or position.sold_quantity > 0:
        return None
    if gain_percent(position, bid) <= PARTIAL_PROFIT_PERCENT:
        return None
    if not _halves_are_sellable(run, desk, position, bid):
        return None
    results = desk.exit(position.position_id, reason="partial_profit", fraction=_HALF)
    if not results:
        return None  # it was sent before, or no venue could be asked
    if any(result.outcome in _TAKEN for result in results):
        with run.ledger.transaction():
            run.guard()
            positions.mark_partial_taken(run.ledger, position.position_id)
    return action(position, "partial_profit", outcomes=[r.outcome for r in results])


def gain_percent(position: Position, price: Decimal) -> Decimal:
    """How far ``price`` lies above the average entry.

    Raises:
        DataUnavailable: the position has no entry yet.
    """
    entry = position.average_entry_price
    if entry is None:
        raise DataUnavailable(f"position {position.position_id}: expected an entry price")
    return 100 * (price - entry) / entry


def _halves_are_sellable(run: Run, desk: Desk, position: Position, bid: Decimal) -> bool:
    """Whether a half can be sold, and the other still be protected and sold in a fall.

    The half that is sold may go as far below the bid as an exit's first try does; the half that
    stays has to be large enough for its stop. What lies on a venue as dust is dust either way.
    """
    rows = run.ledger.query(
        "SELECT venue, quantity FROM position_holdings WHERE position_id = %s AND quantity > 0",
        (position.position_id,),
    )
    worst = 1 - STOP_LIMIT_OFFSET_PERCENT / 100
    sellable = 0
    for row in rows:
        rules = market_rules(desk, row["venue"], position.symbol)
        if rules is None:
            return False  # without the venue's minimums nothing is adjusted there
        if not _is_takeable(rules, row["quantity"], bid):
            continue
        sold = row["quantity"] * _HALF // rules.quantity_step * rules.quantity_step
        rest = row["quantity"] - sold
        if not _is_takeable(rules, sold, bid * worst):
            return False
        if not _is_takeable(rules, rest, position.stop_price * worst):
            return False
        sellable += 1
    return sellable > 0


def _is_takeable(rules: MarketRules, quantity: Decimal, price: Decimal) -> bool:
    quantity = quantity // rules.quantity_step * rules.quantity_step
    return (
        quantity >= rules.min_quantity and quantity * price >= rules.min_notional and quantity > 0
    )


def market_rules(desk: Desk, venue_name: str, symbol: str) -> MarketRules | None:
    """The venue's minimums for a symbol, or ``None`` where it does not tell them."""
    venue = desk.venues.get(venue_name)
    if venue is None:
        return None
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None


def action(position: Position, kind: str, **detail: Any) -> Action:
    """What was done to a position, as it is exported."""
    shown = {k: float(v) if isinstance(v, Decimal) else v for k, v in detail.items()}
    return {"position_id": position.position_id, "symbol": position.symbol, "action": kind} | shown
