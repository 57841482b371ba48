"""Steps in processes of their own: what ``pd`` does there, and what kills them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local import events, manifest
from deploy.local.engines import Disturbance, InjectedError, InjectedKill, StepKilled
from deploy.local.faithful import engine as engine_module
from deploy.local.faithful.engine import FaithfulEngine, StepFailed
from deploy.local.faithful.process import StepProcess
from deploy.local.flow import Ending
from deploy.local.manifest import Project
from deploy.local.platform import Platform, WorkflowResult
from deploy.pipedream import build
from shared.errors import DataUnavailable
from tests.conftest import VirtualClock

AT_MS = 1_748_000_040_000

FILES = {
    "pipedream.yaml": """\
name: small
runtime: python3.12
workflows: [one]
limits: {payload_bytes: 2000, memory_mib: 256}
accounts: [postgresql]
packages: requirements/runtime.in
pods: [main]
""",
    "workflows/one.yaml": """\
name: one
description: Two steps.
trigger: {type: cron, cron: "* * * * *"}
settings: {timeout_seconds: 60, memory_mib: 128}
steps:
  - {namespace: first, file: steps/first.py, accounts: [postgresql], data_stores: [notes]}
  - {namespace: second, file: steps/second.py}
""",
    "requirements/runtime.in": "",
    "requirements/runtime.txt": "",
    "shared/__init__.py": "",
    "shared/clock.py": (Path(__file__).parents[3] / "shared" / "clock.py").read_text(),
    "shared/memory.py": "runs = []\n",
    "shared/errors.py": "class DataUnavailable(Exception):\n    pass\n",
    "steps/second.py": 'def handler(pd: "pipedream"):\n    return pd.steps["first"]\n',
}
HEAD = """\
import os
from shared import clock, errors, memory


def handler(pd: "pipedream"):
    memory.runs.append(1)
