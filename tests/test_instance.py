"""Of which pod a run is: by its workflow's id, with settings that lie over the project's."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest

from shared import clock, config, instance
from shared.errors import ConfigurationError
from shared.instance import POD_VARIABLES
from shared.ledger import pods, state
from shared.ledger.connection import Ledger, json
from shared.run import Run, run_step
from steps import kill_switch
from tests.conftest import VirtualClock
from tests.test_run import EVENT, Pd

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def environment(
    database_url: str, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in config.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    monkeypatch.setenv("MAX_POSITIONS", "4")


def register(
    ledger: Ledger,
    pod: str = "alpha",
    *,
    base: str = "test",
    settings: dict[str, str] | None = None,
    may_trade_live: bool = False,
) -> str:
    """A pod with one workflow; its id, which no other test has asked about."""
    ledger.execute(
        "INSERT INTO pods VALUES (%s, %s, %s, %s, %s, 'test')",
        (pod, base, json(settings or {}), may_trade_live, clock.now()),
    )
    ledger.execute("INSERT INTO trading_state (pod, since) VALUES (%s, %s)", (pod, clock.now()))
    workflow_id = f"p_instance{next(_numbers)}"
    ledger.execute(
        "INSERT INTO pod_workflows VALUES (%s, 'trading_loop', %s, %s)",
        (pod, workflow_id, clock.now()),
    )
    return workflow_id


def pd_of(workflow_id: str, name: str = "trading-loop") -> Pd:
    pd = Pd(trace_id=workflow_id)
    pd.steps["trigger"]["context"] |= {"workflow_id": workflow_id, "workflow_name": name}
    return pd


def run_of(pd: Pd) -> Run:
    seen: list[Run] = []

    def body(run: Run) -> dict[str, Any]:
        seen.append(run)
        return {}

    run_step(pd, workflow="trading_loop", step="s", body=body, first=True, last=True)
    return seen[0]


def test_a_workflow_of_a_pod_has_its_ledger_and_its_settings(ledger: Ledger) -> None:
    own = register(ledger, settings={"SYMBOLS": "ETH", "CAPITAL_QUOTE": "500"})
    run = run_of(pd_of(own))
    assert (run.ledger.pod, run.config.pod, run.config.pairs) == ("alpha", "alpha", ("ETH/USDT",))
    assert run.config.capital_quote == 500
    assert run.config.max_positions == 4  # of the project, where the pod says nothing
    assert {row["pod"] for row in ledger.query("SELECT pod FROM runs")} == {"alpha"}
    assert {row["pod"] for row in ledger.query("SELECT pod FROM leases")} == {"alpha"}


def test_any_other_workflow_goes_by_the_variable(ledger: Ledger) -> None:
    register(ledger, settings={"SYMBOLS": "ETH"})
    run = run_of(pd_of(f"p_instance{next(_numbers)}"))
    assert (run.ledger.pod, run.config.symbols) == ("test", ("BTC", "ETH", "SOL"))


def test_two_pods_work_on_the_same_event_side_by_side(ledger: Ledger) -> None:
    both = [register(ledger, pod) for pod in ("alpha", "beta")]
    pds = [pd_of(workflow_id) for workflow_id in both]
    for pd in pds:
        pd.steps["trigger"]["context"]["trace_id"] = "the same"
        run_step(pd, workflow="trading_loop", step="s", body=lambda run: {}, first=True)
    assert [pd.flow.exited for pd in pds] == [None, None]
    running = ledger.query("SELECT pod, status FROM runs ORDER BY pod")
    assert [(row["pod"], row["status"]) for row in running] == [
        ("alpha", "RUNNING"),
        ("beta", "RUNNING"),
    ]


def test_a_copy_that_is_nobodys_does_not_trade_as_the_original(ledger: Ledger) -> None:
    """It has the original's variables, POD among them, and another trace id each minute."""
    for name in ("trading-loop-beta", "Trading loop (copy)", "trading_loop-2"):
        with pytest.raises(ConfigurationError, match="expected it to be made by"):
            run_of(pd_of(f"p_instance{next(_numbers)}", name))
    assert ledger.query("SELECT * FROM runs") == []
    assert run_of(pd_of(f"p_instance{next(_numbers)}", "My own name")).ledger.pod == "test"


def test_a_pod_of_another_project_is_refused(ledger: Ledger) -> None:
    own = register(ledger, base="elsewhere")
    with pytest.raises(ConfigurationError, match="whose POD is elsewhere, was test"):
        run_of(pd_of(own))


