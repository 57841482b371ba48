"""Connection, transactions, migrations, parameters, alerts, runs, and what is derived of fills."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shared import clock
from shared.errors import ConfigurationError, DataUnavailable, LedgerUnavailable
from shared.ledger import alerts, connection, migrate, parameters, runs
from shared.ledger.connection import Ledger
from shared.parameters import Parameters, StrategyWeights
from tests.conftest import VirtualClock


def test_a_transaction_is_all_or_nothing(ledger: Ledger, virtual_clock: VirtualClock) -> None:
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        alerts.put(ledger, "a", "INFO", "title", "body")
        with ledger.transaction():
            alerts.put(ledger, "b", "INFO", "title", "body")
        raise ZeroDivisionError
    assert ledger.query("SELECT 1 FROM alerts") == []


def test_a_transaction_of_another_pod_on_the_same_connection_joins(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    """Capital that moves from pod to pod is in both books or in none."""
    with pytest.raises(ZeroDivisionError), ledger.transaction():
        for pod in ("alpha", "beta"):
            with ledger.of_pod(pod).transaction():
                alerts.put(ledger.of_pod(pod), "a", "INFO", "title", "body")
        raise ZeroDivisionError
    assert ledger.query("SELECT 1 FROM alerts") == []
    with ledger.of_pod("alpha").transaction():
        alerts.put(ledger.of_pod("alpha"), "a", "INFO", "title", "body")
    assert ledger.query("SELECT pod FROM alerts") == [{"pod": "alpha"}]


def test_a_transaction_whose_connection_is_lost_is_named_and_the_next_one_is_its_own(
    ledger: Ledger, database_url: str, virtual_clock: VirtualClock
) -> None:
    with pytest.raises(LedgerUnavailable), ledger.transaction():
        alerts.put(ledger, "a", "INFO", "title", "body")
        ledger.query("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(LedgerUnavailable), ledger.transaction():
        pass
    again = connection.connect(database_url, "test")
    with again.transaction():
        alerts.put(again, "b", "INFO", "title", "body")
    assert again.query("SELECT alert_id FROM alerts") == [{"alert_id": "test:b"}]


def test_a_server_that_is_not_there_is_named(virtual_clock: VirtualClock) -> None:
    with pytest.raises(LedgerUnavailable, match="PostgreSQL"):
        connection.connect("postgresql://nobody@127.0.0.1:1/none", "test")


def test_money_keeps_every_digit(ledger: Ledger) -> None:
    amount = Decimal("12345678901234567890.123456789012345678")
    row = ledger.one("SELECT %s::numeric AS amount", (amount,))
    assert row == {"amount": amount}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_columns_take_no_number_that_is_none(ledger: Ledger, value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.query("SELECT %s AS value", (connection.json({"value": value}),))


def test_migrations_are_applied_once(ledger: Ledger) -> None:
    assert migrate.migrate(ledger) == []
    assert set(migrate.applied(ledger)) == {m.version for m in migrate.known()}


def test_a_changed_migration_is_refused(ledger: Ledger) -> None:
    ledger.execute("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
    with pytest.raises(ConfigurationError, match="migration 1 differs"):
        migrate.migrate(ledger)


def test_a_newer_database_is_refused(ledger: Ledger) -> None:
    ledger.execute("INSERT INTO schema_migrations VALUES (999, 'future', 'x', now())")
    with pytest.raises(ConfigurationError, match="migration 999 is unknown"):
        migrate.migrate(ledger)


def test_parameters_are_versioned_and_the_newest_holds(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    assert parameters.current(ledger).version == 0
    changed = Parameters(cooldown_minutes=90)
    assert parameters.put(ledger, changed, set_by="test", reason="r", evidence={}).version == 1
    assert parameters.current(ledger).values.cooldown_minutes == 90


def test_parameters_outside_the_bounds_of_this_build_are_not_used(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    parameters.put(ledger, Parameters(), set_by="test", reason="r", evidence={})
    ledger.execute(
        """UPDATE parameters SET parameters = jsonb_set(parameters, '{size_multiplier}', '2')"""
    )
    with pytest.raises(DataUnavailable, match="size_multiplier"):
        parameters.current(ledger)


@pytest.mark.parametrize(
    "weights",
    [
        {"momentum": 0.35},  # the sum is 1.1
        {"momentum": 0.65, "trend_following": 0.02, "market_making": 0.03},  # above its bound
        {"momentum": 0.45, "market_making": -0.1},
        {"surprise": 0.0},
    ],
)
def test_strategy_weights_are_bounded(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"strategy_weights|less than|greater than|Extra inputs"):
        StrategyWeights(**weights)


def test_an_event_is_claimed_once_and_its_end_is_final(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    run_id = runs.start(ledger, "trading_loop", "t", clock.now(), 1)
    assert run_id is not None
    assert runs.start(ledger, "trading_loop", "t", clock.now(), 2) == run_id  # a retry
    runs.finish(ledger, run_id, 1, duration_ms=1)  # the first attempt is fenced off
    assert ledger.one("SELECT status FROM runs") == {"status": "RUNNING"}
    runs.finish(ledger, run_id, 2, duration_ms=1)
    assert ledger.one("SELECT status FROM runs") == {"status": "DONE"}
    assert runs.start(ledger, "trading_loop", "t", clock.now(), 3) is None


def test_an_alert_is_told_once_and_kept_until_it_is_sent(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    assert alerts.put(ledger, "drawdown", "HIGH", "t", "b")
    assert not alerts.put(ledger, "drawdown", "HIGH", "t", "b")
    (waiting,) = alerts.unsent(ledger)
    alerts.mark(ledger, waiting["alert_id"], error="HTTP 500")
    assert [a["attempts"] for a in alerts.unsent(ledger)] == [1]
    alerts.mark(ledger, waiting["alert_id"], error=None)
    assert alerts.unsent(ledger) == []
