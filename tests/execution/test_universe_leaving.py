"""A symbol that leaves the universe: never bought, and managed and sold until it is flat."""

from __future__ import annotations

from decimal import Decimal

import pytest
from execution_bench import Bench

from shared import clock, config
from shared.errors import OrderDenied
from shared.execution.venues.registry import open_venues
from shared.ledger import universes
from shared.safety import checks
from shared.safety import facts as safety_facts


@pytest.fixture
def auto(bench: Bench) -> Bench:
    """A pod that has chosen BTC."""
    bench.config = config.load(
        {"POD": "test", "VENUES": "binance", "SYMBOLS": "auto", "UNIVERSE_BACKUP_VENUES": "0"}
    )
    choose(bench, "BTC/USDT")
    return bench


def choose(bench: Bench, *symbols: str) -> None:
    members = [{"symbol": symbol} for symbol in symbols]
    universes.store(bench.ledger, bench.config, members=members, excluded=[], limits={})


def states(bench: Bench) -> list[tuple[str, str | None]]:
    rows = bench.ledger.query("SELECT state, ended_reason FROM parent_orders")
    return [(row["state"], row["ended_reason"]) for row in rows]


def test_what_is_being_bought_ends_and_is_sold(auto: Bench) -> None:
    desk = auto.desk()
    desk.reconcile()
    desk.enter(auto.entry("90", urgency="normal"))
    desk.work()
    bought = auto.held()
    assert bought > 0
    choose(auto, "ETH/USDT")
    desk = auto.desk()
    desk.reconcile()
    assert desk.work() == []
    assert states(auto) == [("CANCELLED", "BTC/USDT is no longer in the universe")]
    assert auto.held() == bought
    row = auto.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    assert auto.run("position_manager").pairs == ("ETH/USDT", "BTC/USDT")
    desk = auto.desk()
    desk.reconcile()
    desk.exit(row["position_id"], reason="signal")
    assert auto.held() == 0
    assert desk.settle() == [row["position_id"]]
    assert auto.run().pairs == ("ETH/USDT",)


def test_the_gate_lets_no_buy_through_by_itself(
    auto: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.execution.entries.slices._why_over", lambda *args: None)
    desk = auto.desk()
    desk.reconcile()
    desk.enter(auto.entry("90", urgency="high"))
    choose(auto, "ETH/USDT")
    desk = auto.desk()
    desk.reconcile()
    (result,) = desk.work()
    assert result.outcome == "DENIED"
    assert "SYMBOL_NOT_ALLOWED" in result.detail
    assert auto.held() == 0


def test_nothing_is_entered_before_a_universe_is_chosen(auto: Bench) -> None:
    auto.ledger.execute("DELETE FROM universes")
    desk = auto.desk()
    desk.reconcile()
    desk.enter(auto.entry("90", urgency="high"))
    assert desk.work() == []
    assert auto.held() == 0


def test_equity_is_marked_with_what_is_held_outside(auto: Bench) -> None:
    desk = auto.desk()
    desk.reconcile()
    desk.enter(auto.entry("90", urgency="high"))
    desk.work()
    choose(auto, "ETH/USDT")
    assert "BTC/USDT" in desk.quotes(auto.run().pairs)


def test_the_venues_of_a_run_know_what_is_held_outside(auto: Bench) -> None:
    auto.ledger.execute(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', 'BTC/USDT', 'momentum', %s, 1)",
        (clock.now(),),
    )
    choose(auto, "ETH/USDT")
    venue = open_venues(auto.run())["binance"]
    catalogue = venue._public._catalogue  # type: ignore[attr-defined]
    assert catalogue._symbols == ("ETH/USDT", "BTC/USDT")


@pytest.mark.parametrize(("symbol", "status"), [("BTC/USDT", "OK"), ("DOGE/USDT", "CRITICAL")])
def test_the_breaker_allows_what_had_been_chosen(auto: Bench, symbol: str, status: str) -> None:
    auto.ledger.execute(
        "INSERT INTO positions (pod, symbol, strategy, opened_at, stop_price) "
        "VALUES ('test', %s, 'momentum', %s, 1)",
        (symbol, clock.now()),
    )
    choose(auto, "ETH/USDT")
    run = auto.run("circuit_breaker")
    known = safety_facts.fetch(auto.ledger, "USDT")
    only = {"regulatory_limits": checks.CHECKS["regulatory_limits"]}
    assert checks.run_all(run, known, only)["regulatory_limits"].status == status


def test_risk_management_refuses_a_symbol_outside(auto: Bench) -> None:
    from shared.risk import buying

    choose(auto, "ETH/USDT")
    run = auto.run()
    with pytest.raises(OrderDenied, match="SYMBOL_NOT_ALLOWED: symbol=BTC/USDT"):
        buying._deny_unless_traded(run, "BTC/USDT")
    buying._deny_unless_traded(run, "ETH/USDT")
    assert Decimal(0) == auto.held()
