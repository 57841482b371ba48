"""Orders of ours that turn up after they were given up: adopted, counted, and told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from execution_bench import Bench
from scripted_venue import ScriptedVenue
from test_resolve import leave_unknown

from shared import clock
from shared.errors import OrderDenied
from shared.execution import intents, sending
from shared.execution.reconciling import strangers
from shared.execution.reconciling.amending import LATE_ORDER
from shared.execution.types import VenueOrder
from shared.ledger import state
from shared.risk import gate


def give_up(bench: Bench, outcome: str = "DEAD") -> str:
    """An entry that was accepted, and that nobody could find until it was given up."""
    venue = bench.venues["binance"]
    intent_id = leave_unknown(bench, "lose answer")
    assert intents.settle(bench.ledger, intent_id, outcome, "given up")  # type: ignore[arg-type]
    assert venue.account["BTC"] > 0
    assert bench.held() == 0
    return intent_id


def amended(bench: Bench) -> list[tuple[str, str]]:
    rows = bench.ledger.query("SELECT detail FROM events WHERE kind = 'ORDER_AMENDED'")
    return [(row["detail"]["intent"], row["detail"]["state"]) for row in rows]


def still_resting(venue: ScriptedVenue, intent_id: str) -> VenueOrder:
    """What the late order is: not filled, and resting."""
    order = replace(
        venue.orders[intent_id], status="open", filled_quantity=Decimal(0), average_price=None
    )
    venue.orders[intent_id] = order
    venue.resting.append(order)
    venue.executions.clear()
    venue.account = {"USDT": Decimal(10_000)}
    return order


@pytest.mark.parametrize("outcome", ["DEAD", "REJECTED"])
def test_its_fills_are_found_when_the_balances_differ(bench: Bench, outcome: str) -> None:
    intent_id = give_up(bench, outcome)
    found = bench.desk().reconcile()
    assert found.amended == [intent_id]
    assert found.differences == []
    assert not found.clean
    assert bench.held() == bench.venues["binance"].account["BTC"]
    assert bench.states() == [outcome]
    assert amended(bench) == [(intent_id, outcome)]
    alert = bench.ledger.one("SELECT severity, title FROM alerts")
    assert alert == {
        "severity": "HIGH", "title": f"binance: an order that was {outcome} exists"
    }  # fmt: skip
    assert state.read(bench.ledger).state == "ACTIVE"
    assert bench.desk().reconcile().clean
    assert len(amended(bench)) == 1


def test_it_is_found_by_our_own_id_where_fills_show_nothing(bench: Bench) -> None:
    """Its fills are older than what the venue lists."""
    intent_id = give_up(bench)
    venue = bench.venues["binance"]
    fills, calls = venue.fills, []

    def later(symbol: str, since: object) -> list[object]:
        calls.append(symbol)
        return [] if len(calls) == 1 else fills(symbol, since)  # type: ignore[arg-type]

    venue.fills = later  # type: ignore[method-assign, assignment]
    assert bench.desk().reconcile().amended == [intent_id]
    assert bench.held() == venue.account["BTC"]


@pytest.mark.parametrize("outcome", ["DEAD", "REJECTED"])
def test_a_resting_one_is_adopted_and_counts_in_the_limits(bench: Bench, outcome: str) -> None:
    intent_id = give_up(bench, outcome)
    venue = bench.venues["binance"]
    order = still_resting(venue, intent_id)
    found = bench.desk().reconcile()
    assert found.amended == [intent_id]
    assert found.foreign_orders == []
    assert state.read(bench.ledger).state == "ACTIVE"
    rows = bench.ledger.query("SELECT venue_order_id, status FROM orders")
    assert rows == [{"venue_order_id": order.venue_order_id, "status": "open"}]
    # 0.895 x 100.5 rest: with another 0.2 x 100 the position would be beyond 100
    run = bench.run()
    ticket = replace(venue.sent[0], client_order_id="tl-next", quantity=Decimal("0.2"))
    position = bench.ledger.one("SELECT position_id FROM positions")
    assert position is not None
    with pytest.raises(OrderDenied, match="POSITION_SIZE"):
        gate.check(
            run, ticket, purpose="entry", position_id=position["position_id"],
            rules=venue.rules("BTC/USDT"), book=venue.book("BTC/USDT"), now_ms=clock.now_ms(),
            mode=venue.mode,
        )  # fmt: skip


def test_an_answer_that_comes_after_the_funeral_is_an_amendment_too(bench: Bench) -> None:
    """The sender's own answer, when another run has given its order up meanwhile."""
    intent_id = give_up(bench)
    desk = bench.desk()
    order = bench.venues["binance"].orders[intent_id]
    for _ in range(2):
        sending.acknowledge(desk._run, intent_id, "binance", order)
    assert amended(bench) == [(intent_id, "DEAD")]
    assert bench.states() == ["DEAD"]


