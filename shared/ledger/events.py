"""The log of what happened that a person would want to find later."""

from __future__ import annotations

from typing import Any

from shared import clock
from shared.ledger.connection import Ledger, Row, json

CANCEL_SENT = "CANCEL_SENT"
"""A cancel goes to a venue; its detail names ``symbol``. The gate counts these in its rates."""


def record(ledger: Ledger, kind: str, detail: dict[str, Any]) -> None:
    """Write one event. ``kind`` is upper case, for example ``RECONCILE_DIFFERENCE``."""
    ledger.execute(
        "INSERT INTO events (pod, at, kind, detail) VALUES (%s, %s, %s, %s)",
        (ledger.pod, clock.now(), kind, json(detail)),
    )


def recent(ledger: Ledger, limit: int = 50) -> list[Row]:
    """The newest events first."""
    return ledger.query(
        "SELECT at, kind, detail FROM events WHERE pod = %s ORDER BY event_id DESC LIMIT %s",
        (ledger.pod, limit),
    )
