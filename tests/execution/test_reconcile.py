"""The ledger and the venue agree, or nothing new is risked."""

from __future__ import annotations

from decimal import Decimal

from execution_bench import Bench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock
from shared.execution import fills
from shared.ledger import state


def test_equal_accounts_are_clean(bench: Bench) -> None:
    assert bench.desk().reconcile().clean


def test_without_a_comparison_nothing_is_clean(bench: Bench) -> None:
    assert not bench.desk().reconcile(compare_accounts=False).clean


def test_a_difference_of_a_cent_is_reported_and_stops_entries(bench: Bench) -> None:
    venue = bench.venues["binance"]
    venue.account["USDT"] -= Decimal("0.01")
    desk = bench.desk()
    found = desk.reconcile()
    assert [(d["currency"], d["difference"]) for d in found.differences] == [("USDT", "-0.01")]
    desk.enter(bench.entry())
    assert desk.work() == []
    assert venue.sent == []
    titles = bench.ledger.query("SELECT title FROM alerts")
    assert titles == [{"title": "binance: USDT differs from the ledger by -0.01"}]


def test_the_run_remembers_which_venues_it_found_equal(bench: Bench) -> None:
    """The gate lets nothing be bought on the others."""
    desk = bench.desk()
    desk._run.compared_at.clear()
    desk.reconcile(compare_accounts=False)
    assert desk._run.compared_at == {}
    desk.reconcile()
    assert desk._run.compared_at == {"binance": clock.now()}
    later = bench.desk()
    later._run.compared_at.clear()
    bench.venues["binance"].account["USDT"] -= 1
    later.reconcile()
    assert later._run.compared_at == {}


def test_a_venue_that_does_not_answer_stops_entries(bench: Bench) -> None:
    desk = bench.desk()
    desk.enter(bench.entry())
    bench.venues["binance"].down = True
    found = desk.reconcile()
    assert found.unread
    assert not found.clean
    assert desk.work() == []


def test_a_foreign_order_halts_until_a_person_rearms(bench: Bench) -> None:
    bench.venues["binance"].foreign_order()
    found = bench.desk().reconcile()
    assert found.foreign_orders == ["foreign-1"]
    trading = state.read(bench.ledger)
    assert (trading.state, trading.rearm_required) == ("HALTED", True)


def test_fills_that_come_late_are_fetched_by_a_later_run(bench: Bench) -> None:
    venue = bench.venues["binance"]
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    answered, venue.executions = venue.fills, []
    venue.fills = lambda symbol, since: []  # type: ignore[method-assign]
    desk.work()
    assert bench.held() == 0
    assert bench.ledger.query("SELECT status FROM orders") == [{"status": "open"}]
    venue.fills = answered  # type: ignore[method-assign]
    bench.desk().reconcile(compare_accounts=False)
    assert bench.held() == venue.account["BTC"]
    assert bench.ledger.query("SELECT status FROM orders") == [{"status": "filled"}]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations([0, 0, 0, 1, 1, 2, 2]))
def test_fills_may_come_in_any_order_and_any_number_of_times(
    bench: Bench, order: list[int]
) -> None:
    """The last point of safety.md I7: replayed fills change nothing."""
    venue = bench.venues["binance"]
    if not venue.executions:
        for _ in range(3):
            desk = bench.desk()
            desk.reconcile()
            desk.enter(bench.entry("30"))
            desk.work()
    assert len(venue.executions) == 3
    bench.ledger.execute("DELETE FROM fills")
    for number in order:
        fills.record_fills(bench.ledger, venue.name, [venue.executions[number]])
    assert bench.held() == venue.account["BTC"]
