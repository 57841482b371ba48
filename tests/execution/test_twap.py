"""TWAP parents: what is due when, what ends them, and that nothing is lost or bought twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from execution_bench import Bench
from hypothesis import given
from hypothesis import strategies as st
from scripted_venue import ScriptedVenue

from shared.errors import OrderDenied, VenueUnavailable
from shared.execution.desk import Desk
from shared.execution.entries import parents
from shared.execution.entries.parents import Parent
from shared.execution.types import OrderResult
from shared.ledger import decisions
from shared.ledger.connection import Ledger
from shared.ledger.decisions import Decision
from tests.conftest import VirtualClock

START = datetime(2025, 5, 6, tzinfo=UTC)


def make_parent(**changes: object) -> Parent:
    values: dict[str, object] = {
        "parent_id": "p", "position_id": 1, "symbol": "BTC/USDT", "side": "buy",
        "purpose": "entry", "reason": "momentum", "quantity": Decimal(10),
        "decision_mid": Decimal(100), "urgency": "normal", "slices": 10, "interval_seconds": 60,
        "created_at": START, "expires_at": START + timedelta(minutes=13),
        "filled_quantity": Decimal(0), "in_flight_quantity": Decimal(0), "last_slice": None,
    }  # fmt: skip
    return Parent(**(values | changes))  # type: ignore[arg-type]


def start(bench: Bench, *, urgency: str = "normal") -> Desk:
    """A new entry of 90 USDT and its first slice: 9 slices of 10 USDT at a minimum of 5."""
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("90", urgency=urgency))
    desk.work()
    return desk


def next_minute(bench: Bench) -> list[OrderResult]:
    desk = bench.desk()
    desk.reconcile()
    return desk.work()


def ended(bench: Bench) -> tuple[str, str | None]:
    row = bench.ledger.one("SELECT state, ended_reason FROM parent_orders")
    assert row is not None
    return row["state"], row["ended_reason"]


# The schedule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "last_slice", "due"),
    [
        (0, None, 0),
        (0, 0, None),  # sent already
        (44, 0, None),  # too early
        (45, 0, 1),  # minutes are not exact: a run may be a quarter of an interval early
        (60, 0, 1),
        (104, 1, None),
        (300, 1, 5),  # three minutes were missed: one slice, not four
        (300, 5, None),
    ],
)
def test_which_slice_is_due(seconds: int, last_slice: int | None, due: int | None) -> None:
    now = START + timedelta(seconds=seconds)
    assert parents.due_slice(make_parent(last_slice=last_slice), now) == due


@pytest.mark.parametrize(
    ("number", "filled", "in_flight", "due"),
    [
        (0, "0", "0", "1"),
        (3, "3", "0", "1"),  # on schedule
        (3, "1", "0", "3"),  # the unfilled rest is carried forward
        (5, "0", "0", "3"),  # but no more than three slices at once
        (3, "1", "2", "1"),  # what is in flight counts as done
        (9, "9", "0", "1"),
        (11, "9.5", "0", "0.5"),  # overtime never asks for more than the whole
        (12, "5", "0", "3"),  # what does not fit into the overtime is not bought
        (2, "5", "0", "0"),  # ahead of schedule
    ],
)
def test_what_a_slice_asks_for(number: int, filled: str, in_flight: str, due: str) -> None:
    working = make_parent(filled_quantity=Decimal(filled), in_flight_quantity=Decimal(in_flight))
    assert parents.quantity_due(working, number) == Decimal(due)


@pytest.mark.parametrize(
    ("notional", "minimum", "slices"),
    [
        ("100", "5", 10),
        ("99", "5", 9),
        ("20", "5", 2),
        ("19", "5", 1),
        ("3", "5", 1),
        ("9", "0", 10),
    ],
)
def test_too_small_becomes_fewer_slices(notional: str, minimum: str, slices: int) -> None:
    assert parents.slices_for(Decimal(notional), 10, Decimal(minimum)) == slices


@given(
    shares=st.lists(st.decimals(0, 1, places=3), min_size=1, max_size=14),
    missed=st.sets(st.integers(0, 12)),
)
def test_no_schedule_asks_for_more_than_the_whole(shares: list[Decimal], missed: set[int]) -> None:
    filled = Decimal(0)
    for number, share in enumerate(shares):
        if number not in missed:
            due = parents.quantity_due(make_parent(filled_quantity=filled), number)
            assert due <= 3
            filled += due * share
        assert 0 <= filled <= min(number + 1, 10)


# A parent's life ---------------------------------------------------------------------------------


def test_a_parent_fills_minute_by_minute_and_ends(bench: Bench) -> None:
    start(bench)
    for _ in range(8):
        next_minute(bench)
    assert len(bench.venues["binance"].sent) == 9
    assert bench.held() == Decimal("0.895")
    state, reason = ended(bench)
    assert state == "DONE"
    assert reason is not None
    assert re.fullmatch(r"filled but for 0\.000522\d+, which no venue takes", reason)


def test_missed_minutes_are_caught_up_three_slices_at_a_time(bench: Bench) -> None:
    start(bench)
    bench.time.advance(minutes=5)
    for _ in range(3):
        next_minute(bench)
    sizes = [ticket.quantity for ticket in bench.venues["binance"].sent]
    # 9 slices of 0.0995: the first, then three at once, then what has become due meanwhile
    assert sizes == [Decimal(size) for size in ("0.099", "0.298", "0.298", "0.200")]


def test_a_run_that_is_early_in_its_minute_sends_its_slice(bench: Bench) -> None:
    start(bench)
    for seconds in (47, 73, 50):
        bench.time.advance(seconds=seconds - 60)  # the next desk comes a minute later
        next_minute(bench)
    assert len(bench.venues["binance"].sent) == 4


def test_an_unfilled_rest_is_carried_forward(bench: Bench) -> None:
    bench.venues["binance"].fill_share = Decimal("0.5")
    start(bench)
    assert bench.held() == Decimal("0.050")
    bench.venues["binance"].fill_share = Decimal(1)
    next_minute(bench)
    sizes = [ticket.quantity for ticket in bench.venues["binance"].sent]
    assert sizes == [Decimal("0.099"), Decimal("0.149")]  # 0.199 less the 0.050
    assert bench.held() == Decimal("0.199")


def test_what_stays_unfilled_ends_by_time(bench: Bench) -> None:
    bench.venues["binance"].fill_share = Decimal(0)
    start(bench)
    for _ in range(14):
        next_minute(bench)
    assert ended(bench) == ("EXPIRED", "its time is over, 0 filled")


def test_a_rest_waits_for_a_venue_that_is_kept_out_for_a_minute(
    ledger: Ledger, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 USDT are too little for Binance. Kraken takes them, but cannot be compared at first."""
    binance, kraken = ScriptedVenue("binance"), ScriptedVenue("kraken")
    large = replace(binance.rules("BTC/USDT"), min_notional=Decimal(20))
    monkeypatch.setattr(binance, "rules", lambda symbol: large)
    bench = Bench(ledger, virtual_clock, [binance, kraken])
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("8", urgency="normal"))
    kraken.down = True
    assert next_minute(bench) == []
    assert ended(bench) == ("WORKING", None)
    kraken.down = False
    (result,) = next_minute(bench)
    assert (result.venue, result.outcome) == ("kraken", "FILLED")
    assert ended(bench)[0] == "DONE"


