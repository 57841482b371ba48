"""Real servers: they keep what was committed, end with their parent, and can be joined."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
import redis

from deploy.local import postgres, processes
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.servers import EmbeddedServers
from shared.errors import ConfigurationError, LedgerUnavailable
from shared.ledger.connection import Ledger


def _value(url: str, statement: str) -> object:
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        connection.close()


def test_ledger_fixture_is_migrated_and_empty(ledger: Ledger) -> None:
    state = ledger.one("SELECT state, since FROM trading_state WHERE pod = 'test'")
    assert state is not None and state["state"] == "ACTIVE"
    assert ledger.query("SELECT * FROM runs") == []
    ledger.execute("INSERT INTO events (pod, at, kind) VALUES ('test', now(), 'LEFT_BEHIND')")


def test_ledger_fixture_sees_no_rows_of_another_test(ledger: Ledger) -> None:
    assert ledger.query("SELECT * FROM events") == []


def test_redis_answers_only_with_its_password(redis_url: str) -> None:
    assert redis.Redis.from_url(redis_url).set("key", "value")
    address = redis_url.split("@")[1]
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(f"redis://{address}", retry=None).get("key")


def test_redis_fixture_is_empty(redis_url: str) -> None:
    assert redis.Redis.from_url(redis_url).dbsize() == 0


def test_postgres_refuses_a_wrong_password(servers: EmbeddedServers) -> None:
    address = servers.database_url().split("@")[1]
    assert not postgres.answers(f"postgresql://trading:wrong@{address}")


def test_data_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, durable=False)
    server.start()
    try:
        _value(server.url(), "CREATE TABLE kept AS SELECT 42 AS number")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)  # leaves its pid file behind
        assert _ends(lambda: processes.is_alive(server.pid or 0))
    finally:
        server.stop()
    server.start()
    try:
        assert _value(server.url(), "SELECT number FROM kept") == 42
    finally:
        server.stop()
    assert not (tmp_path / "data" / "postmaster.pid").exists()


def test_users_of_a_folder_share_a_server_until_the_last_one_leaves(tmp_path: Path) -> None:
    first, second = (EmbeddedPostgres(tmp_path, durable=False) for _ in range(2))
    first.start()
    second.start()
    url = second.url()
    assert first.pid == second.pid and first.url() == url
    first.stop()  # the one that started it
    assert postgres.answers(url)
    second.stop()
    assert not postgres.answers(url)
    assert not (tmp_path / "data" / "postmaster.pid").exists()
    second.stop()  # does nothing


def test_a_killed_server_is_started_again_while_another_user_is_still_there(
    tmp_path: Path,
) -> None:
    first, second = (EmbeddedPostgres(tmp_path, durable=False) for _ in range(2))
    first.start()
    killed = first.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert _ends(lambda: processes.is_alive(killed))
    second.start()
    assert second.pid != killed and postgres.answers(second.url())
    first.stop()
    assert postgres.answers(second.url())
    second.stop()


def test_many_that_start_at_once_get_one_server(tmp_path: Path) -> None:
    users = [EmbeddedPostgres(tmp_path, durable=False) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda user: user.start(), users))
    assert len({user.pid for user in users}) == 1
    url = users[0].url()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda user: user.stop(), users))
    assert not postgres.answers(url)


def test_servers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from deploy.local.servers import EmbeddedServers\n"
        f"servers = EmbeddedServers(Path({str(tmp_path)!r}), durable=False)\n"
        "servers.start()\n"
        "print(servers.database_url(), servers.redis_url, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    database_url, redis_url = parent.stdout.readline().split()
    assert postgres.answers(database_url)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert _ends(lambda: postgres.answers(database_url))
    assert _ends(lambda: _pings(redis_url))


def _pings(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url, retry=None).ping())
    except redis.ConnectionError:
        return False


def _ends(answers: object) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not answers():  # type: ignore[operator]
            return True
    return False


def test_given_servers_are_used_and_their_database_is_left_alone(
    servers: EmbeddedServers, redis_url: str
) -> None:
    given = EmbeddedServers(database_url=servers.database_url(), redis_url=redis_url)
    with given:
        url = given.create_database("beside")
        assert url == servers.database_url("beside")
        assert given.has_database("beside")
        with pytest.raises(ConfigurationError, match="beside"):
            given.create_database("beside")
        given.drop_database("beside")
        assert not given.has_database("beside")
    assert postgres.answers(servers.database_url())
    assert given.postgres is None and given.redis is None


def test_no_server_is_a_named_error() -> None:
    with pytest.raises(LedgerUnavailable, match="PostgreSQL"):
        postgres.create_database("postgresql://nobody@127.0.0.1:9/none", "never")


def test_root_does_not_own_the_server_process(servers: EmbeddedServers) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has to step down")
    assert servers.postgres is not None
    process = Path(f"/proc/{servers.postgres.pid}")
    other_namespace = (process / "ns/user").readlink() != Path("/proc/self/ns/user").readlink()
    assert other_namespace or process.stat().st_uid != 0
