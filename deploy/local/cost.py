"""Credits a day on Pipedream, projected from what runs were measured to take.

A run costs ``ceil(seconds / 30) * ceil(MiB / 256)`` credits (https://pipedream.com/docs/pricing;
``deploy.local.results.price``). Seconds are those of the machine that measured, where stand-ins
answer at once: what the internet and a smaller share of a processor add is not in them, and
``margin_seconds`` tells how much of it a run may take before it costs a second segment. Seconds
are taken to be the same at each size of memory, though Pipedream gives more processor with more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.local.manifest import Project, Workflow
from deploy.local.results import MIB_A_CREDIT, SECONDS_A_SEGMENT
from deploy.local.scheduler import virtual_ticks
from shared.errors import ConfigurationError

MEMORIES_MIB = (256, 512, 1024)
CADENCES_MINUTES = (1, 2, 5)
DAY_MINUTES = 24 * 60
_MEASURED = ("runs", "seconds_p50", "seconds_p99", "seconds_max", "peak_mib", "runs_by_segments")


@dataclass(frozen=True)
class WorkflowCost:
    """The price of one scheduled workflow at its own schedule.

    Attributes:
        peak_mib: ``None`` where the runs had no process of their own, or the system that
            measured does not tell.
        segments_a_run: units of 30 s, the mean of the measured runs.
        margin_seconds: what the slowest of a hundred runs may take longer without costing more.
    """

    workflow: str
    runs_a_day: int
    runs_measured: int
    seconds_p50: float
    seconds_p99: float
    seconds_max: float
    peak_mib: float | None
    segments_a_run: float

    @property
    def margin_seconds(self) -> float:
        over = math.ceil(self.seconds_p99 / SECONDS_A_SEGMENT) * SECONDS_A_SEGMENT
        return over - self.seconds_p99

    def fits(self, memory_mib: int) -> bool | None:
        """Whether its processes stayed within ``memory_mib``; ``None`` where nobody measured."""
        return None if self.peak_mib is None else self.peak_mib <= memory_mib

    def credits_a_run(self, memory_mib: int) -> float:
        return self.segments_a_run * math.ceil(memory_mib / MIB_A_CREDIT)

    def credits_a_day(self, memory_mib: int, cadence_minutes: int = 1) -> float:
        """With no run oftener than every ``cadence_minutes``."""
        runs = min(self.runs_a_day, DAY_MINUTES // cadence_minutes)
        return runs * self.credits_a_run(memory_mib)


@dataclass(frozen=True)
class Cost:
    """The prices of all scheduled workflows; those that answer HTTP cost by the request."""

    workflows: tuple[WorkflowCost, ...]

    @property
    def floor_a_day(self) -> int:
        """Credits of one a run, below which the schedules as they are cannot go."""
        return sum(workflow.runs_a_day for workflow in self.workflows)

    @property
    def above_floor(self) -> tuple[str, ...]:
        """Workflows that cost more than one credit a run at 256 MiB."""
        return tuple(cost.workflow for cost in self.workflows if cost.segments_a_run > 1)

    def credits_a_day(self, memory_mib: int, cadence_minutes: int = 1) -> float:
        return sum(c.credits_a_day(memory_mib, cadence_minutes) for c in self.workflows)

    def to_json(self) -> dict[str, Any]:
        return {
            "workflows": {cost.workflow: _workflow_json(cost) for cost in self.workflows},
            "floor_a_day": self.floor_a_day,
            "above_floor": list(self.above_floor),
            "credits_a_day": {
                f"every {cadence} min": {
                    f"{memory} MiB": round(self.credits_a_day(memory, cadence), 1)
                    for memory in MEMORIES_MIB
                }
                for cadence in CADENCES_MINUTES
            },
        }


def project_cost(usage: Mapping[str, Any], project: Project) -> Cost:
    """The prices that the measured ``usage`` of a run's report gives.

    Raises:
        ConfigurationError: a scheduled workflow was not measured, or not as it should have been.
    """
    scheduled = [workflow for workflow in project.workflows if workflow.schedule is not None]
    return Cost(tuple(_cost(workflow, usage, scheduled) for workflow in scheduled))


def _cost(
    workflow: Workflow, usage: Mapping[str, Any], scheduled: Sequence[Workflow]
) -> WorkflowCost:
    measured = usage.get(workflow.name)
    if not isinstance(measured, Mapping) or not set(_MEASURED) <= set(measured):
        known = ", ".join(workflow.name for workflow in scheduled)
        raise ConfigurationError(
            f"usage.{workflow.name}: expected {', '.join(_MEASURED)} for each of {known}: "
            "a run of an hour or more that `trading-loop run --faithful --json FILE` has written"
        )
    segments = {int(count): runs for count, runs in measured["runs_by_segments"].items()}
    runs = sum(segments.values())
    if runs == 0:
        raise ConfigurationError(f"usage.{workflow.name}: runs: expected 1 or more, was 0")
    return WorkflowCost(
        workflow=workflow.name,
        runs_a_day=sum(1 for _ in virtual_ticks([workflow], 0, DAY_MINUTES * 60_000)),
        runs_measured=measured["runs"],
        seconds_p50=measured["seconds_p50"],
        seconds_p99=measured["seconds_p99"],
        seconds_max=measured["seconds_max"],
        peak_mib=measured["peak_mib"],
        segments_a_run=sum(count * number for count, number in segments.items()) / runs,
    )


def _workflow_json(cost: WorkflowCost) -> dict[str, Any]:
    return {
        "runs_a_day": cost.runs_a_day,
        "runs_measured": cost.runs_measured,
        "seconds_p50": cost.seconds_p50,
        "seconds_p99": cost.seconds_p99,
        "seconds_max": cost.seconds_max,
        "margin_seconds": round(cost.margin_seconds, 3),
        "peak_mib": cost.peak_mib,
        "by_memory": {
            f"{memory} MiB": {
                "fits": cost.fits(memory),
                "credits_a_run": round(cost.credits_a_run(memory), 3),
                "credits_a_day": round(cost.credits_a_day(memory), 1),
            }
            for memory in MEMORIES_MIB
        },
    }