def test_nothing_is_sent_after_the_time_is_over(bench: Bench) -> None:
    start(bench)
    bench.time.advance(minutes=30)
    assert next_minute(bench) == []
    assert ended(bench) == ("EXPIRED", "its time is over, 0.099 filled")


def test_urgency_is_one_marketable_limit_inside_the_collar(bench: Bench) -> None:
    start(bench, urgency="high")
    (ticket,) = bench.venues["binance"].sent
    assert (ticket.order_type, ticket.time_in_force) == ("limit", "IOC")
    assert ticket.quantity == Decimal("0.895")
    # the best ask of 100.05 and 10 bps for levels behind it, on the tick grid
    assert ticket.limit_price == Decimal("100.15")
    assert next_minute(bench) == []


def test_with_limit_orders_only_the_best_level_is_the_limit(bench: Bench) -> None:
    bench.ledger.execute("UPDATE trading_state SET limit_orders_only = true")
    start(bench)
    (ticket,) = bench.venues["binance"].sent
    assert ticket.limit_price == Decimal("100.05")


# A changed mind ----------------------------------------------------------------------------------


def decide(bench: Bench, action: str, symbol: str) -> None:
    decision = Decision(
        f"d-{action}", symbol, action, "ensemble", None, 1.0, 1.0, None, "test", {}, []
    )
    decisions.record(bench.ledger, bench.run().run_id, decision)


