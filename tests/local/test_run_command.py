"""``trading-loop run``: its arguments, its exit codes, its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from deploy.cli.interrupts import interrupted_by_sigterm
from deploy.cli.main import EXIT_INTERRUPTED, EXIT_TERMINATED, build_parser, main
from deploy.local.manifest import Project
from deploy.local.processes import free_port, is_alive
from deploy.local.servers import PROJECT
from deploy.local.wire.client import start_wire
from tests.local.conftest import AT_MS, MakeProject, spec

_OK = "def handler(pd):\n    return {'fine': True}\n"
_FAILS = "def handler(pd):\n    raise ValueError('broken')\n"
_PAGE = "def handler(pd):\n    pd.respond({'status': 200, 'body': 'a page'})\n"
_HTTP = {"dashboard": {"type": "http", "method": "GET", "path": "/dashboard"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "yesterday"], "--from: expected a time"),
        (["--from", "2025-05-06T00:00:30Z"], "expected a full minute"),
        (["--hours", "0"], "--hours: expected a number of hours above 0, was '0'"),
        (["--hours", "nan"], "--hours"),
        (["--symbols", "BTC,,BTC"], "--symbols: expected every symbol once"),
        (["--symbols", "BTC/USDT"], "--symbols: expected symbols such as"),
        (["--capital", "-1"], "--capital: expected an amount above 0, was '-1'"),
        (["--port", "70000"], "--port: expected 0 to 65535"),
        (["--source", "dreamt"], "--source"),
        (["--unfaithful"], "unrecognized"),
        (["--schedule-faults", "late=2"], "schedule faults: late: expected 0 to 1, was 2.0"),
        (["--schedule-faults", "lat=0.1"], "did you mean late"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["run", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--source", "live", "--symbols", "BTC", "--from", "2025-05-06", "--fresh"],
            "expected the settings of the environment, and none of --from, --symbols, --fresh",
        ),
        (["--source", "live", "--schedule-faults", "late=0.1"], "none of --schedule-faults"),
        (["--source", "simulated", "--schedule-faults", "late=0.1"], "expected without --realtime"),
    ],
)
def test_arguments_that_do_not_go_with_the_present(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--realtime", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def run(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``run(project, *arguments)`` runs the command on a small project of five minutes."""
    for name in ("MARKET_DATA_DIR", "DASHBOARD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def call(project: Project, *arguments: str) -> int:
        monkeypatch.setattr("deploy.local.servers.PROJECT", project.root)
        return main(["run", "--source", "simulated", "--hours", "0.0834", *arguments])

    return call


@pytest.mark.usefixtures("fake_wire")
def test_it_says_which_market_writes_the_results_and_ends_with_0(
    run: Callable[..., int],
    make_project: MakeProject,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "reports" / "run.json"
    code = run(make_project(loop=[_OK]), "--no-serve", "--fresh", "--json", str(file))
    assert code == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("Market: simulated.")
    document = json.loads(file.read_text())
    assert document["runs"] == {"loop": 5}
    assert document["source"] == "simulated" and document["from"] == "2026-01-05T00:00:00Z"
    assert list(document) == sorted(document)


@pytest.mark.usefixtures("fake_wire")
def test_a_failed_run_ends_with_1(
    run: Callable[..., int], make_project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make_project(loop=[_FAILS]), "--no-serve", "--fresh") == 1
    assert "FAILED 5 x loop: step_0: ValueError: broken" in capsys.readouterr().out


@pytest.mark.usefixtures("fake_wire")
def test_faults_of_the_schedule_are_counted_in_the_results(
    run: Callable[..., int], make_project: MakeProject, tmp_path: Path
) -> None:
    """The last ten of fifteen minutes have no faults."""
    file = tmp_path / "run.json"
    arguments = ["--no-serve", "--fresh", "--schedule-faults", "seed=3,miss=1", "--json", str(file)]
    assert run(make_project(loop=[_OK]), *arguments, "--hours", "0.25") == 0
    document = json.loads(file.read_text())
    assert document["schedule_faults"]["rates"] == "seed=3,miss=1"
    assert document["schedule_faults"]["faults"] == {"miss": {"asked": 5, "happened": 5}}
    assert document["schedule_faults"]["violations"] == []
    assert document["runs"] == {"loop": 10}


def test_no_ledger_ends_with_3(
    make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    code = main(["run", "--source", "simulated", "--hours", "1", "--no-serve"])
    error = capsys.readouterr().err
    assert code == 3
    assert error.startswith("trading-loop: PostgreSQL:") and error.count("\n") == 1


_SERVE = """
import sys
from pathlib import Path
from deploy.cli.main import main
from deploy.local import servers
servers.PROJECT = Path({root!r})
sys.exit(main({arguments!r}))
"""


@pytest.fixture
def start(
    make_project: MakeProject, variables: dict[str, str]
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """``start(*arguments)`` runs the command as a process of its own; gives process and port."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str) -> tuple[subprocess.Popen[str], int]:
        project = make_project(loop=[_OK], dashboard=[_PAGE], triggers=_HTTP)
        port = free_port()
        line = ["run", "--source", "simulated", "--fresh", "--port", str(port), *arguments]
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", _SERVE.format(root=str(project.root), arguments=line)],
                cwd=PROJECT,
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1], port

    yield call
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    assert any(text in line for line in iter(process.stdout.readline, "")), text


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def _nothing_is_left(port: int, children: list[int]) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/", timeout=1)
    assert not [child for child in children if is_alive(child)]


def test_the_dashboard_is_served_until_ctrl_c(
    start: Callable[..., tuple[subprocess.Popen[str], int]],
) -> None:
    process, port = start("--hours", "0.05")
    _read_until(process, "Dashboard: http")
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).text == "a page"
    _read_until(process, "until Ctrl-C")
    assert requests.get(f"http://127.0.0.1:{port}/dashboard", timeout=10).text == "a page"
    children = _children(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    _nothing_is_left(port, children)


def test_sigterm_after_the_end_is_as_tidy_as_ctrl_c(
    start: Callable[..., tuple[subprocess.Popen[str], int]],
) -> None:
    process, port = start("--hours", "0.05")
    _read_until(process, "until Ctrl-C")
    children = _children(process.pid)
    assert children  # the simulated wire
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143
    assert output.strip().endswith("Stopped.")
    _nothing_is_left(port, children)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, EXIT_INTERRUPTED), (signal.SIGTERM, EXIT_TERMINATED)]
)
def test_a_signal_in_the_middle_of_a_replay_ends_it_tidily(
    start: Callable[..., tuple[subprocess.Popen[str], int]], number: signal.Signals, code: int
) -> None:
    process, port = start("--hours", "1", "--realtime")
    _read_until(process, "Dashboard: http")
    assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).text == "a page"
    children = _children(process.pid)
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code == 128 + number
    assert "Traceback" not in output
    _nothing_is_left(port, children)


def test_a_second_sigterm_lets_the_tidying_finish() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interrupted_by_sigterm() as terminated:
        assert not terminated.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert terminated.is_set()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_inside_a_destructor_comes_again(number: signal.Signals) -> None:
    class Hit:
        """Python ignores what its ``__del__`` raises."""

        def __del__(self) -> None:
            signal.raise_signal(number)

    waiting = threading.Event()
    with interrupted_by_sigterm() as terminated:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes while waiting
            Hit()
            waiting.wait(10)
        assert terminated.is_set() == (number == signal.SIGTERM)


def test_other_threads_leave_signals_alone() -> None:
    ran: list[bool] = []

    def inside() -> None:
        with interrupted_by_sigterm() as terminated:
            ran.append(terminated.is_set())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert ran == [False]


def test_an_interrupt_while_the_wire_starts_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[str]] = []

    def interrupted(process: subprocess.Popen[str]) -> int:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.local.wire.client._wait_for_port", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start_wire(spec(1), now_ms=AT_MS, balances={})
    (process,) = started
    assert not is_alive(process.pid)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
