"""What the runs of a workflow took: seconds, memory, cold starts. The base of a price."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploy.local.results import WorkflowResult, segments


@dataclass
class WorkflowUsage:
    """Adds up the runs of one workflow, later segments of a paused run as runs of their own.

    Attributes:
        seconds: of each run, by the machine's monotonic clock; one that was made to stand still
            on purpose counts with that time.
        peak_kib: the largest of its processes; ``None`` where no process was its own, or
            the system does not tell.
    """

    seconds: array[float] = field(default_factory=lambda: array("d"))
    cold_seconds: array[float] = field(default_factory=lambda: array("d"))
    peak_kib: int | None = None

    def add(self, result: WorkflowResult) -> None:
        if not result.steps:
            return  # a run that was cancelled while it paused: nothing ran
        self.seconds.append(result.seconds)
        if result.usage is None:
            return
        if result.usage.peak_kib is not None:
            self.peak_kib = max(self.peak_kib or 0, result.usage.peak_kib)
        if result.usage.cold:
            self.cold_seconds.append(result.seconds)

    def to_json(self) -> dict[str, Any]:
        """Percentiles of seconds, MiB, and how many runs took how many segments of 30 s."""
        took = Counter(segments(seconds) for seconds in self.seconds)
        return {
            "runs": len(self.seconds),
            "seconds_p50": _percentile(self.seconds, 50),
            "seconds_p99": _percentile(self.seconds, 99),
            "seconds_max": _percentile(self.seconds, 100),
            "cold_starts": len(self.cold_seconds),
            "cold_seconds_p50": _percentile(self.cold_seconds, 50),
            "peak_mib": None if self.peak_kib is None else round(self.peak_kib / 1024, 1),
            "runs_by_segments": {str(count): took[count] for count in sorted(took)},
        }


def _percentile(seconds: array[float], percent: float) -> float | None:
    return round(float(np.percentile(seconds, percent)), 4) if seconds else None