"""
Start = Callable[..., Platform]


@pytest.fixture
def start(tmp_path: Path, virtual_clock: VirtualClock) -> Iterator[Start]:
    engines: list[FaithfulEngine] = []

    def begin(body: str, *, timeout_s: int = 60, **options: Any) -> Platform:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        project = _project(tmp_path, HEAD + lines, timeout_s)
        built = build.build(project)
        build.write(built, tmp_path / "bundles")
        engine = FaithfulEngine(
            Path(sys.executable), built, tmp_path / "bundles", {"POD": "main"}, **options
        )
        engines.append(engine)
        auth = {"postgresql": {"user": "u", "password": "p"}}
        return Platform(project, auth, engine)

    virtual_clock.now_ms = AT_MS
    yield begin
    for engine in engines:
        engine.close()


def _project(folder: Path, step: str, timeout_s: int) -> Project:
    for name, written in (FILES | {"steps/first.py": step}).items():
        text = written.replace("timeout_seconds: 60", f"timeout_seconds: {timeout_s}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return manifest.load(folder)


def run(platform: Platform, at_ms: int = AT_MS) -> WorkflowResult:
    workflow = platform._project.workflow("one")
    return platform.run_workflow(
        workflow, events.cron_event(workflow, at_ms), events.context("main", workflow, at_ms)
    )


def engine_of(platform: Platform) -> FaithfulEngine:
    engine = platform._engine
    assert isinstance(engine, FaithfulEngine)
    return engine


def test_exports_reach_the_next_step_as_copies(start: Start) -> None:
    result = run(start('print("said")\npd.export("more", [1, 2])\nreturn {"a": 1}'))
    assert result.export_of("second") == {"$return_value": {"a": 1}, "more": [1, 2]}
    assert result.steps[0].logs == "said\n"
    assert not result.failed


def test_the_trigger_the_accounts_and_the_time_are_what_the_platform_gives(start: Start) -> None:
    body = 'return [pd.steps["trigger"]["event"]["timestamp"], pd.inputs, pd.context["run"]]'
    platform = start('notes = pd.inputs.pop("notes")\n' + body + " + [clock.now_ms()]")
    inputs = {"postgresql": {"$auth": {"user": "u", "password": "p"}}}
    expected = [AT_MS // 1000, inputs, {"runs": 1}, AT_MS]
    assert run(platform).export_of("first") == expected


def test_the_environment_is_what_was_declared_and_nothing_else(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of this machine")
    environment = run(start("return dict(os.environ)")).export_of("first")
    assert environment.pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"  # Python sets it for itself
    assert sorted(environment) == ["HOME", "LANG", "PATH", "POD", "TMPDIR"]
    assert environment["POD"] == "main"


def test_exit_does_not_stop_the_step_but_the_run(start: Start) -> None:
    result = run(start('pd.flow.exit("enough")\npd.export("after", True)'))
    assert result.exit_reason == "enough"
    assert result.steps[0].exports == {"after": True}
    assert [step.namespace for step in result.steps] == ["first"]


def test_a_delay_begins_after_the_step(start: Start, virtual_clock: VirtualClock) -> None:
    platform = start('pd.flow.delay(1000)\nreturn "before"')
    result = run(platform)
    assert result.pause is not None
    assert len(result.steps) == 1
    virtual_clock.advance(seconds=1)
    platform.paused.end_due()
    (continued,) = platform.take_continued()
    assert continued.export_of("second") == {"$return_value": "before"}


def test_a_rerun_counts_and_carries_its_context(start: Start, virtual_clock: VirtualClock) -> None:
    platform = start(
        'now = pd.context["run"]\n'
        'if now["runs"] < 3:\n    pd.flow.rerun(10, {"seen": now["runs"]})\nreturn now'
    )
    run(platform)
    for _ in range(2):
        virtual_clock.advance(seconds=1)
        platform.paused.end_due()
    first, second = platform.take_continued()
    assert first.export_of("first") == {"runs": 2, "context": {"seen": 1}}
    assert second.export_of("first") == {"runs": 3, "context": {"seen": 2}}


def test_a_data_store_lives_outside_of_the_process(start: Start) -> None:
    platform = start(
        'notes = pd.inputs["notes"]\n'
        'seen = [notes.get("n", 0), "n" in notes, len(notes), sorted(notes.keys())]\n'
        'notes["n"] = seen[0] + 1\n'
        "try:\n"
        '    notes["absent"]\n'
        "except TypeError as error:\n"
        '    seen.append("no value" in str(error))\n'
        "return seen"
    )
    assert run(platform).export_of("first") == [0, False, 0, [], True]
    engine_of(platform).close()
    assert run(platform).export_of("first") == [1, True, 1, ["n"], True]


def test_an_answer_goes_out_by_pd_respond(start: Start) -> None:
    result = run(start('pd.respond({"status": 201, "body": b"\\xff"})'))
    assert result.response is not None
    assert (result.response.status, result.response.body) == (201, b"\xff")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ('raise errors.DataUnavailable("x: was 1")', DataUnavailable, "x: was 1"),
        ('raise LookupError("elsewhere")', StepFailed, "LookupError: elsewhere"),
        ('return {"x": float("nan")}', StepFailed, "ExportError: steps.first.*finite number"),
        ("return {1: 2}", StepFailed, "ExportError: .*keys that are strings"),
        ("return object()", StepFailed, "ExportError: .*builtins.object"),
        ('pd.respond({"body": 1})', StepFailed, "ValueError|expected status"),
        ("import leftpad", StepFailed, "import gate"),
    ],
)
def test_an_error_is_told_with_its_kind(
    start: Start, body: str, kind: type[Exception], text: str
) -> None:
    if "leftpad" in body:
        with pytest.raises(Exception, match=text):
            start(body)
        return
    failed = run(start(body)).failed_step
    assert failed is not None
    assert type(failed.error) is kind
    with pytest.raises(kind, match=text):
        raise failed.error  # type: ignore[misc]


def test_a_traceback_names_the_source(start: Start) -> None:
    failed = run(start('raise LookupError("elsewhere")')).failed_step
    assert failed is not None
    assert failed.traceback is not None
    assert 'File "steps/first.py", line 7, in handler' in failed.traceback
    assert 'raise LookupError("elsewhere")' in failed.traceback


def test_what_is_too_large_together_fails(start: Start) -> None:
    failed = run(start('return "x" * 1500')).failed_step
    assert failed is not None
    assert "expected at most 2000 bytes" in str(failed.error)


def test_a_run_that_takes_too_long_is_killed_at_its_line(start: Start) -> None:
    platform = start("while True:\n    pass", timeout_s=2)
    result = run(platform)
    assert result.overran
    assert result.failed_step is not None
    assert isinstance(result.failed_step.error, StepKilled)
    assert "timeout: 2 s" in str(result.failed_step.error)
    assert engine_of(platform).tallies["one"].killed == 1


def test_a_run_that_takes_too_much_memory_is_killed(start: Start) -> None:
    failed = run(start("held = bytearray(200 << 20)\nreturn len(held)")).failed_step
    assert failed is not None
    assert isinstance(failed.error, StepKilled)
    assert "memory: expected at most 128 MiB" in str(failed.error)


def test_what_the_engine_itself_holds_is_not_counted(start: Start) -> None:
    held = bytearray(200 << 20)  # of this process; what it starts begins as a copy of it
    platform = start("return 1")
    assert run(platform).export_of("first") == 1
    assert engine_of(platform).tallies["one"].peak_kib < 64 * 1024
    assert len(held) == 200 << 20


def test_a_warm_process_remembers_and_a_cold_one_does_not(
    start: Start, virtual_clock: VirtualClock
) -> None:
    platform = start("return len(memory.runs)")
    assert [run(platform).export_of("first") for _ in range(2)] == [1, 2]
    virtual_clock.advance(seconds=5 * 60)
    assert run(platform).export_of("first") == 3
    virtual_clock.advance(seconds=5 * 60 + 1)
    assert run(platform).export_of("first") == 1
    assert engine_of(platform).tallies["one"].cold == 2


def test_two_runs_at_once_have_two_processes(start: Start) -> None:
    engine = engine_of(start("return 1"))
    workflow = manifest.load(engine.folder.parent).workflow("one")
    one, two = engine.begin(workflow), engine.begin(workflow)
    assert one.process.popen.pid != two.process.popen.pid
    engine.end(one)
    engine.end(two)


def disturbed(platform: Platform, what: Any, line: int, **options: Any) -> WorkflowResult:
    """A run to which something happens at a line of its first step."""
    workflow = platform._project.workflow("one")
    hold = options.pop("hold", lambda: None)
    return platform.run_workflow(
        workflow,
        events.cron_event(workflow, AT_MS),
        events.context("main", workflow, AT_MS),
        disturbance=Disturbance(what, "first", line, hold=hold),
        **options,
    )


def test_a_kill_at_a_line_ends_the_run_and_the_next_one_starts_cold(start: Start) -> None:
    platform = start(
        "memory.runs.append(2)\npd.inputs['notes']['line'] = 2\nreturn len(memory.runs)"
    )
    killed = disturbed(platform, "kill", 3).failed_step
    assert killed is not None
    assert isinstance(killed.error, InjectedKill)
    assert not platform._data_stores["notes"]
    assert run(platform).export_of("first") == 2
    tally = engine_of(platform).tallies["one"]
    assert (tally.cold, tally.killed) == (2, 0)  # killed counts what broke a limit


def test_an_error_at_a_line_is_retried_with_the_same_trace_and_in_a_new_execution(
    start: Start, virtual_clock: VirtualClock
) -> None:
    """Up to eight retries over ten hours, from the failed step: the platform's documentation."""
    platform = start(
        'earlier = pd.steps.get("first", {}).get("$attempt")\n'
        'return [pd.context["id"], pd.context["trace_id"], earlier and earlier["error"]["name"]]'
    )
    run(platform)  # in a warm process only the lines of the handler are left
    failed = disturbed(platform, "fail", 2, auto_retry=True)
    assert failed.failed_step is not None
    assert isinstance(failed.failed_step.error, InjectedError)
    assert "steps/first.py, line 7" in str(failed.failed_step.error)
    assert failed.pause is not None and failed.pause.kind == "retry"
    virtual_clock.advance(milliseconds=failed.pause.milliseconds + 1)
    platform.paused.end_due()
    (again,) = platform.take_continued()
    execution, trace, name = again.export_of("first")
    first = events.context("main", platform._project.workflow("one"), AT_MS)
    assert (trace, name) == (first["trace_id"], "InjectedError")
    assert execution != first["id"]
    assert again.segment == 2 and again.credits == 1 and not again.failed


