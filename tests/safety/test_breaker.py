"""The breaker on a real ledger: what it does to the state, and for how long."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.errors import LeaseLost
from shared.ledger import alerts, state
from shared.ledger.connection import Ledger
from shared.safety import breaker, checks
from shared.safety.checks.base import Result, unknown
from tests.conftest import VirtualClock
from tests.safety.world import Pod


@pytest.fixture
def pod(ledger: Ledger, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """A pod that is well at noon. Volatility needs candles of a cache, which no test here has."""
    virtual_clock.advance(hours=12)
    calm = {"volatility": lambda run, facts: Result("OK", 20.0, 35.0, "calm")}
    monkeypatch.setattr(checks.run_all, "__defaults__", ({**checks.CHECKS, **calm},))
    return Pod.well(ledger)


def index(monkeypatch: pytest.MonkeyPatch, result: Result) -> None:
    with_index = {**checks.CHECKS, "volatility": lambda run, facts: result}
    monkeypatch.setattr(checks.run_all, "__defaults__", (with_index,))


def trip(pod: Pod) -> Any:
    return breaker.check_and_act(pod.run)


def later(pod: Pod, virtual_clock: VirtualClock, minutes: float, **minute: Any) -> Any:
    virtual_clock.advance(minutes=minutes)
    pod.minute(**({"price": 100 + clock.now_ms() / 6e10} | minute))
    return trip(pod)


def told(pod: Pod) -> list[str]:
    return [row["title"] for row in alerts.unsent(pod.ledger)]


def test_a_pod_that_is_well_is_left_alone(pod: Pod) -> None:
    export = trip(pod)
    assert export["status"] == "HEALTHY", export
    assert len(export["checks"]) == 13
    assert (export["actions"], export["circuitBreaker"]["trigger"]) == ([], False)
    assert state.read(pod.ledger).state == "ACTIVE"
    assert told(pod) == []


def test_health_is_stored(pod: Pod) -> None:
    export = trip(pod)
    row = pod.ledger.one("SELECT at, status, checks, circuit_breaker FROM health")
    assert row is not None
    assert (row["at"], row["status"]) == (clock.now(), "HEALTHY")
    assert row["checks"] == export["checks"]


def test_a_new_ledger_is_starting_and_not_halted(
    ledger: Ledger, virtual_clock: VirtualClock
) -> None:
    pod = Pod(ledger, Pod.well.__globals__["make_run"](ledger, "circuit_breaker"))
    export = trip(pod)
    assert export["status"] == "STARTING"
    assert export["checks"]["drawdown"]["status"] == "UNKNOWN"
    assert state.read(ledger).state == "ACTIVE"


def test_drawdown_past_20_percent_closes_all_and_halts(pod: Pod) -> None:
    pod.configure(MAX_DAILY_LOSS="100000", DAILY_LOSS_PERCENT="100")
    pod.ledger.execute("UPDATE equity SET equity_quote = 7999.99 WHERE at = %s", (clock.now(),))
    export = trip(pod)
    now = state.read(pod.ledger)
    assert (now.state, now.close_all, now.rearm_required) == ("HALTED", True, True)
    assert now.pause_until == clock.now() + timedelta(hours=24)
    assert export["status"] == "EMERGENCY_STOP"
    assert export["circuitBreaker"]["severity"] == "CRITICAL"
    assert told(pod) == ["🚨 CIRCUIT BREAKER TRIGGERED"]


def test_at_20_percent_nothing_is_halted(pod: Pod) -> None:
    pod.configure(MAX_DAILY_LOSS="100000", DAILY_LOSS_PERCENT="100")
    pod.ledger.execute("UPDATE equity SET equity_quote = 8000 WHERE at = %s", (clock.now(),))
    assert trip(pod)["status"] == "DEGRADED"
    assert state.read(pod.ledger).state == "ACTIVE"


def test_a_halt_outlives_its_24_hours_and_midnight_until_a_person_rearms(
    pod: Pod, virtual_clock: VirtualClock
) -> None:
    pod.configure(MAX_DAILY_LOSS="100000", DAILY_LOSS_PERCENT="100")
    later(pod, virtual_clock, 1, equity=7_000)
    assert later(pod, virtual_clock, 60 * 30, equity=10_000)["status"] == "EMERGENCY_STOP"
    assert state.read(pod.ledger).state == "HALTED"
    state.rearm(pod.ledger, reason="looked at it", set_by="a person")
    assert later(pod, virtual_clock, 1, equity=10_000)["status"] == "HEALTHY"


def test_rearming_accepts_the_equity_of_that_moment_as_the_mark(
    pod: Pod, virtual_clock: VirtualClock
) -> None:
    pod.configure(MAX_DAILY_LOSS="100000", DAILY_LOSS_PERCENT="100")
    later(pod, virtual_clock, 1, equity=7_000)
    state.rearm(pod.ledger, reason="looked at it", set_by="a person")
    assert later(pod, virtual_clock, 1, equity=7_000)["checks"]["drawdown"]["value"] == 0
    # the mark is carried on when the breaker itself has changed the state since
    pod.configure(MAX_DAILY_LOSS="50")
    assert later(pod, virtual_clock, 1, equity=6_900)["circuitBreaker"]["severity"] == "HIGH"
    got = later(pod, virtual_clock, 1, equity=6_900)["checks"]["drawdown"]["value"]
    assert got == pytest.approx(100 / 70)


def test_a_daily_loss_pauses_for_an_hour_and_ends_by_itself(
    pod: Pod, virtual_clock: VirtualClock
) -> None:
    assert later(pod, virtual_clock, 1, equity="9949.99")["circuitBreaker"]["severity"] == "HIGH"
    paused = state.read(pod.ledger)
    assert (paused.state, paused.rearm_required, paused.close_all) == ("HALTED", False, False)
    assert paused.pause_until == clock.now() + timedelta(hours=1)
    later(pod, virtual_clock, 59)
    assert state.read(pod.ledger).state == "HALTED"
    export = later(pod, virtual_clock, 1)
    assert state.read(pod.ledger).state == "ACTIVE"
    assert [a["action"] for a in export["actions"]] == ["RESUME"]
    assert told(pod) == ["🚨 CIRCUIT BREAKER TRIGGERED", "Trading resumed"]


def test_a_pause_does_not_end_while_its_reason_lasts(pod: Pod, virtual_clock: VirtualClock) -> None:
    later(pod, virtual_clock, 1, equity=9_900)
    for _ in range(3):
        later(pod, virtual_clock, 20, equity=9_900)
    again = state.read(pod.ledger)
    assert (again.state, again.pause_until) == ("HALTED", clock.now() + timedelta(hours=1))
    assert len(told(pod)) == 2  # once a pause, not once a minute


@pytest.mark.parametrize(("failures", "paused"), [(5, False), (6, True)])
def test_more_than_five_api_failures_pause(
    pod: Pod, virtual_clock: VirtualClock, failures: int, paused: bool
) -> None:
    export = later(pod, virtual_clock, 1, failures=failures)
    assert export["circuitBreaker"]["trigger"] == paused
    assert (state.read(pod.ledger).state == "HALTED") == paused


def test_old_failures_are_forgotten(pod: Pod, virtual_clock: VirtualClock) -> None:
    virtual_clock.advance(minutes=1)
    pod.minute(failures=6)
    virtual_clock.advance(minutes=5)
    pod.minute(price=100.5)
    assert trip(pod)["circuitBreaker"]["trigger"] is False


def test_high_volatility_halves_sizes_until_it_is_over(
    pod: Pod, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(monkeypatch, Result("WARNING", 35.1, 35.0, "wild"))
    export = later(pod, virtual_clock, 1)
    assert [a["action"] for a in export["actions"]] == ["REDUCE_POSITION_SIZE"]
    assert state.read(pod.ledger).size_factor == Decimal("0.5")
    assert state.read(pod.ledger).state == "ACTIVE"
    index(monkeypatch, unknown("no candles"))
    later(pod, virtual_clock, 1)
    assert state.read(pod.ledger).size_factor == Decimal("0.5")
    index(monkeypatch, Result("OK", 20.0, 35.0, "calm"))
    later(pod, virtual_clock, 1)
    assert state.read(pod.ledger).size_factor == 1


def test_slippage_past_half_a_percent_switches_to_limit_orders(
    pod: Pod, virtual_clock: VirtualClock
) -> None:
    position = pod.position()
    intent = pod.intent(position, order_status="filled", filled=1)
    pod.ledger.execute("UPDATE orders SET average_price = 100.51 WHERE intent_id = %s", (intent,))
    export = later(pod, virtual_clock, 1)
    assert [a["action"] for a in export["actions"]] == ["SWITCH_TO_LIMIT_ORDERS"]
    now = state.read(pod.ledger)
    assert (now.limit_orders_only, now.size_factor, now.state) == (True, 1, "ACTIVE")
    later(pod, virtual_clock, 24 * 60)
    assert state.read(pod.ledger).limit_orders_only is False


def test_what_cannot_be_checked_stops_new_risk_and_recovers(
    pod: Pod, virtual_clock: VirtualClock
) -> None:
    virtual_clock.advance(minutes=16)  # the trading loop has been silent: no equity, no calls
    export = trip(pod)
    assert export["circuitBreaker"]["severity"] == "MEDIUM"
    assert state.read(pod.ledger).state == "REDUCING"
    later(pod, virtual_clock, 1)
    later(pod, virtual_clock, 5)
    assert state.read(pod.ledger).state == "ACTIVE"


def test_a_check_that_raises_is_a_failed_check(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Any, facts: Any) -> Result:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(checks.run_all, "__defaults__", ({**checks.CHECKS, "drawdown": broken},))
    export = trip(pod)
    assert export["checks"]["drawdown"]["status"] == "UNKNOWN"
    assert "ZeroDivisionError: by nothing" in export["checks"]["drawdown"]["detail"]
    assert state.read(pod.ledger).state == "REDUCING"
    assert export["checks"]["exposure"]["status"] == "OK"


def test_switched_off_it_only_reports(pod: Pod) -> None:
    pod.configure(ENABLE_CIRCUIT_BREAKER="false")
    pod.ledger.execute("UPDATE equity SET equity_quote = 1 WHERE at = %s", (clock.now(),))
    export = trip(pod)
    assert export["circuitBreaker"]["severity"] == "CRITICAL"
    assert [a["action"] for a in export["actions"]] == ["REPORT_ONLY"]
    assert state.read(pod.ledger).state == "ACTIVE"


def test_a_person_taking_money_out_is_no_drawdown(pod: Pod, virtual_clock: VirtualClock) -> None:
    virtual_clock.advance(minutes=1)
    pod.transfer("binance", "USDT", -5_000)
    assert later(pod, virtual_clock, 1, equity=5_000)["circuitBreaker"]["trigger"] is False


def test_working_entries_are_cancelled(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.execution.desk import Desk

    monkeypatch.setattr(Desk, "open", classmethod(lambda cls, run: cls(run, {})))
    position = pod.position()
    pod.ledger.execute(
        "INSERT INTO parent_orders (parent_id, pod, position_id, symbol, side, purpose, reason, "
        "quantity, decision_mid, urgency, slices, interval_seconds, created_at, expires_at) "
        "VALUES ('p', 'test', %s, 'BTC/USDT', 'buy', 'entry', 'x', 1, 100, 'normal', 10, 60, "
        "%s, %s)",
        (position, clock.now(), clock.now() + timedelta(minutes=20)),
    )
    pod.ledger.execute("UPDATE venue_calls SET failures = 6")
    export = trip(pod)
    assert [a["action"] for a in export["actions"]] == ["PAUSE", "CANCEL_ALL_ORDERS"]
    assert export["actions"][1]["cancelled"] == 1
    parent = pod.ledger.one("SELECT state FROM parent_orders")
    assert parent == {"state": "CANCELLED"}


def test_a_stale_breaker_changes_nothing(pod: Pod) -> None:
    pod.ledger.execute("UPDATE venue_calls SET failures = 6")
    pod.ledger.execute("UPDATE leases SET epoch = 2 WHERE workflow = 'circuit_breaker'")
    with pytest.raises(LeaseLost):
        trip(pod)
    assert state.read(pod.ledger).state == "ACTIVE"
    assert told(pod) == []
