"""One run of a workflow as Pipedream does it: the ``pd`` object, exports, logs, errors, price.

This is the fast mode: steps run from their source modules, in this process, without the kill at
the timeout (an overrun is reported) and without a memory limit. ``pd.flow.delay``, ``suspend``
and ``rerun`` do not exist here, so that a step that used them would fail loudly.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local import exports, logs
from deploy.local.data_store import DataStore
from deploy.local.manifest import Project, Step, Workflow
from shared import clock
from shared.errors import ConfigurationError

Handler = Callable[[Any], Any]
JsonObject = dict[str, Any]

_SECONDS_A_CREDIT = 30
_MIB_A_CREDIT = 256


class PayloadLimitExceeded(Exception):
    """Event, logs and exports of one run are larger together than the platform carries."""


@dataclass(frozen=True)
class Response:
    """What ``pd.respond`` was given."""

    status: int
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class StepResult:
    """How one step went. ``error`` is the exception that ended it."""

    namespace: str
    milliseconds: float
    exports_json: str
    logs: str
    error: Exception | None = None
    traceback: str | None = None

    @property
    def exports(self) -> JsonObject:
        """What the step returned and exported, by name."""
        exported: JsonObject = json.loads(self.exports_json)
        return exported


@dataclass(frozen=True)
class WorkflowResult:
    """How one run went.

    Attributes:
        steps: the steps that ran, in order.
        exit_reason: what ``pd.flow.exit`` was given, ``None`` where it was not called.
        overran: it took longer than the workflow's timeout; Pipedream would have killed it.
        credits: its price on Pipedream.
    """

    workflow: str
    trace_id: str
    steps: tuple[StepResult, ...]
    exit_reason: str | None
    response: Response | None
    emails: tuple[JsonObject, ...]
    seconds: float
    overran: bool
    payload_bytes: int
    credits: int

    @property
    def failed_step(self) -> StepResult | None:
        """The step whose error ended the run."""
        return next((step for step in self.steps if step.error is not None), None)

    def export_of(self, namespace: str) -> Any:
        """What a step returned, ``None`` if it did not run or returned nothing."""
        for step in self.steps:
            if step.namespace == namespace:
                return step.exports.get("$return_value")
        return None


def price(seconds: float, memory_mib: int) -> int:
    """Credits of one run: ``ceil(seconds / 30) * ceil(MiB / 256)``, at least one segment.

    Source: https://pipedream.com/docs/pricing
    """
    segments = max(1, math.ceil(seconds / _SECONDS_A_CREDIT))
    return segments * math.ceil(memory_mib / _MIB_A_CREDIT)


@dataclass
class _RunState:
    """What the steps of one run share. ``steps`` holds JSON texts: every step reads a copy."""

    steps: dict[str, str]
    payload_bytes: int
    exit_reason: str | None = None
    response: Response | None = None
    emails: list[JsonObject] = field(default_factory=list)


class _Flow:
    """``pd.flow``. ``exit`` does not stop the step; the steps after it do not run."""

    def __init__(self, state: _RunState) -> None:
        self._state = state

    def exit(self, reason: str = "") -> None:
        self._state.exit_reason = str(reason)


class _Send:
    """``pd.send``. An e-mail is kept in the run's result; nothing leaves this machine."""

    def __init__(self, state: _RunState) -> None:
        self._state = state

    def email(self, subject: str, text: str, html: str | None = None) -> None:
        self._state.emails.append({"subject": subject, "text": text, "html": html})


class Pipedream:
    """The ``pd`` object of one step.

    Attributes:
        steps: the trigger and the exports of earlier steps, a copy of this step's own.
        inputs: connected accounts as ``{name: {"$auth": {...}}}`` and data stores.
        context: the context of the trigger.
    """

    def __init__(self, state: _RunState, inputs: JsonObject) -> None:
        self._state = state
        self.steps: JsonObject = {name: json.loads(text) for name, text in state.steps.items()}
        self.inputs = inputs
        self.context: JsonObject = self.steps["trigger"]["context"]
        self.flow = _Flow(state)
        self.send = _Send(state)
        self.exported: JsonObject = {}

    def export(self, key: str, value: Any) -> None:
        """Give later steps ``value`` as ``pd.steps[<this step>][key]``."""
        self.exported[key] = value

    def respond(self, response: Mapping[str, Any]) -> None:
        """Answer the HTTP request that triggered the run. The first answer goes out.

        Raises:
            ValueError: ``status`` or ``body`` is missing, or ``status`` is no HTTP status.
        """
        for required in ("status", "body"):
            if required not in response:
                raise ValueError(f"pd.respond: expected {required}, was {sorted(response)}")
        status = response["status"]
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError(f"pd.respond: status: expected 200 to 599, was {status!r}")
        body = response["body"]
        if not isinstance(body, bytes):
            body = json.loads(exports.encode(body, "respond", "body"))
        headers = {str(k): str(v) for k, v in (response.get("headers") or {}).items()}
        if self._state.response is None:
            self._state.response = Response(status, body, headers)