def test_the_time_goes_on_while_a_run_stands_still(
    start: Start, virtual_clock: VirtualClock
) -> None:
    platform = start("before = clock.now_ms()\nafter = clock.now_ms()\nreturn [before, after]")
    run(platform)
    result = disturbed(platform, "hold", 4, hold=lambda: virtual_clock.advance(seconds=61))
    assert result.export_of("first") == [AT_MS, AT_MS + 61_000]
    assert not result.overran


def test_the_time_that_a_run_stands_still_does_not_end_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step goes on until the engine has looked at its time."""
    looked, look, read = tmp_path / "looked", engine_module._look, time.perf_counter

    def look_and_tell(*arguments: Any) -> str | None:
        reason = look(*arguments)
        looked.touch()
        return reason

    def stand() -> None:
        looked.unlink()
        monkeypatch.setattr(time, "perf_counter", lambda: read() + 100)

    monkeypatch.setattr(engine_module, "_look", look_and_tell)
    body = f"begun = True\nwhile not os.path.exists({str(looked)!r}):\n    pass\nreturn 1"
    platform = start(body, timeout_s=30)
    run(platform)
    assert disturbed(platform, "hold", 2, hold=stand).export_of("first") == 1


def test_a_line_that_is_never_reached_disturbs_nothing(start: Start) -> None:
    asked = Disturbance("kill", "first", 1_000)
    platform = start("return 1")
    workflow = platform._project.workflow("one")
    result = platform.run_workflow(
        workflow, {}, events.context("main", workflow, AT_MS), disturbance=asked
    )
    assert result.export_of("first") == 1
    assert not asked.happened


def test_what_a_run_took_is_told(start: Start) -> None:
    platform = start("return len(memory.runs)")
    first, second = run(platform).usage, run(platform).usage
    assert first is not None and second is not None
    assert (first.cold, second.cold) == (True, False)
    assert first.peak_kib is not None and second.peak_kib is not None
    assert 4 * 1024 < first.peak_kib <= second.peak_kib < 64 * 1024


def test_memory_that_the_system_does_not_tell_is_unknown(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where there is no ``/proc``: else 256 MiB would be told to be enough."""
    receive = StepProcess.receive

    def untold(self: StepProcess, look: Callable[[], str | None]) -> dict[str, Any] | str:
        message = receive(self, look)
        if isinstance(message, dict) and "done" in message:
            message["done"]["peak_kib"] = 0
        return message

    monkeypatch.setattr(StepProcess, "receive", untold)
    monkeypatch.setattr(StepProcess, "resident_kib", lambda self: 0)
    usage = run(start("return 1")).usage
    assert usage is not None and usage.peak_kib is None


