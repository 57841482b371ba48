"""What each fault of the schedule does to the runs of a workflow of two steps."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from deploy.local import events
from deploy.local.platform import WorkflowResult
from deploy.local.replay import Replay, ReplayOptions
from deploy.local.schedule_faults import judgement
from deploy.local.schedule_faults.plan import Delivery, Planned
from deploy.local.schedule_faults.rates import FaultRates
from deploy.local.schedule_faults.serving import FaultyServing
from deploy.local.scheduler import Tick
from deploy.local.session import LocalSession, SessionOptions
from tests.local.conftest import AT_MS, MakeProject, spec

MINUTE_MS = 60_000
_STEP = """
from shared import clock
from shared.run import run_step

def body(run):
    with run.ledger.transaction():
        run.guard()
        run.ledger.execute(
            "INSERT INTO events (pod, at, kind) VALUES (%s, %s, %s)",
            (run.ledger.pod, clock.now(), "{name}"),
        )
    return {{"minute": run.event_at.minute}}

def handler(pd):
    return run_step(pd, workflow="loop", step="step_{n}", body=body, first={first}, last={last})
"""
FIRST = _STEP.format(name="FIRST", n=0, first=True, last=False)
SECOND = _STEP.format(name="SECOND", n=1, first=False, last=True)


@pytest.fixture
def session(
    make_project: MakeProject, variables: dict[str, str], fake_wire: None
) -> Iterator[LocalSession]:
    root = make_project(loop=[FIRST, SECOND]).root
    options = SessionOptions(spec(600), "replay_serving_test", models="none", fresh=True, root=root)
    with LocalSession(options, variables) as opened:
        yield opened


class Bench:
    """Serves minutes of the loop, and reads what they have left in the ledger."""

    def __init__(self, session: LocalSession) -> None:
        self.session = session
        self.serving = FaultyServing(session)
        self.workflow = session.project.workflow("loop")

    def minute(self, number: int, **planned: Any) -> list[WorkflowResult]:
        tick = Tick(AT_MS + number * MINUTE_MS, self.workflow)
        asked = replace(Planned(step="step_1"), **planned)
        return self.serving.serve(Delivery(tick.at_ms + asked.late_ms, number, tick, asked))

    def events(self, kind: str) -> int:
        row = self.session.ledger.one("SELECT count(*) AS n FROM events WHERE kind = %s", (kind,))
        assert row is not None
        return int(row["n"])

    def runs(self) -> list[tuple[int, str, int]]:
        """Minute, status and epoch of every run."""
        rows = self.session.ledger.query("SELECT * FROM runs ORDER BY event_at, run_id")
        return [(row["event_at"].minute, row["status"], row["epoch"]) for row in rows]


@pytest.fixture
def bench(session: LocalSession) -> Bench:
    return Bench(session)


def exits(results: list[WorkflowResult]) -> list[str | None]:
    return [result.exit_reason and result.exit_reason.partition(":")[0] for result in results]


def test_executions_of_one_event_differ_and_events_of_one_minute_too(bench: Bench) -> None:
    def ids(**options: Any) -> tuple[str, str, str]:
        context = events.context("test", bench.workflow, AT_MS, **options)
        return context["id"], context["trace_id"], context["ts"]

    first, again, other = ids(), ids(number=2, now_ms=AT_MS + 90_000), ids(number=2, key="other")
    assert first[0] != again[0] and first[1] == again[1]
    assert again[2] == "2025-05-06T00:01:30Z"
    assert other[0] not in (first[0], again[0]) and other[1] != first[1]


def test_a_second_delivery_is_another_execution(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    run = bench.session.platform.run_workflow

    def spy(workflow: Any, event: Any, context: Any, **options: Any) -> WorkflowResult:
        seen.append(context["id"])
        return run(workflow, event, context, **options)

    monkeypatch.setattr(bench.session.platform, "run_workflow", spy)
    for number, doubled in enumerate(("same event after", "other event")):
        bench.minute(number, kind="double", doubled=doubled)
    assert len(set(seen)) == 4


def test_a_missing_tick_runs_nothing(bench: Bench) -> None:
    assert bench.minute(0, kind="miss") == []
    assert bench.runs() == []
    assert bench.serving.as_json() == {"miss": {"asked": 1, "happened": 1}}


def test_a_late_tick_runs_at_its_late_time_also_after_a_newer_one(bench: Bench) -> None:
    bench.minute(1)
    (late,) = bench.minute(0, kind="late", late_ms=90_000)
    assert not late.failed
    assert bench.session.now_ms == AT_MS + 90_000
    assert bench.runs() == [(0, "DONE", 2), (1, "DONE", 1)]


def test_the_same_event_again_is_done_already(bench: Bench) -> None:
    first, second = bench.minute(0, kind="double", doubled="same event after")
    assert first.trace_id == second.trace_id
    assert exits([first, second]) == [None, "EVENT_DONE"]
    assert bench.events("SECOND") == 1


def test_another_event_of_the_same_minute_is_a_run_of_its_own(bench: Bench) -> None:
    first, second = bench.minute(0, kind="double", doubled="other event")
    assert first.trace_id != second.trace_id
    assert bench.runs() == [(0, "DONE", 1), (0, "DONE", 2)]


def test_the_same_event_meanwhile_fences_the_first_run_off(bench: Bench) -> None:
    second, first = bench.minute(0, kind="double", doubled="same event meanwhile")
    assert exits([second]) == [None]
    assert first.exit_reason == "loop: epoch 1 no longer holds the lease"
    assert bench.events("SECOND") == 1
    assert bench.runs() == [(0, "DONE", 2)]


def test_a_run_that_is_still_under_way_keeps_the_next_one_out(bench: Bench) -> None:
    assert bench.minute(0, kind="overlap", ticks_under_way=1) == []
    second, first = bench.minute(1)
    assert exits([second, first]) == ["LEASE_HELD", None]
    assert bench.runs() == [(0, "DONE", 1)]
    assert bench.session.now_ms == AT_MS + MINUTE_MS


def test_a_run_whose_lease_has_run_out_writes_nothing_more(bench: Bench) -> None:
    bench.minute(0, kind="overlap", ticks_under_way=2)
    assert exits(bench.minute(1)) == ["LEASE_HELD"]
    third, first = bench.minute(2)
    assert exits([third]) == [None]
    assert first.exit_reason == "loop: epoch 1 no longer holds the lease"
    assert bench.events("SECOND") == 1


def test_what_still_stands_in_the_end_goes_on(bench: Bench) -> None:
    bench.minute(0, kind="overlap", ticks_under_way=2)
    (first,) = bench.serving.finish()
    assert not first.failed and first.exit_reason is None
    assert bench.serving.finish() == []


def test_a_retry_of_the_first_step_does_the_whole_run(bench: Bench) -> None:
    (failed,) = bench.minute(0, kind="retry", step="step_0")
    assert failed.failed and failed.pause is not None and failed.pause.kind == "retry"
    bench.minute(3)
    (again,) = bench.session.platform.take_continued()
    assert again.segment == 2 and not again.failed
    assert bench.runs() == [(0, "DONE", 1), (3, "DONE", 2)]


def test_a_retry_of_a_later_step_finds_that_its_lease_has_passed_on(bench: Bench) -> None:
    """The first two minutes find the lease of the failed run; the third takes it over."""
    bench.minute(0, kind="retry", step="step_1")
    assert exits(bench.minute(1)) == ["LEASE_HELD"]
    assert exits(bench.minute(2)) == [None]
    bench.minute(3)
    (again,) = bench.session.platform.take_continued()
    assert again.exit_reason == "loop: epoch 1 no longer holds the lease"
    assert bench.events("SECOND") == 2


def test_a_killed_run_is_not_retried_and_its_lease_runs_out(bench: Bench) -> None:
    (killed,) = bench.minute(0, kind="kill")
    assert killed.failed and killed.pause is None
    assert exits(bench.minute(1)) == ["LEASE_HELD"]
    assert exits(bench.minute(2)) == [None]
    assert bench.serving.as_json() == {"kill": {"asked": 1, "happened": 1}}


def test_an_interrupted_replay_leaves_no_run_that_stands_still(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes between two ticks, while the first minute's run stands still."""
    options = ReplayOptions(
        spec(600), "conservative", Decimal(1000), "none", None, False, faults=FaultRates(overlap=1)
    )
    replay = Replay(bench.session, options, Console(file=io.StringIO()))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.local.replay.Progress.update", interrupt)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        replay.run()
    assert threading.active_count() == before
    assert bench.runs() == [(0, "DONE", 1)]


def test_the_books_are_judged_against_the_venues(
    session: LocalSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 USDT less at a venue, and an order there that no intent knows."""
    assert judgement.judge(session) == []
    accounts = session.wire.accounts()
    free = Decimal(accounts["kraken"]["balances"]["USDT"]["free"])
    accounts["kraken"]["balances"]["USDT"]["free"] = f"{free - 1000}"
    accounts["binance"]["orders"].append(
        {"order_id": 5, "client_order_id": "tl-unknown", "side": "buy", "status": "filled",
         "filled_quantity": "1", "created_ms": AT_MS}
    )  # fmt: skip
    monkeypatch.setattr(session.wire, "accounts", lambda: accounts)
    found = judgement.judge(session)
    assert [violation["kind"] for violation in found] == ["orphan_order", "balance_differs"]
    assert f"kraken USDT: venue {free - 1000}, books {free}" in found[1]["what"]
