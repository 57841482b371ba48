"""The hourly analysis on a real ledger."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.analysis import analyse as module
from shared.analysis import insight
from shared.errors import ModelUnavailable
from shared.ledger import alerts, parameters
from shared.ledger.connection import Ledger
from tests.conftest import VirtualClock
from tests.risk.world import World, make_run


@pytest.fixture
def world(ledger: Ledger, virtual_clock: VirtualClock) -> World:
    """A week of hourly equity that goes up and down by turns, and three trades."""
    virtual_clock.advance(days=8)
    world = World(ledger, make_run(ledger, "performance_analyzer"))
    world.transfer("binance", "USDT", 10_000, at=clock.now() - timedelta(days=8))
    for hour in range(168):
        at = clock.now() - timedelta(hours=167 - hour)
        world.equity(10_000 + (50 if hour % 2 else 0), at=at)
    for pnl, strategy in ((5, "momentum"), (-2, "momentum"), (3, "arbitrage")):
        world.closed_trade(pnl, strategy=strategy)
    return world


def test_a_week_in_the_documents_groups(world: World) -> None:
    export = module.analyse(world.run)
    measured = export["performance"]
    assert set(measured) == {"returns", "risk", "execution", "patterns", "benchmarks"}
    assert measured["returns"]["total_percent"] == pytest.approx(0.5)
    assert len(measured["returns"]["hourly_percent"]) == 167
    assert measured["returns"]["pnl_quote"] == 6
    assert measured["risk"]["max_drawdown_percent"] == pytest.approx(100 * 50 / 10_050)
    assert measured["execution"]["win_rate_percent"] == pytest.approx(200 / 3)
    assert measured["execution"]["profit_factor"] == pytest.approx(4)
    assert measured["patterns"]["best_strategies"][0]["name"] == "arbitrage"
    assert "no hourly candles" in measured["benchmarks"]["missing"]
    assert export["nextReview"] == clock.now_ms() + 3_600_000


def test_what_the_core_sleeve_has_sold_is_no_trade_of_a_strategy(world: World) -> None:
    before = module.analyse(world.run)["performance"]
    core = world.closed_trade(-40, strategy="core")
    world.ledger.execute("UPDATE positions SET sleeve = 'core' WHERE position_id = %s", (core,))
    after = module.analyse(world.run)["performance"]
    assert after["returns"]["pnl_quote"] == before["returns"]["pnl_quote"] == 6
    assert after["patterns"] == before["patterns"]


def test_it_is_stored(world: World) -> None:
    export = module.analyse(world.run)
    row = world.ledger.one("SELECT at, window_hours, metrics, applied FROM performance")
    assert row is not None
    assert (row["at"], row["window_hours"]) == (clock.now(), 168)
    assert row["metrics"] == export["performance"]


def test_an_empty_ledger_has_no_numbers_and_no_alerts(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    export = module.analyse(make_run(ledger, "performance_analyzer"))
    risk = export["performance"]["risk"]
    assert [risk[k] for k in ("sharpe", "sortino", "max_drawdown_percent")] == [None] * 3
    assert alerts.unsent(ledger) == []


def test_money_taken_out_is_no_return(world: World) -> None:
    world.transfer("binance", "USDT", -5_000, at=clock.now() - timedelta(minutes=30))
    world.ledger.execute(
        "UPDATE equity SET equity_quote = equity_quote - 5000 WHERE at = %s", (clock.now(),)
    )
    export = module.analyse(world.run)
    assert export["performance"]["risk"]["max_drawdown_percent"] == pytest.approx(1, abs=0.1)
    assert export["performance"]["returns"]["total_percent"] == pytest.approx(1, abs=0.1)


def test_without_a_key_there_are_no_recommendations_and_a_reason(world: World) -> None:
    got = module.analyse(world.run)["recommendations"]
    assert got == {"available": False, "reason": "OPENAI_API_KEY is not set"}


def test_a_drawdown_past_15_percent_is_told_once_a_day(
    world: World, virtual_clock: VirtualClock
) -> None:
    world.ledger.execute("UPDATE equity SET equity_quote = 8400 WHERE at = %s", (clock.now(),))
    module.analyse(world.run)
    virtual_clock.advance(hours=1)
    module.analyse(world.run)
    assert [row["title"] for row in alerts.unsent(world.ledger)] == ["Drawdown"]


def evidence(world: World, better: float) -> None:
    """200 closed trades, of which those of momentum gain ``better`` percent more."""
    for number in range(100):
        noise = Decimal(number % 5 - 2)
        world.closed_trade(float(noise) + better, strategy="momentum")
        world.closed_trade(float(noise), strategy="arbitrage")


def test_proven_weights_move_one_notch_and_once_a_week(
    world: World, virtual_clock: VirtualClock
) -> None:
    evidence(world, 3)
    learned = module.analyse(world.run)["optimizations"]["strategy_weights"]
    assert learned["applied"] is True, learned
    moved = parameters.current(world.ledger).values.strategy_weights
    assert (moved.momentum, moved.arbitrage) == (0.27, 0.13)
    virtual_clock.advance(hours=1)
    again = module.analyse(world.run)["optimizations"]["strategy_weights"]
    assert again["reason"].startswith("NOT_DUE")
    assert parameters.current(world.ledger).version == 1


def test_switched_off_nothing_is_learned(world: World) -> None:
    evidence(world, 3)
    world.configure(ENABLE_AUTO_OPTIMIZATION="false")
    module.analyse(world.run)
    assert parameters.current(world.ledger).version == 0


@pytest.mark.parametrize(
    ("changes", "applied"),
    [
        ({}, True),
        ({"confidence": 0.8}, False),
        ({"riskImpact": "neutral"}, False),
        ({"parameter": "strategy_weights.arbitrage"}, False),
        ({"parameter": "ai_score_threshold"}, False),
        ({"value": 0.25}, False),
    ],
)
def test_what_a_model_recommends_needs_evidence(changes: dict[str, Any], applied: bool) -> None:
    values: dict[str, Any] = {
        "parameter": "strategy_weights.momentum",
        "value": 0.3,
        "confidence": 0.81,
        "riskImpact": "positive",
        "rationale": "x",
    }
    adjustment = insight.Adjustment(**(values | changes))
    assert insight.disposition(adjustment, "momentum", 0.25).startswith("APPLIED") == applied


@pytest.mark.parametrize("text", ["", "{}", '{"insights": 1}', "[1]"])
def test_an_answer_of_another_form_is_a_failure(text: str) -> None:
    with pytest.raises(ModelUnavailable, match="MODEL_ANSWER_INVALID"):
        insight._parsed(text)