def test_the_closed_position_of_a_late_purchase_is_opened_again_and_sold(bench: Bench) -> None:
    give_up(bench)
    bench.ledger.execute("UPDATE parent_orders SET state = 'EXPIRED'")
    bench.desk().settle()
    assert bench.ledger.query("SELECT close_reason FROM positions") == [
        {"close_reason": "not filled"}
    ]
    desk = bench.desk()
    desk.reconcile()
    row = bench.ledger.one("SELECT position_id, closed_at, exit_reason FROM positions")
    assert row is not None
    assert (row["closed_at"], row["exit_reason"]) == (None, LATE_ORDER)
    assert [r.outcome for r in desk.exit(row["position_id"], reason=LATE_ORDER)] == ["FILLED"]
    assert bench.held() == 0


def test_a_late_purchase_goes_to_the_successor_of_its_closed_position(bench: Bench) -> None:
    """A symbol has one open position: it takes over what was bought."""
    intent_id = give_up(bench)
    bench.ledger.execute("UPDATE parent_orders SET state = 'EXPIRED'")
    bench.desk().settle()
    desk = bench.desk()
    desk.enter(bench.entry("30"))
    successor = bench.ledger.one("SELECT position_id FROM positions WHERE closed_at IS NULL")
    assert successor is not None
    assert desk.reconcile().amended == [intent_id]
    held = bench.ledger.query("SELECT position_id, quantity FROM position_holdings")
    assert held == [{**successor, "quantity": bench.venues["binance"].account["BTC"]}]


def test_a_second_order_under_one_of_our_ids_is_foreign(bench: Bench) -> None:
    """We never send twice: whoever made it was not this system."""
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    desk.work()
    first = venue.orders[venue.sent[0].client_order_id]
    venue.resting.append(replace(first, venue_order_id="binance-99", status="open"))
    assert bench.desk().reconcile().foreign_orders == ["binance-99"]
    assert state.read(bench.ledger).state == "HALTED"


def test_a_resting_order_of_another_pod_is_neither_foreign_nor_adopted(bench: Bench) -> None:
    venue = bench.venues["binance"]
    intent_id = give_up(bench)
    still_resting(venue, intent_id)
    bench.ledger.execute("UPDATE intents SET pod = 'other'")
    found = bench.desk().reconcile()
    assert (found.foreign_orders, found.amended) == ([], [])
    assert bench.ledger.query("SELECT 1 FROM orders") == []
    assert state.read(bench.ledger).state == "ACTIVE"


def test_what_was_given_up_long_ago_is_not_looked_for_in_every_minute(bench: Bench) -> None:
    give_up(bench)
    bench.time.advance(hours=strangers.LATE_WITHIN.total_seconds() / 3600)
    venue = bench.venues["binance"]
    asked: list[str] = []
    venue.fills = lambda symbol, since: asked.append(symbol) or []  # type: ignore[method-assign, func-returns-value]
    found = bench.desk().reconcile()
    assert asked == []
    assert [d["currency"] for d in found.differences] == ["BTC", "USDT"]


def test_without_a_difference_nothing_is_looked_for(bench: Bench) -> None:
    venue = bench.venues["binance"]
    intent_id = leave_unknown(bench)
    intents.settle(bench.ledger, intent_id, "DEAD")
    asked: list[str] = []
    venue.fills = lambda symbol, since: asked.append(symbol) or []  # type: ignore[method-assign, func-returns-value]
    assert bench.desk().reconcile().clean
    assert asked == []
