"""Two workflows hold two leases: what they do to one position at the same moment."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from execution_bench import Bench

from shared.execution import intents
from shared.execution.entries import parents, slices
from shared.execution.exits import leaving
from shared.ledger import connection
from shared.run import Run

_PATIENCE_S = 0.5  # how long one waits for the other where nothing keeps it from coming


def at_once(
    monkeypatch: pytest.MonkeyPatch, database_url: str, acts: list[tuple[Run, Callable[[Run], Any]]]
) -> list[Any]:
    """Let each act on a connection of its own, and meet right before its intent is written."""
    meeting = threading.Barrier(len(acts))
    insert, results = intents.insert, []

    def after_meeting(*arguments: Any) -> bool:
        # where the gate keeps the other out until this one has committed, nobody comes
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(_PATIENCE_S)
        return insert(*arguments)

    def act(run: Run, body: Callable[[Run], Any]) -> None:
        try:
            results.append(body(replace(run, ledger=connection.connect(database_url, "test"))))
        finally:
            connection.close_all()

    monkeypatch.setattr(intents, "insert", after_meeting)
    threads = [threading.Thread(target=act, args=pair) for pair in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == len(acts)
    return results


def open_position(bench: Bench) -> int:
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry())
    assert [result.outcome for result in desk.work()] == ["FILLED"]
    row = bench.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    return int(row["position_id"])


def test_two_workflows_sell_a_holding_once(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    position_id = open_position(bench)
    bench.time.advance(minutes=1)
    bench.see_prices()
    venue = bench.venues["binance"]
    venue.account["BTC"] += Decimal(5)  # another position's: the venue itself would not refuse

    def sell(run: Run) -> Any:
        return leaving.leave(run, bench.venues, position_id, reason="stop", fraction=Decimal(1))

    runs = [bench.run("trading_loop"), bench.run("position_manager")]
    at_once(monkeypatch, database_url, [(run, sell) for run in runs])
    assert [ticket.side for ticket in venue.sent] == ["buy", "sell"]
    assert bench.held() == 0


def test_two_entries_do_not_pass_one_limit_together(
    bench: Bench, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order of 95 and a first slice of 10 each fit into MAX_POSITION_SIZE = 100, both do not."""
    desk = bench.desk()
    desk.reconcile()
    desk.enter(bench.entry("95"))
    row = bench.ledger.one("SELECT position_id FROM positions")
    assert row is not None
    desk.add(row["position_id"], Decimal(60), Decimal(100), "pyramid")
    first, second = parents.working(bench.ledger)

    def buying(parent: parents.Parent) -> Callable[[Run], Any]:
        return lambda run: slices.work(run, bench.venues, parent, may_buy=True)

    runs = [bench.run("trading_loop"), bench.run("position_manager")]
    acts = [(runs[0], buying(first)), (runs[1], buying(second))]
    results = [result for sent in at_once(monkeypatch, database_url, acts) for result in sent]
    assert sorted(result.outcome for result in results) == ["DENIED", "FILLED"]
    assert len(bench.venues["binance"].sent) == 1
