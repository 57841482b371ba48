"""Serves ticks with their faults: one run after the other, or two of one workflow at once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy.local.engines import Disturbance
from deploy.local.platform import WorkflowResult
from deploy.local.schedule_faults.plan import Delivery
from deploy.local.scheduler import Tick, next_ms
from deploy.local.session import LocalSession
from shared.ledger import connection

_LET_GO_AFTER_S = 5.0
"""A run that stands still inside a transaction holds locks that the other may wait for. The other
then goes on when the first one does; the ledger would end its statement after 15 s."""


@dataclass
class _Held:
    """A run that stands still in a thread of its own.

    Attributes:
        until_ms: it goes on when a tick of its workflow of this time, or a later one, was served.
    """

    workflow: str
    until_ms: int
    thread: threading.Thread | None = None
    standing: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    results: list[WorkflowResult] = field(default_factory=list)

    def stand(self) -> None:
        """Called by the run where it stops."""
        self.standing.set()
        self.go_on.wait()


class FaultyServing:
    """Serves deliveries on a session.

    Attributes:
        asked: how many ticks were to have each kind of fault.
        happened: how many had it: a step may end before the line where it was to be disturbed.
    """

    def __init__(self, session: LocalSession) -> None:
        self._session = session
        self._held: list[_Held] = []
        self.asked: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()

    def serve(self, delivery: Delivery) -> list[WorkflowResult]:
        """The results of all runs that have ended by now, in the order of their ends."""
        planned, tick = delivery.planned, delivery.tick
        self._session.move_to(delivery.at_ms)
        name: str = planned.kind
        if planned.kind == "double":
            name = f"double, {planned.doubled}"
        if planned.kind == "overlap":
            name = f"overlap, {planned.ticks_under_way} ticks"
        if planned.kind != "none":
            self.asked[name] += 1
        ended, happened = self._serve(delivery)
        self.happened[name] += happened
        return ended + self._let_go(tick)

    def finish(self) -> list[WorkflowResult]:
        """Let every run that still stands still go on, and wait for its end."""
        ended = [result for held in self._held for result in self._end(held)]
        self._held.clear()
        return ended

    def as_json(self) -> dict[str, Any]:
        """Each kind with how often it was to happen and has."""
        return {
            kind: {"asked": self.asked[kind], "happened": self.happened[kind]}
            for kind in sorted(self.asked)
        }

    def _serve(self, delivery: Delivery) -> tuple[list[WorkflowResult], bool]:
        """What has ended, and whether the fault came about."""
        planned, tick = delivery.planned, delivery.tick
        match planned.kind:
            case "miss":
                return [], True
            case "double":
                return self._twice(delivery)
            case "overlap":
                return self._begin(delivery, tick.at_ms + planned.ticks_under_way * _period(tick))
            case "retry" | "kill":
                what: Any = "fail" if planned.kind == "retry" else "kill"
                asked = Disturbance(what, planned.step, planned.line)
                result = self._run(tick, disturbance=asked, auto_retry=what == "fail")
                return [result], asked.happened
        return [self._run(tick)], planned.kind != "none"

    def _twice(self, delivery: Delivery) -> tuple[list[WorkflowResult], bool]:
        tick = delivery.tick
        if delivery.planned.doubled == "same event meanwhile":
            ended, stood = self._begin(delivery, tick.at_ms)
            return [*ended, self._run(tick, number=2)], stood
        own_event = delivery.planned.doubled == "other event"
        return [self._run(tick), self._run(tick, number=2, own_event=own_event)], True

    def _begin(self, delivery: Delivery, until_ms: int) -> tuple[list[WorkflowResult], bool]:
        """Run a tick in a thread until it stands still; a run that does not has ended."""
        held = _Held(delivery.tick.workflow.name, until_ms)
        asked = Disturbance("hold", delivery.planned.step, delivery.planned.line, hold=held.stand)

        def run() -> None:
            try:
                held.results.append(self._session.hand_over(delivery.tick, disturbance=asked))
            finally:
                held.standing.set()
                connection.close_all()  # this thread's

        held.thread = threading.Thread(target=run, daemon=True)
        held.thread.start()
        held.standing.wait()
        if asked.happened:
            self._held.append(held)
            return [], True
        return self._end(held), False

    def _run(self, tick: Tick, **options: Any) -> WorkflowResult:
        with self._patience():
            return self._session.hand_over(tick, **options)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Whoever stands still goes on where another run has waited for too long."""
        if not self._held:
            yield
            return
        timers = [threading.Timer(_LET_GO_AFTER_S, held.go_on.set) for held in self._held]
        for timer in timers:
            timer.start()
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def _let_go(self, tick: Tick) -> list[WorkflowResult]:
        """End the runs that have stood still until a tick of their workflow was served."""
        due = [
            held
            for held in self._held
            if held.go_on.is_set()
            or (held.workflow == tick.workflow.name and tick.at_ms >= held.until_ms)
        ]
        self._held = [held for held in self._held if held not in due]
        return [result for held in due for result in self._end(held)]

    @staticmethod
    def _end(held: _Held) -> list[WorkflowResult]:
        assert held.thread is not None
        held.go_on.set()
        held.thread.join()
        return held.results


def _period(tick: Tick) -> int:
    """From a tick to the next one of its workflow, in milliseconds."""
    return next_ms(tick.workflow, tick.at_ms) - tick.at_ms
