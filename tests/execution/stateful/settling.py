"""The end of every history: nothing fails any more, and time passes."""

from __future__ import annotations

from stateful_invariants import Invariants, check_differences, check_settled, unsettled
from stateful_world import World

_MINUTES = 30  # a refused stop waits up to 15 minutes, an order of unknown fate two and a half


def settle(world: World, invariants: Invariants) -> None:
    """Venues heal, runs come every minute, people book what they did; then everything agrees."""
    for venue in world.venues.values():
        venue.heal()
    world.rearm()
    for _ in range(2):
        world.minute()
    world.minute("position_manager")
    invariants.check()
    check_differences(world)
    world.undo_what_people_did()
    world.rearm()
    for number in range(_MINUTES):
        world.minute("position_manager" if number % 5 == 0 else "trading_loop")
        if number >= 1 and not unsettled(world):
            break
    invariants.check()
    check_settled(world)