@pytest.mark.parametrize(
    ("action", "symbol", "state"),
    [
        ("SELL", "BTC/USDT", "CANCELLED"),
        ("SELL", "ETH/USDT", "WORKING"),  # another symbol
        ("HOLD", "BTC/USDT", "WORKING"),  # nothing new is opened: what was approved is finished
        ("BUY", "BTC/USDT", "WORKING"),
    ],
)
def test_a_younger_decision_to_sell_ends_it(
    bench: Bench, action: str, symbol: str, state: str
) -> None:
    start(bench)
    bench.time.advance(seconds=1)
    decide(bench, action, symbol)
    next_minute(bench)
    assert ended(bench)[0] == state
    assert len(bench.venues["binance"].sent) == (1 if state == "CANCELLED" else 2)


def test_an_older_decision_to_sell_does_not(bench: Bench) -> None:
    decide(bench, "SELL", "BTC/USDT")
    start(bench)
    next_minute(bench)
    assert ended(bench) == ("WORKING", None)


def test_a_decision_to_sell_says_nothing_of_the_core(bench: Bench) -> None:
    """Decisions are about what is traded tactically; a rebalance has reasons of its own."""
    start(bench)
    bench.ledger.execute("UPDATE parent_orders SET purpose = 'rebalance'")
    bench.time.advance(seconds=1)
    decide(bench, "SELL", "BTC/USDT")
    next_minute(bench)
    assert ended(bench) == ("WORKING", None)


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
def test_a_drawdown_or_a_halt_ends_it(bench: Bench, state: str) -> None:
    start(bench)
    bench.ledger.execute("UPDATE trading_state SET state = %s", (state,))
    assert next_minute(bench) == []
    assert ended(bench) == ("CANCELLED", f"trading is {state}")


def test_a_sale_of_its_position_ends_it(bench: Bench) -> None:
    """A part of the position is sold, by a target or by a stop that rests on the venue."""
    desk = start(bench)
    row = bench.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    bench.time.advance(seconds=1)
    desk.exit(row["position_id"], reason="partial_profit", fraction=Decimal("0.6"))
    assert next_minute(bench) == []
    assert ended(bench) == ("CANCELLED", "its position is being sold")


def test_an_older_sale_of_its_position_does_not(bench: Bench) -> None:
    """Half was sold at a profit; afterwards it is added to."""
    desk = start(bench)
    (parent,) = parents.working(bench.ledger)
    desk.exit(parent.position_id, reason="partial_profit", fraction=Decimal("0.6"))
    bench.ledger.execute("UPDATE parent_orders SET state = 'CANCELLED'")
    bench.time.advance(seconds=1)
    desk.add(parent.position_id, Decimal(20), Decimal(100), "pyramid")
    assert [result.outcome for result in next_minute(bench)] == ["FILLED"]


def test_a_person_can_end_it(bench: Bench) -> None:
    start(bench)
    (parent,) = parents.working(bench.ledger)
    assert not parents.cancel(Ledger(bench.ledger._connection, "other"), parent.parent_id, "x")
    assert parents.cancel(bench.ledger, parent.parent_id, "I do not like it")
    assert next_minute(bench) == []
    assert ended(bench) == ("CANCELLED", "I do not like it")
    told = bench.ledger.query("SELECT detail FROM events WHERE kind = 'PARENT_CANCELLED'")
    assert told == [{"detail": {"parent_id": parent.parent_id, "reason": "I do not like it"}}]
    assert not parents.cancel(bench.ledger, parent.parent_id, "again")


# Opening ---------------------------------------------------------------------------------------


