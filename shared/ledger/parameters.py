"""Versions of the tunable parameters. The newest version is the one in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared import clock
from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger, json
from shared.parameters import Parameters


@dataclass(frozen=True)
class ParameterVersion:
    """A version and its values. Version 0 is the defaults, before anything was written."""

    version: int
    values: Parameters


def current(ledger: Ledger) -> ParameterVersion:
    """The parameters in force.

    Raises:
        DataUnavailable: what the ledger holds does not fit the bounds of this build.
    """
    row = ledger.one(
        "SELECT version, parameters FROM parameters WHERE pod = %s ORDER BY version DESC LIMIT 1",
        (ledger.pod,),
    )
    if row is None:
        return ParameterVersion(0, Parameters())
    try:
        return ParameterVersion(row["version"], Parameters.model_validate(row["parameters"]))
    except ValueError as error:
        raise DataUnavailable(f"parameters version {row['version']}: {error}") from error


def put(
    ledger: Ledger, values: Parameters, *, set_by: str, reason: str, evidence: dict[str, Any]
) -> ParameterVersion:
    """Write the next version; it is in force from the next read on."""
    with ledger.transaction():
        ledger.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"parameters:{ledger.pod}",))
        version = current(ledger).version + 1
        ledger.execute(
            "INSERT INTO parameters VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                ledger.pod,
                version,
                json(values.model_dump()),
                set_by,
                reason,
                json(evidence),
                clock.now(),
            ),
        )
    return ParameterVersion(version, values)
