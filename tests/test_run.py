"""The frame of a step: lease, claim, carried identity, failure, and no secret in an error."""

from __future__ import annotations

from typing import Any

import pytest

from shared import clock, config
from shared.errors import ConfigurationError
from shared.ledger import universes
from shared.ledger.connection import Ledger
from shared.run import Run, run_step
from tests.conftest import DEFAULT_START, VirtualClock

EVENT = {"timestamp": clock.to_ms(DEFAULT_START) // 1000}


class Flow:
    def __init__(self) -> None:
        self.exited: str | None = None

    def exit(self, reason: str) -> None:
        self.exited = reason


class Pd:
    """As much of Pipedream's object as the frame touches."""

    def __init__(self, trace_id: str = "t1", earlier: dict[str, Any] | None = None) -> None:
        self.inputs: dict[str, Any] = {}
        self.flow = Flow()
        trigger = {"event": EVENT, "context": {"trace_id": trace_id}}
        self.steps: dict[str, Any] = {"trigger": trigger}
        for name, export in (earlier or {}).items():
            self.steps[name] = {"$return_value": export}


@pytest.fixture
def environment(
    database_url: str, virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> VirtualClock:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POD", "test")
    monkeypatch.delenv("REDIS_URL", raising=False)
    return virtual_clock


def step(pd: Pd, body: Any = lambda run: {}, **ends: bool) -> Any:
    return run_step(pd, workflow="trading_loop", step="a_step", body=body, **ends)


def run_row(ledger: Ledger) -> dict[str, Any]:
    row = ledger.one("SELECT status, error, duration_ms FROM runs")
    assert row is not None
    return row


def test_a_workflow_of_two_steps_is_one_run(environment: VirtualClock, ledger: Ledger) -> None:
    first = step(Pd(), first=True)
    assert run_row(ledger)["status"] == "RUNNING"
    seen: list[Run] = []
    second = step(Pd(earlier={"one": first}), lambda run: seen.append(run) or {}, last=True)
    assert second["run"]["run_id"] == first["run"]["run_id"] == seen[0].run_id
    assert seen[0].export_of("one") == first
    assert run_row(ledger)["status"] == "DONE"
    assert run_row(ledger)["duration_ms"] > first["run"]["elapsed_ms"] > 0


def test_an_event_that_was_done_ends_the_workflow(environment: VirtualClock) -> None:
    step(Pd(), first=True, last=True)
    again = Pd()
    assert step(again, first=True, last=True) is None
    assert again.flow.exited == "EVENT_DONE: workflow=trading_loop, trace_id=t1"


def test_a_step_of_another_build_does_not_go_on_with_a_run(environment: VirtualClock) -> None:
    first = step(Pd(), first=True)
    first["run"]["build"] = "an-older-one"
    with pytest.raises(ConfigurationError, match="build: expected source .* was an-older-one"):
        step(Pd(earlier={"one": first}), last=True)


def test_an_overlapping_event_ends_the_workflow(environment: VirtualClock) -> None:
    step(Pd("t1"), first=True)
    other = Pd("t2")
    assert step(other, first=True) is None
    assert other.flow.exited == "LEASE_HELD: workflow=trading_loop"


def test_a_failed_step_frees_the_next_minute(environment: VirtualClock, ledger: Ledger) -> None:
    def fail(run: Run) -> Any:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        step(Pd("t1"), fail, first=True)
    assert run_row(ledger)["status"] == "FAILED"
    assert run_row(ledger)["error"] == "a_step: ValueError: broken"
    assert step(Pd("t2"), first=True) is not None


def test_a_lost_lease_ends_the_workflow_without_an_error(
    environment: VirtualClock, ledger: Ledger
) -> None:
    def lose(run: Run) -> Any:
        ledger.execute("UPDATE leases SET epoch = epoch + 1, holder = 'another'")
        with ledger.transaction():
            run.guard()

    pd = Pd()
    assert step(pd, lose, first=True) is None
    assert pd.flow.exited == "trading_loop: epoch 1 no longer holds the lease"
    row = ledger.one("SELECT holder FROM leases")
    assert row == {"holder": "another"}


def test_no_secret_reaches_the_ledger_by_an_error(
    environment: VirtualClock, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINANCE_SECRET", "canary-of-binance")

    def leak(run: Run) -> Any:
        raise ValueError("POST /order?signature=canary-of-binance was refused")

    with pytest.raises(ValueError, match="refused"):
        step(Pd(), leak, first=True)
    assert run_row(ledger)["error"] == (
        "a_step: ValueError: POST /order?signature=(secret) was refused"
    )


def test_without_a_database_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        step(Pd(), first=True)


def choose(ledger: Ledger, *symbols: str) -> None:
    settings = config.load({"POD": "test", "SYMBOLS": "auto"})
    members = [{"symbol": symbol} for symbol in symbols]
    universes.store(ledger, settings, members=members, excluded=[], limits={})


def test_all_steps_of_a_run_have_the_universe_of_the_first(
    environment: VirtualClock, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMBOLS", "auto")
    choose(ledger, "BTC/USDT", "ETH/USDT")
    seen: list[tuple[str, ...]] = []
    first = step(Pd(), lambda run: {"pairs": seen.append(run.pairs)}, first=True)
    choose(ledger, "SOL/USDT")
    second = step(Pd(earlier={"one": first}), lambda run: {"pairs": seen.append(run.pairs)})
    step(Pd(earlier={"one": first, "two": second}), lambda run: {"p": seen.append(run.pairs)})
    assert seen == [("BTC/USDT", "ETH/USDT")] * 3
    step(Pd(earlier={"one": first}), last=True)
    step(Pd("t2"), lambda run: {"pairs": seen.append(run.pairs)}, first=True)
    assert seen[-1] == ("SOL/USDT",)


def test_configured_symbols_are_neither_carried_nor_asked_for_again(
    environment: VirtualClock, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYMBOLS", "BTC,ETH")
    first = step(Pd(), lambda run: {"pairs": run.pairs}, first=True)
    assert "universe" not in first["run"]
    monkeypatch.setattr(universes, "in_force", lambda *args: pytest.fail("asked again"))
    second = step(Pd(earlier={"one": first}), lambda run: {"pairs": run.pairs})
    assert second["pairs"] == first["pairs"] == ("BTC/USDT", "ETH/USDT")
