"""What the core sleeve does is no trade of a strategy, and its positions follow no signal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.ledger import positions
from shared.risk.exit_rules import Momentum, Seen, decide_exit
from shared.signals import state
from tests.risk.world import World, quote

LOST = Momentum(90, 100, -1, -0.5)


def test_models_are_shown_tactical_trades_only(world: World) -> None:
    world.closed_trade(5)
    core = world.closed_trade(-40, strategy="core")
    world.ledger.execute("UPDATE positions SET sleeve = 'core' WHERE position_id = %s", (core,))
    assert [trade["pnl_quote"] for trade in state.recent_trades(world.ledger)] == [5]


@pytest.mark.parametrize(
    ("mid", "low", "risk", "reason"),
    [
        (100, 100, False, None),
        (500, 100, False, None),  # no target
        (81, 81, False, None),
        (80, 80, False, "stop"),
        (100, 79, False, "stop"),
        (100, 100, True, "risk"),
    ],
)
def test_only_the_stop_and_risk_end_a_core_position(
    world: World, mid: float, low: float, risk: bool, reason: str | None
) -> None:
    """However long it is held, and whatever momentum says."""
    position_id = world.position(
        sleeve="core", strategy="core", stop_price=80, target_price=None, time_stop_at=None,
        trailing_activation_price=None, trailing_distance_percent=None,
    )  # fmt: skip
    world.fill(position_id, 1)
    held = positions.by_id(world.ledger, position_id)
    assert held is not None
    late = world.now() + timedelta(days=400)
    found = decide_exit(held, quote(mid), now=late, seen=Seen(low, mid), risk=risk, momentum=LOST)
    assert (None if found is None else found.reason) == reason