class Platform:
    """Runs workflows of a project.

    Args:
        project: the workflows and limits.
        accounts: the connected accounts, name to ``$auth`` fields; a step sees those it declares.
    """

    def __init__(self, project: Project, accounts: Mapping[str, Mapping[str, str]]) -> None:
        self._project = project
        self._accounts = accounts
        self._data_stores: dict[str, DataStore] = {}
        self._handlers: dict[Path, Handler] = {}

    def load_all(self) -> None:
        """Load every step now, so that a step that cannot be loaded is found before any runs."""
        for workflow in self._project.workflows:
            for step in workflow.steps:
                self._handler(step)

    def run_workflow(
        self, workflow: Workflow, event: JsonObject, context: JsonObject
    ) -> WorkflowResult:
        """Run the steps in order, until one fails or calls ``pd.flow.exit``.

        An exception of a step ends up in the result; ``KeyboardInterrupt`` and its like do not.
        """
        watch = clock.Stopwatch()
        trigger = exports.encode({"event": event, "context": context}, "trigger", "event")
        state = _RunState({"trigger": trigger}, exports.size(trigger))
        results: list[StepResult] = []
        for step in workflow.steps:
            results.append(self._run_step(step, state))
            if results[-1].error is not None or state.exit_reason is not None:
                break
            state.steps[step.namespace] = results[-1].exports_json
        seconds = watch.seconds()
        return WorkflowResult(
            workflow=workflow.name,
            trace_id=context["trace_id"],
            steps=tuple(results),
            exit_reason=state.exit_reason,
            response=state.response,
            emails=tuple(state.emails),
            seconds=seconds,
            overran=seconds > workflow.settings.timeout_seconds,
            payload_bytes=state.payload_bytes,
            credits=price(seconds, workflow.settings.memory_mib),
        )

    def _run_step(self, step: Step, state: _RunState) -> StepResult:
        watch = clock.Stopwatch()
        carried = "{}"
        error: Exception | None = None
        trace: str | None = None
        with logs.capture() as printed:
            try:
                pd = Pipedream(state, self._inputs(step))
                returned = self._handler(step)(pd)
                carried = self._carry(step, pd.exported, returned, state)
                self._charge(exports.size(printed.getvalue()), state)
            except Exception as caught:  # noqa: BLE001 - the platform reports whatever a step raises
                error, trace = caught, traceback.format_exc()
        return StepResult(
            step.namespace, watch.milliseconds(), carried, printed.getvalue(), error, trace
        )

    def _carry(self, step: Step, exported: JsonObject, returned: Any, state: _RunState) -> str:
        values = exported if returned is None else exported | {"$return_value": returned}
        texts = []
        for name, value in values.items():
            texts.append(f"{json.dumps(name)}:{exports.encode(value, step.namespace, name)}")
            self._charge(exports.size(texts[-1]), state)
        return f"{{{','.join(texts)}}}"

    def _charge(self, size: int, state: _RunState) -> None:
        state.payload_bytes += size
        limit = self._project.limits.payload_bytes
        if state.payload_bytes > limit:
            raise PayloadLimitExceeded(
                "event, logs and exports of a run: expected at most "
                f"{limit} bytes, was {state.payload_bytes}"
            )

    def _inputs(self, step: Step) -> JsonObject:
        inputs: JsonObject = {
            name: {"$auth": dict(self._accounts[name])}
            for name in step.accounts
            if name in self._accounts
        }
        for name in step.data_stores:
            inputs[name] = self._data_stores.setdefault(name, DataStore(name))
        return inputs

    def _handler(self, step: Step) -> Handler:
        path = self._project.root / step.file
        if path not in self._handlers:
            self._handlers[path] = _load(path, step.namespace)
        return self._handlers[path]


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
