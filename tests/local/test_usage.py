"""What runs took, added up by workflow."""

from __future__ import annotations

from dataclasses import replace

from deploy.local.platform import StepResult, WorkflowResult
from deploy.local.results import Usage
from deploy.local.usage import WorkflowUsage

STEP = StepResult("first", 1.0, "{}", "")
RUN = WorkflowResult("one", "t", (STEP,), None, None, (), 0.5, False, 0, 1)


def test_the_largest_of_the_processes_counts() -> None:
    usage = WorkflowUsage()
    for peak_kib in (2048, 4096, 1024):
        usage.add(replace(RUN, usage=Usage(cold=peak_kib == 2048, peak_kib=peak_kib)))
    told = usage.to_json()
    assert (told["runs"], told["cold_starts"], told["peak_mib"]) == (3, 1, 4.0)


def test_memory_that_the_system_does_not_tell_is_unknown_and_not_none_at_all() -> None:
    usage = WorkflowUsage()
    usage.add(replace(RUN, usage=Usage(cold=True, peak_kib=None)))
    told = usage.to_json()
    assert (told["cold_starts"], told["peak_mib"]) == (1, None)


def test_a_run_without_a_process_or_without_a_step_took_no_memory() -> None:
    usage = WorkflowUsage()
    usage.add(RUN)
    usage.add(replace(RUN, steps=()))  # cancelled while it paused
    told = usage.to_json()
    assert (told["runs"], told["cold_starts"], told["peak_mib"]) == (1, 0, None)
