"""A halt and an intent at the same moment: no intent is committed after the halt is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from execution_bench import Bench

from shared.execution import intents
from shared.execution.entries import parents, slices
from shared.ledger import connection, state
from shared.ledger.connection import Ledger

_PATIENCE_S = 0.5  # how long one waits for the other where it is to be kept out


class Halting(threading.Thread):
    """Halts on a connection of its own, and says when that is committed."""

    def __init__(self, database_url: str) -> None:
        super().__init__()
        self._url = database_url
        self.committed = threading.Event()

    def run(self) -> None:
        try:
            ledger = connection.connect(self._url, "test")
            state.tighten(ledger, "HALTED", reason="race", set_by="test", rearm_required=True)
            self.committed.set()
        finally:
            connection.close_all()


@pytest.fixture
def halting(database_url: str) -> Iterator[Halting]:
    thread = Halting(database_url)
    yield thread
    if thread.is_alive():
        thread.join(10)


def due(bench: Bench) -> Any:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    (parent,) = parents.working(bench.ledger)
    return desk, parent


def test_a_halt_waits_for_the_intent_that_has_passed_the_gate(
    bench: Bench, halting: Halting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the gate and the commit nothing slips in: what is committed first counts."""
    desk, parent = due(bench)
    insert = intents.insert
    seen: list[bool] = []

    def meanwhile(*arguments: Any) -> bool:
        halting.start()
        seen.append(halting.committed.wait(_PATIENCE_S))
        return insert(*arguments)

    monkeypatch.setattr(intents, "insert", meanwhile)
    results = slices.work(desk._run, bench.venues, parent, may_buy=True)
    halting.join(10)
    assert seen == [False]  # it could not commit while the intent's transaction was open
    assert halting.committed.is_set()
    assert [result.outcome for result in results] == ["FILLED"]
    assert state.read(bench.ledger).state == "HALTED"


def test_an_intent_waits_for_the_halt_that_has_begun_and_is_not_written(
    bench: Bench, database_url: str
) -> None:
    """The halt holds the row and commits while the intent's transaction waits for it."""
    desk, parent = due(bench)
    outcomes: list[str] = []
    began = threading.Event()

    def buy() -> None:
        try:
            own = replace(desk._run, ledger=connection.connect(database_url, "test"))
            began.set()
            results = slices.work(own, bench.venues, parent, may_buy=True)
            outcomes.extend(result.detail.split(":")[0] for result in results)
        finally:
            connection.close_all()

    buyer = threading.Thread(target=buy)
    with bench.ledger.transaction():
        state.tighten(bench.ledger, "HALTED", reason="race", set_by="test", rearm_required=True)
        buyer.start()
        assert began.wait(5)
        assert waits_for_a_lock(database_url)
        assert outcomes == []
    buyer.join(10)
    assert outcomes == ["STATE_HALTED"]
    assert bench.ledger.query("SELECT 1 FROM intents") == []
    assert bench.venues["binance"].sent == []


def waits_for_a_lock(database_url: str) -> bool:
    """Whether within some seconds another connection of this database waits for a lock."""
    result: list[bool] = []

    def look() -> None:
        own: Ledger = connection.connect(database_url, "test")
        pause = threading.Event()
        for _ in range(200):
            row = own.one(
                "SELECT 1 AS waits FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if row is not None:
                result.append(True)
                break
            pause.wait(0.02)
        connection.close_all()

    looker = threading.Thread(target=look)
    looker.start()
    looker.join(10)
    return bool(result)


def test_an_exit_passes_a_halt_in_the_same_race(
    bench: Bench, halting: Halting, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, parent = due(bench)
    slices.work(desk._run, bench.venues, parent, may_buy=True)
    later = bench.desk()
    halting.start()
    halting.join(10)
    assert [r.outcome for r in later.exit(parent.position_id, reason="stop")] == ["FILLED"]
    assert bench.held() == 0
