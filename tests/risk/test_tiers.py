"""Three tiers of drawdown and three windows of loss: at each limit, and one unit past it.

10 %: nothing is bought. Past 15 %: an alert. Past 20 %: everything is closed, and a person has to
re-arm. Losses count from equity, open positions and fees included: by UTC day, 24 hours and week.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from shared import clock, config
from shared.analysis import analyse
from shared.ledger import alerts, state
from shared.risk import limits
from shared.safety.checks.portfolio import drawdown
from shared.safety.rules import judge as judge_checks
from shared.safety.rules import tightening
from tests.risk.gate_bench import judge
from tests.risk.gate_case import ACTIVE, case, verdict
from tests.risk.world import World, dec
from tests.safety.world import facts


@pytest.mark.parametrize(
    ("equity", "buys"),
    [("9000.01", None), ("9000", "DRAWDOWN_LIMIT"), ("8999.99", "DRAWDOWN_LIMIT")],
)
def test_at_10_percent_nothing_is_bought(equity: str, buys: str | None) -> None:
    fallen = dict.fromkeys(
        ("equity_quote", "day_start_quote", "rolling_start_quote", "week_start_quote"), dec(equity)
    )
    assert verdict(case(**fallen)) == buys
    assert verdict(case("exit", **fallen)) is None


@pytest.mark.parametrize(("fallen", "told"), [("15.00", []), ("15.01", ["Drawdown"])])
def test_past_15_percent_an_alert_is_sent(world: World, fallen: str, told: list[str]) -> None:
    measured = {
        "risk": {"sharpe": None, "max_drawdown_percent": float(fallen)},
        "execution": {"trades": 0},
    }
    analyse._alert(world.run, measured)
    assert [row["title"] for row in alerts.unsent(world.ledger)] == told


@pytest.mark.parametrize(("equity", "closes"), [("8000", False), ("7999.99", True)])
def test_past_20_percent_everything_is_closed_and_halted(equity: str, closes: bool) -> None:
    seen = facts(equity=equity, mark=10_000)
    result = drawdown(seen, config.load({}))
    fine = facts(equity=10_000, mark=10_000)
    others = dict.fromkeys(
        ("daily_loss", "api_health", "volatility", "slippage"), drawdown(fine, config.load({}))
    )
    found = judge_checks({**others, "drawdown": result}, ACTIVE, started=True)
    move = tightening(found, ACTIVE, clock.now())
    assert (move is not None) is closes
    if move is not None:
        assert (move.state, move.close_all, move.rearm_required) == ("HALTED", True, True)
        assert move.pause_until - clock.now() <= timedelta(hours=24)


@pytest.mark.parametrize(
    ("start", "code"),
    [
        ("11111.11", None),
        ("11111.12", "LOSS_WEEKLY"),
        (None, "LOSS_UNKNOWN"),
        ("0", "LOSS_UNKNOWN"),
    ],
)
def test_the_loss_of_a_week(start: str | None, code: str | None) -> None:
    week = {"week_start_quote": None if start is None else dec(start)}
    assert verdict(case(**week)) == code
    assert verdict(case("exit", **week)) is None


def test_a_weekly_loss_of_exactly_its_limit_is_at_it() -> None:
    nine = dict.fromkeys(("equity_quote", "day_start_quote", "rolling_start_quote"), dec(9_000))
    at_it = case(**nine, high_water_quote=dec(9_500), week_start_quote=dec(10_000))
    assert verdict(at_it) == "LOSS_WEEKLY"
    assert verdict(case(week_start_quote=dec(1))) is None


def test_the_weekly_limit_is_a_setting() -> None:
    settings = {"max_weekly_loss_percent": Decimal(3)}
    assert verdict(case(week_start_quote=dec("10309.27"), settings=settings)) is None
    assert verdict(case(week_start_quote=dec("10309.28"), settings=settings)) == "LOSS_WEEKLY"


@pytest.mark.parametrize(("days", "code"), [(6.9, "LOSS_WEEKLY"), (7.1, None)])
def test_a_week_is_seven_days_and_no_person_shortens_it(
    world: World, position: int, days: float, code: str | None
) -> None:
    world.equity(12_000, at=clock.now() - timedelta(days=days))
    world.equity(10_000, at=clock.now() - timedelta(days=5))
    world.equity(10_000)
    state.tighten(world.ledger, "HALTED", reason="drawdown", set_by="test", rearm_required=True)
    state.rearm(world.ledger, reason="accepted", set_by="person:ada")  # the drawdown, that is
    world.equity(10_000, at=clock.now() + timedelta(milliseconds=1))
    assert judge(world, position_id=position) == code


def test_sizing_and_gate_ask_alike() -> None:
    judged = case(week_start_quote=dec(12_000))
    with pytest.raises(Exception, match="LOSS_WEEKLY: window=week, loss=2000, limit=1200"):
        limits.deny_at_weekly_loss(judged.config, judged.standing)
