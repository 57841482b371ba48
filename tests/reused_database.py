"""One database for many tests, emptied before each: quicker than a copy of a template."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import psycopg2
from psycopg2.extensions import connection

# Without triggers and foreign keys the order of the tables does not matter.
_EMPTY = """
SET LOCAL session_replication_role = replica;
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables
                WHERE schemaname = 'public'
    LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
    FOR name IN SELECT sequencename FROM pg_sequences
                WHERE schemaname = 'public' AND last_value IS NOT NULL
    LOOP PERFORM setval(name::regclass, 1, false); END LOOP;
END $$;
"""


def empty(url: str, pod: str, since: datetime) -> None:
    """Leave what a migrated database has: a pod that has been in its trading state ``since``."""
    migrations = _migrations(url)
    with _connection(url) as session, session.cursor() as cursor:
        cursor.execute(_EMPTY)
        cursor.executemany("INSERT INTO schema_migrations VALUES (%s, %s, %s, %s)", migrations)
        cursor.execute("INSERT INTO trading_state (pod, since) VALUES (%s, %s)", (pod, since))


@cache
def _migrations(url: str) -> list[tuple[Any, ...]]:
    """As they were when the database was new: some tests change them."""
    with _connection(url) as session, session.cursor() as cursor:
        cursor.execute("SELECT version, name, checksum, applied_at FROM schema_migrations")
        return cursor.fetchall()


@cache
def _connection(url: str) -> connection:
    return psycopg2.connect(url, options="-c lock_timeout=5s")
