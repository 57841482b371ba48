"""Histories that once broke an invariant, and those that chance finds too seldom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from settling import settle
from stateful_invariants import Invariants
from stateful_world import World, buy, sell


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


def test_a_halt_before_or_after_any_venue_call_of_an_entry(make_world: Callable[[], World]) -> None:
    """What was committed before it may go out; nothing is committed after it."""
    buys = []
    for point in range(1, 21):
        world = make_world()
        world.time.advance(minutes=1)
        event = world.event("trading_loop", buy(world, 60, "high", "d1"))
        world.interrupted(event, point, world.halt)
        Invariants(world).check()
        sent = [ticket.side for venue in world.venues.values() for ticket in venue.sent]
        buys.append(sent.count("buy"))
    assert buys == sorted(buys)
    assert (buys[0], buys[-1]) == (0, 1)


def test_what_a_person_moved_is_told_while_a_sale_has_no_known_outcome(world: World) -> None:
    """Once its quarantine is over, the sale explains no difference any more."""
    world.time.advance(minutes=1)
    world.fire(world.event("trading_loop", buy(world, 60, "high", "d1")))
    world.venues["binance"].human_orders(fills=True)
    for venue in world.venues.values():
        venue.next_submit = "lose request"
    world.time.advance(minutes=1)
    world.fire(world.event("trading_loop", sell("d2")))
    assert world.ledger.query("SELECT 1 FROM intents WHERE state = 'UNKNOWN'")
    settle(world, Invariants(world))
