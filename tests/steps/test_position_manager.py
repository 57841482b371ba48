"""The position manager over a real ledger, with a desk that notes what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared import clock
from shared.execution.exits import naked
from shared.execution.exits.protecting import Protection
from shared.execution.reconciling.findings import Reconciliation
from shared.execution.types import MarketRules, OrderResult
from shared.ledger import positions, runs, state
from shared.ledger.connection import Ledger
from shared.market.candles import candle_store
from shared.market.types import Book, Candles, Quote
from shared.risk import manage as manager
from tests.conftest import VirtualClock
from tests.risk.world import BTC, ETH, World, dec, make_run, quote, rules

MINUTE_MS = 60_000


def hours(close: NDArray[np.float64]) -> Candles:
    opens = clock.now_ms() - 3_600_000 * np.arange(len(close), 0, -1, dtype=np.int64)
    return Candles(BTC, "1h", opens, close, close, close, close, np.ones(len(close)))


class FakeVenue:
    def __init__(self) -> None:
        self.bids: tuple[tuple[float, float], ...] = ((100.0, 10.0),)

    def rules(self, symbol: str) -> MarketRules:
        return rules("binance", symbol)

    def book(self, symbol: str) -> Book:
        return Book(symbol, self.bids, ((self.bids[0][0] + 1, 1.0),), clock.now_ms())


class FakeDesk:
    """Answers with the prices that a test sets; sells and adds nothing, but remembers."""

    def __init__(self) -> None:
        self.venues: dict[str, Any] = {"binance": FakeVenue()}
        self.prices: dict[str, Quote] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.outcome = "FILLED"
        self.protection = Protection()
        self.reconciliation: Reconciliation | None = None

    def reconcile(self) -> None:
        self.calls.append(("reconcile",))

    def protect(self) -> Protection:
        return self.protection

    def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        return {symbol: self.prices[symbol] for symbol in symbols if symbol in self.prices}

    def exit(
        self, position_id: int, *, reason: str, fraction: Decimal = Decimal(1)
    ) -> list[OrderResult]:
        self.calls.append(("exit", position_id, reason, fraction))
        done = (Decimal(1), Decimal(100), Decimal(0))
        return [OrderResult("i", "binance", BTC, "sell", Decimal(1), self.outcome, *done, "")]

    def add(self, position_id: int, size_quote: Decimal, decision_mid: Decimal, reason: str) -> str:
        self.calls.append(("add", position_id, size_quote, reason))
        return "parent"

    @property
    def orders(self) -> list[tuple[Any, ...]]:
        return [call for call in self.calls if call[0] != "reconcile"]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> FakeDesk:
    made = FakeDesk()
    monkeypatch.setattr("shared.execution.desk.Desk.open", lambda run: made)
    monkeypatch.setattr(candle_store, "window", lambda run, venue, symbol, frame: None)
    return made


@pytest.fixture
def world(ledger: Ledger, virtual_clock: VirtualClock) -> World:
    virtual_clock.advance(hours=12)
    built = World(ledger, make_run(ledger, "position_manager"))
    built.transfer("binance", "USDT", 10_000, at=built.now() - timedelta(days=30))
    return built


def hold(world: World, quantity: object = "0.5", symbol: str = BTC, **changes: Any) -> int:
    position_id = world.position(symbol, **changes)
    world.fill(position_id, quantity, symbol=symbol)
    return position_id


def price(desk: FakeDesk, mid: float, symbol: str = BTC) -> None:
    desk.prices[symbol] = quote(mid)


def kinds(export: Any) -> list[str]:
    return [action["action"] for action in export["actions"]]


def test_nothing_open(world: World, desk: FakeDesk) -> None:
    export = manager.manage(world.run)
    assert desk.calls == [("reconcile",)]
    assert (export["managed"], export["exited"], export["adjusted"]) == (0, 0, 0)
    assert export["portfolio"]["equity_quote"] == 10_000
    assert manager.manage_exits(world.run, desk) == []  # type: ignore[arg-type]


def test_it_reconciles_before_it_sells(world: World, desk: FakeDesk) -> None:
    position_id = hold(world)
    price(desk, 97)
    export = manager.manage(world.run)
    assert desk.calls == [("reconcile",), ("exit", position_id, "stop", Decimal(1))]
    assert (export["managed"], export["exited"], export["adjusted"]) == (1, 1, 0)
    assert export["actions"][0]["reason"] == "stop"
    event = world.ledger.one("SELECT kind, detail FROM events WHERE kind = 'EXIT_DECIDED'")
    assert event is not None
    assert event["detail"]["trigger"] == 98


def test_profit_at_the_mid_and_at_the_bid(world: World, desk: FakeDesk) -> None:
    position_id = world.position()
    world.fill(position_id, 1, fee_quote="0.1")
    desk.prices[BTC] = Quote(101.0, 103.0, clock.now_ms())
    portfolio = manager.manage(world.run)["portfolio"]
    row = portfolio["positions"][0]
    assert row["pnl_mid_quote"] == pytest.approx(1.9)
    assert row["pnl_bid_quote"] == pytest.approx(0.9)
    assert row["pnl_percent"] == pytest.approx(1.9)
    assert portfolio["equity_quote"] == pytest.approx(10_001.9)


def test_a_position_without_a_price_is_reported_not_guessed(world: World, desk: FakeDesk) -> None:
    hold(world, symbol=ETH)
    export = manager.manage(world.run)
    assert export["unpriced"] == [ETH]
    assert export["managed"] == 0
    assert desk.orders == []
    assert export["portfolio"]["equity_quote"] is None
    assert "pnl_mid_quote" not in export["portfolio"]["positions"][0]


def test_closing_everything_does_not_wait_for_a_price(world: World, desk: FakeDesk) -> None:
    position_id = hold(world)
    state.tighten(world.ledger, "HALTED", reason="test", set_by="test", close_all=True)
    manager.manage(world.run)
    assert desk.orders == [("exit", position_id, "risk", Decimal(1))]


@pytest.mark.parametrize(("now_equity", "orders"), [(8_000, 0), (7_999, 1)])
def test_a_drawdown_beyond_20_percent_closes_by_itself(
    world: World, desk: FakeDesk, now_equity: int, orders: int
) -> None:
    hold(world)
    price(desk, 100)
    world.equity(10_000, at=world.now() - timedelta(hours=1))
    world.equity(now_equity)
    manager.manage(world.run)
    assert len(desk.orders) == orders


def test_an_exit_that_was_begun_is_continued(world: World, desk: FakeDesk) -> None:
    position_id = hold(world, exit_reason="target")
    price(desk, 101)
    actions = manager.manage_exits(world.run, desk)  # type: ignore[arg-type]
    assert desk.orders == [("exit", position_id, "target", Decimal(1))]
    assert actions[0]["continued"] is True


def test_a_trailing_stop_rises_and_stays(world: World, desk: FakeDesk) -> None:
    position_id = hold(world)
    for mid, stop, high in (
        (102, "98", 102),
        (104, "102.96", 104),
        (103.5, "102.96", 104),
        (104.5, "103.455", 104.5),
    ):
        price(desk, mid)
        assert [
            a["action"] for a in manager.manage_exits(world.run, desk) if a["action"] == "exit"
        ] == []  # type: ignore[arg-type]  # noqa: E501
        found = positions.by_id(world.ledger, position_id)
        assert found is not None
        assert (found.stop_price, found.high_water_price) == (Decimal(stop), dec(high))
    price(desk, 103.4)
    actions = manager.manage_exits(world.run, desk)  # type: ignore[arg-type]
    assert actions[0]["reason"] == "trailing"


def minutes(lows: list[float], highs: list[float]) -> Candles:
    end = clock.now_ms() // MINUTE_MS * MINUTE_MS
    opens = end - MINUTE_MS * np.arange(len(lows), 0, -1, dtype=np.int64)
    low, high = np.array(lows), np.array(highs)
    return Candles(BTC, "1m", opens, low, high, low, high, np.ones(len(lows)))


@pytest.mark.parametrize(
    ("opened_minutes_ago", "last_look_minutes_ago", "its_end", "reason"),
    [
        (10, 3, "DONE", "stop"),  # the dip lies between the looks
        (10, 1, "DONE", None),  # seen before: it was dealt with then
        (1, 3, "DONE", None),  # before the entry
        (10, 1, "FAILED", "stop"),  # who failed may have seen nothing
        (10, 1, "RUNNING", "stop"),  # and so may have who was killed
        (10, None, None, "stop"),  # no earlier look is known: all since the entry counts
        (1, None, None, None),
    ],
)
def test_a_dip_between_two_looks_triggers_the_stop(
    world: World,
    desk: FakeDesk,
    monkeypatch: pytest.MonkeyPatch,
    virtual_clock: VirtualClock,
    opened_minutes_ago: int,
    last_look_minutes_ago: int | None,
    its_end: str | None,
    reason: str | None,
) -> None:
    position_id = world.position()
    world.fill(position_id, "0.5", at=world.now() - timedelta(minutes=opened_minutes_ago))
    if last_look_minutes_ago is not None:
        looked_at = world.now() - timedelta(minutes=last_look_minutes_ago)
        virtual_clock.advance(minutes=-last_look_minutes_ago)
        run_id = runs.start(world.ledger, "position_manager", "earlier", looked_at, 1)
        assert run_id is not None
        world.ledger.execute("UPDATE runs SET status = %s WHERE run_id = %s", (its_end, run_id))
        virtual_clock.advance(minutes=last_look_minutes_ago)
    dip = minutes([100, 97, 100], [101, 100, 101])  # three, two and one minute ago
    monkeypatch.setattr(
        candle_store, "window", lambda run, venue, symbol, frame: dip if frame == "1m" else None
    )
    price(desk, 100)
    actions = manager.manage_exits(world.run, desk)  # type: ignore[arg-type]
    assert [action["reason"] for action in actions] == ([] if reason is None else [reason])


@pytest.mark.parametrize(
    ("strategy", "slope", "exits"),
    [
        ("momentum", -1, 1),
        ("trend_following", -1, 1),
        ("mean_reversion", -1, 0),
        ("momentum", 1, 0),
    ],
)
def test_lost_momentum_on_the_hour(
    world: World,
    desk: FakeDesk,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
    slope: int,
    exits: int,
) -> None:
    position_id = world.position(strategy=strategy)
    world.fill(position_id, "0.5", at=world.now() - timedelta(hours=2))
    # Flat for a long time, then an accelerating move down or up.
    close = np.concatenate([np.full(150, 100.0), 100 + slope * 0.02 * np.arange(1, 9) ** 2])
    hourly = hours(close)
    monkeypatch.setattr(
        candle_store, "window", lambda run, venue, symbol, frame: hourly if frame == "1h" else None
    )
    price(desk, 100)
    manager.manage_exits(world.run, desk)  # type: ignore[arg-type]
    assert len(desk.orders) == exits


FAR = {"target_price": dec(200)}


@pytest.mark.parametrize(
    ("mid", "quantity", "sold"),
    [(110, "0.5", False), (110.01, "0.5", True), (112, "0.08", False)],  # 0.04 x 112 is under 5
)
def test_half_is_sold_above_10_percent(
    world: World, desk: FakeDesk, mid: float, quantity: str, sold: bool
) -> None:
    world.configure(MAX_POSITION_SIZE="20")  # no room for a pyramid
    position_id = hold(world, quantity, **FAR)
    price(desk, mid)
    manager.manage(world.run)
    expected = [("exit", position_id, "partial_profit", Decimal("0.5"))] if sold else []
    assert desk.orders == expected
    found = positions.by_id(world.ledger, position_id)
    assert found is not None
    assert found.partial_taken is sold
    manager.manage(world.run)
    assert desk.orders == expected  # once


def test_a_denied_partial_exit_may_be_tried_again(world: World, desk: FakeDesk) -> None:
    world.configure(MAX_POSITION_SIZE="20")
    position_id = hold(world, **FAR)
    price(desk, 111)
    desk.outcome = "DENIED"
    manager.manage(world.run)
    found = positions.by_id(world.ledger, position_id)
    assert found is not None
    assert not found.partial_taken


def test_a_part_that_was_sent_before_is_no_action(
    world: World, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(MAX_POSITION_SIZE="20")
    hold(world, **FAR)
    price(desk, 111)
    monkeypatch.setattr(desk, "exit", lambda *arguments, **options: [])
    assert kinds(manager.manage(world.run)) == ["tighten_stop"]


def test_a_position_tells_how_long_it_had_no_stop(world: World, desk: FakeDesk) -> None:
    position_id = hold(world)
    naked.begin(world.ledger, position_id, "binance", why="test",
                since=world.now() - timedelta(seconds=7))  # fmt: skip
    price(desk, 100)
    export = manager.manage(world.run)
    assert [row["naked_seconds"] for row in export["portfolio"]["positions"]] == [7]


def test_a_pyramid_raises_the_stop_first_and_adds_within_the_limits(
    world: World, desk: FakeDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = hours(np.linspace(100, 106, 400))
    monkeypatch.setattr(candle_store, "window", lambda *asked: steady)
    position_id = hold(world, "0.6", trailing_activation_price=dec(150), **FAR)
    price(desk, 106)
    export = manager.manage(world.run)
    assert kinds(export) == ["pyramid"]
    _, added_to, size_quote, reason = desk.orders[0]
    assert (added_to, reason) == (position_id, "pyramid")
    # Half of 0.6, at the dearest price of a slice, 0.5 % above the mid; 100 - 63.6 has room.
    assert size_quote == pytest.approx(Decimal("0.3") * 106 * Decimal("1.005"))
    found = positions.by_id(world.ledger, position_id)
    assert found is not None
    even = Decimal(106) * Decimal("1.005") * Decimal("1.001") / Decimal("0.999")
    assert found.stop_price == pytest.approx(98 + (even - 98) / 3)
    told = world.ledger.one("SELECT detail FROM events WHERE kind = 'STOP_RAISED'")
    assert told is not None
    assert (told["detail"]["action"], told["detail"]["before"]) == ("pyramid", 98)


@pytest.mark.parametrize("why", ["gain", "halted", "before", "room"])
def test_no_pyramid(world: World, desk: FakeDesk, why: str) -> None:
    quantity = "0.95" if why == "room" else "0.6"
    position_id = hold(world, quantity, trailing_activation_price=dec(150), **FAR)
    price(desk, 105 if why == "gain" else 106)
    if why == "halted":
        state.tighten(world.ledger, "REDUCING", reason="test", set_by="test")
    if why == "before":
        world.ledger.execute(
            "INSERT INTO parent_orders (parent_id, pod, position_id, symbol, side, purpose, "
            "reason, quantity, decision_mid, urgency, slices, interval_seconds, created_at, "
            "expires_at, state) VALUES ('p', 'test', %s, %s, 'buy', 'entry', 'pyramid', 1, 100, "
            "'normal', 1, 60, %s, %s, 'DONE')",
            (position_id, BTC, world.now(), world.now()),
        )
    export = manager.manage(world.run)
    assert desk.orders == []
    found = positions.by_id(world.ledger, position_id)
    assert found is not None
    assert found.stop_price == 98
    assert kinds(export) == []
