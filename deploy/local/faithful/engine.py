"""Runs a workflow's steps from their bundles, in a process that has the platform's limits.

A run takes a warm process of its workflow where one is idle, and starts a cold one where none is:
two runs at once have two processes. A process that takes more memory than the workflow has, or
more time, is killed at whatever line it is in. One that was idle for five minutes of the loop's
time is gone, as on Pipedream (https://pipedream.com/docs/workflows/limits).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local.data_store import DataStore
from deploy.local.engines import Called, Disturbance, InjectedError, InjectedKill, StepKilled
from deploy.local.faithful.answers import answer
from deploy.local.faithful.process import GONE, StepProcess
from deploy.local.manifest import Step, Workflow
from deploy.local.pd import Pipedream
from deploy.local.results import Usage
from deploy.pipedream.build import Build
from shared import clock, errors
from shared.errors import ConfigurationError

IDLE_MS = 5 * 60_000


class StepFailed(Exception):
    """A step raised an error of a class that this process does not know."""


@dataclass
class Tally:
    """What the engine saw of one workflow.

    Attributes:
        cold: how many processes were started.
        peak_kib: the largest resident size of any of them.
    """

    cold: int = 0
    runs: int = 0
    killed: int = 0
    peak_kib: int = 0


@dataclass
class _Run:
    workflow: Workflow
    process: StepProcess
    cold: bool
    disturbance: Disturbance | None = None
    alive: bool = True
    peak_kib: int = 0

    def disturbance_in(self, step: Step) -> Disturbance | None:
        asked = self.disturbance
        return asked if asked is not None and asked.due_in(step) else None


@dataclass
class FaithfulEngine:
    """See the module.

    Args:
        python: an interpreter of the pinned environment.
        build: the bundles.
        folder: where ``build`` was written to.
        variables: the environment of every process; nothing else is in it.
        virtual: whether ``shared.clock`` tells a replay's time; ``paced``: at the machine's pace.
    """

    python: Path
    build: Build
    folder: Path
    variables: Mapping[str, str]
    virtual: bool = True
    paced: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)
    _idle: dict[str, list[StepProcess]] = field(default_factory=dict)
    _running: list[StepProcess] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def load_all(self, workflows: tuple[Workflow, ...]) -> None:
        """Raises ``ConfigurationError`` where a step has no bundle."""
        for workflow in workflows:
            for step in workflow.steps:
                path = self._bundle(workflow, step)
                if not path.is_file():
                    raise ConfigurationError(f"{path}: expected a bundle, there is none")

    def begin(self, workflow: Workflow, disturbance: Disturbance | None = None) -> _Run:
        tally = self._tally(workflow)
        with self._lock:
            tally.runs += 1
            idle = self._idle.setdefault(workflow.name, [])
            process = idle.pop() if idle else None
        if process is not None and clock.now_ms() - process.used_at_ms > IDLE_MS:
            process.stop()
            process = None
        cold = process is None
        if process is None:
            process = StepProcess.start(self.python, self.variables, clock.now_ms())
            tally.cold += 1
        with self._lock:
            self._running.append(process)
        return _Run(workflow, process, cold, disturbance)

    def call(self, run: object, step: Step, pd: Pipedream, seconds_left: float) -> Called:
        assert isinstance(run, _Run)
        if not run.alive:
            return Called({}, "", StepKilled(GONE), None)
        disturbance = run.disturbance_in(step)
        run.process.send(self._order(run.workflow, step, pd, disturbance))
        watch = _Watch(seconds_left)
        while True:
            message = run.process.receive(lambda: _look(run, watch))
            if isinstance(message, str):
                return self._killed(run, step, message, disturbance)
            if "done" in message:
                return self._done(run, step, message["done"], disturbance)
            if disturbance is not None and message["call"] == "hold":
                run.process.send({"value": self._hold(disturbance, watch)})
            else:
                run.process.send(answer(pd, message))

    def end(self, run: object) -> Usage:
        assert isinstance(run, _Run)
        usage = Usage(run.cold, run.peak_kib or None)  # no process takes nothing: not told
        tally = self._tally(run.workflow)
        tally.peak_kib = max(tally.peak_kib, run.peak_kib)
        with self._lock:
            self._running = [process for process in self._running if process is not run.process]
        if not run.alive:
            run.process.stop()
            return usage
        run.process.used_at_ms = clock.now_ms()
        with self._lock:
            self._idle.setdefault(run.workflow.name, []).append(run.process)
        return usage

    def kill_running(self) -> None:
        """End every process that is in a run; the run then fails as killed."""
        with self._lock:
            for process in self._running:
                process.popen.kill()

    def close(self) -> None:
        with self._lock:
            processes = [process for idle in self._idle.values() for process in idle]
            self._idle.clear()
        for process in processes:
            process.let_go()  # all at once: an interpreter takes a while to end
        for process in processes:
            process.stop()

    def _bundle(self, workflow: Workflow, step: Step) -> Path:
        return self.folder / workflow.name / step.namespace / "entry.py"

    def _tally(self, workflow: Workflow) -> Tally:
        return self.tallies.setdefault(workflow.name, Tally())

    def _order(
        self, workflow: Workflow, step: Step, pd: Pipedream, disturbance: Disturbance | None
    ) -> dict[str, Any]:
        return {
            "path": str(self._bundle(workflow, step)),
            "namespace": step.namespace,
            "steps": {name: json.dumps(value) for name, value in pd.steps.items()},
            "context": pd.context,
            "inputs": {k: v for k, v in pd.inputs.items() if not isinstance(v, DataStore)},
            "data_stores": [k for k, v in pd.inputs.items() if isinstance(v, DataStore)],
            "now_ms": self._told_ms(),
            "paced": self.paced,
            "disturbance": disturbance and {"what": disturbance.what, "line": disturbance.line},
        }

    def _told_ms(self) -> int | None:
        """What a process is told of the time; ``None`` lets it look for itself."""
        return clock.now_ms() if self.virtual else None

    def _hold(self, disturbance: Disturbance, watch: _Watch) -> int | None:
        """Stop the run here; the time that it stands still is not the machine's to count."""
        disturbance.happened = True
        held = clock.Stopwatch()
        disturbance.hold()
        watch.seconds_left += held.seconds()
        return self._told_ms()

    def _done(
        self, run: _Run, step: Step, done: dict[str, Any], disturbance: Disturbance | None
    ) -> Called:
        run.peak_kib = max(run.peak_kib, done["peak_kib"])
        if run.peak_kib > _limit_kib(run):
            return self._killed(run, step, _too_large(run), None)
        called = _called(done)
        if disturbance is not None and isinstance(called.error, InjectedError):
            disturbance.happened = True
        return called

    def _killed(self, run: _Run, step: Step, why: str, disturbance: Disturbance | None) -> Called:
        """End the process. That it was ended on purpose shows by its having gone by itself."""
        run.alive = False
        kind: type[StepKilled] = StepKilled
        if disturbance is not None and disturbance.what == "kill" and why == GONE:
            kind, disturbance.happened = InjectedKill, True
        else:
            self._tally(run.workflow).killed += 1
        run.process.kill()
        return Called({}, "", kind(f"{step.namespace}: {why}"), None)


