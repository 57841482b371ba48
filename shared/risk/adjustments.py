"""What is done to a position that stays open: stop raised, profit taken in part, pyramid.

Every adjustment lowers the risk of the position or leaves it where it was. Averaging down is not
built, and neither is the rebalancing of a core sleeve.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.types import MarketRules
from shared.ledger import equity, positions, state
from shared.ledger.positions import Position
from shared.risk.exit_rules import Seen, raised_stop
from shared.run import Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

PARTIAL_PROFIT_PERCENT = Decimal(10)
PYRAMID_PERCENT = Decimal(5)
PYRAMID_SHARE = Decimal("0.5")  # of the quantity held
_HALF = Decimal("0.5")
_WENT_OUT = ("FILLED", "PARTIALLY_FILLED", "UNKNOWN", "OPEN")

Action = dict[str, Any]


@dataclass(frozen=True)
class Addition:
    """A pyramid: base quantity to add and the stop under which it adds no risk."""

    quantity: Decimal
    stop_price: Decimal


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
        stop = positions.tighten_stop(run.ledger, position.position_id, stop)
    return _action(position, "tighten_stop", before=position.stop_price, after=stop)


def take_partial(run: Run, desk: Desk, position: Position, bid: Decimal) -> Action | None:
    """Sell half above +10 %, once, where both halves stay sellable.

    The desk sells a part once, whatever became of this run: the mark below only tells of it.
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
    if any(result.outcome in _WENT_OUT for result in results):
        with run.ledger.transaction():
            run.guard()
            positions.mark_partial_taken(run.ledger, position.position_id)
    return _action(position, "partial_profit", outcomes=[r.outcome for r in results])


def pyramid(run: Run, desk: Desk, position: Position, bid: Decimal) -> Action | None:
    """Add above +5 %, once, with the stop raised first so that the whole risks no more."""
    if gain_percent(position, bid) <= PYRAMID_PERCENT or _has_pyramided(run, position):
        return None
    if not state.read(run.ledger).allows_new_risk:
        return None
    addition = plan_pyramid(position, bid, _headroom_quote(run, position, bid))
    if addition is None or not _is_sendable(desk, position, addition, bid):
        return None
    with run.ledger.transaction():
        run.guard()
        stop = positions.tighten_stop(run.ledger, position.position_id, addition.stop_price)
    try:
        desk.add(position.position_id, addition.quantity * bid, bid, "pyramid")
    except (OrderDenied, DataUnavailable) as refused:
        return _action(position, "pyramid_refused", stop=stop, detail=str(refused))
    return _action(position, "pyramid", size_quote=addition.quantity * bid, stop=stop)


def plan_pyramid(position: Position, bid: Decimal, headroom_quote: Decimal) -> Addition | None:
    """How much may be added, or ``None``.

    With ``q`` held under the stop ``S``, adding ``a`` at the price ``P`` keeps the loss at the
    stop where it was if the stop rises to ``S + (P - S) a / (q + a)``. That stop has to stay half
    the trailing distance below the price, or the addition would be stopped out by noise.
    """
    distance = position.trailing_distance_percent
    if distance is None or not position.is_held or bid <= position.stop_price:
        return None
    highest_stop = bid * (1 - distance / 200)
    share = (highest_stop - position.stop_price) / (bid - position.stop_price)
    if share <= 0:
        return None
    by_stop = position.quantity * share / (1 - share)
    by_size = max(headroom_quote, Decimal(0)) / bid
    quantity = min(position.quantity * PYRAMID_SHARE, by_stop, by_size)
    if quantity <= 0:
        return None
    rise = (bid - position.stop_price) * quantity / (position.quantity + quantity)
    return Addition(quantity, position.stop_price + rise)


def gain_percent(position: Position, price: Decimal) -> Decimal:
    """How far ``price`` lies above the average entry.

    Raises:
        DataUnavailable: the position has no entry yet.
    """
    entry = position.average_entry_price
    if entry is None:
        raise DataUnavailable(f"position {position.position_id}: expected an entry price")
    return 100 * (price - entry) / entry


def _headroom_quote(run: Run, position: Position, bid: Decimal) -> Decimal:
    config = run.config
    worth = equity.standing(run.ledger, config.quote_currency, clock.now_ms()).worth_quote
    if worth is None:
        return Decimal(0)
    limit = min(config.max_position_size, worth * config.position_size_percent / 100)
    return limit - position.quantity * bid


def _has_pyramided(run: Run, position: Position) -> bool:
    row = run.ledger.one(
        "SELECT 1 FROM parent_orders WHERE position_id = %s AND reason = 'pyramid'",
        (position.position_id,),
    )
    return row is not None


def _is_sendable(desk: Desk, position: Position, addition: Addition, bid: Decimal) -> bool:
    rules = [_rules(desk, name, position.symbol) for name in desk.venues]
    return any(
        rule is not None
        and addition.quantity >= rule.min_quantity
        and addition.quantity * bid >= rule.min_notional
        for rule in rules
    )


def _halves_are_sellable(run: Run, desk: Desk, position: Position, bid: Decimal) -> bool:
    rows = run.ledger.query(
        "SELECT venue, quantity FROM position_holdings WHERE position_id = %s AND quantity > 0",
        (position.position_id,),
    )
    for row in rows:
        rules, half = _rules(desk, row["venue"], position.symbol), row["quantity"] * _HALF
        if rules is None:
            return False
        step = rules.quantity_step
        half = half // step * step
        if half < rules.min_quantity or half * bid < rules.min_notional:
            return False
    return bool(rows)


def _rules(desk: Desk, venue_name: str, symbol: str) -> MarketRules | None:
    venue = desk.venues.get(venue_name)
    if venue is None:
        return None
    try:
        return venue.rules(symbol)
    except VenueUnavailable:
        return None  # without the venue's minimums nothing is adjusted there


def _action(position: Position, kind: str, **detail: Any) -> Action:
    shown = {k: float(v) if isinstance(v, Decimal) else v for k, v in detail.items()}
    return {"position_id": position.position_id, "symbol": position.symbol, "action": kind} | shown
