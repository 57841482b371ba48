"""Who runs a step's code: this process from its source, or a process of its own from its bundle."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from deploy.local import exports, logs
from deploy.local.manifest import Step, Workflow
from deploy.local.pd import Pipedream
from deploy.local.results import Usage
from shared.errors import ConfigurationError

Handler = Callable[[Any], Any]
RETURN_VALUE = "$return_value"


class StepKilled(Exception):
    """The platform ended the process: of its time, of its memory, or from outside."""


class InjectedError(Exception):
    """An error that was put into a step on purpose."""


class InjectedKill(StepKilled):
    """A process that was killed on purpose."""


@dataclass
class Disturbance:
    """What happens to a run on purpose, once.

    Attributes:
        what: ``kill`` ends the process, ``fail`` raises ``InjectedError``, ``hold`` stops the run
            until ``hold`` returns.
        step: the namespace of the step in which it happens.
        line: before the so many-th line of our own code that the step runs. In the fast mode it
            happens before the step's first line. A step that runs fewer lines is not disturbed.
        hold: called where the run stops; blocks.
        happened: whether it has come about.
    """

    what: Literal["kill", "fail", "hold"]
    step: str
    line: int = 1
    hold: Callable[[], None] = lambda: None
    happened: bool = False

    def due_in(self, step: Step) -> bool:
        """Whether it is to happen in ``step``; after it has, in none."""
        return not self.happened and step.namespace == self.step


@dataclass(frozen=True)
class Called:
    """What came of a step.

    Attributes:
        exports: by name, each as JSON text; empty where the step failed.
        printed: what it wrote to standard output.
        error: what ended it, with its traceback.
    """

    exports: dict[str, str]
    printed: str
    error: Exception | None = None
    traceback: str | None = None


class Engine(Protocol):
    """Runs steps. One engine serves all runs of a platform, also several at once."""

    def load_all(self, workflows: tuple[Workflow, ...]) -> None:
        """Make everything ready, so that what cannot be loaded is found before any step runs.

        Raises:
            ConfigurationError: a step cannot be loaded.
        """
        ...

    def begin(self, workflow: Workflow, disturbance: Disturbance | None = None) -> object:
        """A run, or a segment of one, begins; what it returns is given to its ``call``s."""
        ...

    def call(self, run: object, step: Step, pd: Pipedream, seconds_left: float) -> Called:
        """Run one step; an exception of it, or its end by force, is in the result."""
        ...

    def end(self, run: object) -> Usage | None:
        """The run is over, well or not: what it took, where it had a process of its own."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class InProcess:
    """The fast mode: source modules in this process, without limits.

    Args:
        root: the project's folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._handlers: dict[Path, Handler] = {}

    def load_all(self, workflows: tuple[Workflow, ...]) -> None:
        for workflow in workflows:
            for step in workflow.steps:
                self._handler(step)

    def begin(self, workflow: Workflow, disturbance: Disturbance | None = None) -> object:
        return disturbance

    def call(self, run: object, step: Step, pd: Pipedream, seconds_left: float) -> Called:
        if isinstance(run, Disturbance) and run.due_in(step):
            error = _disturb(run)
            if error is not None:
                return Called({}, "", error)
        with logs.capture() as printed:
            try:
                returned = self._handler(step)(pd)
                texts = encode_all(pd.exported, returned, step.namespace)
            except Exception as error:  # noqa: BLE001 - the platform reports whatever a step raises
                return Called({}, printed.getvalue(), error, traceback.format_exc())
        return Called(texts, printed.getvalue())

    def end(self, run: object) -> None:
        """No process was taken."""

    def close(self) -> None:
        """Nothing was taken."""

    def _handler(self, step: Step) -> Handler:
        path = self._root / step.file
        if path not in self._handlers:
            self._handlers[path] = _load(path, step.namespace)
        return self._handlers[path]


def _disturb(disturbance: Disturbance) -> Exception | None:
    """Let it happen where this process, which cannot be killed, can: between two steps."""
    disturbance.happened = True
    if disturbance.what == "hold":
        disturbance.hold()
        return None
    kind = InjectedError if disturbance.what == "fail" else InjectedKill
    return kind(f"{disturbance.step}: before its first line")


def encode_all(exported: dict[str, Any], returned: Any, namespace: str) -> dict[str, str]:
    """All exports of a step as JSON texts. Raises ``ExportError``."""
    values = exported if returned is None else exported | {RETURN_VALUE: returned}
    return {name: exports.encode(value, namespace, name) for name, value in values.items()}


def _load(path: Path, namespace: str) -> Handler:
    """The ``handler`` of a step's source file.

    Raises:
        ConfigurationError: there is no such file, or it defines no handler.
    """
    name = f"_pipedream_step_{namespace}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigurationError(
            f"{path}: expected the file of the step {namespace}, there is none"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    handler = getattr(module, "handler", None)
    if not callable(handler):
        raise ConfigurationError(f"{path}: expected a function handler(pd), there is none")
    loaded: Handler = handler
    return loaded
