"""The last step of the loop: what each decision leads to, and what happens whatever it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench

from shared import clock
from shared.execution import execute as subject
from shared.execution.desk import Desk
from shared.run import Run


def exports(action: str, *, approved: bool = True, size: float = 60.0) -> dict[str, Any]:
    mid = 100.0
    exits = {
        "stopLoss": 98.0,
        "takeProfit": 105.0,
        "trailingStop": {"enabled": True, "activation": 103.0, "distance_percent": 1.0},
        "timeStop": clock.now_ms() + 86_400_000,
    }
    risk = {
        "approved": approved,
        "decision_id": None,
        "action": action,
        "symbol": "BTC/USDT",
        "size": size,
        "exits": exits if action == "BUY" else None,
        "reasoning": ["KELLY_NO_EDGE: kelly=-0.01"] if not approved else [],
    }
    final = {
        "action": action,
        "symbol": "BTC/USDT",
        "strategy": "momentum",
        "mid": mid,
        "urgency": "high",
    }
    return {
        "signal_generator": {"$return_value": {"finalDecision": final}},
        "risk_management": {"$return_value": risk},
    }


@pytest.fixture
def run_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A minute's last step over the bench's venues."""

    def at_once(action: str, **options: Any) -> dict[str, Any]:
        bench.time.advance(minutes=1)
        bench.see_prices()
        run = bench.run()
        run.steps = exports(action, **options)
        monkeypatch.setattr(Desk, "open", lambda run: Desk(run, bench.venues))
        export = subject.execute(run)
        return json.loads(json.dumps(export, allow_nan=False))

    return at_once


def test_an_approved_buy_is_worked_at_once(bench: Bench, run_step: Any) -> None:
    export = run_step("BUY")
    assert export["status"] == "EXECUTED"
    (order,) = export["execution"]["orders"]
    assert (order["side"], order["outcome"], order["venue"]) == ("buy", "FILLED", "binance")
    # 60 USDT at the collar's worst price of 100.5, on a grid of 0.001
    assert order["filled_quantity"] == 0.597
    assert export["quality"]["fill_rate_percent"] == 100
    assert export["quality"]["slippage_bps"] == pytest.approx(5)  # 100.05 against a mid of 100
    assert export["quality"]["fees_quote"] == pytest.approx(0.597 * 100.05 * 0.001)
    assert export["reconciliation"]["clean"]


def test_the_equity_of_the_minute_is_written(bench: Bench, run_step: Any) -> None:
    export = run_step("BUY")
    row = bench.ledger.one("SELECT * FROM equity ORDER BY at DESC LIMIT 1")
    assert row is not None
    venue = bench.venues["binance"]
    assert row["equity_quote"] == venue.account["USDT"] + venue.account["BTC"] * 100
    assert export["equity_quote"] == pytest.approx(float(row["equity_quote"]))


def test_a_sell_leaves_the_position(bench: Bench, run_step: Any) -> None:
    run_step("BUY")
    export = run_step("SELL")
    assert [o["side"] for o in export["execution"]["orders"]] == ["sell"]
    assert len(export["execution"]["positions_closed"]) == 1
    assert bench.ledger.one("SELECT close_reason FROM trades") == {"close_reason": "signal"}


def test_a_sell_without_a_position_sends_nothing(bench: Bench, run_step: Any) -> None:
    export = run_step("SELL")
    assert export["reason"] == "POSITION_MISSING: symbol=BTC/USDT"
    assert bench.venues["binance"].sent == []


@pytest.mark.parametrize(
    ("action", "approved", "size", "status"),
    [
        ("HOLD", False, 0.0, "IDLE"),
        ("BUY", False, 0.0, "REJECTED"),
        ("BUY", True, 1.0, "REJECTED"),  # below every venue's minimum
    ],
)
def test_nothing_is_sent_where_nothing_is_approved(
    bench: Bench, run_step: Any, action: str, approved: bool, size: float, status: str
) -> None:
    export = run_step(action, approved=approved, size=size)
    assert export["status"] == status
    assert bench.venues["binance"].sent == []


def test_a_stop_is_taken_whatever_the_decision_is(bench: Bench, run_step: Any) -> None:
    run_step("BUY")
    bench.venues["binance"].mid = Decimal("97.9")
    bench.ledger.execute("DELETE FROM prices")
    export = run_step("HOLD", approved=False)
    assert export["status"] == "EXECUTED"
    assert bench.ledger.one("SELECT close_reason FROM trades") == {"close_reason": "stop"}


def test_an_unknown_order_of_an_earlier_minute_is_resolved_on_a_hold(
    bench: Bench, run_step: Any
) -> None:
    bench.venues["binance"].next_submit = "lose answer"
    assert run_step("BUY")["status"] == "UNKNOWN"
    export = run_step("HOLD", approved=False)
    assert len(export["reconciliation"]["resolved"]) == 1
    assert bench.held() > 0


def test_without_an_earlier_export_nothing_happens(bench: Bench) -> None:
    run: Run = bench.run()
    with pytest.raises(Exception, match="steps.risk_management: expected an export"):
        subject.execute(run)


def test_an_equity_that_cannot_be_priced_is_not_written_and_told(
    bench: Bench, run_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_step("BUY")
    rows = len(bench.ledger.query("SELECT 1 FROM equity"))
    monkeypatch.setattr(Desk, "quotes", lambda self, symbols: {})

    def forget_prices() -> None:
        bench.ledger.execute("DELETE FROM prices")

    monkeypatch.setattr(bench, "see_prices", forget_prices)
    assert run_step("HOLD", approved=False)["equity_quote"] is None
    assert len(bench.ledger.query("SELECT 1 FROM equity")) == rows
    told = bench.ledger.one("SELECT detail FROM events WHERE kind = 'EQUITY_UNMARKED'")
    assert told == {"detail": {"why": "equity: expected a price of BTC/USDT, found none"}}


def test_what_was_bought_is_protected_in_the_same_run(bench: Bench, run_step: Any) -> None:
    protection = run_step("BUY")["execution"]["protection"]
    assert (protection["placed"], protection["stops"], protection["naked"]) == (1, 1, 0)
    assert [ticket.side for ticket in bench.venues["binance"].sent] == ["buy", "sell"]
    again = run_step("HOLD")["execution"]["protection"]
    assert (again["placed"], again["stops"]) == (0, 1)


def test_what_a_run_that_died_left_naked_is_protected_before_anything_else(
    bench: Bench, run_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_step("BUY")
    venue = bench.venues["binance"]
    venue.cancel(next(iter(venue.stops)), "BTC/USDT")

    def die(*arguments: Any) -> Any:
        raise RuntimeError("after the first protection")

    monkeypatch.setattr(subject, "manage_exits", die)
    with pytest.raises(RuntimeError):
        run_step("HOLD")
    assert len(venue.stops) == 1
