"""The service as a process: real workflows as bundles, the machine's clock, venues by HTTP.

The stand-ins play the real venues. Nothing in the project can send the loop there and let it take
them for real: what is served is a copy of the project whose venue clients have other addresses.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import requests

from deploy.local.market.source import SourceSpec
from deploy.local.processes import free_port
from deploy.local.servers import PROJECT, EmbeddedServers
from deploy.local.service.service import Service, ServiceOptions
from deploy.local.wire.client import WireProcess, start_wire
from shared.errors import ConfigurationError, LedgerUnavailable
from shared.ledger import connection

HOUR_MS = 3_600_000
NOWHERE = "http://127.0.0.1:9"
SCHEDULED = {"circuit_breaker", "position_manager", "trading_loop", "performance_analyzer"}

_REDIRECT = """

_addresses = {addresses!r}
_build_for_real = _build


def _build(config: Any, venue: str, api_key: str | None, secret: str | None) -> Any:
    built = _build_for_real(config, venue, api_key, secret)
    _redirect(built, _addresses[venue])
    return built
"""

# The hour before the start counts as slept through, so that the first ticks are due at once.
_MAIN = """
import sys
from pathlib import Path
from deploy.cli.main import main
from deploy.local import servers
from deploy.local.faithful import environment
from deploy.local.service import lanes, service
import dataclasses

environment.interpreter = lambda lock, folder, say: Path(sys.executable)
servers.PROJECT = Path({root!r})
Ticker = lanes.Ticker
lanes.Ticker = lambda workflow, now_ms: Ticker(workflow, now_ms - 3_600_000)
Options = service.ServiceOptions
service.ServiceOptions = lambda **given: Options(folder=Path({folder!r}), **given)
sys.exit(main({arguments!r}))
"""


@contextmanager
def market_of_the_present() -> Iterator[WireProcess]:
    """Stand-ins whose market moves on with the clock of this machine."""
    now_ms = time.time_ns() // 1_000_000
    from_ms = now_ms // HOUR_MS * HOUR_MS - HOUR_MS
    spec = SourceSpec("simulated", ("BTC/USDT", "ETH/USDT"), from_ms, 4, 7, None)
    ended = threading.Event()
    with start_wire(spec, now_ms=now_ms, balances={"binance": {"USDT": Decimal(0)}}) as wire:

        def follow() -> None:
            while not ended.wait(0.2):
                wire.advance(time.time_ns() // 1_000_000)

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield wire
        finally:
            ended.set()
            thread.join()


def project_at(folder: Path, addresses: dict[str, str]) -> Path:
    """A copy of the project whose venue clients go to ``addresses``."""
    for name in ("shared", "steps", "workflows", "requirements"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pipedream.yaml", folder)
    clients = folder / "shared/execution/venues/clients.py"
    clients.write_text(clients.read_text() + _REDIRECT.format(addresses=addresses))
    return folder


class Running:
    """The command as a process. ``lines`` is what it has printed so far."""

    def __init__(self, root: Path, folder: Path, port: int, variables: dict[str, str]) -> None:
        arguments = ["run", "--realtime", "--source", "live", "--port", str(port)]
        script = _MAIN.format(root=str(root), folder=str(folder), arguments=arguments)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=PROJECT,
            env=kept | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def until(holds: Any, what: str, running: Running, seconds: float = 180) -> Any:
    """Wait for what another process does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        threading.Event().wait(0.05)
    raise AssertionError(f"{what}: {running.lines}")


def test_it_follows_the_present_and_survives_what_happens_to_a_machine(
    servers: EmbeddedServers, redis_url: str, tmp_path: Path
) -> None:
    name = f"service_{secrets.token_hex(4)}"
    url = servers.create_database(name)
    port, token = free_port(), secrets.token_urlsafe(16)
    with market_of_the_present() as wire:
        addresses = {venue: f"{wire.base_url}/{venue}" for venue in ("binance", "coinbase")}
        root = project_at(tmp_path / "project", addresses | {"kraken": NOWHERE})
        variables = {
            "DATABASE_URL": url,
            "REDIS_URL": redis_url,
            "SYMBOLS": "BTC,ETH",
            "NEWS_FEEDS": "off",
            "DERIVATIVES_VENUE": "off",
            "FEAR_GREED_URL": f"{NOWHERE}/",
            "KILL_SWITCH_TOKEN": token,
        }
        running = Running(root, tmp_path / "local", port, variables)
        try:
            _watch(running, url, port, token, servers, name)
        finally:
            running.end()
            connection.close_all()
            stats = wire.stats()
            accounts = wire.accounts()
    assert any("depth" in route or "book" in route for route in stats), stats
    assert all(not account["orders"] for account in accounts.values())  # paper asks nobody
    servers.drop_database(name)


