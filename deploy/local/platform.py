"""Runs of a workflow as Pipedream does them: exports, logs, errors, pauses, timeout, price.

An engine runs the steps' code: in the fast mode this process, which can stop no step, so that a
run which takes longer than its timeout is run to its end and then counts as failed; in the
faithful mode a process of the workflow's own, which is killed. Durations are the machine's, by its
monotonic clock, whatever time a replay tells: a slow machine fails runs that Pipedream would not.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local import exports
from deploy.local.data_store import DataStore
from deploy.local.engines import Called, Disturbance, Engine, InProcess, StepKilled
from deploy.local.flow import MAX_RETRIES, Ending, FlowState, Pause, PausedRuns, retry_delay_ms
from deploy.local.manifest import Project, Step, Workflow
from deploy.local.pd import Pipedream, RunState
from deploy.local.results import StepResult, WorkflowResult, cancelled, price
from shared import clock
from shared.clock import Stopwatch

JsonObject = dict[str, Any]


class PayloadLimitExceeded(Exception):
    """Event, logs and exports of one run are larger together than the platform carries."""


@dataclass
class _Run:
    """A run and how far it has come."""

    workflow: Workflow
    trace_id: str
    state: RunState
    auto_retry: bool = False
    next_step: int = 0


class Platform:
    """Runs workflows of a project.

    Args:
        project: the workflows and limits.
        accounts: the connected accounts, name to ``$auth`` fields; a step sees those it declares.
        engine: who runs the code; by default this process, the fast mode.

    Attributes:
        paused: the runs that wait; see ``deploy.local.flow`` for who continues them.
    """

    def __init__(
        self,
        project: Project,
        accounts: Mapping[str, Mapping[str, str]],
        engine: Engine | None = None,
    ) -> None:
        self._project = project
        self._engine = engine or InProcess(project.root)
        self._accounts = accounts
        self._data_stores: dict[str, DataStore] = {}
        self._continued: deque[WorkflowResult] = deque()
        self.paused: PausedRuns[_Run] = PausedRuns(self._go_on)

    def load_all(self) -> None:
        """Load every step now, so that a step that cannot be loaded is found before any runs."""
        self._engine.load_all(self._project.workflows)

    def run_workflow(
        self,
        workflow: Workflow,
        event: JsonObject,
        context: JsonObject,
        *,
        disturbance: Disturbance | None = None,
        auto_retry: bool = False,
    ) -> WorkflowResult:
        """Run the steps in order, until one fails, pauses the run or calls ``pd.flow.exit``.

        An exception of a step ends up in the result; ``KeyboardInterrupt`` and its like do not.
        What comes after a pause has results of its own, see ``take_continued``.

        Args:
            disturbance: what is to happen to the run on purpose, in its first segment.
            auto_retry: the workflow's setting: a step that fails is run again, up to eight times
                over ten hours, with the exports of the steps before it. What was killed is not.
        """
        trigger = exports.encode({"event": event, "context": context}, "trigger", "event")
        state = RunState({"trigger": trigger}, exports.size(trigger))
        return self._run_segment(
            _Run(workflow, context["trace_id"], state, auto_retry), disturbance
        )

    def take_continued(self) -> list[WorkflowResult]:
        """The segments that ended since the last call, without the first one of each run."""
        taken = []
        while self._continued:
            taken.append(self._continued.popleft())
        return taken

    def _run_segment(self, run: _Run, disturbance: Disturbance | None = None) -> WorkflowResult:
        watch = clock.Stopwatch()
        state, flow = run.state, run.state.flow
        segment = flow.segment
        results: list[StepResult] = []
        engine_run, usage = self._engine.begin(run.workflow, disturbance), None
        try:
            for step in run.workflow.steps[run.next_step :]:
                results.append(self._run_step(step, run, engine_run, watch))
                if results[-1].error is not None or flow.exit_reason is not None:
                    flow.pause = self._retry(run, results[-1])
                    break
                state.steps[step.namespace] = results[-1].exports_json
                if flow.pause is not None:
                    break
                self._leave_step(flow)
                run.next_step += 1
        finally:
            usage = self._engine.end(
                engine_run
            )  # also after Ctrl-C: a process must not be left behind
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
            usage=usage,
        )
        self._end_segment(run, result)
        return result

    def _retry(self, run: _Run, failed: StepResult) -> Pause | None:
        """The pause before the step that has failed is run again; ``None`` where it is not."""
        flow = run.state.flow
        if failed.error is None or isinstance(failed.error, StepKilled):
            return None
        if not run.auto_retry or flow.retries >= MAX_RETRIES:
            return None
        flow.token = flow.token or self.paused.open()
        wait_ms = retry_delay_ms(flow.retries)
        links = self.paused.links(flow.token)
        attempt = {
            "error": {"name": type(failed.error).__name__, "message": str(failed.error)},
            "cancel_url": links["cancel_url"],
            "rerun_url": links["resume_url"],
            "resume_ts": clock.iso(clock.from_ms(clock.now_ms() + round(wait_ms))),
        }
        return Pause("retry", flow.token, wait_ms, json.dumps(attempt))

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
        flow.runs, flow.retries, flow.run_context, flow.callback_request = 1, 0, None, None

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

    def _run_step(self, step: Step, run: _Run, engine_run: object, watch: Stopwatch) -> StepResult:
        state, step_watch = run.state, clock.Stopwatch()
        pd = Pipedream(state, self._inputs(step), self.paused)
        left = run.workflow.settings.timeout_seconds - watch.seconds()
        called = self._engine.call(engine_run, step, pd, left)
        carried, error, trace = "{}", called.error, called.traceback
        if error is None:
            try:
                carried = self._carry(called, state)
            except PayloadLimitExceeded as exceeded:
                error, trace = exceeded, f"{type(exceeded).__name__}: {exceeded}"
        return StepResult(
            step.namespace, step_watch.milliseconds(), carried, called.printed, error, trace
        )

    def _carry(self, called: Called, state: RunState) -> str:
        texts = []
        for name, text in called.exports.items():
            texts.append(f"{json.dumps(name)}:{text}")
            self._charge(exports.size(texts[-1]), state)
        self._charge(exports.size(called.printed), state)
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
    elif pause.kind == "retry":
        attempt = {"$attempt": json.loads(pause.context_json)}
        state.steps[paused_in] = exports.encode(attempt, paused_in, "$attempt")
        state.flow = FlowState(segment=segment, retries=state.flow.retries + 1)
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
