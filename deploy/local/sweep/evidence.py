"""Reads the books of the system under test: the ledger's tables, and nothing of its code."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from deploy.local.sweep.invariants import Evidence
from shared.ledger.connection import Ledger

_UNRESOLVED = "state IN ('SENDING', 'UNKNOWN')"


def collect(
    ledger: Ledger,
    accounts: dict[str, Any],
    *,
    max_cost_quote: Decimal | None = None,
    max_positions: int | None = None,
    rebalance_min_hours: float | None = None,
) -> Evidence:
    """The evidence of this moment. A limit that is not given is not judged."""
    pod = (ledger.pod,)
    halted = ledger.one("SELECT since FROM trading_state WHERE pod = %s AND state = 'HALTED'", pod)
    held = ledger.one(
        "SELECT count(*) AS positions, coalesce(sum(average_entry_price * quantity), 0) AS cost "
        "FROM position_summary WHERE pod = %s AND closed_at IS NULL AND quantity > 0",
        pod,
    )
    assert held is not None
    return Evidence(
        intents=ledger.query("SELECT * FROM intents WHERE pod = %s", pod),
        orders=ledger.query("SELECT * FROM orders WHERE pod = %s", pod),
        fills=ledger.query("SELECT * FROM fills WHERE pod = %s", pod),
        balances={
            (row["venue"], row["currency"]): row["amount"]
            for row in ledger.query("SELECT * FROM balances WHERE pod = %s", pod)
        },
        accounts=accounts,
        parents=ledger.query(
            "SELECT p.parent_id, p.quantity, coalesce(sum(f.quantity), 0) AS traded_quantity "
            "FROM parent_orders p LEFT JOIN intents i USING (parent_id) "
            "LEFT JOIN fills f USING (intent_id) WHERE p.pod = %s "
            "GROUP BY p.parent_id",
            pod,
        ),
        epochs=frozenset(
            row["epoch"] for row in ledger.query("SELECT epoch FROM runs WHERE pod = %s", pod)
        ),
        cost_quote=held["cost"],
        positions=held["positions"],
        max_cost_quote=max_cost_quote,
        max_positions=max_positions,
        halted_since=None if halted is None else halted["since"],
        rebalanced=[
            row["at"]
            for row in ledger.query("SELECT at FROM rebalances WHERE pod = %s ORDER BY at", pod)
        ],
        rebalance_min_hours=rebalance_min_hours,
    )


def dust(ledger: Ledger) -> dict[tuple[str, str], Decimal]:
    """By venue and currency, what closed positions have left behind."""
    rows = ledger.query(
        "SELECT h.venue, split_part(p.symbol, '/', 1) AS currency, sum(h.quantity) AS quantity "
        "FROM position_holdings h JOIN positions p USING (position_id) "
        "WHERE p.pod = %s AND p.closed_at IS NOT NULL GROUP BY 1, 2",
        (ledger.pod,),
    )
    return {(row["venue"], row["currency"]): row["quantity"] for row in rows}


def is_at_rest(ledger: Ledger) -> bool:
    """Whether every intent has an outcome and no order but stops is open."""
    row = ledger.one(
        "SELECT (SELECT count(*) FROM intents WHERE pod = %(pod)s AND "  # noqa: S608 our own constant
        f"{_UNRESOLVED}) + (SELECT count(*) FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.pod = %(pod)s AND o.status = 'open' AND i.purpose <> 'protect') AS waiting",
        {"pod": ledger.pod},
    )
    assert row is not None
    return int(row["waiting"]) == 0


def bought_quantity(ledger: Ledger) -> Decimal:
    """All that was ever bought, in base."""
    row = ledger.one(
        "SELECT coalesce(sum(quantity), 0) AS bought FROM fills WHERE pod = %s AND side = 'buy'",
        (ledger.pod,),
    )
    assert row is not None
    bought: Decimal = row["bought"]
    return bought


def resolution_seconds(ledger: Ledger, since_ms: int) -> list[float]:
    """How long the intents took that did not have their outcome in the run that sent them."""
    rows = ledger.query(
        "SELECT extract(epoch FROM resolved_at - sent_at) AS seconds FROM intents "
        "WHERE pod = %s AND resolved_at > sent_at AND resolved_at >= to_timestamp(%s)",
        (ledger.pod, since_ms / 1000),
    )
    return [float(row["seconds"]) for row in rows]
