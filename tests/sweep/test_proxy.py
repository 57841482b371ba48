"""What each mode leaves behind at a real PostgreSQL and a real Redis, and what the client hears."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
import redis
import requests

from deploy.local.sweep.faults import Fault, Mode, Site
from deploy.local.sweep.proxy import Lane, Upstreams, at

INSERT = (
    "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) VALUES ('p', 'a', now(), now())"
)


def through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")))


def run_through(
    database_url: str,
    redis_url: str,
    fault: Fault | None,
    work: Callable[[Lane], Any],
    http_port: int = 0,
) -> tuple[Any, Lane]:
    """``work`` in a thread, on the far side of a lane with ``fault``."""

    async def run() -> tuple[Any, Lane]:
        ports = [urlsplit(url).port or 0 for url in (database_url, redis_url)]
        sql, cache, http = (("127.0.0.1", port) for port in (*ports, http_port))
        lane = Lane(Upstreams(sql, cache, http))
        await lane.start()
        lane.begin(at(*([] if fault is None else [fault])))
        try:
            return await asyncio.to_thread(work, lane), lane
        finally:
            await lane.stop()

    return asyncio.run(run())


def count(database_url: str) -> int:
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM arm_tokens")
        row = cursor.fetchone()
    connection.close()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("mode", "hears", "rows"),
    [
        (None, None, 1),
        (Mode.EXCEPTION_BEFORE, psycopg2.OperationalError, 0),
        (Mode.EXCEPTION_AFTER, psycopg2.OperationalError, 1),
        (Mode.TIMEOUT_BEFORE, psycopg2.errors.QueryCanceled, 0),
    ],
)
@pytest.mark.parametrize("in_transaction", [False, True])
def test_sql_modes(
    database_url: str,
    redis_url: str,
    mode: Mode | None,
    hears: type[Exception] | None,
    rows: int,
    in_transaction: bool,
) -> None:
    """In a transaction the place is its COMMIT, else the statement itself."""

    def work(lane: Lane) -> Exception | None:
        connection = psycopg2.connect(through(database_url, lane.ports["sql"]))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in ("BEGIN", INSERT, "COMMIT") if in_transaction else (INSERT,):
                    cursor.execute(statement)
        except psycopg2.Error as error:
            return error
        finally:
            connection.close()
        return None

    name = "sql COMMIT (INSERT arm_tokens)" if in_transaction else "sql INSERT arm_tokens"
    fault = None if mode is None else Fault(Site(name, 1), mode)
    heard, lane = run_through(database_url, redis_url, fault, work)
    assert (hears is None and heard is None) or isinstance(heard, hears or ())
    assert count(database_url) == rows
    assert lane.fired == ([] if fault is None else [fault])
    assert Site(name, 1) in lane.calls


def test_a_cancelled_statement_really_fails_its_transaction(
    database_url: str, redis_url: str
) -> None:
    def work(lane: Lane) -> str:
        connection = psycopg2.connect(through(database_url, lane.ports["sql"]))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            with pytest.raises(psycopg2.errors.QueryCanceled):
                cursor.execute(INSERT)
            with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
                cursor.execute("SELECT 1")
            cursor.execute("ROLLBACK")
            cursor.execute("SELECT 1")
        connection.close()
        return "usable"

    fault = Fault(Site("sql INSERT arm_tokens", 1), Mode.TIMEOUT_BEFORE)
    assert run_through(database_url, redis_url, fault, work)[0] == "usable"


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        (Mode.EXCEPTION_BEFORE, None),
        (Mode.EXCEPTION_AFTER, b"1"),
        (Mode.TIMEOUT_BEFORE, None),
        (Mode.TIMEOUT_AFTER, b"1"),
    ],
)
def test_redis_modes(database_url: str, redis_url: str, mode: Mode, kept: bytes | None) -> None:
    def work(lane: Lane) -> None:
        client = redis.Redis.from_url(
            through(redis_url, lane.ports["redis"]), retry=None, socket_timeout=0.2
        )
        with pytest.raises(redis.RedisError):
            client.set("pod:key", "1")
        client.close()

    run_through(database_url, redis_url, Fault(Site("redis SET key", 1), mode), work)
    client = redis.Redis.from_url(redis_url, retry=None)
    assert client.get("pod:key") == kept
    client.close()


class Recorder:
    """An HTTP server that remembers the order of what reached it."""

    SCRIPT = """
import http.server, sys
seen = []
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/venue/seen":
            seen.append(self.command + " " + self.path)
        body = ",".join(seen).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *a): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""

    def __enter__(self) -> int:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.SCRIPT], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        (None, ["POST /venue/order", "GET /venue/order"]),
        (Mode.EXCEPTION_BEFORE, ["GET /venue/order"]),
        (Mode.EXCEPTION_AFTER, ["POST /venue/order", "GET /venue/order"]),
        (Mode.TIMEOUT_BEFORE, ["GET /venue/order"]),
        (Mode.TIMEOUT_AFTER, ["POST /venue/order", "GET /venue/order"]),
        (Mode.LATE_ARRIVAL, ["GET /venue/order", "POST /venue/order"]),
    ],
)
def test_http_modes(database_url: str, redis_url: str, mode: Mode | None, seen: list[str]) -> None:
    """A late request overtakes nothing: the look-up that follows it is answered first."""

    def work(lane: Lane) -> bool:
        base, heard = f"http://127.0.0.1:{lane.ports['http']}/venue", True
        once = {"Connection": "close"}
        try:
            requests.post(f"{base}/order", data=b"x", timeout=0.2, headers=once)
        except requests.RequestException:
            heard = False
        requests.get(f"{base}/order", timeout=5, headers=once)
        return heard

    fault = None if mode is None else Fault(Site("http POST venue /order", 1), mode)
    with Recorder() as port:
        heard, _ = run_through(database_url, redis_url, fault, work, http_port=port)
        told = requests.get(f"http://127.0.0.1:{port}/venue/seen", timeout=5).text.split(",")
    assert heard is (mode is None)
    assert told == seen


@pytest.mark.parametrize(
    ("mode", "rows"),
    [(Mode.KILL_BEFORE, 0), (Mode.KILL_AFTER_EFFECT, 1), (Mode.KILL_AFTER_ANSWER, 1)],
)
def test_kills_are_real(database_url: str, redis_url: str, mode: Mode, rows: int) -> None:
    script = (
        "import psycopg2, sys\n"
        "connection = psycopg2.connect(sys.argv[1]); connection.autocommit = True\n"
        f"connection.cursor().execute({INSERT!r})\n"
        "sys.stdin.read()\n"
    )

    def work(lane: Lane) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", script, through(database_url, lane.ports["sql"])],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        lane.pid = process.pid
        return process.wait(20)

    fault = Fault(Site("sql INSERT arm_tokens", 1), mode)
    code, _ = run_through(database_url, redis_url, fault, work)
    assert code == -9
    assert count(database_url) == rows
