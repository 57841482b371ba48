"""The position manager with the real desk and the real gate, against a scripted venue."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder
from shared.ledger import positions, state
from shared.ledger.connection import Ledger
from shared.market.candles import candle_store
from shared.risk import exits
from shared.risk.manage import manage_exits
from tests.conftest import VirtualClock
from tests.execution.scripted_venue import ScriptedVenue
from tests.peg_rows import tell_worth
from tests.risk.world import BTC, World, make_run


class Minutes:
    """A pod that entered at 100 and lives from minute to minute."""

    def __init__(self, world: World, venue: ScriptedVenue, time: VirtualClock) -> None:
        self.world, self.venue, self.time = world, venue, time
        world.price("binance", BTC, 100)
        world.calm()
        tell_worth(world.ledger)
        desk = self.desk()
        desk.reconcile()
        mid = Decimal(100)
        made = exits.for_entry(world.run.config, mid, clock.now_ms())
        desk.enter(EntryOrder(None, BTC, Decimal(90), mid, "momentum", "tactical", "high", made))
        desk.work()
        self.position_id = positions.open_positions(world.ledger)[0].position_id

    def desk(self) -> Desk:
        return Desk(self.world.run, {"binance": self.venue})

    def next(self, mid: str) -> list[dict[str, Any]]:
        """A minute later, at another price: reconcile, leave, settle."""
        self.time.advance(minutes=1)
        self.venue.mid = Decimal(mid)
        self.world.price("binance", BTC, mid)
        self.world.ledger.execute("UPDATE leases SET holder = NULL")
        settings = self.world.run.config
        self.world.run = make_run(self.world.ledger)
        self.world.run.config = settings
        self.world.ledger.execute(
            "UPDATE leases SET holder = 'test', epoch = 1, expires_at = 'infinity'"
        )
        desk = self.desk()
        desk.reconcile()
        actions = manage_exits(self.world.run, desk)
        desk.settle()
        return actions

    def held(self) -> Decimal:
        found = positions.by_id(self.world.ledger, self.position_id)
        assert found is not None
        return found.quantity

    def close_reason(self) -> str | None:
        found = positions.by_id(self.world.ledger, self.position_id)
        assert found is not None
        return found.close_reason


@pytest.fixture
def minutes(
    ledger: Ledger, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> Minutes:
    monkeypatch.setattr(candle_store, "window", lambda run, venue, symbol, frame: None)
    world = World(ledger, make_run(ledger))
    world.configure(VENUES="binance")
    world.transfer("binance", "USDT", 10_000, at=world.now() - timedelta(days=1))
    return Minutes(world, ScriptedVenue(), virtual_clock)


def test_a_stop_is_sold_and_closed(minutes: Minutes) -> None:
    assert minutes.held() > 0
    assert minutes.next("99") == []
    actions = minutes.next("97.9")
    assert [action["reason"] for action in actions] == ["stop"]
    assert actions[0]["orders"][0]["outcome"] == "FILLED"
    assert minutes.held() == 0
    assert minutes.close_reason() == "stop"
    assert minutes.next("97") == []


def test_what_a_first_sale_leaves_is_sold_in_the_next_minute(minutes: Minutes) -> None:
    minutes.venue.fill_share = Decimal("0.5")
    before = minutes.held()
    minutes.next("97.9")
    assert 0 < minutes.held() < before
    minutes.venue.fill_share = Decimal(1)
    # The price is back above the stop: an exit that was begun is finished all the same.
    actions = minutes.next("101")
    assert actions[0]["continued"] is True
    assert minutes.held() == 0
    assert minutes.close_reason() == "stop"


def test_the_trailing_stop_keeps_a_profit(minutes: Minutes) -> None:
    minutes.next("102")
    minutes.next("104")
    actions = minutes.next("102.5")
    assert [action["reason"] for action in actions] == ["trailing"]
    row = minutes.world.ledger.one("SELECT pnl_quote FROM trades")
    assert row is not None
    assert row["pnl_quote"] > 1


def test_a_halt_that_closes_everything_sells_through_the_gate(minutes: Minutes) -> None:
    state.tighten(minutes.world.ledger, "HALTED", reason="test", set_by="test", close_all=True)
    actions = minutes.next("100")
    assert [action["reason"] for action in actions] == ["risk"]
    assert minutes.held() == 0


def test_never_more_is_sold_than_is_held(minutes: Minutes) -> None:
    for mid in ("97.9", "97.5", "97"):
        minutes.venue.fill_share = Decimal("0.7")
        minutes.next(mid)
    sold = sum(f.quantity for f in minutes.venue.executions if f.side == "sell")
    bought = sum(f.quantity for f in minutes.venue.executions if f.side == "buy")
    assert Decimal(0) < sold <= bought
    assert minutes.held() >= 0
