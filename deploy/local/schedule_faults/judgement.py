"""Whether the books hold after all that happened: the sweep's invariants, over a whole replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from deploy.local.session import LocalSession
from deploy.local.sweep import evidence, invariants

Violation = dict[str, str]


def judge(session: LocalSession) -> list[Violation]:
    """Everything that is wrong at the end of a replay that was not stopped in between.

    Looked for: an order twice, an order that no intent knows, fills and balances that differ,
    intents without an outcome, buys after a halt, parents that bought too much, something held
    without a stop. Limits are the gate's to hold; what it let through is not counted again here.
    """
    found = replace(
        evidence.collect(session.ledger, session.wire.accounts()), epochs=_epochs(session)
    )
    return [
        {"kind": violation.kind, "what": violation.what}
        for violation in invariants.judge(found, expect_protection=True)
    ]


def _epochs(session: LocalSession) -> frozenset[int]:
    """All that were ever handed out. A run that is repeated keeps only its newest in ``runs``."""
    row = session.ledger.one(
        "SELECT coalesce(max(epoch), 0) AS newest FROM leases WHERE pod = %s",
        (session.ledger.pod,),
    )
    assert row is not None
    return frozenset(range(1, int(row["newest"]) + 1))


def trading_state(session: LocalSession) -> dict[str, Any]:
    """The state that the loop has come to, and why."""
    row = session.ledger.one(
        "SELECT state, reason FROM trading_state WHERE pod = %s", (session.ledger.pod,)
    )
    assert row is not None
    return {"state": row["state"], "reason": row["reason"]}
