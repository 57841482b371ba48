"""The dashboard's account of how orders were executed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shared.execution import quality
from shared.ledger.connection import Ledger

_GROUPS = ("by_venue", "by_symbol", "by_hour")


def day(ledger: Ledger, at: datetime) -> dict[str, Any]:
    """All orders of 24 hours together, and how many have an unknown outcome now."""
    figures = quality.of_window(ledger, at - timedelta(hours=24), at)
    total = {name: value for name, value in figures.items() if name not in _GROUPS}
    return total | {"unresolved": _unresolved(ledger)}


def week(ledger: Ledger, since: datetime, until: datetime) -> dict[str, Any]:
    """Quality over a window, by venue, symbol and hour of the day, and the shortfall of parents."""
    figures = quality.of_window(ledger, since, until)
    return figures | {"shortfall": quality.shortfall(ledger, since, until)}


def _unresolved(ledger: Ledger) -> int:
    """Orders in doubt now, however old and whatever they are for."""
    row = ledger.one(
        "SELECT count(*) AS orders FROM intents WHERE pod = %s AND state IN ('SENDING', 'UNKNOWN')",
        (ledger.pod,),
    )
    assert row is not None  # an aggregate without groups has one row
    return int(row["orders"])
