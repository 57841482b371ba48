"""Fills: once by their trade id, in any order, never more than was ordered."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock
from shared.execution import fills
from shared.execution.types import VenueFill, VenueOrder

QUANTITY = Decimal("0.895")
PARTS = [Decimal("0.3"), Decimal("0.2"), Decimal("0.25"), Decimal("0.145")]


@pytest.fixture
def intent_id(bench: Bench) -> str:
    """An order of 0.895 BTC that the venue has acknowledged, without fills."""
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue = bench.venues["binance"]
    told = venue.fills
    venue.fills = lambda symbol, since: []  # type: ignore[method-assign]
    desk.work()
    venue.fills = told  # type: ignore[method-assign]
    row = bench.ledger.one("SELECT intent_id, quantity FROM intents")
    assert row is not None
    assert row["quantity"] == QUANTITY
    return str(row["intent_id"])


def part(number: int, **changes: Any) -> VenueFill:
    fill = VenueFill(
        f"part-{number}", "binance-1", "BTC/USDT", "buy", Decimal(100 + number),
        PARTS[number % len(PARTS)], Decimal("0.01"), "USDT", "taker", clock.now(),
    )  # fmt: skip
    return replace(fill, **changes)


def order(filled: str, status: str = "open") -> VenueOrder:
    return VenueOrder(
        "binance-1", None, "BTC/USDT", "buy", status,  # type: ignore[arg-type]
        QUANTITY, Decimal(filled), Decimal(100),
    )  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=6),
    reports=st.lists(st.decimals("0", "2", places=3), max_size=6),
)
def test_any_order_any_number_of_times_and_some_never(
    bench: Bench, intent_id: str, batches: list[list[int]], reports: list[Decimal]
) -> None:
    """What is recorded is exactly the set of trade ids that were told; what an order has filled
    only grows, up to what was ordered, whatever a venue says of it."""
    bench.ledger.execute("DELETE FROM fills")
    bench.ledger.execute("UPDATE orders SET filled_quantity = 0")
    before = Decimal(0)
    for batch, report in zip(batches, [*reports, *[Decimal(0)] * 6], strict=False):
        fills.record_fills(bench.ledger, "binance", [part(number) for number in batch])
        fills.record_order(bench.ledger, intent_id, "binance", order(str(report)))
        row = bench.ledger.one("SELECT filled_quantity FROM orders")
        assert row is not None
        assert before <= row["filled_quantity"] <= QUANTITY
        before = row["filled_quantity"]
    told = {number for batch in batches for number in batch}
    rows = bench.ledger.query("SELECT venue_trade_id FROM fills")
    assert {row["venue_trade_id"] for row in rows} == {f"part-{number}" for number in told}
    assert len(rows) == len(told)
    assert fills.filled_of(bench.ledger, intent_id) == sum((PARTS[n] for n in told), Decimal(0))
    assert bench.ledger.query("SELECT 1 FROM events WHERE kind LIKE 'FILL%%'") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"price": Decimal(101)},
        {"quantity": Decimal("0.31")},
        {"side": "sell"},
    ],
)
def test_a_fill_that_contradicts_its_trade_id_is_told_and_changes_nothing(
    bench: Bench, intent_id: str, changes: dict[str, Any]
) -> None:
    assert fills.record_fills(bench.ledger, "binance", [part(0)]) == 1
    for _ in range(3):
        assert fills.record_fills(bench.ledger, "binance", [part(0, **changes)]) == 0
    assert bench.ledger.query("SELECT side, price, quantity FROM fills") == [
        {"side": "buy", "price": Decimal(100), "quantity": Decimal("0.3")}
    ]
    events = bench.ledger.query("SELECT kind, detail->>'trade' AS trade FROM events")
    assert events == [{"kind": "FILL_CONTRADICTED", "trade": "part-0"}]
    alert = bench.ledger.query("SELECT severity FROM alerts")
    assert alert == [{"severity": "HIGH"}]


def test_the_same_number_written_otherwise_is_no_contradiction(
    bench: Bench, intent_id: str
) -> None:
    fills.record_fills(bench.ledger, "binance", [part(0)])
    again = part(0, quantity=Decimal("0.30000000"), price=Decimal("100.00"))
    fills.record_fills(bench.ledger, "binance", [again])
    assert bench.ledger.query("SELECT 1 FROM events") == []


def test_no_order_fills_beyond_its_quantity(bench: Bench, intent_id: str) -> None:
    whole = [part(number) for number in range(4)]
    assert fills.record_fills(bench.ledger, "binance", whole) == 4
    assert fills.filled_of(bench.ledger, intent_id) == QUANTITY
    surplus = part(9, quantity=Decimal("0.001"))
    for _ in range(2):
        assert fills.record_fills(bench.ledger, "binance", [surplus]) == 0
    assert fills.filled_of(bench.ledger, intent_id) == QUANTITY
    events = bench.ledger.query("SELECT kind FROM events")
    assert events == [{"kind": "FILL_EXCEEDS_ORDER"}]


def test_a_closed_order_is_not_opened_again(bench: Bench, intent_id: str) -> None:
    fills.record_order(bench.ledger, intent_id, "binance", order("0.3", "cancelled"))
    assert not fills.record_order(bench.ledger, intent_id, "binance", order("0.2", "open"))
    rows = bench.ledger.query("SELECT status, filled_quantity FROM orders")
    assert rows == [{"status": "cancelled", "filled_quantity": Decimal("0.3")}]


def test_fills_of_an_order_that_the_ledger_does_not_know_are_left_out(
    bench: Bench, intent_id: str
) -> None:
    stranger = part(0, venue_order_id="binance-77")
    assert fills.record_fills(bench.ledger, "binance", [stranger]) == 0
    assert fills.record_fills(bench.ledger, "kraken", [part(0)]) == 0
    assert bench.held() == 0


UNTOLD = {"fee_cost": None, "fee_currency": None}


def fees_of(bench: Bench) -> list[tuple[Decimal | None, str | None, Decimal | None]]:
    rows = bench.ledger.query("SELECT fee_cost, fee_currency, fee_quote FROM fills")
    return [(row["fee_cost"], row["fee_currency"], row["fee_quote"]) for row in rows]


def test_a_fill_without_its_fee_is_written_and_told_and_its_fee_is_added_once(
    bench: Bench, intent_id: str
) -> None:
    others = [part(1), part(2)]
    assert fills.record_fills(bench.ledger, "binance", [part(0, **UNTOLD), *others]) == 3
    assert (None, None, None) in fees_of(bench)
    currencies = bench.ledger.query("SELECT currency FROM balances ORDER BY 1")
    assert [row["currency"] for row in currencies] == ["BTC", "USDT"]
    for _ in range(2):
        fills.record_fills(bench.ledger, "binance", [part(0, **UNTOLD)])
    for _ in range(2):
        fills.record_fills(bench.ledger, "binance", [part(0, fee_cost=Decimal("0.03"))])
    fills.record_fills(bench.ledger, "binance", [part(0, fee_cost=Decimal("0.09"))])
    assert (Decimal("0.03"), "USDT", Decimal("0.03")) in fees_of(bench)
    kinds = [row["kind"] for row in bench.ledger.query("SELECT kind FROM events ORDER BY event_id")]
    assert kinds == ["FEE_UNTOLD", "FEE_TOLD"]
    assert bench.ledger.query("SELECT severity FROM alerts") == [{"severity": "HIGH"}]


def test_a_fee_that_is_not_told_stops_new_risk_until_it_is(bench: Bench) -> None:
    """What was bought is held and can be sold; the balances differ by the fee meanwhile."""
    venue = bench.venues["binance"]
    fetch = venue.fills
    venue.fills = lambda symbol, since: [  # type: ignore[method-assign]
        replace(fill, fee_cost=None, fee_currency=None) for fill in fetch(symbol, since)
    ]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    assert bench.held() == venue.account["BTC"] == QUANTITY
    fee = 10_000 - venue.account["USDT"] - QUANTITY * Decimal("100.05")
    found = bench.desk().reconcile()
    assert [(d["currency"], Decimal(d["difference"])) for d in found.differences] == [
        ("USDT", -fee)
    ]
    assert not found.clean
    venue.fills = fetch  # type: ignore[method-assign]
    assert bench.desk().reconcile().clean
    assert fees_of(bench) == [(fee, "USDT", fee)]


def test_a_fee_that_is_not_told_is_asked_for_only_where_the_balances_differ(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    desk.work()
    venue = bench.venues["binance"]
    venue.account["USDT"] += fees_of(bench)[0][0] or 0
    bench.ledger.execute("UPDATE fills SET fee_cost = NULL, fee_currency = NULL, fee_quote = NULL")
    asked: list[VenueOrder] = []
    venue.fills_of = lambda order: asked.append(order) or []  # type: ignore[method-assign,func-returns-value]
    assert bench.desk().reconcile().clean
    assert asked == []
    venue.account["USDT"] -= 1
    assert not bench.desk().reconcile().clean
    assert [order.venue_order_id for order in asked] == ["binance-1"]


@pytest.mark.parametrize(
    "fee", [{"fee_cost": None}, {"fee_currency": None}], ids=["currency alone", "cost alone"]
)
def test_half_a_fee_is_none(bench: Bench, intent_id: str, fee: dict[str, Any]) -> None:
    import psycopg2

    with pytest.raises(psycopg2.errors.CheckViolation):
        fills.record_fills(bench.ledger, "binance", [part(0, **fee)])
