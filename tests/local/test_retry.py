"""The platform's automatic retry: from the failed step, eight times over ten hours, with a price.

Source: the settings page of Pipedream's documentation, as the research on the platform has it.
"""

from __future__ import annotations

import itertools

import pytest

from deploy.local import events
from deploy.local.engines import Disturbance, InjectedError, InjectedKill
from deploy.local.flow import MAX_RETRIES, Ending
from deploy.local.platform import Platform, WorkflowResult
from deploy.local.tally import Tally
from tests.conftest import VirtualClock
from tests.local.conftest import AT_MS, MakeProject

HOUR_MS = 3_600_000
COUNTS = "runs = []\ndef handler(pd):\n    runs.append(1)\n    return len(runs)\n"
FAILS = "def handler(pd):\n    raise ValueError('broken')\n"
# Fails until it has been retried three times; tells what it saw of the attempt before.
RECOVERS = """
seen = []
def handler(pd):
    seen.append(pd.steps.get("step_1"))
    if len(seen) < 4:
        raise ValueError(f"attempt {len(seen)}")
    return seen
"""
LAST = "def handler(pd):\n    return pd.steps\n"


def begin(platform: Platform, *, auto_retry: bool = True) -> WorkflowResult:
    workflow = platform._project.workflow("loop")
    return platform.run_workflow(
        workflow,
        events.cron_event(workflow, AT_MS),
        events.context("test", workflow, AT_MS),
        auto_retry=auto_retry,
    )


def later(platform: Platform, clock: VirtualClock) -> list[WorkflowResult]:
    """What comes of all pauses, each at its time."""
    while (due_ms := platform.paused.next_due_ms()) is not None:
        clock.now_ms = due_ms
        platform.paused.end_due()
    return platform.take_continued()


def test_only_the_failed_step_and_those_after_it_run_again(
    make_project: MakeProject, virtual_clock: VirtualClock
) -> None:
    platform = Platform(make_project(loop=[COUNTS, RECOVERS, LAST]), {})
    first = begin(platform)
    *failed, recovered = later(platform, virtual_clock)
    assert [result.failed for result in [first, *failed, recovered]] == [True] * 3 + [False]
    steps = recovered.export_of("step_2")
    assert steps["step_0"] == {"$return_value": 1}  # it ran once; its export was kept
    before, *attempts = steps["step_1"]["$return_value"]
    assert before is None
    errors = [attempt["$attempt"]["error"] for attempt in attempts]
    assert errors == [{"name": "ValueError", "message": f"attempt {n}"} for n in (1, 2, 3)]
    assert set(attempts[0]["$attempt"]) == {"error", "cancel_url", "rerun_url", "resume_ts"}
    assert len({result.trace_id for result in [first, *failed, recovered]}) == 1
    assert first.credits == 1 and all(result.credits == 1 for result in failed)


def test_it_gives_up_after_eight_retries_within_ten_hours(
    make_project: MakeProject, virtual_clock: VirtualClock
) -> None:
    virtual_clock.now_ms = AT_MS
    platform = Platform(make_project(loop=[FAILS]), {})
    results = [begin(platform), *later(platform, virtual_clock)]
    assert MAX_RETRIES == 8 and len(results) == 9
    waits = [result.pause.milliseconds for result in results if result.pause is not None]
    assert sum(waits) == pytest.approx(10 * HOUR_MS)
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(waits))
    assert 0 <= virtual_clock.now_ms - AT_MS - 10 * HOUR_MS < 10
    assert len(platform.paused) == 0


def test_without_the_setting_nothing_is_retried(make_project: MakeProject) -> None:
    platform = Platform(make_project(loop=[FAILS]), {})
    assert begin(platform, auto_retry=False).pause is None
    assert len(platform.paused) == 0


def test_a_person_can_have_it_run_now_or_never(
    make_project: MakeProject, virtual_clock: VirtualClock
) -> None:
    for ending, reason in (("resumed", None), ("cancelled", "CANCELLED: pause=retry")):
        platform = Platform(make_project(loop=[FAILS]), {})
        waiting = begin(platform).pause
        assert waiting is not None
        go_on = platform.paused.answer(waiting.token, Ending(ending))  # type: ignore[arg-type]
        assert go_on is not None
        go_on()
        (result,) = platform.take_continued()
        assert result.failed == (reason is None)
        assert reason is None or str(result.exit_reason).startswith(reason)


def test_what_was_killed_is_not_retried_and_no_fault_of_the_run(
    make_project: MakeProject, virtual_clock: VirtualClock
) -> None:
    platform = Platform(make_project(loop=[COUNTS, LAST]), {})
    workflow, tally = platform._project.workflow("loop"), Tally()
    context = events.context("test", workflow, AT_MS)
    for what, error in (("kill", InjectedKill), ("fail", InjectedError)):
        result = platform.run_workflow(
            workflow,
            {},
            context,
            disturbance=Disturbance(what, "step_1"),  # type: ignore[arg-type]
            auto_retry=True,
        )
        assert result.failed_step is not None and type(result.failed_step.error) is error
        assert (result.pause is None) == (what == "kill")
        tally.add(result)
    assert tally.failed_runs == 0
    assert [row["error"] for row in tally.injected_as_json()] == ["InjectedError", "InjectedKill"]
