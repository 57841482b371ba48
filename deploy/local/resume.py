"""The ledger of a replay: a database of its own, found again by what was asked for.

A replay that was stopped goes on where it was; one that has finished, or ``fresh`` asked for,
starts anew. What holds after a stop: the ledger is complete up to the last transaction, a run that
was cut off is run again under its own trace id, and the venues start from the balances that the
ledger has. An order that was sent but whose fill the ledger never saw has not happened then, and
orders that rested at a venue are gone from it; reconciliation finds both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from deploy.local.servers import EmbeddedServers
from shared import clock
from shared.ledger import connection
from shared.ledger.connection import Ledger, json

PREFIX = "replay_"
FINISHED = "REPLAY_FINISHED"
_KEPT = 5  # databases of other replays, 10 to 50 MB each


@dataclass(frozen=True)
class Position:
    """How far a replay has come.

    Attributes:
        at_ms: the newest tick that a workflow has finished; ``None`` before the first.
        done: trace ids of the runs that have finished at that tick.
    """

    at_ms: int | None = None
    done: frozenset[str] = field(default_factory=frozenset)


def database_name(*arguments: str) -> str:
    """The database of the replay that ``arguments`` describe completely."""
    return PREFIX + hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:16]


def prepare(servers: EmbeddedServers, name: str, pod: str, *, fresh: bool) -> str:
    """The address of the replay's database: the one that was left unfinished, or an empty one.

    Raises:
        ConfigurationError: the role may not create databases.
        LedgerUnavailable: PostgreSQL does not answer.
    """
    if servers.has_database(name):
        url = servers.database_url(name)
        if not fresh and not _is_finished(connection.connect(url, pod)):
            return url
        connection.close_all()
        servers.drop_database(name)
    _drop_old(servers)
    return servers.create_database(name)


def position(ledger: Ledger) -> Position:
    """How far the replay in this ledger has come."""
    rows = ledger.query(
        "SELECT trace_id, event_at FROM runs WHERE pod = %(pod)s AND status <> 'RUNNING' "
        "AND event_at = (SELECT max(event_at) FROM runs "
        "                WHERE pod = %(pod)s AND status <> 'RUNNING')",
        {"pod": ledger.pod},
    )
    if not rows:
        return Position()
    return Position(
        clock.to_ms(rows[0]["event_at"]), frozenset(str(row["trace_id"]) for row in rows)
    )


def mark_finished(ledger: Ledger) -> None:
    """From now on the same replay starts anew."""
    ledger.execute(
        "INSERT INTO events (pod, at, kind, detail) VALUES (%s, %s, %s, %s)",
        (ledger.pod, clock.now(), FINISHED, json({})),
    )


def _is_finished(ledger: Ledger) -> bool:
    migrated = ledger.one("SELECT to_regclass('events') IS NOT NULL AS yes")
    if migrated is None or not migrated["yes"]:
        return True  # it was stopped before it had a table: there is nothing to go on from
    return (
        ledger.one("SELECT 1 FROM events WHERE pod = %s AND kind = %s", (ledger.pod, FINISHED))
        is not None
    )


def _drop_old(servers: EmbeddedServers) -> None:
    """Remove the oldest replays, except those that somebody looks at."""
    ledger = connection.connect(servers.database_url(), "none")
    rows = ledger.query(
        "SELECT datname FROM pg_database d WHERE datname LIKE %s AND NOT EXISTS "
        "(SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname) ORDER BY oid DESC",
        (PREFIX.replace("_", r"\_") + "%",),
    )
    for row in rows[_KEPT:]:
        servers.drop_database(row["datname"])
