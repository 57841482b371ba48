"""Phase 3: what a mock run has to show, and everything that keeps it from being enough."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from deploy.phases import mock_run
from shared.ledger.connection import Ledger
from tests.phases.conftest import END, Mock

Spoil = Callable[[Mock], object]


def found(mock: Mock, **explained: str) -> dict[str, tuple[str, str]]:
    checks = mock_run.checks(mock.ledger, mock.settings, mock.project, END, explained)
    return {check.name: (check.verdict, check.detail) for check in checks}


def bad(mock: Mock, **explained: str) -> dict[str, str]:
    every = found(mock, **explained)
    return {name: detail for name, (verdict, detail) in every.items() if verdict != "OK"}


def test_a_clean_run_passes(clean: Mock) -> None:
    assert bad(clean) == {}
    shown = found(clean)
    assert shown["runs of trading_loop"][1] == "2880 of 2880 ticks in 48 h (100.0 %)"
    assert shown["runs of performance_analyzer"][1] == "48 of 48 ticks in 48 h (100.0 %)"


def test_a_loop_that_never_ran_is_told(mock: Mock) -> None:
    assert bad(mock) == {"mock run": "the trading loop has never run"}


def execute(sql: str) -> Spoil:
    return lambda mock: mock.ledger.execute(sql)


@pytest.mark.parametrize(
    ("spoil", "name", "told"),
    [
        (
            execute("DELETE FROM runs WHERE workflow = 'trading_loop' AND event_at < "
                    "'2025-05-06T13:00Z'"),
            "runs of trading_loop", "of 2880 ticks",
        ),
        (
            execute("UPDATE runs SET pod = 'other' WHERE workflow = 'circuit_breaker'"),
            "runs of circuit_breaker", "0 of 2880 ticks",
        ),
        (
            execute("UPDATE runs SET status = 'FAILED', error = 'order_execution: boom' "
                    "WHERE event_at = '2025-05-08T11:00Z' AND workflow = 'trading_loop'"),
            "failed runs", "1 x trading_loop: order_execution: boom",
        ),
        (
            execute("UPDATE runs SET status = 'RUNNING' "
                    "WHERE event_at = '2025-05-08T11:00Z' AND workflow = 'trading_loop'"),
            "failed runs", "1 x trading_loop: never ended",
        ),
        (execute("DELETE FROM scans"), "market_scanner communicates", "left no scans"),
        (execute("DELETE FROM health"), "circuit_breaker communicates", "left no health"),
        (
            execute("DELETE FROM performance"),
            "performance_analyzer communicates", "left no performance",
        ),
        (execute("DELETE FROM fills"), "orders", "1 orders, 0 of them filled"),
        (execute("UPDATE intents SET mode = 'live'"), "mock run", "1 orders were live"),
        (execute("DELETE FROM events"), "breaker drill", "was never done"),
        (
            execute("UPDATE events SET at = at - interval '8 days'"),
            "breaker drill", "more than a week ago",
        ),
        (lambda mock: mock.drill(passed=False), "breaker drill", "did not pass"),
        (
            lambda mock: mock.event("RECONCILE_DIFFERENCE", END - timedelta(hours=1)),
            "ledger and venues", "1 x RECONCILE_DIFFERENCE",
        ),
        (
            execute("UPDATE equity SET equity_quote = 10200"),
            "performance tracking", "2.00 % apart",
        ),
        (
            lambda mock: mock.entry(at=END - timedelta(hours=3), approved=False),
            "risk: approved", "broken: every entry has an approved risk check",
        ),
        (
            lambda mock: mock.entry(at=END - timedelta(hours=3), size=40, filled="0.5"),
            "risk: sizes", "bought=50",
        ),
        (
            lambda mock: [mock.entry(at=END - timedelta(hours=9, seconds=n), open_hours=6)
                          for n in range(6)],
            "risk: positions", "open=6",
        ),
        (
            lambda mock: (
                mock.event("STATE_CHANGED", END - timedelta(hours=3), to="HALTED", set_by="x"),
                mock.event("STATE_CHANGED", END - timedelta(hours=1), to="ACTIVE", set_by="x"),
            ),
            "risk: halts", "broken: nothing was bought while trading was not ACTIVE",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(clean: Mock, spoil: Spoil, name: str, told: str) -> None:
    spoil(clean)
    shown = bad(clean)
    assert list(shown) == [name]
    assert told in shown[name]


def test_the_core_does_not_count_among_the_positions(clean: Mock) -> None:
    """MAX_POSITIONS bounds the tactical sleeve; the core is held in as many symbols as it has."""
    for second in range(6):
        clean.entry(at=END - timedelta(hours=9, seconds=second), open_hours=6)
    assert list(bad(clean)) == ["risk: positions"]
    clean.ledger.execute("UPDATE positions SET sleeve = 'core'")
    assert bad(clean) == {}
    clean.entry(at=END - timedelta(hours=8), open_hours=6)  # the only tactical one
    assert bad(clean) == {}


def test_what_was_before_the_48_hours_does_not_count(clean: Mock) -> None:
    clean.ledger.execute(
        "UPDATE runs SET status = 'FAILED', error = 'boom' WHERE event_at < %s",
        (END - timedelta(hours=48),),
    )
    clean.event("FOREIGN_ORDER", END - timedelta(hours=49))
    assert bad(clean) == {}


def test_a_failure_that_is_explained_passes_and_an_explanation_of_nothing_does_not(
    clean: Mock,
) -> None:
    clean.ledger.execute(
        "UPDATE runs SET status = 'FAILED', error = 'market_scanner: no route to host' "
        "WHERE event_at = '2025-05-08T11:00Z' AND workflow = 'trading_loop'"
    )
    explained = {"no route to host": "the line was down"}
    assert bad(clean, **explained) == {}
    assert "explained: the line was down" in found(clean, **explained)["failed runs"][1]
    assert bad(clean, **explained, other="x") == {"explanations": "'other' is a part of no error"}


def test_the_rows_of_another_pod_do_not_count(clean: Mock, ledger: Ledger) -> None:
    clean.ledger.execute("UPDATE scans SET pod = 'other'")
    assert list(bad(clean)) == ["market_scanner communicates"]
