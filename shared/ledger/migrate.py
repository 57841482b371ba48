"""Versioned migrations: numbered SQL files, applied in order, once, each in a transaction."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from shared import clock
from shared.errors import ConfigurationError
from shared.ledger.connection import Ledger

_LOCK_KEY = 7_205_759_403  # any number that nobody else locks in this database


@dataclass(frozen=True)
class Migration:
    """One SQL file. ``checksum`` is the SHA-256 of its bytes."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known() -> list[Migration]:
    """The migrations that this build carries, in order."""
    folder = resources.files("shared.ledger") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [
        Migration(int(f.name.split("_", 1)[0]), f.name.removesuffix(".sql"), f.read_text())
        for f in files
    ]


def applied(ledger: Ledger) -> dict[int, str]:
    """The checksums of the migrations that the database has, by version."""
    ledger.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version integer PRIMARY KEY, "
        "name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL)"
    )
    rows = ledger.query("SELECT version, checksum FROM schema_migrations ORDER BY version")
    return {row["version"]: row["checksum"] for row in rows}


def migrate(ledger: Ledger) -> list[str]:
    """Bring the database up to this build, and give the pod its trading state.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        ConfigurationError: the database was made by a newer or by a different build.
    """
    with ledger.transaction():
        ledger.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
        present = applied(ledger)
        _refuse_foreign(present)
        pending = [m for m in known() if m.version not in present]
        for migration in pending:
            ledger.execute(migration.sql)
            ledger.execute(
                "INSERT INTO schema_migrations VALUES (%s, %s, %s, %s)",
                (migration.version, migration.name, migration.checksum, clock.now()),
            )
        ledger.execute(
            "INSERT INTO trading_state (pod, since) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (ledger.pod, clock.now()),
        )
    return [m.name for m in pending]


def _refuse_foreign(present: dict[int, str]) -> None:
    own = {m.version: m.checksum for m in known()}
    for version, checksum in present.items():
        if version not in own:
            raise ConfigurationError(
                f"database: migration {version} is unknown here; this build knows up to {max(own)}"
            )
        if own[version] != checksum:
            raise ConfigurationError(
                f"database: migration {version} differs from this build's file of that number"
            )
