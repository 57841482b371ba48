"""Pauses of a run. Expected behaviour is what Pipedream's documentation says of Python steps:
pages ``code/python/delay`` and ``code/python/rerun``."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import requests
from rich.console import Console

from deploy.local import events
from deploy.local.events import Request
from deploy.local.flow import Ending
from deploy.local.http import HttpWorkflows
from deploy.local.manifest import Project, Workflow
from deploy.local.pd import RespondError
from deploy.local.platform import Platform
from deploy.local.replay import Replay, ReplayOptions
from deploy.local.results import WorkflowResult
from deploy.local.session import LocalSession, SessionOptions
from deploy.local.tally import Tally
from tests.conftest import VirtualClock
from tests.local.conftest import AT_MS, MakeProject, run_on, spec

_SEEN = "def handler(pd):\n    return {'steps': pd.steps, 'context': pd.context}\n"
_DAY_MS = 24 * 60 * 60 * 1000


def _step(*lines: str) -> str:
    return "def handler(pd):\n" + "".join(f"    {line}\n" for line in lines)


class Pauses:
    """A platform on a clock that the test moves."""

    def __init__(self, project: Project, clock: VirtualClock) -> None:
        self.platform = Platform(project, {})
        self.clock = clock
        self.first = run_on(self.platform, project.workflow("loop"))

    def after(self, milliseconds: int) -> list[WorkflowResult]:
        """The segments that ran until then."""
        self.clock.advance(milliseconds=milliseconds)
        self.platform.paused.end_due()
        return self.platform.take_continued()

    def answer(self, how: Any, request: dict[str, Any] | None = None) -> list[WorkflowResult]:
        assert self.first.pause is not None
        go_on = self.platform.paused.answer(self.first.pause.token, Ending(how, request))
        assert go_on is not None
        go_on()
        return self.platform.take_continued()


@pytest.fixture
def pauses(make_project: MakeProject, virtual_clock: VirtualClock) -> Any:
    return lambda *steps: Pauses(make_project(loop=list(steps)), virtual_clock)


def test_delay_lets_the_step_end_and_the_next_one_come_later(pauses: Any) -> None:
    loop = pauses(_step("links = pd.flow.delay(60_000)", "return {'after': sorted(links)}"), _SEEN)
    assert loop.first.export_of("step_0") == {"after": ["cancel_url", "resume_url"]}
    assert loop.first.pause.kind == "delay" and len(loop.first.steps) == 1
    assert loop.platform.paused.next_due_ms() == loop.clock.now_ms + 60_000
    assert loop.after(59_999) == []
    (second,) = loop.after(1)
    assert [step.namespace for step in second.steps] == ["step_1"]
    assert second.export_of("step_1")["steps"]["step_0"] == {
        "$return_value": {"after": ["cancel_url", "resume_url"]}
    }
    assert len(loop.platform.paused) == 0 and loop.platform.paused.next_due_ms() is None


def test_a_segment_has_its_own_id_and_price_and_the_same_trace(pauses: Any) -> None:
    loop = pauses(_step("pd.flow.delay(1)", "return pd.steps['trigger']['context']"), _SEEN)
    (second,) = loop.after(1)
    before = loop.first.export_of("step_0")
    after = second.export_of("step_1")["steps"]["trigger"]["context"]
    assert after["id"] != before["id"]
    assert after | {"id": before["id"]} == before
    assert second.trace_id == loop.first.trace_id == before["trace_id"]
    assert (loop.first.segment, second.segment) == (1, 2)
    # "using pd.flow.delay in a workflow will incur two credits"
    tally = Tally()
    for result in (loop.first, second):
        tally.add(result)
    assert (tally.runs["loop"], tally.credits["loop"]) == (1, 2)


def test_the_last_of_several_delays_holds(pauses: Any) -> None:
    loop = pauses(_step("pd.flow.delay(1)", "pd.flow.delay(500)"), _SEEN)
    assert loop.after(499) == [] and len(loop.after(1)) == 1


def test_a_link_resumes_early_and_its_request_is_resume_data(pauses: Any) -> None:
    loop = pauses(_step("pd.flow.delay(60_000)", "return 1"), _SEEN)
    (second,) = loop.answer("resumed", {"body": {"approved": True}})
    assert second.export_of("step_1")["steps"]["step_0"] == {
        "$return_value": 1,
        "$resume_data": {"body": {"approved": True}},
    }
    assert loop.after(60_000) == []  # once


def test_suspend_waits_a_day_and_is_cancelled_then(pauses: Any) -> None:
    loop = pauses(_step("pd.flow.suspend()"), _SEEN)
    assert loop.after(_DAY_MS - 1) == []
    (end,) = loop.after(1)
    assert end.steps == () and end.credits == 0
    assert end.exit_reason == "CANCELLED: pause=suspend, by=timeout"


def test_suspend_goes_on_when_resumed(pauses: Any) -> None:
    loop = pauses(_step("pd.flow.suspend(timeout_ms=1000)"), _SEEN)
    (second,) = loop.answer("resumed", {"body": "yes"})
    assert second.export_of("step_1")["steps"]["step_0"] == {"$resume_data": {"body": "yes"}}


@pytest.mark.parametrize("call", ["delay(9)", "suspend(9)", "rerun(9)"])
def test_cancel_ends_the_run(pauses: Any, call: str) -> None:
    loop = pauses(_step(f"pd.flow.{call}"), _SEEN)
    (end,) = loop.answer("cancelled")
    kind = call.partition("(")[0]
    assert end.exit_reason == f"CANCELLED: pause={kind}, by=cancel_url"
    assert loop.after(9) == [] and not end.failed


def test_rerun_counts_and_hands_over_its_context(pauses: Any) -> None:
    step = _step(
        "run = pd.context['run']",
        "if run['runs'] < 3: pd.flow.rerun(10, {'hello': run['runs']})",
        "return run",
    )
    loop = pauses(step, _SEEN)
    assert loop.first.export_of("step_0") == {"runs": 1}
    (second,) = loop.after(10)
    assert second.export_of("step_0") == {"runs": 2, "context": {"hello": 1}}
    (third,) = loop.after(10)
    expected = {"runs": 3, "context": {"hello": 2}}
    assert third.export_of("step_0") == expected
    seen = third.export_of("step_1")
    assert seen["steps"]["step_0"]["$return_value"] == expected  # of the last run only
    assert seen["context"]["run"] == {"runs": 1}


def test_a_callback_reruns_at_once(pauses: Any) -> None:
    step = _step(
        "run = pd.context['run']",
        "if 'callback_request' in run: return run['callback_request']",
        "pd.flow.rerun(86_400_000, None, 1)",
    )
    (second,) = pauses(step).answer("resumed", {"body": {"status": "DONE"}})
    assert second.export_of("step_0") == {"body": {"status": "DONE"}}


@pytest.mark.parametrize(("argument", "reruns"), [("", 10), (", None, 3", 3), (", None, 0", 0)])
def test_after_max_retries_the_next_step_follows(pauses: Any, argument: str, reruns: int) -> None:
    loop = pauses(_step(f"pd.flow.rerun(1{argument})", "return pd.context['run']['runs']"), _SEEN)
    results = [loop.first]
    while results[-1].pause is not None:
        results += loop.after(1)
    assert len(results) == reruns + 1
    last = results[-1]
    assert [step.namespace for step in last.steps] == ["step_0", "step_1"]
    assert last.export_of("step_1")["steps"]["step_0"]["$return_value"] == reruns + 1
    assert len(loop.platform.paused) == 0


@pytest.mark.parametrize("last", ["raise ValueError('x')", "pd.flow.exit('enough')"])
def test_an_error_or_exit_leaves_nothing_to_wait_for(pauses: Any, last: str) -> None:
    loop = pauses(_step("pd.flow.delay(1)", last), _SEEN)
    assert loop.first.pause is None and len(loop.platform.paused) == 0
    assert loop.after(1) == []


@pytest.mark.parametrize(
    "call",
    [
        "delay(-1)",
        "delay(float('nan'))",
        "delay('60')",
        "delay(True)",
        "delay(366 * 86_400_000)",
        "suspend(None)",
        "rerun(1, None, -1)",
        "rerun(1, {1, 2})",
    ],
)
def test_wrong_arguments_fail_the_step(pauses: Any, call: str) -> None:
    loop = pauses(_step(f"pd.flow.{call}"))
    assert isinstance(loop.first.failed_step.error, (ValueError, TypeError))
    assert "expected" in str(loop.first.failed_step.error) and len(loop.platform.paused) == 0


_RESPOND = "pd.respond({'status': 200, 'body': 'x'})"


def test_no_respond_after_a_delay(pauses: Any) -> None:
    same_step = pauses(_step("pd.flow.delay(1)", _RESPOND))
    assert isinstance(same_step.first.failed_step.error, RespondError)
    for call in ("delay(1)", "suspend(1)", "rerun(1, None, 1)"):
        loop = pauses(_step(f"pd.flow.{call}"), _step(_RESPOND))
        (second,) = loop.answer("resumed", {})
        assert isinstance(second.failed_step.error, RespondError)
        assert second.response is None
    first = pauses(_step(_RESPOND, "pd.flow.delay(1)")).first
    assert first.failed_step is None and first.response.status == 200


def test_a_segment_may_carry_the_whole_payload_again(pauses: Any) -> None:
    half = _step("print('x' * 4_000_000)", "pd.flow.rerun(1, None, 2)")
    loop = pauses(half)
    for _ in range(2):
        assert loop.after(1)[0].failed_step is None


# Over HTTP


_ASK = _step("links = pd.flow.suspend()", "print(links['resume_url'])", "return links")


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    triggers = {"ask": {"type": "http", "method": "POST", "path": "/ask"}}
    return make_project(loop=[_ASK, _SEEN], ask=[_ASK, _SEEN], triggers=triggers)


@pytest.fixture
def platform(project: Project) -> Platform:
    return Platform(project, {})


@pytest.fixture
def server(project: Project, platform: Platform) -> Iterator[HttpWorkflows]:
    def serve(workflow: Workflow, request: Request) -> WorkflowResult:
        context = events.context("test", workflow, AT_MS, key="1")
        return platform.run_workflow(workflow, events.http_event(request), context)

    with HttpWorkflows(project, serve, port=0, paused=platform.paused) as started:
        yield started


def _wait_for(platform: Platform) -> WorkflowResult:
    """The segment that another thread runs; it has been started when this is called."""
    done = threading.Event()
    for _ in range(500):
        if taken := platform.take_continued():
            return taken[0]
        done.wait(0.01)
    raise AssertionError("no segment came")


def test_resume_url_goes_on_with_what_was_sent(
    project: Project, platform: Platform, server: HttpWorkflows
) -> None:
    links = run_on(platform, project.workflow("loop")).export_of("step_0")
    assert links["resume_url"].startswith(f"{server.url}/_flow/")
    answer = requests.post(links["resume_url"], json={"approved": True}, timeout=5)
    assert answer.status_code == 200
    data = _wait_for(platform).export_of("step_1")["steps"]["step_0"]["$resume_data"]
    assert data["body"] == {"approved": True} and data["method"] == "POST"
    again = requests.get(links["resume_url"], timeout=5)
    assert again.status_code == 404


def test_cancel_url_and_links_that_lead_nowhere(
    project: Project, platform: Platform, server: HttpWorkflows
) -> None:
    links = run_on(platform, project.workflow("loop")).export_of("step_0")
    for url in (f"{server.url}/_flow/x/resume", links["resume_url"].replace("resume", "look")):
        assert requests.get(url, timeout=5).status_code == 404
    foreign = requests.get(links["cancel_url"], headers={"Host": "evil.example"}, timeout=5)
    assert foreign.status_code == 403
    assert requests.get(links["cancel_url"], timeout=5).status_code == 200
    ended = _wait_for(platform)
    assert ended.exit_reason == "CANCELLED: pause=suspend, by=cancel_url"


def test_a_client_is_answered_when_the_run_pauses(
    platform: Platform, server: HttpWorkflows
) -> None:
    answer = requests.post(f"{server.url}/ask", timeout=5)
    assert answer.status_code == 400
    assert answer.text == "$.respond() not called for this invocation\n"
    assert len(platform.paused) == 1


def test_a_link_may_be_called_before_its_step_has_ended(
    make_project: MakeProject,
) -> None:
    step = "import requests\n" + _step(
        "requests.post(pd.flow.suspend()['resume_url'], data='soon', timeout=5)"
    )
    project = make_project(loop=[step, _SEEN])
    platform = Platform(project, {})
    with HttpWorkflows(project, lambda *_: None, port=0, paused=platform.paused):  # type: ignore[arg-type,return-value]
        run_on(platform, project.workflow("loop"))
    (second,) = platform.take_continued()
    seen = second.export_of("step_1")["steps"]["step_0"]["$resume_data"]
    assert seen["body"] == "soon" and len(platform.paused) == 0


def test_without_a_server_there_are_no_links(project: Project) -> None:
    links = run_on(Platform(project, {}), project.workflow("loop")).export_of("step_0")
    assert links == {"resume_url": None, "cancel_url": None}


# In a session


@pytest.mark.usefixtures("fake_wire")
def test_a_session_goes_on_at_the_time_and_holds_up_no_tick(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    now = "from shared import clock\n"
    slow = _step("if pd.steps['trigger']['event']['timestamp'] % 120: return")
    slow += "    pd.flow.delay(90_000)\n"
    project = make_project(loop=[slow, now + _step("return clock.now_ms()")])
    options = SessionOptions(spec=spec(5), database="replay_flow", fresh=True, root=project.root)
    times: list[int] = []
    with LocalSession(options, variables) as session:
        for minute in range(5):
            at_ms = AT_MS + 60_000 * minute
            result = session.run_workflow("loop", at_ms)
            assert session.now_ms == at_ms
            assert (result.pause is not None) == (minute % 2 == 0)
            times += [r.export_of("step_1") for r in session.platform.take_continued()]
        wire = session.wire.advanced  # type: ignore[attr-defined]
        assert wire == sorted(wire)
    assert times == [AT_MS + 90_000, AT_MS + 210_000]


@pytest.mark.usefixtures("fake_wire")
def test_a_replay_counts_what_came_after_pauses(
    make_project: MakeProject, variables: dict[str, str]
) -> None:
    fails = _step("raise ValueError(pd.context['run']['runs'])")
    project = make_project(loop=[_step("pd.flow.delay(90_000)"), fails])
    stretch, printed = spec(4), io.StringIO()
    options = ReplayOptions(stretch, "conservative", Decimal(1000), "none", None, False)
    database = SessionOptions(spec=stretch, database="replay_flow", fresh=True, root=project.root)
    with LocalSession(database, variables) as session:
        outcome = Replay(session, options, Console(file=printed, width=120)).run()
    assert outcome.report["runs"] == {"loop": 4}
    assert outcome.report["credits"]["loop"] == 4 + 3  # at 1:30, 2:30 and 3:30
    assert outcome.report["failures"] == [
        {"workflow": "loop", "error": "step_1: ValueError: 1", "runs": 3}
    ]
    assert "1 runs still wait for the end of a pause." in printed.getvalue()
