"""How a run went, and its price."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from deploy.local.flow import Pause
from deploy.local.pd import Response

JsonObject = dict[str, Any]

SECONDS_A_SEGMENT = 30
MIB_A_CREDIT = 256


@dataclass(frozen=True)
class Usage:
    """What a run took of its process.

    Attributes:
        cold: the process was started for this run.
        peak_kib: the largest resident size of the process in its life so far; ``None`` where
            the system does not tell.
    """

    cold: bool
    peak_kib: int | None


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
    """How one run went, or one segment of a run that paused.

    Attributes:
        steps: the steps that ran in it, in order.
        exit_reason: what ``pd.flow.exit`` was given, or why a pause was not followed by more;
            ``None`` where neither holds.
        overran: it took longer than the workflow's timeout; Pipedream would have killed it.
        credits: its price on Pipedream.
        segment: 1, and one more after each pause of the run.
        pause: why the run did not go on here; a later segment does.
        usage: of its process; ``None`` where it had none of its own, in the fast mode.
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
    segment: int = 1
    pause: Pause | None = None
    usage: Usage | None = None

    @property
    def failed(self) -> bool:
        """Whether Pipedream would report an error: of a step, or of the timeout."""
        return self.overran or self.failed_step is not None

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
    return segments(seconds) * math.ceil(memory_mib / MIB_A_CREDIT)


def segments(seconds: float) -> int:
    """The units of 30 s that a run is charged for; one that took no time costs one."""
    return max(1, math.ceil(seconds / SECONDS_A_SEGMENT))


def cancelled(
    workflow: str, trace_id: str, segment: int, pause: Pause, cause: str
) -> WorkflowResult:
    """A run that ended with its pause. Nothing ran in this segment, so it costs nothing."""
    return WorkflowResult(
        workflow=workflow,
        trace_id=trace_id,
        steps=(),
        exit_reason=f"CANCELLED: pause={pause.kind}, by={cause}",
        response=None,
        emails=(),
        seconds=0.0,
        overran=False,
        payload_bytes=0,
        credits=0,
        segment=segment,
    )
