"""One run of a workflow at a time: a lease row with a growing epoch, the fencing token.

Redis locks and platform queues may fail; a writer that lost its lease is refused here, because
every write that matters happens in a transaction that holds ``guard``.

What a jump of the database's clock does: forwards, a lease expires early, another run takes it
over, and the earlier holder is fenced off by the epoch. Backwards, a lease seems to last longer
than any lease does; once that is more than twice ``LEASE_SECONDS`` it may be taken over as if it
had expired, because otherwise a holder that died would lock everybody out until the clock is back
where it was. Neither lets two holders write: the epoch decides, not the time.
"""

from __future__ import annotations

from datetime import datetime

from shared import clock
from shared.errors import LeaseLost
from shared.ledger.connection import Ledger

LEASE_SECONDS = 90  # longer than the 60 s after which the platform kills a cron run


def acquire(ledger: Ledger, workflow: str, holder: str) -> int | None:
    """Take the lease for the event ``holder`` and return its new epoch, or ``None`` if it is held.

    A retry of the same event takes its own lease over; the earlier attempt is fenced off.
    """
    key = {"pod": ledger.pod, "workflow": workflow, "holder": holder, "now": _lease_now()}
    ledger.execute(
        "INSERT INTO leases (pod, workflow) VALUES (%(pod)s, %(workflow)s) ON CONFLICT DO NOTHING",
        key,
    )
    row = ledger.one(
        "UPDATE leases SET epoch = epoch + 1, holder = %(holder)s, "
        "expires_at = coalesce(%(now)s, clock_timestamp()) + make_interval(secs => %(secs)s) "
        "WHERE pod = %(pod)s AND workflow = %(workflow)s "
        "AND (holder IS NULL OR holder = %(holder)s "
        "     OR expires_at < coalesce(%(now)s, clock_timestamp()) "
        "     OR expires_at > coalesce(%(now)s, clock_timestamp()) "
        "                     + make_interval(secs => %(far)s)) "
        "RETURNING epoch",
        key | {"secs": LEASE_SECONDS, "far": 2 * LEASE_SECONDS},
    )
    return None if row is None else int(row["epoch"])


def guard(ledger: Ledger, workflow: str, epoch: int) -> None:
    """Hold the lease row until the transaction ends, so that nobody can take it over meanwhile.

    Raises:
        LeaseLost: the lease has passed to another run, or has expired.
    """
    row = ledger.one(
        "SELECT epoch FROM leases WHERE pod = %(pod)s AND workflow = %(workflow)s "
        "AND epoch = %(epoch)s AND holder IS NOT NULL "
        "AND expires_at >= coalesce(%(now)s, clock_timestamp()) FOR SHARE",
        {"pod": ledger.pod, "workflow": workflow, "epoch": epoch, "now": _lease_now()},
    )
    if row is None:
        raise LeaseLost(f"{workflow}: epoch {epoch} no longer holds the lease")


def release(ledger: Ledger, workflow: str, epoch: int) -> None:
    """Give the lease back; does nothing if it was lost."""
    ledger.execute(
        "UPDATE leases SET holder = NULL WHERE pod = %s AND workflow = %s AND epoch = %s",
        (ledger.pod, workflow, epoch),
    )


def _lease_now() -> datetime | None:
    """Leases go by the database's clock, which all runs share; in a replay by the virtual one."""
    return clock.now() if clock.is_virtual() else None
