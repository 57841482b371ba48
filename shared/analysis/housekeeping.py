"""The hourly care of the market data in the ledger: keep what is new, drop what is old."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared import clock
from shared.ledger.connection import Ledger
from shared.market.candles import history
from shared.market.candles.candle_store import CandleStore
from shared.market.types import Candles
from shared.run import Run

SCANS_PRUNED_AT_ONCE = 5_000
"""Three days and a half of a pod: what piled up goes over some hours, in short statements."""
KEEPING_SECONDS = 10.0
"""After that no further statement of candles is begun; the next hour goes on."""


def keep_house(run: Run) -> dict[str, Any]:
    """Copy closed candles from the cache into the history, and delete what is past retention.

    Raises:
        LedgerUnavailable, LeaseLost: nothing has changed.
    """
    now_ms, store = clock.now_ms(), CandleStore(run.cache)
    days = run.config.retention_days
    windows = {
        venue: [
            w for by_name in store.read(venue, run.pairs, now_ms).values() for w in by_name.values()
        ]
        for venue in run.config.venues
    }
    with run.ledger.transaction():
        run.guard()
        return {
            "candles_kept": sum(
                _keep(run.ledger, venue, found) for venue, found in windows.items()
            ),
            "candles_deleted": history.prune(run.ledger, now_ms, days),
            "scans_deleted": _prune_scans(run.ledger, days),
        }


def _keep(ledger: Ledger, venue: str, windows: list[Candles]) -> int:
    """One statement in an ordinary hour; a first hour of many symbols takes several."""
    watch, kept = clock.Stopwatch(), 0
    while watch.seconds() < KEEPING_SECONDS:
        written = history.keep(ledger, venue, windows)
        kept += written
        if written < history.KEPT_AT_ONCE // 2:  # of full shares not all are left
            break
    return kept


def _prune_scans(ledger: Ledger, retention_days: int) -> int:
    """The pod's oldest scans, as far as they are older than ``retention_days``."""
    return ledger.execute(
        "DELETE FROM scans WHERE scan_id IN (SELECT scan_id FROM scans WHERE pod = %s AND at < %s "
        "ORDER BY at LIMIT %s)",
        (ledger.pod, clock.now() - timedelta(days=retention_days), SCANS_PRUNED_AT_ONCE),
    )
