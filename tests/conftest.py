"""Fixtures for all tests: real servers, a virtual clock, recorded market data where there is some.

Each worker of pytest-xdist starts its own servers in a temporary folder, once a session. Where
TEST_DATABASE_URL is set, tests use the migrated database that it names and empty it each time:
mutation testing makes a session for each mutant, and has to start and copy nothing for it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from deploy.local.servers import EmbeddedServers
from shared import clock
from shared.ledger import connection, migrate
from shared.ledger.connection import Ledger
from tests import reused_database

# A busy machine is no failure; in CI the same examples are tried each time.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

DEFAULT_START = datetime(2025, 5, 6, tzinfo=UTC)
POD = "test"
_TEMPLATE = "migrated_template"
_MARKET_DATA_DIR = os.environ.get("MARKET_DATA_DIR") or None
_REUSED_DATABASE_URL = os.environ.get("TEST_DATABASE_URL") or None
_getaddrinfo = socket.getaddrinfo


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the outside fails at once, as it does where there is no network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "a unix socket"
        if host not in ("127.0.0.1", "localhost", "::1", "a unix socket"):
            raise ConnectionRefusedError(f"tests reach only this machine, not {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", _resolve_locally)


def _resolve_locally(host: Any, *arguments: Any, **options: Any) -> Any:
    if host not in (None, "", "127.0.0.1", "localhost", "::1", b"127.0.0.1", b"localhost"):
        raise socket.gaierror(f"tests look up no name of the outside, not {host!r}")
    return _getaddrinfo(host, *arguments, **options)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """A PostgreSQL and a Redis of this worker's own; nothing waits for the disk."""
    folder = tmp_path_factory.mktemp("servers")
    with EmbeddedServers(folder, durable=False) as started:
        yield started


@pytest.fixture(scope="session")
def _template(servers: EmbeddedServers) -> str:
    """A migrated database whose pod ``test`` has been in its trading state since DEFAULT_START."""
    url = servers.create_database(_TEMPLATE)
    previous = clock._virtual_now_ms
    clock.install(lambda: clock.to_ms(DEFAULT_START))
    try:
        migrate.migrate(connection.connect(url, POD))
    finally:
        clock.install(previous)
        connection.close_all()  # a template must have no connection
    return _TEMPLATE


@pytest.fixture(scope="session")
def _worker_database(request: pytest.FixtureRequest) -> str:
    """The database that the tests of this worker share."""
    if _REUSED_DATABASE_URL is not None:
        return _REUSED_DATABASE_URL
    servers, template = request.getfixturevalue("servers"), request.getfixturevalue("_template")
    url: str = servers.create_database("tests", template=template)
    return url


@pytest.fixture
def database_url(_worker_database: str) -> Iterator[str]:
    """A database with all migrations and no content but the pod's trading state."""
    reused_database.empty(_worker_database, POD, DEFAULT_START)
    yield _worker_database
    connection.close_all()


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    """The ledger of pod ``test`` in a fresh database."""
    return connection.connect(database_url, POD)


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    """A Redis without keys."""
    import redis

    client = redis.Redis.from_url(servers.redis_url, retry=None)
    client.flushall()
    client.close()
    return servers.redis_url


@pytest.fixture
def market_data_dir() -> Path:
    """The folder of recorded market data; a test that asks for it is skipped where it is unset."""
    if _MARKET_DATA_DIR is None:
        pytest.skip("MARKET_DATA_DIR is not set")
    return Path(_MARKET_DATA_DIR)


class VirtualClock:
    """The time that ``shared.clock`` tells during a test; it stands still unless moved."""

    def __init__(self, start: datetime) -> None:
        self.now_ms = clock.to_ms(start)

    def set(self, moment: datetime) -> None:
        self.now_ms = clock.to_ms(moment)

    def advance(self, **duration: float) -> None:
        """``advance(minutes=5)``; takes what ``timedelta`` takes."""
        self.now_ms += round(timedelta(**duration).total_seconds() * 1000)


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Installs a clock that stands at 2025-05-06T00:00:00Z."""
    source = VirtualClock(DEFAULT_START)
    previous = clock._virtual_now_ms
    clock.install(lambda: source.now_ms)
    yield source
    clock.install(previous)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "market_data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.recorded_data)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("recorded_data") and _MARKET_DATA_DIR is None:
        pytest.skip("MARKET_DATA_DIR is not set")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran, skipped = set(), set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not isinstance(report, pytest.TestReport) or "recorded_data" not in report.keywords:
                continue
            if report.skipped:
                skipped.add(report.nodeid)
            elif report.when == "call":
                ran.add(report.nodeid)
    if ran or skipped:
        reason = " because MARKET_DATA_DIR is not set" if _MARKET_DATA_DIR is None else ""
        terminalreporter.write_line(
            f"recorded data: {len(ran)} ran, {len(skipped)} skipped{reason if skipped else ''}"
        )
