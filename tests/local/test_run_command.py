"""``trading-loop run``: its arguments, its exit codes, its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from deploy.cli.main import build_parser, main
from deploy.local.manifest import Project
from deploy.local.processes import free_port
from deploy.local.servers import PROJECT
from tests.local.conftest import MakeProject

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
        (["--faithful"], "unrecognized"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["run", *arguments])
    assert caught.value.code == 2
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


def test_the_dashboard_is_served_until_ctrl_c(
    make_project: MakeProject, variables: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(loop=[_OK], dashboard=[_PAGE], triggers=_HTTP)
    port = free_port()
    arguments = ["run", "--source", "simulated", "--hours", "0.05", "--fresh", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE.format(root=str(project.root), arguments=arguments)],
        cwd=PROJECT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("Dashboard: http") for line in lines)
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).text == "a page"
        assert any("until Ctrl-C" in line for line in lines)
        assert requests.get(f"http://127.0.0.1:{port}/dashboard", timeout=10).text == "a page"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            requests.get(f"http://127.0.0.1:{port}/", timeout=1)
        except requests.ConnectionError:
            return
    pytest.fail("the port is still served")
