"""Each rule of the breaker fires alone, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.safety import rules
from shared.safety.checks import CHECKS
from shared.safety.checks.base import Result, Status
from tests.safety.world import trading

pytestmark = pytest.mark.usefixtures("virtual_clock")


def results(**statuses: Status) -> dict[str, Result]:
    return {name: Result(statuses.get(name, "OK"), 1.0, 1.0, "detail") for name in CHECKS}


@pytest.mark.parametrize(
    ("check", "status", "severity"),
    [
        ("drawdown", "CRITICAL", "CRITICAL"),
        ("daily_loss", "CRITICAL", "HIGH"),
        ("api_health", "CRITICAL", "HIGH"),
        ("drawdown", "WARNING", "LOW"),
        ("drawdown", "UNKNOWN", "MEDIUM"),
        ("daily_loss", "UNKNOWN", "MEDIUM"),
        ("api_health", "UNKNOWN", "MEDIUM"),
        *(
            (name, status, "LOW")
            for name in CHECKS
            if name not in ("drawdown", "daily_loss", "api_health")
            for status in ("WARNING", "CRITICAL", "UNKNOWN")
        ),
    ],
)
def test_what_trips(check: str, status: Status, severity: str) -> None:
    verdict = rules.judge(results(**{check: status}), trading(), started=True)
    assert verdict.severity == severity
    assert len(verdict.reasons) == (severity != "LOW")


def test_all_is_well() -> None:
    verdict = rules.judge(results(), trading(), started=True)
    assert (verdict.trigger, verdict.healthy, verdict.size_factor) == (False, True, 1)


def test_nothing_trips_before_the_first_trading_run() -> None:
    bad = results(drawdown="UNKNOWN", daily_loss="UNKNOWN", api_health="CRITICAL")
    verdict = rules.judge(bad, trading(), started=False)
    assert (verdict.trigger, verdict.healthy) == (False, False)


@pytest.mark.parametrize(
    ("status", "healthy"), [("WARNING", True), ("CRITICAL", False), ("UNKNOWN", False)]
)
@pytest.mark.parametrize("name", list(CHECKS))
def test_healthy_is_neither_critical_nor_unknown(name: str, status: Status, healthy: bool) -> None:
    assert rules.judge(results(**{name: status}), trading(), started=True).healthy == healthy


@pytest.mark.parametrize(
    ("status", "present", "factor"),
    [("WARNING", 1, "0.5"), ("OK", "0.5", 1), ("UNKNOWN", "0.5", "0.5"), ("UNKNOWN", 1, 1)],
)
def test_volatility_halves_sizes(status: Status, present: Any, factor: Any) -> None:
    now = trading(size_factor=Decimal(present))
    verdict = rules.judge(results(volatility=status), now, started=True)
    assert verdict.size_factor == Decimal(factor)
    assert not verdict.limit_orders_only


@pytest.mark.parametrize(
    ("status", "present", "limited"),
    [("WARNING", False, True), ("OK", True, False), ("UNKNOWN", True, True)],
)
def test_slippage_switches_to_limit_orders(status: Status, present: bool, limited: bool) -> None:
    now = trading(limit_orders_only=present)
    verdict = rules.judge(results(slippage=status), now, started=True)
    assert verdict.limit_orders_only == limited
    assert verdict.size_factor == 1


def move(present: Any, **statuses: Status) -> rules.Tightening | None:
    verdict = rules.judge(results(**statuses), present, started=True)
    return rules.tightening(verdict, present, clock.now())


def test_drawdown_halts_for_24_hours_closes_all_and_wants_a_person() -> None:
    until = clock.now() + timedelta(hours=24)
    expected = rules.Tightening("HALTED", until, rearm_required=True, close_all=True)
    assert move(trading(), drawdown="CRITICAL") == expected


@pytest.mark.parametrize("check", ["daily_loss", "api_health"])
def test_loss_and_failures_pause_for_an_hour(check: str) -> None:
    until = clock.now() + timedelta(hours=1)
    expected = rules.Tightening("HALTED", until, rearm_required=False, close_all=False)
    assert move(trading(), **{check: "CRITICAL"}) == expected


def test_what_cannot_be_checked_takes_no_new_risk() -> None:
    got = move(trading(), drawdown="UNKNOWN")
    assert got is not None
    assert (got.state, got.rearm_required, got.close_all) == ("REDUCING", False, False)


@pytest.mark.parametrize(
    ("present", "statuses", "moves"),
    [
        # a pause under way is left alone, one that has run out begins anew
        ({"state": "HALTED", "in_minutes": 1}, {"daily_loss": "CRITICAL"}, False),
        ({"state": "HALTED", "in_minutes": 0}, {"daily_loss": "CRITICAL"}, True),
        # a halt that waits for a person is complete
        (
            {"state": "HALTED", "in_minutes": 0, "rearm_required": True, "close_all": True},
            {"drawdown": "CRITICAL"},
            False,
        ),
        ({"state": "HALTED", "in_minutes": 0, "rearm_required": True}, {"daily_loss": "CRITICAL"},
         False),
        # a pause becomes a halt, a restriction becomes a pause
        ({"state": "HALTED", "in_minutes": 30}, {"drawdown": "CRITICAL"}, True),
        ({"state": "REDUCING", "in_minutes": 4}, {"daily_loss": "CRITICAL"}, True),
        ({"state": "HALTED", "in_minutes": 30}, {"drawdown": "UNKNOWN"}, False),
        ({"state": "ACTIVE"}, {}, False),
    ],
)  # fmt: skip
def test_the_state_moves_only_where_it_has_to(
    present: dict[str, Any], statuses: dict[str, Status], moves: bool
) -> None:
    minutes = present.pop("in_minutes", None)
    until = None if minutes is None else clock.now() + timedelta(minutes=minutes)
    state = present.pop("state")
    assert (move(trading(state, pause_until=until, **present), **statuses) is not None) == moves
