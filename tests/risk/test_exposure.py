"""What counts as held and under way when a purchase is judged."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from shared.risk import context
from shared.risk.context import Exposure
from tests.risk.world import BTC, ETH, World, dec


def exposure(world: World) -> Exposure:
    return context.exposure(world.run, {})


def parent(world: World, position_id: int, *, state: str, quantity: object = 2) -> str:
    """A parent order that buys 2 at a mid of 100."""
    parent_id = f"{state} {quantity}"
    world.ledger.execute(
        "INSERT INTO parent_orders (parent_id, pod, position_id, symbol, side, purpose, reason, "
        "quantity, decision_mid, urgency, slices, interval_seconds, created_at, expires_at, state) "
        "VALUES (%s, 'test', %s, %s, 'buy', 'entry', 'test', %s, 100, 'normal', 1, 0, %s, %s, %s)",
        (parent_id, position_id, BTC, dec(quantity), world.now(), world.now(), state),
    )
    return parent_id


def slice_of(world: World, parent_id: str | None, position_id: int, **order: Any) -> None:
    intent_id = world.intent(position_id, **{"quantity": 1, "limit_price": 101} | order)
    world.ledger.execute(
        "UPDATE intents SET parent_id = %s WHERE intent_id = %s", (parent_id, intent_id)
    )


UNKNOWN = {"state": "UNKNOWN"}
RESTS = {"order_status": "open", "filled": "0.4"}


@pytest.mark.parametrize(
    ("working", "order", "pending"),
    [
        (True, {}, 200),
        (True, UNKNOWN, 200),  # part of what its parent may still take, not once more
        (True, RESTS, 200),
        (False, {"state": "ACKNOWLEDGED"}, 0),
        (False, {"state": "DEAD"}, 0),
        (False, {"order_status": "cancelled"}, 0),
        (False, UNKNOWN, 101),  # its parent is over, and nobody knows whether it has filled
        (False, {"state": "SENDING"}, 101),
        (False, RESTS, 101),  # what it has filled is in no position yet
        (False, {"order_status": "cancelled", "filled": "0.4"}, Decimal("40.4")),
        (False, {"order_status": "filled", "filled": 1}, 101),
        (False, UNKNOWN | {"side": "sell"}, 0),
    ],
)
def test_what_may_still_be_bought(
    world: World, working: bool, order: dict[str, Any], pending: object
) -> None:
    position_id = world.position()
    parent_id = parent(world, position_id, state="WORKING" if working else "DONE")
    slice_of(world, parent_id, position_id, **order)
    found = exposure(world)
    assert found.pending_quote.get(BTC, Decimal(0)) == pending
    assert found.tactical_pending_quote.get(BTC, Decimal(0)) == pending
    assert found.committed_quote.get(BTC, 0.0) == float(pending)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "pending"),
    [
        (RESTS, Decimal("60.6")),
        (UNKNOWN | RESTS, Decimal("60.6")),
        ({"order_status": "cancelled", "filled": "0.4"}, 0),
    ],
)
def test_what_is_recorded_is_held_and_no_more_under_way(
    world: World, order: dict[str, Any], pending: object
) -> None:
    position_id = world.position()
    slice_of(world, None, position_id, **order)
    world.ledger.execute(
        "INSERT INTO fills (venue, venue_trade_id, venue_order_id, intent_id, position_id, pod, "
        "symbol, side, price, quantity, fee_currency, fee_cost, fee_quote, liquidity, filled_at, "
        "recorded_at) "
        "SELECT venue, 'trade', venue_order_id, intent_id, %s, 'test', %s, 'buy', 101, 0.4, "
        "'USDT', 0, 0, 'taker', %s, %s FROM orders",
        (position_id, BTC, world.now(), world.now()),
    )
    assert exposure(world).pending_quote.get(BTC, Decimal(0)) == pending


def test_an_order_without_a_parent_counts_too(world: World) -> None:
    slice_of(world, None, world.position(), **UNKNOWN)
    assert exposure(world).pending_quote == {BTC: 101}


def test_both_sleeves_count_together_and_the_tactical_one_apart(world: World) -> None:
    core, eth = world.position(sleeve="core"), world.position(ETH)
    parent(world, world.position(), state="WORKING")
    slice_of(world, None, core, **UNKNOWN)
    slice_of(world, None, eth, symbol=ETH, **RESTS)
    found = exposure(world)
    assert found.pending_quote == {BTC: 301, ETH: 101}
    assert found.tactical_pending_quote == {BTC: 200, ETH: 101}


def test_another_pod_does_not_count(world: World) -> None:
    position_id = world.position()
    parent(world, position_id, state="WORKING")
    slice_of(world, None, position_id, **UNKNOWN)
    for table in ("intents", "parent_orders"):
        world.ledger.execute(f"UPDATE {table} SET pod = 'other'")  # noqa: S608 - names from above
    assert exposure(world).pending_quote == {}