def test_the_runs_of_a_removed_pod_end_at_once(ledger: Ledger) -> None:
    own = register(ledger)
    ledger.execute("UPDATE pods SET removed_at = now()")
    pd = pd_of(own)
    assert run_step(pd, workflow="trading_loop", step="s", body=lambda run: {}, first=True) is None
    assert pd.flow.exited == "POD_REMOVED: pod=alpha"
    assert ledger.query("SELECT * FROM runs") == []


@pytest.mark.parametrize("allowed", [False, True])
def test_only_a_pod_that_may_trade_live_has_the_switch_of_its_project(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    monkeypatch.setenv("ENABLE_LIVE_TRADING", "true")
    run = run_of(pd_of(register(ledger, may_trade_live=allowed)))
    assert run.config.trading_mode == ("live" if allowed else "paper")


@pytest.mark.parametrize(
    "name", ["ENABLE_LIVE_TRADING", "BINANCE_SECRET", "DATABASE_URL", "POD", "SIMULATED_WIRE_URL"]
)
def test_what_no_pod_may_set_stops_its_runs(ledger: Ledger, name: str) -> None:
    own = register(ledger, settings={name: "true"})
    with pytest.raises(ConfigurationError, match=f"pod alpha: {name}: expected variables"):
        run_of(pd_of(own))


def test_a_pod_may_set_no_secret_and_nothing_unknown() -> None:
    assert not POD_VARIABLES & set(config.SECRET_VARIABLES)
    assert set(config.VARIABLES) >= POD_VARIABLES


def test_a_live_pod_is_sized_by_its_stage(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENABLE_LIVE_TRADING", "true")
    monkeypatch.setenv("MAX_POSITION_SIZE", "400")
    pd = pd_of(f"p_instance{next(_numbers)}")
    first = run_of(pd).config
    assert (first.max_position_size, first.position_size_percent) == (100, 1)
    ledger.execute("INSERT INTO live_stages VALUES ('test', 2, now(), 'me', '{}')")
    ledger.execute("INSERT INTO live_stages VALUES ('other', 5, now(), 'me', '{}')")
    second = run_of(pd_of(f"p_instance{next(_numbers)}")).config
    assert (second.max_position_size, second.position_size_percent) == (250, 1)
    monkeypatch.setenv("ENABLE_LIVE_TRADING", "false")
    assert run_of(pd_of(f"p_instance{next(_numbers)}")).config.max_position_size == Decimal(400)


@pytest.mark.parametrize("settings", [{}, {"MAX_POSITIONS": "none"}])
def test_the_kill_switch_halts_its_own_pod_whatever_its_settings_are_worth(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    monkeypatch.setenv("KILL_SWITCH_TOKEN", "right")
    own = register(ledger, settings=settings)
    register(ledger, "beta")
    pd = pd_of(own, "kill-switch-alpha")
    event = {
        "headers": {"authorization": "Bearer right"},
        "body": {"action": "halt", "reason": "a drill"},
    }
    pd.steps["trigger"]["event"] = EVENT | event
    pd.respond = lambda response: None  # type: ignore[attr-defined]
    assert kill_switch.handler(pd)["status"] == 200
    states = {pod: state.read(ledger.of_pod(pod)).state for pod in ("alpha", "beta", "test")}
    assert states == {"alpha": "HALTED", "beta": "ACTIVE", "test": "ACTIVE"}


def test_a_workflow_without_a_pod_is_asked_about_once_a_minute(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    pd = pd_of(f"p_instance{next(_numbers)}")
    asked: list[str] = []
    one = Ledger.one

    def counted(self: Ledger, sql: str, *arguments: Any) -> Any:
        asked.append(sql)
        return one(self, sql, *arguments)

    monkeypatch.setattr(Ledger, "one", counted)
    for _ in range(3):
        instance.opened(pd)
    assert sum("pod_workflows" in sql for sql in asked) == 1


def test_a_workflow_that_became_a_pods_is_known_after_a_minute(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person tells an id only after the copy was made: a warm process must not hold on to it."""
    register(ledger, settings={"SYMBOLS": "ETH"})
    pd = pd_of(f"p_instance{next(_numbers)}")
    assert run_of(pd).ledger.pod == "test"
    ledger.execute(
        "UPDATE pod_workflows SET workflow_id = %s WHERE pod = 'alpha'",
        (pd.steps["trigger"]["context"]["workflow_id"],),
    )
    pd.steps["trigger"]["context"]["trace_id"] += " of the next minute"
    monkeypatch.setattr(pods, "_KNOWN_FOR_SECONDS", 0.0)
    assert run_of(pd).ledger.pod == "alpha"
