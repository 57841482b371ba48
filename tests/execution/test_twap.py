"""TWAP parents: what is due when, and that no rounding or missed minute loses quantity."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from execution_bench import Bench
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import OrderDenied, VenueUnavailable
from shared.execution import parents
from shared.execution.parents import Parent

START = datetime(2025, 5, 6, tzinfo=UTC)


def parent(**changes: object) -> Parent:
    values: dict[str, object] = {
        "parent_id": "p", "position_id": 1, "symbol": "BTC/USDT", "side": "buy",
        "purpose": "entry", "reason": "momentum", "quantity": Decimal(10),
        "decision_mid": Decimal(100), "urgency": "normal", "slices": 10, "interval_seconds": 60,
        "created_at": START, "expires_at": START + timedelta(minutes=13),
        "filled_quantity": Decimal(0), "in_flight_quantity": Decimal(0), "last_slice": None,
    }  # fmt: skip
    return Parent(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "last_slice", "due"),
    [
        (0, None, 0),
        (0, 0, None),  # sent already
        (59, 0, None),  # too early
        (60, 0, 1),
        (300, 1, 5),  # three minutes were missed: one slice, not four
        (300, 5, None),
    ],
)
def test_which_slice_is_due(seconds: int, last_slice: int | None, due: int | None) -> None:
    now = START + timedelta(seconds=seconds)
    assert parents.due_slice(parent(last_slice=last_slice), now) == due


@pytest.mark.parametrize(
    ("number", "filled", "in_flight", "due"),
    [
        (0, "0", "0", "1"),
        (3, "3", "0", "1"),  # on schedule
        (3, "1", "0", "3"),  # the unfilled rest is carried forward
        (3, "1", "2", "1"),  # what is in flight counts as done
        (9, "9", "0", "1"),
        (11, "9.5", "0", "0.5"),  # overtime never asks for more than the whole
        (2, "5", "0", "0"),  # ahead of schedule
    ],
)
def test_what_a_slice_asks_for(number: int, filled: str, in_flight: str, due: str) -> None:
    working = parent(filled_quantity=Decimal(filled), in_flight_quantity=Decimal(in_flight))
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
            filled += parents.quantity_due(parent(filled_quantity=filled), number) * share
        assert 0 <= filled <= 10


def test_a_parent_fills_minute_by_minute_and_ends(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("90", urgency="normal"))  # 9 slices of 10 USDT, minimum 5
    desk.work()
    for _ in range(8):
        later = bench.desk()
        later.reconcile()
        later.work()
    venue = bench.venues["binance"]
    assert len(venue.sent) == 9
    assert bench.held() == Decimal("0.895")
    assert bench.ledger.query("SELECT state FROM parent_orders") == [{"state": "DONE"}]


def test_missed_minutes_are_caught_up(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("90", urgency="normal"))
    desk.work()
    bench.time.advance(minutes=5)
    later = bench.desk()
    later.reconcile()
    later.work()
    sizes = [ticket.quantity for ticket in bench.venues["binance"].sent]
    assert sizes == [Decimal("0.099"), Decimal("0.597")]  # slices 1 and 2-7 of 9 of 0.8955


def test_what_stays_unfilled_ends_by_time(bench: Bench) -> None:
    bench.venues["binance"].fill_share = Decimal(0)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("90", urgency="normal"))
    for _ in range(14):
        later = bench.desk()
        later.reconcile()
        later.work()
    assert bench.ledger.query("SELECT state FROM parent_orders") == [{"state": "EXPIRED"}]


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
