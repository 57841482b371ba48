"""Open a position, or add to one: a row for the position and a parent order to be worked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.entries import parents
from shared.execution.entries.parents import NewParent
from shared.execution.types import EntryOrder, Exits, Purpose, Urgency
from shared.execution.venues.base import Venue
from shared.ledger import arming
from shared.run import Run

_ROOM_ABOVE_MINIMUM = Decimal("1.1")  # rounding down and a moved price must leave it sendable


@dataclass(frozen=True)
class _Buy:
    """What a parent order is to buy, and on whose word."""

    symbol: str
    size_quote: Decimal
    decision_mid: Decimal
    purpose: Purpose
    reason: str
    urgency: Urgency
    decision_id: str | None


def enter(run: Run, venues: Mapping[str, Venue], order: EntryOrder) -> str:
    """Write position and parent in one transaction; a repeat of decision or key finds them.

    Returns:
        The parent's id.

    Raises:
        OrderDenied: no venue takes an order as small as the whole size, or none tells its minimum;
            or the symbol's position is being left; or the venues are live and the pod not armed.
    """
    smallest = smallest_buy_quote(venues, order.symbol, order.decision_mid)
    if order.size_quote < smallest:
        raise OrderDenied("SIZE_BELOW_MINIMUM", size=order.size_quote, minimum=smallest)
    buy = _Buy(
        order.symbol,
        order.size_quote,
        order.decision_mid,
        "entry" if order.sleeve == "tactical" else "rebalance",
        order.strategy,
        order.urgency,
        order.decision_id,
    )
    with run.ledger.transaction():
        run.guard()
        _deny_unless_armed(run, venues)
        position_id = _position_for(run, order)
        name = order.decision_id or f"{position_id}:{clock.iso(run.event_at)}"
        key = order.key or f"entry:{run.ledger.pod}:{name}"
        parent = _parent(run, venues, key, position_id, buy)
        parents.insert(run.ledger, parent)
    return parent.parent_id


def add(
    run: Run,
    venues: Mapping[str, Venue],
    position_id: int,
    *,
    size_quote: Decimal,
    decision_mid: Decimal,
    reason: str,
) -> str:
    """Buy more for an open position, once a run at most. Returns the parent's id.

    Raises:
        DataUnavailable: the position is not open, or is being left.
        OrderDenied: as ``enter``.
    """
    ledger = run.ledger
    with ledger.transaction():
        run.guard()
        _deny_unless_armed(run, venues)
        row = ledger.one(
            "SELECT symbol FROM positions WHERE position_id = %s AND closed_at IS NULL "
            "AND exit_reason IS NULL FOR UPDATE",
            (position_id,),
        )
        if row is None:
            raise DataUnavailable(
                f"position {position_id}: expected to be open and to stay, was not"
            )
        buy = _Buy(row["symbol"], size_quote, decision_mid, "entry", reason, "normal", None)
        key = f"add:{ledger.pod}:{position_id}:{clock.iso(run.event_at)}"
        parent = _parent(run, venues, key, position_id, buy)
        parents.insert(ledger, parent)
    return parent.parent_id


def smallest_buy_quote(venues: Mapping[str, Venue], symbol: str, mid: Decimal) -> Decimal:
    """The least that may be entered, in quote: the smallest order of the easiest venue, with room.

    Raises:
        OrderDenied: no venue tells its minimum.
    """
    return min(_smallest_notionals(venues, symbol, mid)) * _ROOM_ABOVE_MINIMUM


def _deny_unless_armed(run: Run, venues: Mapping[str, Venue]) -> None:
    """The gate would deny each slice; what nobody may buy is not planned either."""
    if any(venue.mode == "live" for venue in venues.values()):
        arming.demand(run.ledger)


def _position_for(run: Run, order: EntryOrder) -> int:
    ledger = run.ledger
    present = ledger.one(
        "SELECT position_id, exit_reason FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = %s AND closed_at IS NULL FOR UPDATE",
        (ledger.pod, order.symbol, order.sleeve),
    )
    if present is not None and present["exit_reason"] is not None:
        # bought now, it would be sold in the next minute, for two fees
        raise OrderDenied("POSITION_LEAVING", symbol=order.symbol, why=present["exit_reason"])
    row = present or ledger.one(
        "INSERT INTO positions (pod, symbol, sleeve, strategy, decision_id, opened_at, "
        "stop_price, target_price, trailing_activation_price, trailing_distance_percent, "
        "time_stop_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING position_id",
        (
            ledger.pod,
            order.symbol,
            order.sleeve,
            order.strategy,
            order.decision_id,
            clock.now(),
            order.exits.stop_price,
            *_exits_beyond_the_stop(order),
        ),
    )
    if row is None:
        raise DataUnavailable("positions: expected the new row, was nothing")
    return int(row["position_id"])


def _exits_beyond_the_stop(order: EntryOrder) -> tuple[object, ...]:
    """Target, activation and distance of the trailing stop, time stop; nulls where none is set."""
    if not isinstance(order.exits, Exits):
        return (None, None, None, None)
    exits = order.exits
    return (
        exits.target_price,
        exits.trailing_activation_price,
        exits.trailing_distance_percent,
        exits.time_stop_at,
    )


def _parent(
    run: Run, venues: Mapping[str, Venue], parent_id: str, position_id: int, buy: _Buy
) -> NewParent:
    config = run.config
    # Sized at the collar's worst price against the decision's mid, so that a price that moves
    # within the collar stays within what was approved; beyond that the gate's limits bind.
    worst_price = buy.decision_mid * (1 + config.price_collar_bps / 10_000)
    slices = 1
    if buy.urgency == "normal":
        # By the venue that asks for most, so that a slice has every venue to choose from.
        minimum = max(_smallest_notionals(venues, buy.symbol, buy.decision_mid))
        slices = parents.slices_for(buy.size_quote, config.twap_slices, minimum)
    return NewParent(
        parent_id=parent_id,
        position_id=position_id,
        decision_id=buy.decision_id,
        symbol=buy.symbol,
        side="buy",
        purpose=buy.purpose,
        reason=buy.reason,
        quantity=buy.size_quote / worst_price,
        decision_mid=buy.decision_mid,
        urgency=buy.urgency,
        slices=slices,
        interval_seconds=config.twap_interval_seconds,
    )


def _smallest_notionals(venues: Mapping[str, Venue], symbol: str, mid: Decimal) -> list[Decimal]:
    """What the smallest order costs on each venue that tells it; the others take none now."""
    known = []
    for venue in venues.values():
        try:
            rules = venue.rules(symbol)
        except VenueUnavailable:
            continue  # counted in the call log
        smallest_quantity = max(rules.min_quantity, rules.quantity_step)
        known.append(max(rules.min_notional, smallest_quantity * mid))
    if not known:
        raise OrderDenied("MARKET_RULES_MISSING", symbol=symbol)
    return known
