"""How well orders were executed: slippage, fill rate, price, fees."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from shared.ledger.connection import Ledger, Row


def of_intents(ledger: Ledger, intent_ids: Sequence[str]) -> dict[str, Any]:
    """Quality over some intents; a figure that has no fills to be computed from is ``None``.

    ``slippage_bps`` is against the mid when the trade was decided, ``arrival_slippage_bps``
    against the mid when the order left, both weighted by filled notional; positive is a cost.
    (Perold's implementation shortfall, The Paper versus Reality, 1988, without the missed part.)
    """
    if not intent_ids:
        return summarise([])
    rows = ledger.query(
        "SELECT l.quantity, l.filled_quantity, l.average_price, l.slippage_bps, "
        "l.arrival_slippage_bps, (SELECT coalesce(sum(f.fee_quote), 0) FROM fills f "
        "WHERE f.intent_id = l.intent_id) AS fee_quote "
        "FROM order_log l WHERE l.intent_id = ANY(%s)",
        (list(intent_ids),),
    )
    return summarise(rows)


def of_pod(ledger: Ledger) -> dict[str, Any]:
    """Quality over everything that this pod has ordered."""
    rows = ledger.query(
        "SELECT l.quantity, l.filled_quantity, l.average_price, l.slippage_bps, "
        "l.arrival_slippage_bps, (SELECT coalesce(sum(f.fee_quote), 0) FROM fills f "
        "WHERE f.intent_id = l.intent_id) AS fee_quote FROM order_log l WHERE l.pod = %s",
        (ledger.pod,),
    )
    return summarise(rows)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of ``of_intents`` from rows of ``order_log`` with ``fee_quote``."""
    filled = [row for row in rows if row["average_price"] is not None]
    wanted = sum((row["quantity"] for row in rows), Decimal(0))
    got = sum((row["filled_quantity"] for row in rows), Decimal(0))
    notional = sum((row["filled_quantity"] * row["average_price"] for row in filled), Decimal(0))
    return {
        "orders": len(rows),
        "fill_rate_percent": _rounded(100 * got / wanted) if wanted else None,
        "average_price": _rounded(notional / got) if got else None,
        "filled_quote": float(notional),
        "fees_quote": float(sum((row["fee_quote"] for row in rows), Decimal(0))),
        "slippage_bps": _weighted(filled, "slippage_bps", notional),
        "arrival_slippage_bps": _weighted(filled, "arrival_slippage_bps", notional),
    }


def _weighted(filled: Sequence[Row], column: str, notional: Decimal) -> float | None:
    if not notional:
        return None
    total = sum(
        (row[column] * row["filled_quantity"] * row["average_price"] for row in filled),
        Decimal(0),
    )
    return _rounded(total / notional)


def _rounded(value: Decimal) -> float:
    return float(f"{value:.10g}")
