"""Runs of a workflow as Pipedream does them: exports, logs, errors, pauses, timeout, price.

This is the fast mode: steps run from their source modules, in this process, without a memory
limit. A step cannot be stopped at any line here, so a run that takes longer than its timeout is
run to its end and then counts as failed. Durations are the machine's, by its monotonic clock,
whatever time a replay tells: a slow machine fails runs that Pipedream would not.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import exports, logs
from deploy.local.data_store import DataStore
from deploy.local.flow import Ending, FlowState, Pause, PausedRuns
from deploy.local.manifest import Project, Step, Workflow
from deploy.local.pd import Pipedream, RunState
from deploy.local.results import StepResult, WorkflowResult, cancelled, price
from shared import clock
from shared.errors import ConfigurationError

Handler = Callable[[Any], Any]
JsonObject = dict[str, Any]


class PayloadLimitExceeded(Exception):
    """Event, logs and exports of one run are larger together than the platform carries."""


@dataclass
class _Run:
    """A run and how far it has come."""

    workflow: Workflow
    trace_id: str
    state: RunState
    next_step: int = 0


class Platform:
    """Runs workflows of a project.

    Args:
        project: the workflows and limits.
        accounts: the connected accounts, name to ``$auth`` fields; a step sees those it declares.

    Attributes:
        paused: the runs that wait; see ``deploy.local.flow`` for who continues them.
    """

    def __init__(self, project: Project, accounts: Mapping[str, Mapping[str, str]]) -> None:
        self._project = project
        self._accounts = accounts
        self._data_stores: dict[str, DataStore] = {}
        self._handlers: dict[Path, Handler] = {}
        self._continued: deque[WorkflowResult] = deque()
        self.paused: PausedRuns[_Run] = PausedRuns(self._go_on)

    def load_all(self) -> None:
        """Load every step now, so that a step that cannot be loaded is found before any runs."""
        for workflow in self._project.workflows:
            for step in workflow.steps:
                self._handler(step)

    def run_workflow(
        self, workflow: Workflow, event: JsonObject, context: JsonObject
    ) -> WorkflowResult:
        """Run the steps in order, until one fails, pauses the run or calls ``pd.flow.exit``.

        An exception of a step ends up in the result; ``KeyboardInterrupt`` and its like do not.
        What comes after a pause has results of its own, see ``take_continued``.
        """
        trigger = exports.encode({"event": event, "context": context}, "trigger", "event")
        state = RunState({"trigger": trigger}, exports.size(trigger))
        return self._run_segment(_Run(workflow, context["trace_id"], state))

    def take_continued(self) -> list[WorkflowResult]:
        """The segments that ended since the last call, without the first one of each run."""
        taken = []
        while self._continued:
            taken.append(self._continued.popleft())
        return taken

    def _run_segment(self, run: _Run) -> WorkflowResult:
        watch = clock.Stopwatch()
        state, flow = run.state, run.state.flow
        segment = flow.segment
        results: list[StepResult] = []
        for step in run.workflow.steps[run.next_step :]:
            results.append(self._run_step(step, state))
            if results[-1].error is not None or flow.exit_reason is not None:
                flow.pause = None
                break
            state.steps[step.namespace] = results[-1].exports_json
            if flow.pause is not None:
                break
            self._leave_step(flow)
            run.next_step += 1
        seconds = watch.seconds()
        result = WorkflowResult(
            workflow=run.workflow.name,
            trace_id=run.trace_id,
            steps=tuple(results),
            exit_reason=flow.exit_reason,
            response=state.response,
            emails=tuple(state.emails),
            seconds=seconds,
            overran=seconds > run.workflow.settings.timeout_seconds,
            payload_bytes=state.payload_bytes,
            credits=price(seconds, run.workflow.settings.memory_mib),
            segment=segment,
            pause=flow.pause,
        )
        self._end_segment(run, result)
        return result

    def _end_segment(self, run: _Run, result: WorkflowResult) -> None:
        """Keep the result of a later segment; let a run wait that has paused."""
        if result.segment > 1:
            self._continued.append(result)
        if result.pause is None:
            self._leave_step(run.state.flow)
        else:
            self.paused.park(result.pause.token, run, result.pause.milliseconds)

    def _leave_step(self, flow: FlowState) -> None:
        """The links of a pause that does not come about lead nowhere; reruns count from 1."""
        if flow.token is not None:
            self.paused.close(flow.token)
            flow.token = None
        flow.runs, flow.run_context, flow.callback_request = 1, None, None

    def _go_on(self, run: _Run, ending: Ending) -> None:
        """The next segment of a run whose pause is over."""
        pause = run.state.flow.pause
        assert pause is not None
        if ending.how == "cancelled" or (ending.how == "elapsed" and pause.kind == "suspend"):
            cause = "cancel_url" if ending.how == "cancelled" else "timeout"
            self._continued.append(
                cancelled(run.workflow.name, run.trace_id, run.state.flow.segment + 1, pause, cause)
            )
            return
        _begin_segment(run, pause, ending)
        self._run_segment(run)

    def _run_step(self, step: Step, state: RunState) -> StepResult:
        watch = clock.Stopwatch()
        carried = "{}"
        error: Exception | None = None
        trace: str | None = None
        with logs.capture() as printed:
            try:
                pd = Pipedream(state, self._inputs(step), self.paused)
                returned = self._handler(step)(pd)
                carried = self._carry(step, pd.exported, returned, state)
                self._charge(exports.size(printed.getvalue()), state)
            except Exception as caught:  # noqa: BLE001 - the platform reports whatever a step raises
                error, trace = caught, traceback.format_exc()
        return StepResult(
            step.namespace, watch.milliseconds(), carried, printed.getvalue(), error, trace
        )

    def _carry(self, step: Step, exported: JsonObject, returned: Any, state: RunState) -> str:
        values = exported if returned is None else exported | {"$return_value": returned}
        texts = []
        for name, value in values.items():
            texts.append(f"{json.dumps(name)}:{exports.encode(value, step.namespace, name)}")
            self._charge(exports.size(texts[-1]), state)
        return f"{{{','.join(texts)}}}"

    def _charge(self, size: int, state: RunState) -> None:
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


def _begin_segment(run: _Run, pause: Pause, ending: Ending) -> None:
    """What the step after a pause sees: a new execution of the same trace."""
    state, paused_in = run.state, run.workflow.steps[run.next_step].namespace
    segment = state.flow.segment + 1
    if pause.kind == "rerun":
        del state.steps[paused_in]
        state.flow = FlowState(
            segment=segment,
            runs=state.flow.runs + 1,
            run_context=pause.context_json,
            callback_request=ending.request,
        )
    else:
        state.flow = FlowState(segment=segment)
        run.next_step += 1
        if ending.request is not None:
            exported = json.loads(state.steps[paused_in]) | {"$resume_data": ending.request}
            state.steps[paused_in] = exports.encode(exported, paused_in, "$resume_data")
    trigger = json.loads(state.steps["trigger"])
    trigger["context"]["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{run.trace_id}/{segment}"))
    state.steps["trigger"] = exports.encode(trigger, "trigger", "context")
    state.payload_bytes = sum(exports.size(text) for text in state.steps.values())
    state.response, state.emails = None, []


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
