"""Puts a whole database back to an earlier content, in 2 ms.

A database made from a template for every case would cost 45 ms, and its first connection the
catalogue's caches. The rows and the sequences are what matters, and they are the same here.
"""

from __future__ import annotations

import psycopg2
from psycopg2 import sql

_LOADS_BETWEEN_VACUUMS = 40


class LedgerCopy:
    """Copies of all tables of the schema ``public``, each kept in a schema of its own.

    Args:
        url: a role that may set ``session_replication_role``: rows go back without the order
            that foreign keys would ask for.
    """

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        self._loads: dict[str, str] = {}
        self._count = 0

    def close(self) -> None:
        self._connection.close()

    def save(self, name: str) -> None:
        """Keep the present content as ``name``, in place of an earlier one of that name."""
        schema = sql.Identifier(f"copy_{name}")
        with self._connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(schema))
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
            statements = ["BEGIN", "SET LOCAL session_replication_role = replica"]
            for table in self._names(cursor, "SELECT tablename FROM pg_tables"):
                copied = sql.SQL("{}.{}").format(schema, sql.Identifier(table))
                original = sql.SQL("public.{}").format(sql.Identifier(table))
                cursor.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(copied, original))
                statements.append(sql.SQL("DELETE FROM {}").format(original).as_string(cursor))
                statements.append(
                    sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE TABLE {}")
                    .format(original, copied)
                    .as_string(cursor)
                )
            for sequence in self._names(cursor, "SELECT sequencename FROM pg_sequences"):
                statements.append(self._reset(cursor, sequence))
            self._loads[name] = ";".join([*statements, "COMMIT"])

    def load(self, name: str) -> None:
        """Put back what was kept as ``name``."""
        with self._connection.cursor() as cursor:
            cursor.execute(self._loads[name])
            self._count += 1
            if self._count % _LOADS_BETWEEN_VACUUMS == 0:
                cursor.execute("VACUUM")

    @staticmethod
    def _names(cursor: psycopg2.extensions.cursor, query: str) -> list[str]:
        cursor.execute(f"{query} WHERE schemaname = 'public' ORDER BY 1")  # noqa: S608 two own texts
        return [row[0] for row in cursor.fetchall()]

    @staticmethod
    def _reset(cursor: psycopg2.extensions.cursor, sequence: str) -> str:
        name = sql.SQL("public.{}").format(sql.Identifier(sequence))
        cursor.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(name))
        row = cursor.fetchone()
        assert row is not None
        return (
            sql.SQL("SELECT setval({}, {}, {})")
            .format(sql.Literal(name.as_string(cursor)), *map(sql.Literal, row))
            .as_string(cursor)
        )
