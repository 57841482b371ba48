"""Rates by symbol and day, and strategies that are carried out too often in a row."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import alerts, events, throttles
from shared.ledger.connection import Ledger, connect
from shared.risk import gate, lately
from shared.risk.lately import Lately
from tests.conftest import VirtualClock
from tests.risk.gate_bench import judge, sale
from tests.risk.gate_case import NOW, STOP, case, denial, verdict
from tests.risk.world import BTC, ETH, World, book, rules, ticket

COUNTS = (
    "trades_last_day",
    "symbol_trades_last_day",
    "symbol_trades_last_hour",
    "symbol_trades_last_minute",
)


@pytest.mark.parametrize(
    ("name", "last", "code"),
    [
        ("trades_last_day", 1_999, "RATE_ORDERS"),
        ("symbol_trades_last_minute", 9, "RATE_SYMBOL"),
        ("symbol_trades_last_hour", 199, "RATE_SYMBOL"),
        ("symbol_trades_last_day", 999, "RATE_SYMBOL"),
    ],
)
def test_the_last_order_of_a_symbol_and_of_a_day(name: str, last: int, code: str) -> None:
    assert verdict(case(**{name: last})) is None
    assert verdict(case(**{name: last + 1})) == code
    # what shrinks a position is not counted against these
    assert verdict(case("exit", **{name: 10_000})) is None
    assert verdict(case("protect", **{name: 10_000}, **STOP)) is None


def test_a_twap_of_ten_slices_over_four_venues_meets_no_limit_of_its_symbol() -> None:
    """Forty orders in ten minutes, the four of this minute among them, of one parent."""
    busy = {"symbol_trades_last_minute": 4, "symbol_trades_last_hour": 40}
    assert verdict(case(**busy, symbol_trades_last_day=40, repeated_entries=0)) is None


@pytest.mark.parametrize(("before", "code"), [(9, None), (10, "REPEATED_ENTRIES")])
def test_the_tenth_entry_in_a_row_is_the_last(before: int, code: str | None) -> None:
    assert verdict(case(repeated_entries=before)) == code
    assert verdict(case("exit", repeated_entries=before)) is None


def test_a_throttled_strategy_buys_nothing_and_sells() -> None:
    since = {"throttled_at": NOW - timedelta(days=30)}
    assert str(denial(case(**since))) == (
        "STRATEGY_THROTTLED: symbol=BTC/USDT, strategy=momentum, since=2025-04-06T12:00:00Z"
    )
    assert verdict(case("exit", **since)) is None
    assert verdict(case("protect", **since, **STOP)) is None


@pytest.mark.parametrize(("ahead_ms", "code"), [(1_000, None), (1_001, "RUN_TIME")])
def test_a_run_that_has_not_begun_yet_buys_nothing(ahead_ms: int, code: str | None) -> None:
    began = {"run_started_at": NOW + timedelta(milliseconds=ahead_ms)}
    assert verdict(case(**began)) == code
    assert verdict(case("exit", **began)) is None


def test_a_run_of_the_future_tells_by_how_much() -> None:
    ahead = {"run_started_at": NOW + timedelta(seconds=2)}
    assert str(denial(case(**ahead))) == "RUN_TIME: after_ms=-2000, limit_ms=-1000"


# What the ledger tells of the last day -----------------------------------------------------------


def ask(world: World, position_id: int, parent_id: str | None = None) -> Lately:
    return lately.fetch(world.run, ticket(), position_id, parent_id, clock.now_ms())


def ago(**duration: float) -> datetime:
    return clock.now() - timedelta(**duration)


@pytest.mark.parametrize(
    ("age_s", "order", "counts"),
    [
        (0, {}, dict.fromkeys(COUNTS, 1)),
        (59.999, {"state": "REJECTED"}, dict.fromkeys(COUNTS, 1)),
        (60, {}, dict.fromkeys(COUNTS[:3], 1)),
        (3_599.999, {}, dict.fromkeys(COUNTS[:3], 1)),
        (3_600, {}, dict.fromkeys(COUNTS[:2], 1)),
        (86_399.999, {}, dict.fromkeys(COUNTS[:2], 1)),
        (86_400, {}, {}),
        (0, {"symbol": ETH}, {"trades_last_day": 1}),
        (0, {"side": "sell"}, dict.fromkeys(COUNTS, 1)),
        (0, {"side": "sell", "purpose": "protect"}, {}),
    ],
)
def test_orders_of_the_last_day(
    world: World, position: int, age_s: float, order: dict[str, Any], counts: dict[str, int]
) -> None:
    world.intent(position, sent_at=ago(seconds=age_s), **order)
    assert {name: n for name in COUNTS if (n := getattr(ask(world, position), name))} == counts
    world.ledger.execute("UPDATE intents SET pod = 'other'")
    assert not any(getattr(ask(world, position), name) for name in COUNTS)


def enter(world: World, position_id: int, **changes: Any) -> str:
    """An entry that was filled, or what ``changes`` make of it."""
    row = {"order_status": "filled", "quantity": "0.001", "filled": "0.001"} | changes
    return world.intent(position_id, **row)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 1),
        ({"order_status": "open", "filled": "0.0001"}, 1),
        ({"order_status": "cancelled", "filled": 0}, 0),  # never carried out
        ({"order_status": None, "state": "UNKNOWN"}, 1),  # nobody knows
        ({"order_status": None, "state": "REJECTED"}, 0),
        ({"side": "sell"}, 0),
        ({"symbol": ETH}, 0),
    ],
)
def test_what_is_an_execution_of_a_strategy(
    world: World, position: int, changes: dict[str, Any], count: int
) -> None:
    enter(world, position, **changes)
    assert ask(world, position).repeated_entries == count
    assert ask(world, position).strategy == "momentum"


@pytest.mark.parametrize(("age_s", "count"), [(86_399.999, 1), (86_400, 0)])
def test_executions_count_for_a_day(world: World, position: int, age_s: float, count: int) -> None:
    enter(world, position, sent_at=ago(seconds=age_s))
    assert ask(world, position).repeated_entries == count


def test_the_slices_of_a_parent_are_one_execution_and_its_own_none(
    world: World, position: int
) -> None:
    for parent in ("first", "second"):
        enter_by_slices(world, position, parent, ages_s=[0] * 10)
    assert ask(world, position).repeated_entries == 2
    assert ask(world, position, "second").repeated_entries == 1


def enter_by_slices(world: World, position_id: int, parent: str, ages_s: list[int]) -> None:
    world.ledger.execute(
        "INSERT INTO parent_orders (parent_id, pod, position_id, symbol, side, purpose, "
        "reason, quantity, decision_mid, urgency, slices, interval_seconds, created_at, "
        "expires_at) VALUES (%s, 'test', %s, 'BTC/USDT', 'buy', 'entry', 'test', 1, 100, "
        "'normal', 10, 60, now(), now())",
        (parent, position_id),
    )
    for age_s in ages_s:
        made = enter(world, position_id, sent_at=ago(seconds=age_s))
        world.ledger.execute(
            "UPDATE intents SET parent_id = %s WHERE intent_id = %s", (parent, made)
        )


def test_a_parent_that_still_buys_counts_after_another_strategys_entry(
    world: World, position: int
) -> None:
    enter_by_slices(world, position, "long", ages_s=[600, 60])
    other = world.position(closed_at=clock.now(), close_reason="stop", strategy="breakout")
    enter(world, other, sent_at=ago(seconds=300))
    assert ask(world, position).repeated_entries == 1


def test_an_entry_of_another_strategy_begins_the_count_anew(world: World, position: int) -> None:
    enter(world, position, sent_at=ago(minutes=9))
    other = world.position(closed_at=clock.now(), close_reason="stop", strategy="breakout")
    enter(world, other, sent_at=ago(minutes=8))
    assert ask(world, position).repeated_entries == 0
    enter(world, position, sent_at=ago(minutes=7))
    assert ask(world, position).repeated_entries == 1
    assert ask(world, other).repeated_entries == 0


def test_the_core_sleeve_counts_for_itself(world: World, position: int) -> None:
    core = world.position(sleeve="core")
    enter(world, core)
    assert ask(world, position).repeated_entries == 0
    assert ask(world, core).repeated_entries == 1


# The throttle ------------------------------------------------------------------------------------


def closed_entries(world: World, count: int, symbol: str = BTC) -> None:
    """Positions of a minute each: bought and closed again."""
    for minute in range(count):
        done = world.position(symbol, closed_at=clock.now(), close_reason="stop")
        enter(world, done, symbol=symbol, sent_at=ago(minutes=30 - minute))


def refused(world: World, position_id: int) -> OrderDenied:
    """The denial of an entry, noted as whoever sends does."""
    world.calm()
    try:
        with world.ledger.transaction():
            gate.check(
                world.run, ticket(), purpose="entry", position_id=position_id, rules=rules(),
                book=book(), now_ms=clock.now_ms(), mode="paper",
            )  # fmt: skip
    except OrderDenied as denied:
        gate.note(world.ledger, denied)
        return denied
    raise AssertionError("expected a denial")


def test_a_throttle_outlives_its_window_and_restarts_until_a_person_lifts_it(
    world: World, position: int, database_url: str, virtual_clock: VirtualClock
) -> None:
    closed_entries(world, 9)
    assert judge(world, position_id=position) is None
    closed_entries(world, 1)
    denied = refused(world, position)
    assert str(denied) == (
        "REPEATED_ENTRIES: symbol=BTC/USDT, strategy=momentum, before=10, after=11, limit=10, "
        "window_hours=24.0"
    )
    told = alerts.unsent(world.ledger)
    assert [row["title"] for row in told] == ["momentum buys BTC/USDT too often"]
    assert events.recent(world.ledger)[0]["kind"] == "THROTTLE_TRIPPED"

    virtual_clock.advance(hours=200)  # nothing of it is within the window any more
    world.run.compared_at = dict.fromkeys(world.run.compared_at, clock.now())
    world.ledger.execute("UPDATE runs SET started_at = %s", (clock.now(),))
    world.ledger = world.run.ledger = connect(database_url, "test")  # another process
    assert judge(world, position_id=position) == "STRATEGY_THROTTLED"
    freed = throttles.reenable(world.ledger, reason="looked at it", by="person:ada")
    assert [(row["symbol"], row["strategy"]) for row in freed] == [(BTC, "momentum")]
    assert judge(world, position_id=position) is None


def test_a_throttle_holds_its_symbol_and_strategy_alone(world: World, position: int) -> None:
    throttles.trip(world.ledger, BTC, "momentum", "test")
    assert judge(world, position_id=position) == "STRATEGY_THROTTLED"
    eth = world.position(ETH)
    assert judge(world, ticket(symbol=ETH), position_id=eth) is None
    world.ledger.execute("UPDATE positions SET strategy = 'breakout' WHERE symbol = %s", (BTC,))
    assert judge(world, position_id=position) is None


def test_a_person_begins_the_count_anew(world: World, position: int) -> None:
    closed_entries(world, 10)
    refused(world, position)
    throttles.reenable(world.ledger, reason="looked at it", by="person:ada")
    assert ask(world, position).repeated_entries == 0
    assert judge(world, position_id=position) is None


def test_what_is_held_is_sold_while_its_strategy_is_throttled(world: World, holding: int) -> None:
    throttles.trip(world.ledger, BTC, "momentum", "test")
    assert judge(world, sale(), purpose="exit", position_id=holding) is None


def test_a_throttle_is_tripped_once_and_told_once(ledger: Ledger) -> None:
    assert throttles.trip(ledger, BTC, "momentum", "first")
    assert not throttles.trip(ledger, BTC, "momentum", "second")
    assert [row["detail"] for row in throttles.tripped(ledger)] == ["first"]
    assert len(alerts.unsent(ledger)) == 1
    assert throttles.reenable(ledger, reason="fine", by="person:ada")
    assert throttles.reenable(ledger, reason="fine", by="person:ada") == []
    assert throttles.trip(ledger, BTC, "momentum", "third")
    kept = ledger.query("SELECT reason, reenabled_by FROM throttles ORDER BY throttle_id")
    assert [tuple(row.values()) for row in kept] == [("fine", "person:ada"), (None, None)]


def test_other_denials_throttle_nothing(ledger: Ledger) -> None:
    gate.note(ledger, OrderDenied("RATE_SYMBOL", symbol=BTC, strategy="momentum"))
    assert throttles.tripped(ledger) == []
