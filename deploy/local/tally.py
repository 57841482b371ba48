"""What happened to the runs of a replay: counts, credits, failures, and where the time went."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from deploy.local.engines import InjectedError, InjectedKill
from deploy.local.platform import WorkflowResult
from deploy.local.usage import WorkflowUsage
from shared.ledger.connection import Ledger

_ERROR_LENGTH = 300
_OVERRAN = "timeout: took longer than timeout_seconds, at which Pipedream ends a run"


@dataclass
class StepTime:
    """How long one step took, in all its runs."""

    runs: int = 0
    total_ms: float = 0.0
    longest_ms: float = 0.0

    def add(self, milliseconds: float) -> None:
        self.runs += 1
        self.total_ms += milliseconds
        self.longest_ms = max(self.longest_ms, milliseconds)

    @property
    def mean_ms(self) -> float:
        return self.total_ms / self.runs


class Tally:
    """Adds up runs."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.credits: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()  # by workflow and error
        self.exits: Counter[tuple[str, str]] = Counter()  # by workflow and code of the reason
        self.overran: Counter[str] = Counter()
        self.injected: Counter[tuple[str, str]] = Counter()  # by workflow and error's class
        self.times: dict[tuple[str, str], StepTime] = {}
        self.usage: dict[str, WorkflowUsage] = {}
        self.largest_payload_bytes = 0

    def add(self, result: WorkflowResult) -> None:
        """Count one run, or one segment of it; a later segment is no other run.

        What was put into a run on purpose is no failure of it, and counted apart.
        Its times are measured here, whatever the clock says. A run that overran its timeout has
        failed, unless a step of it has already.
        """
        self.runs[result.workflow] += result.segment == 1
        self.credits[result.workflow] += result.credits
        self.overran[result.workflow] += result.overran
        self.usage.setdefault(result.workflow, WorkflowUsage()).add(result)
        self.largest_payload_bytes = max(self.largest_payload_bytes, result.payload_bytes)
        if result.exit_reason is not None:
            self.exits[result.workflow, result.exit_reason.partition(":")[0]] += 1
        for step in result.steps:
            key = (result.workflow, step.namespace)
            self.times.setdefault(key, StepTime()).add(step.milliseconds)
            if step.error is not None:
                kind = type(step.error).__name__
                if isinstance(step.error, InjectedError | InjectedKill):
                    self.injected[result.workflow, kind] += 1
                    continue
                error = f"{step.namespace}: {kind}: {step.error}"[:_ERROR_LENGTH]
                self.failures[result.workflow, error] += 1
        if result.overran and result.failed_step is None:
            self.failures[result.workflow, _OVERRAN] += 1

    def add_earlier(self, ledger: Ledger) -> None:
        """Count the runs that the ledger has from before this process, at their least price."""
        for row in ledger.query(
            "SELECT workflow, error, count(*) AS runs FROM runs "
            "WHERE pod = %s AND status <> 'RUNNING' GROUP BY workflow, error",
            (ledger.pod,),
        ):
            self.runs[row["workflow"]] += row["runs"]
            self.credits[row["workflow"]] += row["runs"]
            if row["error"] is not None:
                self.failures[row["workflow"], row["error"][:_ERROR_LENGTH]] += row["runs"]

    @property
    def failed_runs(self) -> int:
        return self.failures.total()

    def failures_as_json(self) -> list[dict[str, Any]]:
        """Each distinct error once, with its number, the most frequent first."""
        return [
            {"workflow": workflow, "error": error, "runs": runs}
            for (workflow, error), runs in sorted(
                self.failures.items(), key=lambda item: (-item[1], item[0])
            )
        ]

    def exits_as_json(self) -> list[dict[str, Any]]:
        """How many runs of a workflow called ``pd.flow.exit``, by the code of the reason."""
        return [
            {"workflow": workflow, "code": code, "runs": runs}
            for (workflow, code), runs in sorted(self.exits.items())
        ]

    def injected_as_json(self) -> list[dict[str, Any]]:
        """How many runs were killed or made to fail on purpose."""
        return [
            {"workflow": workflow, "error": kind, "runs": runs}
            for (workflow, kind), runs in sorted(self.injected.items())
        ]

    def usage_as_json(self) -> dict[str, Any]:
        """What the runs of this process took, by workflow; see ``WorkflowUsage``."""
        return {workflow: usage.to_json() for workflow, usage in sorted(self.usage.items())}
