"""A thread for each scheduled workflow, so that a slow one holds up no other."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.local.manifest import Workflow
from deploy.local.platform import WorkflowResult
from deploy.local.scheduler import Tick
from deploy.local.service.ticker import Ticker
from shared import clock

_LOOK_EVERY_S = 1.0
"""A wait is cut into such pieces: the machine may sleep in it, or its clock be set."""

Serve = Callable[[Tick], WorkflowResult]


@dataclass
class Counts:
    """What a lane has done since the service began."""

    runs: int = 0
    failed: int = 0
    exits: int = 0
    seconds: float = 0.0
    credits: int = 0


@dataclass
class Lane:
    """Runs one workflow at its times, one run after the other, until it is told to stop.

    Args:
        serve: runs a tick to its end.
        tell: is given a line for each run that failed.
        stop: when it is set no run begins; one that is under way goes on to its end.
    """

    workflow: Workflow
    serve: Serve
    tell: Callable[[str], None]
    stop: threading.Event
    counts: Counts = field(default_factory=Counts)
    ticker: Ticker = field(init=False)

    def __post_init__(self) -> None:
        self.ticker = Ticker(self.workflow, clock.now_ms())
        self._thread = threading.Thread(target=self._work, name=self.workflow.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it still looks for ticks, or is in a run."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the run under way; whether it came within ``seconds``."""
        self._thread.join(max(0.0, seconds))
        return not self.is_alive

    def _work(self) -> None:
        while not self.stop.is_set():
            tick = self.ticker.take(clock.now_ms())
            if tick is None:
                wait_s = self.ticker.wait_ms(clock.now_ms()) / 1000
                self.stop.wait(min(wait_s, _LOOK_EVERY_S))
            else:
                self._run(tick)

    def _run(self, tick: Tick) -> None:
        try:
            result = self.serve(tick)
        except Exception as error:  # noqa: BLE001 - else the workflow would never run again
            self.counts.failed += 1
            said = traceback.format_exception_only(error)[-1].strip()
            self.tell(f"FAILED {self.workflow.name}: it could not be run: {said}")
            return
        self._count(result)

    def _count(self, result: WorkflowResult) -> None:
        self.counts.runs += 1
        self.counts.failed += result.failed
        self.counts.exits += result.exit_reason is not None
        self.counts.seconds += result.seconds
        self.counts.credits += result.credits
        if result.failed:
            self.tell(failure(result))


def failure(result: WorkflowResult) -> str:
    """A failed run in one line."""
    step = result.failed_step
    why = (
        f"longer than its timeout, {result.seconds:.1f} s"
        if step is None
        else f"{step.namespace}: {type(step.error).__name__}: {' '.join(str(step.error).split())}"
    )
    return f"FAILED {result.workflow}: {why[:500]}; trace {result.trace_id}"