def test_scratch_files_stay_for_a_warm_run_and_are_gone_for_a_cold_one(
    start: Start, virtual_clock: VirtualClock
) -> None:
    """``/tmp`` may survive or vanish between runs: a step must stand both."""
    platform = start(
        "import tempfile\n"
        "found = sorted(os.listdir(tempfile.gettempdir()))\n"
        'open(os.path.join(tempfile.gettempdir(), "left"), "w").close()\n'
        "return found"
    )
    assert [run(platform).export_of("first") for _ in range(2)] == [[], ["left"]]
    virtual_clock.advance(seconds=5 * 60 + 1)
    assert run(platform).export_of("first") == []


def test_a_suspension_ends_with_its_link_and_hands_over_the_call(
    start: Start, virtual_clock: VirtualClock
) -> None:
    platform = start("links = pd.flow.suspend(60_000)\nreturn sorted(links)")
    suspended = run(platform)
    assert suspended.export_of("first") == ["cancel_url", "resume_url"]
    assert suspended.pause is not None
    go_on = platform.paused.answer(suspended.pause.token, Ending("resumed", {"body": "yes"}))
    assert go_on is not None
    go_on()
    (resumed,) = platform.take_continued()
    assert resumed.export_of("second")["$resume_data"] == {"body": "yes"}