def test_a_size_below_every_minimum_opens_nothing(bench: Bench) -> None:
    """The minimum is 5 USDT; a tenth of room is left for rounding."""
    desk = bench.desk()
    with pytest.raises(OrderDenied, match="SIZE_BELOW_MINIMUM: size=5.49, minimum=5"):
        desk.enter(bench.entry("5.49"))
    assert bench.ledger.query("SELECT 1 FROM positions") == []
    desk.enter(bench.entry("5.5"))
    assert len(bench.ledger.query("SELECT 1 FROM parent_orders")) == 1


def test_where_no_venue_tells_its_minimum_nothing_is_opened(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(symbol: str) -> None:
        raise VenueUnavailable("binance: markets: ExchangeNotAvailable")

    desk = bench.desk()
    monkeypatch.setattr(bench.venues["binance"], "rules", silent)
    with pytest.raises(OrderDenied, match="MARKET_RULES_MISSING: symbol=BTC/USDT"):
        desk.enter(bench.entry())
    assert bench.ledger.query("SELECT 1 FROM positions") == []


# Inside an intent's transaction -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "quantity", "denied"),
    [
        (0, "0.05", None),  # 0.0995 are due, 0.049 of them filled
        (0, "0.051", "due=0.0995"),
        (1, "0.15", None),  # 0.199 are due
        (1, "0.151", "due=0.1990"),
        (12, "0.846", None),  # in overtime the whole, and never more
        (12, "0.847", "due=0.8955"),
        (None, "0.847", "due=0.8955"),
    ],
)
def test_a_parent_takes_no_more_than_is_due(
    bench: Bench, number: int | None, quantity: str, denied: str | None
) -> None:
    bench.venues["binance"].fill_share = Decimal("0.5")
    start(bench)
    bench.ledger.execute("UPDATE orders SET filled_quantity = 0.049")
    (parent,) = parents.working(bench.ledger)
    with bench.ledger.transaction():
        if denied is None:
            parents.hold_working(bench.ledger, parent.parent_id, number, Decimal(quantity))
            return
        with pytest.raises(OrderDenied, match=f"PARENT_EXCEEDED: .*{denied}"):
            parents.hold_working(bench.ledger, parent.parent_id, number, Decimal(quantity))


@pytest.mark.parametrize(
    ("state", "status", "in_flight"),
    [
        ("SENDING", None, "0.099"),
        ("UNKNOWN", None, "0.099"),
        ("ACKNOWLEDGED", "open", "0.069"),
        ("ACKNOWLEDGED", "cancelled", "0"),
        ("REJECTED", None, "0"),
        ("DEAD", None, "0"),
        ("DEAD", "cancelled", "0"),  # it was there after all: what it filled counts
    ],
)
def test_what_counts_as_filled_and_in_flight(
    bench: Bench, state: str, status: str | None, in_flight: str
) -> None:
    start(bench)
    (parent,) = parents.working(bench.ledger)
    bench.ledger.execute("UPDATE intents SET state = %s", (state,))
    if status is None:
        bench.ledger.execute("DELETE FROM fills; DELETE FROM orders")
    else:
        bench.ledger.execute("UPDATE orders SET filled_quantity = 0.03, status = %s", (status,))
    expected = (Decimal("0.03") if status else Decimal(0), Decimal(in_flight))
    assert parents.progress(bench.ledger, parent.parent_id) == expected
    (again,) = parents.working(bench.ledger)
    assert (again.filled_quantity, again.in_flight_quantity) == expected


@pytest.mark.parametrize(
    ("min_quantity", "step", "slices"),
    [("0.001", "0.001", 9), ("0.15", "0.001", 3), ("0.1", "0.2", 2)],  # 5, 15 and 20 USDT
)
def test_slices_are_large_enough_for_the_venue_that_asks_for_most(
    make_bench: Callable[..., Bench], min_quantity: str, step: str, slices: int
) -> None:
    coarse = ScriptedVenue("kraken")
    rules = replace(
        coarse.rules("BTC/USDT"), min_quantity=Decimal(min_quantity), quantity_step=Decimal(step)
    )
    coarse.rules = lambda symbol: rules  # type: ignore[method-assign]
    bench = make_bench(ScriptedVenue("binance"), coarse)
    start(bench)
    assert bench.ledger.query("SELECT slices FROM parent_orders") == [{"slices": slices}]
