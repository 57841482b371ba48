"""Histories that once broke an invariant, each as short as it could be made."""

from __future__ import annotations

import pytest
from settling import settle
from stateful_invariants import Invariants
from stateful_world import World, buy


@pytest.mark.parametrize("action", ["HOLD", "BUY BUY BUY", "", None])
def test_what_is_approved_and_neither_bought_nor_sold_orders_nothing(
    world: World, action: str | None
) -> None:
    """Whatever was approved and was not SELL used to be bought."""
    steps = buy(world, 60, "high", "d1")
    steps["risk_management"]["$return_value"]["action"] = action
    export = world.minute(steps=steps)
    assert export["reason"].startswith("DENIED ACTION_UNKNOWN")
    assert world.ledger.query("SELECT 1 FROM intents") == []
    settle(world, Invariants(world))