def test_a_suspension_that_nobody_ends_is_cancelled(
    start: Start, virtual_clock: VirtualClock
) -> None:
    platform = start("pd.flow.suspend(60_000)")
    run(platform)
    virtual_clock.advance(seconds=61)
    platform.paused.end_due()
    (cancelled,) = platform.take_continued()
    assert cancelled.exit_reason == "CANCELLED: pause=suspend, by=timeout"
    assert cancelled.credits == 0


def test_after_the_last_rerun_the_next_step_follows(
    start: Start, virtual_clock: VirtualClock
) -> None:
    platform = start('pd.flow.rerun(10, max_retries=1)\nreturn pd.context["run"]["runs"]')
    run(platform)
    virtual_clock.advance(seconds=1)
    platform.paused.end_due()
    (last,) = platform.take_continued()
    assert last.pause is None
    assert last.export_of("second") == {"$return_value": 2}


def test_no_answer_after_a_delay(start: Start) -> None:
    failed = run(
        start('pd.flow.delay(10)\npd.respond({"status": 200, "body": "late"})')
    ).failed_step
    assert failed is not None
    assert "expected before pd.flow.delay" in str(failed.error)


def test_prints_count_towards_the_size_of_a_run(start: Start) -> None:
    failed = run(start('print("x" * 1500)\nreturn 1')).failed_step
    assert failed is not None
    assert "expected at most 2000 bytes" in str(failed.error)


def test_event_and_context_have_the_platforms_shape(start: Start) -> None:
    """The keys of the documentation, as the research on the platform has listed them."""
    platform = start('return [sorted(pd.steps["trigger"]["event"]), sorted(pd.context)]')
    event, context = run(platform).export_of("first")
    assert event == [
        "cron", "interval_seconds", "timestamp", "timezone_configured", "timezone_utc",
    ]  # fmt: skip
    assert {
        "id", "trace_id", "ts", "deployment_id", "emitter_id", "owner_id", "platform_version",
        "replay", "workflow_id", "workflow_name", "test", "run",
    } == set(context)  # fmt: skip


def test_a_value_of_a_data_store_expires(start: Start, virtual_clock: VirtualClock) -> None:
    platform = start(
        'notes = pd.inputs["notes"]\nseen = notes.get("n")\n'
        'notes.set("n", [1], ttl=60)\nnotes.get("n").append(2)\nreturn seen'
    )
    assert run(platform).export_of("first") is None
    virtual_clock.advance(seconds=59)
    assert run(platform).export_of("first") == [1]  # a copy was changed, not the value
    virtual_clock.advance(seconds=60)
    assert run(platform).export_of("first") is None


def test_a_run_under_way_can_be_ended_from_outside(start: Start) -> None:
    platform = start("while True:\n    pass")
    engine, results = engine_of(platform), list[WorkflowResult]()
    thread = threading.Thread(target=lambda: results.append(run(platform)))
    thread.start()
    while thread.is_alive():
        engine.kill_running()
        thread.join(0.05)
    (killed,) = results
    assert killed.failed_step is not None
    assert type(killed.failed_step.error) is StepKilled
    assert not engine._running


def test_an_email_stays_in_the_result(start: Start) -> None:
    result = run(start('pd.send.email(subject="a", text="b")'))
    assert result.emails == ({"subject": "a", "text": "b", "html": None},)
