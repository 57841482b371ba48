"""What must be true after every step, and what once nothing fails any more.

The numbers are those of the invariants in the project's safety notes: conservation (I1), at most
one order for an intent (I2), ledger and exchange agree (I5), protection (I6), fills (I7),
transitions (I9).
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from stateful_venue import BASE, STEP, StatefulVenue
from stateful_world import World

from shared.execution.rounding import floor_to
from shared.ledger.connection import Row

_NOTHING = Decimal(0)
_NEXT: dict[str, set[str]] = {
    "SENDING": {"SENDING", "ACKNOWLEDGED", "REJECTED", "UNKNOWN", "DEAD"},
    "UNKNOWN": {"UNKNOWN", "ACKNOWLEDGED", "REJECTED", "DEAD"},
    "ACKNOWLEDGED": {"ACKNOWLEDGED"},
    "REJECTED": {"REJECTED"},
    "DEAD": {"DEAD"},
}
# An order that was known may fill more than its venue had said; told are the others.
_TOLD = """
SELECT kind, detail FROM events
WHERE kind = ANY(%s) AND NOT coalesce(detail->>'state' = 'ACKNOWLEDGED', false)
"""
# Told of what must not happen while venues keep their promises: an order that was given up exists,
# a fill is not what it was, an order has filled more than was ordered.
_NEVER = ("ORDER_AMENDED", "FILL_CONTRADICTED", "FILL_EXCEEDS_ORDER")

_ORDERS = "SELECT * FROM order_log ORDER BY sent_at, intent_id"
_POSITIONS = "SELECT * FROM positions ORDER BY position_id"
_HOLDINGS = """
SELECT h.position_id, h.venue, h.quantity, p.stop_price, p.exit_reason, p.closed_at
FROM position_holdings h JOIN positions p USING (position_id) ORDER BY 1, 2
"""
_OVERFILLED = """
SELECT i.intent_id, i.quantity, o.filled_quantity, sum(f.quantity) AS filled
FROM intents i JOIN orders o USING (intent_id) LEFT JOIN fills f USING (intent_id)
GROUP BY i.intent_id, o.filled_quantity
HAVING coalesce(sum(f.quantity), 0) > i.quantity OR o.filled_quantity > i.quantity
"""


class Invariants:
    """Checks after each step; remembers what was true before it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._orders: dict[str, Row] = {}
        self._stops: dict[int, Decimal] = {}

    def check(self) -> None:
        """After every step."""
        orders = {row["intent_id"]: row for row in self._world.ledger.query(_ORDERS)}
        self._check_transitions(orders)
        self._check_every_order_is_ours_once(orders)
        self._check_parents(orders)
        self._check_stop_prices()
        self._check_holdings()
        ledger = self._world.ledger
        assert ledger.query(_OVERFILLED) == [], "I7: more filled than ordered"
        told = ledger.query(_TOLD, (list(_NEVER),))
        assert told == [], f"I9: {told}"
        self._orders = orders

    def _check_transitions(self, orders: dict[str, Row]) -> None:
        for intent_id, before in self._orders.items():
            now = orders.get(intent_id)
            assert now is not None, f"{intent_id}: its intent is gone"
            assert now["state"] in _NEXT[before["state"]], (
                f"I9: {intent_id}: {before['state']} became {now['state']}"
            )
            assert now["filled_quantity"] >= before["filled_quantity"], f"I7: {intent_id} fell"

    def _check_every_order_is_ours_once(self, orders: dict[str, Row]) -> None:
        for venue in self._world.venues.values():
            sent = Counter(ticket.client_order_id for ticket in venue.sent)
            assert all(count == 1 for count in sent.values()), f"I2: {sent.most_common(1)}"
            ours = {order.client_order_id for order in venue.orders.values()} - {None}
            assert ours <= set(orders), f"I2: orphans {ours - set(orders)}"
        keys = Counter(row["logical_key"] for row in orders.values())
        assert all(count == 1 for count in keys.values()), f"I2: {keys.most_common(1)}"

    def _check_parents(self, orders: dict[str, Row]) -> None:
        """By what the venues have filled and what may still arrive, whatever the ledger knows."""
        bought: dict[str, Decimal] = {}
        for venue in self._world.venues.values():
            for intent_id, row in orders.items():
                if row["parent_id"] is None or row["venue"] != venue.name:
                    continue
                order = venue.orders.get(intent_id)
                filled = _NOTHING if order is None else order.filled_quantity
                filled += sum(
                    (t.quantity for t in venue.in_transit if t.client_order_id == intent_id),
                    _NOTHING,
                )
                bought[row["parent_id"]] = bought.get(row["parent_id"], _NOTHING) + filled
        for row in self._world.ledger.query("SELECT parent_id, quantity FROM parent_orders"):
            assert bought.get(row["parent_id"], _NOTHING) <= row["quantity"], (
                f"{row['parent_id']} bought {bought[row['parent_id']]} of {row['quantity']}"
            )

    def _check_stop_prices(self) -> None:
        for row in self._world.ledger.query(_POSITIONS):
            before = self._stops.get(row["position_id"], _NOTHING)
            assert row["stop_price"] >= before, f"a stop fell to {row['stop_price']} from {before}"
            self._stops[row["position_id"]] = row["stop_price"]

    def _check_holdings(self) -> None:
        for row in self._world.ledger.query(_HOLDINGS):
            assert row["quantity"] >= 0, f"position {row['position_id']} has sold what it had not"
        for venue in self._world.venues.values():
            below = {c: amount for c, amount in venue.account.items() if amount < 0}
            assert not below, f"{venue.name}: {below}"
            assert venue.locked(BASE) <= venue.account[BASE]
            assert len(venue.stops) <= 1, f"{venue.name}: {len(venue.stops)} stops rest"


