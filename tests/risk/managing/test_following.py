"""Trailing stops over the ledger: they only ever tighten, whichever run looks, dies or returns."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.ledger import positions, runs
from shared.market.candles import candle_store
from shared.market.types import Quote
from shared.risk import manage as manager
from tests.conftest import VirtualClock
from tests.risk.managing.minute_bench import BenchDesk
from tests.risk.world import BTC, World, dec, make_run

RUNS = st.sampled_from(["loop", "manager", "both", "dies", "new process"])
MINUTES = st.lists(st.tuples(st.decimals("98.1", 130, places=2), RUNS), min_size=1, max_size=12)


class Follower:
    """A pod whose positions are followed by runs that come and go."""

    def __init__(self, world: World, time: VirtualClock) -> None:
        self.world, self.time = world, time
        self.desk = BenchDesk(world)

    def enter(self) -> int:
        position_id = self.world.position(target_price=None, time_stop_at=None)
        self.world.fill(position_id, "0.1")
        return position_id

    def minute(self, bid: Decimal, what: str) -> None:
        self.time.advance(minutes=1)
        self.desk.prices[BTC] = Quote(float(bid), float(bid) + 0.01, self.time.now_ms)
        if what == "new process":
            self.desk = BenchDesk(self.world)
            self.desk.prices[BTC] = Quote(float(bid), float(bid) + 0.01, self.time.now_ms)
        if what in ("manager", "both"):
            run = make_run(self.world.ledger, "position_manager")
            run.config = self.world.run.config
            manager.manage(run)
        run = make_run(self.world.ledger)
        run.config = self.world.run.config
        if what in ("loop", "both", "new process"):
            manager.manage_exits(run, self.desk)  # type: ignore[arg-type]
            runs.finish(self.world.ledger, run.run_id, run.epoch, duration_ms=1.0)


@pytest.fixture
def follower(
    world: World, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Follower]:
    world.configure(MAX_POSITION_SIZE="20")
    made = Follower(world, virtual_clock)
    monkeypatch.setattr("shared.execution.desk.Desk.open", lambda run: made.desk)
    monkeypatch.setattr(candle_store, "window", lambda *arguments: None)
    yield made


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MINUTES)
def test_a_stop_only_tightens_across_restarts(
    follower: Follower, minutes: list[tuple[Decimal, str]]
) -> None:
    position_id = follower.enter()
    stop, highest_looked_at = Decimal(98), Decimal(0)
    for bid, what in minutes:
        follower.minute(bid, what)
        held = positions.by_id(follower.world.ledger, position_id)
        assert held is not None
        assert held.stop_price >= stop
        if held.stop_price > stop:  # it rose, and an event says when and from where
            told = follower.world.ledger.one(
                "SELECT detail FROM events WHERE kind = 'STOP_RAISED' "
                "ORDER BY event_id DESC LIMIT 1"
            )
            assert told is not None
            assert told["detail"]["position_id"] == position_id
            assert dec(told["detail"]["before"]) < held.stop_price
        stop = held.stop_price
        if held.quantity == 0 or held.exit_reason is not None:
            break
        if what != "dies":
            highest_looked_at = max(highest_looked_at, bid)
        expected = highest_looked_at * Decimal("0.99") if highest_looked_at >= 103 else Decimal(98)
        assert held.stop_price == expected
    follower.world.ledger.execute(
        "UPDATE positions SET closed_at = %s, close_reason = 'test' WHERE position_id = %s",
        (follower.world.now(), position_id),
    )
