"""Which ledger a command talks to.

``DATABASE_URL`` names it. Without one it is a database of the embedded PostgreSQL in the folder
``.local``: the one that ``trading-loop run`` is filling now, else the newest that it has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from deploy.cli import environment
from shared import clock, config, instance
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ledger import connection, pods
from shared.ledger.connection import Ledger

NOT_FOUND = "no ledger found: set DATABASE_URL or start `trading-loop run`"


@dataclass(frozen=True)
class OpenLedger:
    """A ledger and what it is.

    Attributes:
        settings: the configuration; for the ledger of a local run, that of a simulated one.
        local: whether it is the embedded one. Its time is that of the run that fills it.
        name: the database, without address and password.
    """

    ledger: Ledger
    settings: Config
    local: bool
    name: str

    @property
    def as_of(self) -> datetime:
        """Now; in the ledger of a local run, the time of its newest event."""
        from shared.ui import dashboard

        newest = dashboard.newest(self.ledger) if self.local else None
        return newest or clock.now()

    @contextmanager
    def own_time(self) -> Iterator[None]:
        """What is written inside carries the ledger's own time, so that it sorts with the rest."""
        if not self.local:
            yield
            return
        at_ms = clock.to_ms(self.as_of)
        clock.install(lambda: at_ms)
        try:
            yield
        finally:
            clock.install(None)


@contextmanager
def open_ledger(*, migrated: bool = True) -> Iterator[OpenLedger]:
    """The ledger that this command is about.

    Args:
        migrated: whether the command needs the tables to be there.

    Raises:
        ConfigurationError: there is none, it has no tables, or the configuration is wrong.
        LedgerUnavailable: it does not answer.
    """
    variables = environment.variables()
    settings = config.load(variables)
    try:
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
            ledger = _connect(url, settings.pod, migrated)
            settings = _of_pod(ledger, variables) if migrated else settings
            yield OpenLedger(ledger, settings, local=False, name="DATABASE_URL")
        else:
            with _embedded() as (url, name):
                simulated = config.load(variables | _SIMULATED)
                ledger = _connect(url, settings.pod, migrated)
                yield OpenLedger(ledger, simulated, local=True, name=name)
    finally:
        connection.close_all()


def _connect(url: str, pod: str, migrated: bool) -> Ledger:
    ledger = connection.connect(url, pod)
    if migrated:
        found = ledger.one("SELECT to_regclass('trading_state') IS NOT NULL AS there")
        if not found or not found["there"]:
            raise ConfigurationError("the ledger has no tables yet: run `trading-loop migrate`")
        if ledger.one("SELECT 1 FROM trading_state WHERE pod = %s", (pod,)) is None:
            raise ConfigurationError(
                f"POD: the ledger has no instance {pod!r}: run `trading-loop migrate` to add it"
            )
    return ledger


def _of_pod(ledger: Ledger, variables: Mapping[str, str]) -> Config:
    """The configuration of the pod that ``POD`` names, also where it was made from templates."""
    found = ledger.one("SELECT to_regclass('pods') IS NOT NULL AS there")
    pod = pods.named(ledger, ledger.pod) if found and found["there"] else None
    return config.load(variables if pod is None else instance.overlaid(variables, pod))


# Runs of this machine trade with its own stand-ins; nothing is sent to this address from here.
_SIMULATED = {"SIMULATED_WIRE_URL": "http://127.0.0.1"}


@contextmanager
def _embedded() -> Iterator[tuple[str, str]]:
    """The address and name of the newest database of the embedded server, which is started or,
    where a run has it open, joined."""
    from deploy.local.postgres import EmbeddedPostgres
    from deploy.local.servers import DEFAULT_FOLDER

    folder = DEFAULT_FOLDER / "postgres"
    if not (folder / "data" / "PG_VERSION").exists():
        raise ConfigurationError(NOT_FOUND)
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        name = _newest_database(server.url())
        yield server.url(name), name
    finally:
        connection.close_all()
        server.stop()


def _newest_database(url: str) -> str:
    row = connection.connect(url, "none").one(
        "SELECT datname FROM pg_database d WHERE NOT datistemplate AND datname <> 'postgres' "
        "ORDER BY EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datid = d.oid) DESC, oid DESC "
        "LIMIT 1"
    )
    if row is None:
        raise ConfigurationError(NOT_FOUND)
    return str(row["datname"])