def ledger_balances(world: World) -> dict[tuple[str, str], Decimal]:
    rows = world.ledger.query("SELECT venue, currency, amount FROM balances")
    return {(row["venue"], row["currency"]): row["amount"] for row in rows}


def check_differences(world: World) -> None:
    """I1: ledger and venues differ by what people have moved, to the last digit, and that is told.

    After runs in which nothing failed, before anybody has booked it.
    """
    known = ledger_balances(world)
    for venue in world.venues.values():
        for currency, there in venue.account.items():
            here = known.get((venue.name, currency), _NOTHING)
            moved = venue.human.get(currency, _NOTHING)
            assert there - here == moved, (
                f"I1: {venue.name}: {currency} is {there} there, {here} here, moved {moved}"
            )
            if moved:
                assert _is_told(world, venue.name, currency), f"{currency} differs, and is not told"


def _is_told(world: World, venue: str, currency: str) -> bool:
    return bool(
        world.ledger.query(
            "SELECT 1 FROM events WHERE kind = 'RECONCILE_DIFFERENCE' "
            "AND detail->>'venue' = %s AND detail->>'currency' = %s",
            (venue, currency),
        )
    )


def unsettled(world: World) -> list[Any]:
    """What is still to come: outcomes not known, and what is held without protection."""
    unknown: list[Any] = world.ledger.query(
        "SELECT intent_id, logical_key, state FROM order_log WHERE state IN ('SENDING', 'UNKNOWN') "
        "OR order_status = 'open' AND purpose <> 'protect'"
    )
    return unknown + [place for venue in world.venues.values() for place in _bare(world, venue)]


def _bare(world: World, venue: StatefulVenue) -> list[Any]:
    """I6: what is sellable here and not for sale at its stop, by the venue's own account."""
    found: list[Any] = []
    for row in world.ledger.query(_HOLDINGS):
        if row["venue"] != venue.name or row["closed_at"] is not None:
            continue
        quantity = floor_to(row["quantity"], STEP)
        rules = venue.rules("BTC/USDT")
        if quantity * row["stop_price"] * Decimal("0.98") < rules.min_notional:
            continue
        resting = list(venue.stops.values())
        covered = sum((venue._rest_of(t) for t in resting), _NOTHING)
        high_enough = all(
            t.stop_price is not None and t.stop_price * Decimal("1.0011") >= row["stop_price"]
            for t in resting
        )
        if covered != quantity or not high_enough or row["exit_reason"] is not None:
            found.append({**row, "covered": covered, "bid": venue.bid})
    return found


def check_settled(world: World) -> None:
    """I1, I5, I6 and I9 after a time in which nothing failed and everything moved was booked."""
    left = unsettled(world)
    assert not left, f"still to come: {left}"
    known = ledger_balances(world)
    for venue in world.venues.values():
        for currency, there in venue.account.items():
            here = known.get((venue.name, currency), _NOTHING)
            assert here == there, f"I1: {venue.name}: {currency} is {there} there, {here} here"
        for ticket in venue.stops.values():
            row = world.ledger.one(
                "SELECT order_status FROM order_log WHERE intent_id = %s", (ticket.client_order_id,)
            )
            assert row == {"order_status": "open"}, f"I5: {ticket.client_order_id}: {row}"
    naked = world.ledger.query(
        "SELECT n.*, h.quantity FROM naked_intervals n JOIN position_holdings h "
        "USING (position_id, venue) WHERE until IS NULL"
    )
    assert naked == [], f"I6: {naked}"
