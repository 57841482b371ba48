"""Runs: which event was worked on, by which build, with what end."""

from __future__ import annotations

from datetime import datetime

from shared import BUILD, VERSION, clock
from shared.ledger.connection import Ledger

THIS_BUILD = f"{VERSION}+{BUILD}"
"""What a run is marked with: the version, and which build of it, as a bundle tells."""


def start(
    ledger: Ledger, workflow: str, trace_id: str, event_at: datetime, epoch: int
) -> int | None:
    """Claim an event and return the run's id, or ``None`` if it has been done already."""
    row = ledger.one(
        "INSERT INTO runs (pod, workflow, trace_id, event_at, epoch, build, started_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT (pod, workflow, trace_id) DO UPDATE "
        "SET epoch = excluded.epoch, started_at = excluded.started_at, status = 'RUNNING', "
        "    error = NULL, finished_at = NULL "
        "WHERE runs.status <> 'DONE' RETURNING run_id",
        (ledger.pod, workflow, trace_id, event_at, epoch, THIS_BUILD, clock.now()),
    )
    return None if row is None else int(row["run_id"])


def finish(
    ledger: Ledger, run_id: int, epoch: int, *, duration_ms: float, error: str | None = None
) -> None:
    """Close the run: ``DONE``, or ``FAILED`` with its error.

    A holder whose event was taken over in the meantime changes nothing.
    """
    ledger.execute(
        "UPDATE runs SET status = %s, finished_at = %s, duration_ms = %s, error = %s "
        "WHERE run_id = %s AND epoch = %s AND status = 'RUNNING'",
        ("DONE" if error is None else "FAILED", clock.now(), duration_ms, error, run_id, epoch),
    )
