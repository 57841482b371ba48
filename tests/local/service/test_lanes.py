"""A workflow in a thread: what it runs, what it survives, when it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy.local import manifest
from deploy.local.platform import StepResult, WorkflowResult
from deploy.local.scheduler import Tick
from deploy.local.servers import PROJECT
from deploy.local.service.lanes import Lane
from tests.conftest import VirtualClock

LOOP = manifest.load(PROJECT).workflow("trading_loop")
DONE = WorkflowResult("trading_loop", "t", (), None, None, (), 0.5, False, 0, 1)
BROKEN = StepResult("order_execution", 1.0, "{}", "", ValueError("price:\nwas 0"))


class Served:
    """Answers ticks with ``answers``, one after the other; then there is nothing left to do."""

    def __init__(self, stop: threading.Event, answers: list[WorkflowResult | Exception]) -> None:
        self._stop = stop
        self._answers = iter(answers)
        self.ticks: list[int] = []

    def __call__(self, tick: Tick) -> WorkflowResult:
        self.ticks.append(tick.at_ms)
        answer = next(self._answers, None)
        if answer is None:
            self._stop.set()
            return DONE
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def minutes(virtual_clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A look at the clock takes half a minute, and nobody waits."""
    wait = threading.Event.wait

    def at_once(self: threading.Event, seconds: float | None = None) -> bool:
        if seconds is not None:
            virtual_clock.advance(seconds=30)
            return self.is_set()
        return wait(self)

    monkeypatch.setattr(threading.Event, "wait", at_once)
    yield
    monkeypatch.undo()


def lane_of(*answers: WorkflowResult | Exception) -> tuple[Lane, Served, list[str]]:
    stop, told = threading.Event(), list[str]()
    served = Served(stop, list(answers))
    lane = Lane(LOOP, served, told.append, stop)
    lane._work()
    return lane, served, told


@pytest.mark.usefixtures("minutes")
def test_it_runs_every_minute_until_it_is_told_to_stop() -> None:
    lane, served, told = lane_of(DONE, DONE)
    first, *_ = served.ticks
    assert served.ticks == [first, first + 60_000, first + 120_000]
    assert (lane.counts.runs, lane.counts.failed, lane.counts.credits) == (3, 0, 3)
    assert told == []


@pytest.mark.usefixtures("minutes")
def test_a_failed_run_is_told_in_one_line_and_the_next_one_comes() -> None:
    lane, _, told = lane_of(replace(DONE, steps=(BROKEN,)), replace(DONE, overran=True), DONE)
    assert (lane.counts.runs, lane.counts.failed) == (4, 2)
    assert told == [
        "FAILED trading_loop: order_execution: ValueError: price: was 0; trace t",
        "FAILED trading_loop: longer than its timeout, 0.5 s; trace t",
    ]


@pytest.mark.usefixtures("minutes")
def test_what_the_platform_itself_raises_does_not_end_the_lane() -> None:
    lane, served, told = lane_of(OSError("no process can be started"), DONE)
    assert len(served.ticks) == 3
    assert lane.counts.failed == 1
    assert told == ["FAILED trading_loop: it could not be run: OSError: no process can be started"]


def test_a_stop_waits_for_the_run_under_way() -> None:
    began, go_on, stop = threading.Event(), threading.Event(), threading.Event()

    def serve(tick: Tick) -> WorkflowResult:
        began.set()
        go_on.wait()
        return DONE

    lane = Lane(LOOP, serve, print, stop)
    lane.ticker._next_ms = 0  # due now
    lane.start()
    began.wait()
    stop.set()
    assert not lane.join(0.05)
    go_on.set()
    assert lane.join(10)
    assert lane.counts.runs == 1