class _Watch:
    """The time that a step has left."""

    def __init__(self, seconds_left: float) -> None:
        self.seconds_left = seconds_left
        self._since = clock.Stopwatch()

    @property
    def is_over(self) -> bool:
        return self._since.seconds() > self.seconds_left


def _look(run: _Run, watch: _Watch) -> str | None:
    """Why the process must go, or ``None``."""
    if watch.is_over:
        return f"timeout: {run.workflow.settings.timeout_seconds} s of the run are over"
    run.peak_kib = max(run.peak_kib, run.process.resident_kib())
    return _too_large(run) if run.peak_kib > _limit_kib(run) else None


def _limit_kib(run: _Run) -> int:
    return run.workflow.settings.memory_mib * 1024


def _too_large(run: _Run) -> str:
    return (
        f"memory: expected at most {run.workflow.settings.memory_mib} MiB, "
        f"was {run.peak_kib / 1024:.0f}"
    )


def _called(done: dict[str, Any]) -> Called:
    error = done["error"]
    if error is None:
        return Called(done["exports"], done["printed"])
    known = InjectedError if error["kind"] == InjectedError.__name__ else None
    known = known or getattr(errors, error["kind"], None)
    kind = known if isinstance(known, type) and issubclass(known, Exception) else None
    text = error["text"] if kind else f"{error['kind']}: {error['text']}"
    return Called({}, done["printed"], (kind or StepFailed)(text), error["traceback"])
