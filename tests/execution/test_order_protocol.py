"""The order protocol: intent first, send once, three outcomes, never a second send."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from execution_bench import Bench

from shared.errors import LeaseLost
from shared.execution import intents
from shared.execution.types import OrderTicket
from shared.ledger import state


def open_position(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    assert [result.outcome for result in desk.work()] == ["FILLED"]


def test_a_filled_order_is_in_the_ledger_as_the_venue_has_it(bench: Bench) -> None:
    open_position(bench)
    venue = bench.venues["binance"]
    rows = bench.ledger.query("SELECT currency, amount FROM balances WHERE amount <> 0")
    assert {row["currency"]: row["amount"] for row in rows} == venue.account
    # 90 USDT at the worst price of the collar, 100 x 1.005, on a grid of 0.001
    assert bench.held() == Decimal("0.895")


def test_the_intent_is_committed_before_the_send(bench: Bench) -> None:
    venue = bench.venues["binance"]
    seen: list[str] = []

    def submit(ticket: OrderTicket) -> None:
        row = bench.ledger.one(
            "SELECT state, txid_current_if_assigned() AS open_transaction FROM intents"
        )
        assert row is not None
        assert row["open_transaction"] is None
        seen.append(row["state"])
        raise KeyboardInterrupt  # the process dies here

    venue.submit = submit  # type: ignore[method-assign, assignment]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    with pytest.raises(KeyboardInterrupt):
        desk.work()
    assert seen == ["SENDING"]
    assert bench.states() == ["SENDING"]


def test_a_lost_answer_is_unknown_then_found_and_never_sent_again(bench: Bench) -> None:
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue.next_submit = "lose answer"
    assert [result.outcome for result in desk.work()] == ["UNKNOWN"]
    assert bench.held() == 0

    later = bench.desk()
    assert later.reconcile().resolved == [venue.sent[0].client_order_id]
    assert later.work() == []
    assert len(venue.sent) == 1
    assert bench.states() == ["ACKNOWLEDGED"]
    assert bench.held() == venue.account["BTC"]


def test_an_unknown_order_stops_new_risk_until_it_is_dead(bench: Bench) -> None:
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    venue.next_submit = "lose request"
    desk.work()
    waited = timedelta()
    while bench.states() == ["UNKNOWN"]:
        assert waited < timedelta(minutes=5)
        later = bench.desk()
        found = later.reconcile()
        if found.still_unknown:
            assert not found.clean
            assert later.work() == []
        waited += timedelta(minutes=1)
    assert bench.states() == ["DEAD"]
    assert waited > venue.request_validity + intents.QUARANTINE - timedelta(minutes=1)
    assert len(venue.sent) == 1


def test_a_definite_rejection_is_final_and_frees_the_symbol(bench: Bench) -> None:
    bench.venues["binance"].next_submit = "reject"
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    assert [result.outcome for result in desk.work()] == ["REJECTED"]
    assert bench.states() == ["REJECTED"]
    assert bench.desk().reconcile().clean


def test_the_same_decision_makes_one_parent_and_one_order(bench: Bench) -> None:
    order = bench.entry()
    desk = bench.desk()
    desk.reconcile()
    first = desk.enter(order)
    assert desk.enter(order) == first
    desk.work()
    assert desk.work() == []
    assert len(bench.venues["binance"].sent) == 1


def test_a_run_that_lost_its_lease_sends_nothing(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    bench.ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another run'")
    with pytest.raises(LeaseLost):
        desk.work()
    assert bench.venues["binance"].sent == []
    assert bench.states() == []


def test_a_halt_stops_entries_and_lets_exits_through(bench: Bench) -> None:
    open_position(bench)
    state.tighten(bench.ledger, "HALTED", reason="drill", set_by="test", rearm_required=True)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    assert desk.work() == []
    row = bench.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    assert [r.outcome for r in desk.exit(row["position_id"], reason="stop")] == ["FILLED"]
    assert bench.held() == 0
    assert [ticket.side for ticket in bench.venues["binance"].sent] == ["buy", "sell"]


def test_a_halt_after_the_parent_was_made_stops_the_next_slice(bench: Bench) -> None:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry(urgency="normal"))
    assert len(desk.work()) == 1
    state.tighten(bench.ledger, "REDUCING", reason="drill", set_by="test")
    later = bench.desk()
    later.reconcile()
    assert later.work() == []
    row = bench.ledger.one("SELECT state, ended_reason FROM parent_orders")
    assert row == {"state": "CANCELLED", "ended_reason": "trading is REDUCING"}


def test_exits_sell_what_is_held_and_repeat_without_overselling(bench: Bench) -> None:
    open_position(bench)
    venue = bench.venues["binance"]
    venue.fill_share = Decimal("0.5")
    position = bench.ledger.one("SELECT position_id FROM positions")
    assert position is not None
    sold = Decimal(0)
    for _ in range(12):
        desk = bench.desk()
        desk.reconcile()
        results = desk.exit(position["position_id"], reason="stop")
        sold += sum((r.filled_quantity for r in results), Decimal(0))
        assert sold <= Decimal("0.895")
        desk.settle()
    row = bench.ledger.one("SELECT close_reason, dust_quantity FROM trades")
    assert row is not None
    assert row["close_reason"] == "stop"
    # what is left is below the venue's minimum notional of 5
    assert 0 < row["dust_quantity"] * venue.mid < 5
    assert venue.account["BTC"] == row["dust_quantity"]


def test_an_exit_of_unknown_outcome_is_not_sold_twice(bench: Bench) -> None:
    open_position(bench)
    venue = bench.venues["binance"]
    position = bench.ledger.one("SELECT position_id FROM positions")
    assert position is not None
    venue.next_submit, venue.hides_orders = "lose answer", True
    desk = bench.desk()
    desk.reconcile()
    desk.exit(position["position_id"], reason="stop")
    again = bench.desk()
    again.reconcile()
    assert again.exit(position["position_id"], reason="stop") == []
    assert [ticket.side for ticket in venue.sent] == ["buy", "sell"]


def test_an_entry_that_never_filled_closes_without_being_a_trade(bench: Bench) -> None:
    bench.venues["binance"].fill_share = Decimal(0)
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    for _ in range(6):
        later = bench.desk()
        later.reconcile()
        later.work()
        later.settle()
    row = bench.ledger.one("SELECT close_reason FROM positions")
    assert row == {"close_reason": "not filled"}
    assert bench.ledger.query("SELECT 1 FROM trades") == []


def test_an_exit_that_its_venue_delays_is_told_once_an_hour(bench: Bench) -> None:
    open_position(bench)
    position = bench.ledger.one("SELECT position_id FROM positions")
    assert position is not None
    bench.venues["binance"].down = True
    for _ in range(2):
        assert bench.desk().exit(position["position_id"], reason="stop") == []
    alerts = bench.ledger.query("SELECT severity, title FROM alerts")
    assert alerts == [{"severity": "HIGH", "title": "BTC/USDT: an exit on binance is delayed"}]
