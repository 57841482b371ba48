from __future__ import annotations

from datetime import timedelta

import pytest

from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock
from tests.peg_rows import tell_worth
from tests.risk.world import World, make_run


@pytest.fixture
def world(ledger: Ledger, virtual_clock: VirtualClock) -> World:
    """10,000 USDT on two venues at noon, a run that has just begun, and no trades."""
    virtual_clock.advance(hours=12)
    built = World(ledger, make_run(ledger))
    funded_at = built.now() - timedelta(days=30)
    built.transfer("binance", "USDT", 6000, at=funded_at)
    built.transfer("kraken", "USDT", 4000, at=funded_at)
    tell_worth(ledger)
    return built


@pytest.fixture
def position(world: World) -> int:
    return world.position()


@pytest.fixture
def holding(world: World, position: int) -> int:
    """One coin in the position, on binance."""
    world.fill(position, 1)
    return position