def _watch(
    running: Running, url: str, port: int, token: str, servers: EmbeddedServers, name: str
) -> None:
    address = f"http://127.0.0.1:{port}"
    until(lambda: running.lines or running.process.poll() is not None, "a line", running)
    ledger = until(lambda: _ledger(url), "a migrated ledger", running)
    runs = until(lambda: _ended(ledger), "a run of each workflow", running)
    assert {run["workflow"] for run in runs} == SCHEDULED
    failed = [run for run in runs if run["status"] != "DONE"]
    assert not failed, failed
    scan = ledger.one("SELECT count(*) AS n FROM scans")
    assert scan is not None and scan["n"]
    capital = ledger.one("SELECT sum(amount) AS n FROM transfers")
    assert capital is not None and capital["n"] == 10_000
    assert any("on binance, coinbase, kraken and trades on paper" in line for line in running.lines)

    assert requests.get(f"{address}/dashboard", timeout=60).status_code == 200
    with _database_gone(servers, name):
        assert requests.get(f"{address}/dashboard", timeout=60).status_code == 503
    assert requests.get(f"{address}/dashboard", timeout=60).status_code == 200

    wrong, right = ({"Authorization": f"Bearer {word}"} for word in ("wrong", token))
    pull = {"action": "halt", "reason": "a test"}
    refused = requests.post(f"{address}/kill_switch", headers=wrong, json=pull, timeout=60)
    pulled = requests.post(f"{address}/kill_switch", headers=right, json=pull, timeout=60)
    assert (refused.status_code, pulled.status_code) == (401, 200)
    connection.close_all()
    state = connection.connect(url, "main").one("SELECT state FROM trading_state")
    assert state is not None and state["state"] == "HALTED"

    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    until(lambda: "stopping" in " ".join(running.lines), "a last line", running)
    last = running.lines[-1]
    assert "trading_loop" in last and "ticks missed" in last
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{address}/dashboard", timeout=5)


def _ledger(url: str) -> Any:
    ledger = connection.connect(url, "main")
    found = ledger.one("SELECT to_regclass('runs') IS NOT NULL AS there")
    return ledger if found and found["there"] else None


def _ended(ledger: Any) -> Any:
    """The runs, when each workflow has one and none is under way."""
    runs = ledger.query("SELECT workflow, status, error FROM runs")
    complete = {run["workflow"] for run in runs} == SCHEDULED
    return runs if complete and all(run["status"] != "RUNNING" for run in runs) else None


@contextmanager
def _database_gone(servers: EmbeddedServers, name: str) -> Iterator[None]:
    """What its clients see of a PostgreSQL that restarts: connections end, and no new one opens."""
    with psycopg2.connect(servers.database_url("postgres")) as administration:
        administration.autocommit = True
        with administration.cursor() as cursor:
            cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            try:
                yield
            finally:
                cursor.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    administration.close()


OPTIONS = ServiceOptions(port=None)


@pytest.mark.parametrize(
    ("variables", "error", "message"),
    [
        ({}, ConfigurationError, "DATABASE_URL: expected the PostgreSQL"),
        (
            {"DATABASE_URL": "postgresql://x@127.0.0.1/x", "SIMULATED_WIRE_URL": NOWHERE},
            ConfigurationError,
            "SIMULATED_WIRE_URL: expected to be unset",
        ),
        (
            {"DATABASE_URL": "postgresql://x@127.0.0.1/x", "ENABLE_LIVE_TRADING": "true",
             "SIMULATED_WIRE_URL": NOWHERE},
            ConfigurationError,
            "expected to be unset where ENABLE_LIVE_TRADING is true",
        ),
    ],
)  # fmt: skip
def test_what_it_refuses(variables: dict[str, str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Service(OPTIONS, variables, print)


def test_without_postgresql_it_does_not_begin() -> None:
    url = f"postgresql://nobody:secretword@127.0.0.1:{free_port()}/none"
    with (
        pytest.raises(LedgerUnavailable) as caught,
        Service(OPTIONS, {"DATABASE_URL": url}, print),
    ):
        pass
    assert "secretword" not in str(caught.value)


def test_no_secret_is_said() -> None:
    said: list[str] = []
    url = "postgresql://me:secretword@127.0.0.1/x"
    service = Service(OPTIONS, {"DATABASE_URL": url, "BINANCE_SECRET": "abcdef"}, said.append)
    service.tell(f"FAILED: {url} with abcdef")
    assert said[0].endswith("FAILED: (secret) with (secret)")
