"""Phase 2: the code that runs, and who was heard from."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deploy.phases import install
from deploy.pipedream.deployment import Difference
from shared import VERSION
from tests.phases.conftest import END, Mock

BUILD = "0123456789ab"


def bad(mock: Mock) -> dict[str, str]:
    checks = install.heard_from(mock.ledger, mock.project, BUILD, END + timedelta(minutes=1))
    return {check.name: check.detail for check in checks if check.verdict != "OK"}


def test_all_were_heard_from_but_those_that_leave_no_run(mock: Mock) -> None:
    mock.runs(2, build=f"{VERSION}+{BUILD}")
    assert bad(mock) == {
        "HTTP workflows": "dashboard, kill_switch: leave no run, cannot be seen from here"
    }


@pytest.mark.parametrize(
    ("sql", "workflow", "told"),
    [
        ("UPDATE runs SET pod = 'other' WHERE workflow = 'trading_loop'", "trading_loop", "never"),
        (
            "UPDATE runs SET status = 'FAILED' WHERE workflow = 'circuit_breaker'",
            "circuit_breaker",
            "never",
        ),
        (
            "DELETE FROM runs WHERE workflow = 'trading_loop' AND event_at > '2025-05-08T11:50Z'",
            "trading_loop",
            "expected after 2025-05-08 11:51",
        ),
        (
            "UPDATE runs SET build = '0.1.0+old' WHERE workflow = 'position_manager'",
            "position_manager",
            f"build 0.1.0+old, expected {VERSION}+{BUILD}",
        ),
    ],
)
def test_who_is_silent_or_runs_something_else_is_named(
    mock: Mock, sql: str, workflow: str, told: str
) -> None:
    mock.runs(2, build=f"{VERSION}+{BUILD}")
    mock.ledger.execute(sql)
    shown = bad(mock)
    assert sorted(shown) == ["HTTP workflows", f"{workflow} heard from"]
    assert told in shown[f"{workflow} heard from"]


def test_an_hourly_workflow_may_be_silent_for_some_hours(mock: Mock) -> None:
    mock.runs(3, build=f"{VERSION}+{BUILD}")
    mock.ledger.execute(
        "DELETE FROM runs WHERE workflow = 'performance_analyzer' AND event_at > %s",
        (END - timedelta(hours=2),),
    )
    assert list(bad(mock)) == ["HTTP workflows"]


def test_code_that_differs_is_named() -> None:
    assert install.deployed([], 9, BUILD).verdict == "OK"
    difference = Difference("trading_loop", "market_scanner", "a" * 64, None)
    found = install.deployed([difference], 9, BUILD)
    assert found.verdict == "FAIL"
    assert "1 of 9 steps differ: trading_loop/market_scanner" in found.detail
