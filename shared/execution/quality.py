"""How well orders were executed: slippage, fills, price, fees, time, and the cost of missing out.

Everything is computed from ``execution_quality``, the ledger's view with one row an order. A cost
is positive, a gain negative. A figure that has nothing to be computed from is ``None``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from shared.ledger.connection import Ledger, Row

Figures = dict[str, Any]

# Slippage is weighted by what was filled, the fill rate by what was ordered at the mid on arrival.
# The mean price of several symbols means nothing. An order that was rejected was wanted, too.
_FIGURES: Mapping[str, str] = {
    "orders_sent": "count(*)",
    "orders_filled": "count(*) FILTER (WHERE filled_quantity > 0)",
    "rejected": "count(*) FILTER (WHERE state = 'REJECTED')",
    "unknown": "count(*) FILTER (WHERE state IN ('SENDING', 'UNKNOWN'))",
    "fees_unknown": "count(*) FILTER (WHERE fills > 0 AND fee_quote IS NULL)",
    "fill_rate_percent": "100 * sum(filled_quantity * arrival_mid) / sum(quantity * arrival_mid)",
    "average_price": "CASE WHEN min(symbol) = max(symbol) "
    "THEN sum(notional_quote) / sum(filled_quantity) FILTER (WHERE fills > 0) END",
    "filled_quote": "sum(notional_quote)",
    "fees_quote": "sum(fee_quote)",
    "fee_bps": "10000 * sum(fee_quote) / sum(notional_quote) FILTER (WHERE fee_quote IS NOT NULL)",
    "slippage_bps": "sum(slippage_bps * notional_quote) / sum(notional_quote)",
    "arrival_slippage_bps": "sum(arrival_slippage_bps * notional_quote) / sum(notional_quote)",
    "maker_percent": "100 * sum(coalesce(maker_quote, 0)) "
    "/ nullif(sum(coalesce(maker_quote, 0) + coalesce(taker_quote, 0)), 0)",
    "time_to_first_fill_ms": "percentile_cont(0.5) WITHIN GROUP (ORDER BY time_to_first_fill_ms)",
    "time_to_fill_ms": "percentile_cont(0.5) WITHIN GROUP (ORDER BY time_to_fill_ms)",
    "time_to_fill_p95_ms": "percentile_cont(0.95) WITHIN GROUP (ORDER BY time_to_fill_ms)",
}
_COUNTS = ("orders_sent", "orders_filled", "rejected", "unknown", "fees_unknown")
_GROUPED = (  # constants only; {condition} is one of the two below
    "SELECT CASE WHEN GROUPING(venue) = 0 THEN 'by_venue' WHEN GROUPING(symbol) = 0 "  # noqa: S608
    "THEN 'by_symbol' WHEN GROUPING(hour_utc) = 0 THEN 'by_hour' ELSE 'total' END AS grouped_by, "
    "coalesce(venue, symbol, to_char(hour_utc, 'FM00')) AS name, "
    + ", ".join(f"{expression} AS {name}" for name, expression in _FIGURES.items())
    + " FROM execution_quality WHERE {condition} "
    "GROUP BY GROUPING SETS ((), (venue), (symbol), (hour_utc)) ORDER BY 1, 2"
)
_ORDER = (
    "SELECT intent_id, venue, symbol, side, purpose, state, hour_utc, quantity, filled_quantity, "
    "fill_rate_percent, average_price, notional_quote AS filled_quote, fee_quote AS fees_quote, "
    "fee_bps, slippage_bps, arrival_slippage_bps, 100 * coalesce(maker_quote, 0) "
    "/ nullif(coalesce(maker_quote, 0) + coalesce(taker_quote, 0), 0) AS maker_percent, "
    "time_to_first_fill_ms, time_to_fill_ms "
    "FROM execution_quality WHERE intent_id = ANY(%s) ORDER BY sent_at, intent_id"
)
# The fee of a parent is unknown where that of a filled order is.
_SHORTFALL = """
WITH worked AS (
    SELECT parent_id, sum(filled_quantity) AS filled_quantity,
           sum(notional_quote) AS notional_quote,
           CASE WHEN bool_and(fills = 0 OR fee_quote IS NOT NULL)
                THEN coalesce(sum(fee_quote), 0) END AS fees_quote,
           (array_agg(arrival_mid ORDER BY sent_at DESC))[1] AS last_mid
    FROM execution_quality
    WHERE pod = %(pod)s AND sent_at > %(since)s AND parent_id IS NOT NULL
    GROUP BY parent_id
), ended AS (
    SELECT quantity * decision_mid AS wanted_quote, sign,
           sign * (coalesce(notional_quote, 0) - filled_quantity * decision_mid) AS execution_quote,
           fees_quote,
           sign * (quantity - filled_quantity) * (last_mid - decision_mid) AS missed_quote
    FROM (SELECT *, CASE side WHEN 'buy' THEN 1 ELSE -1 END AS sign FROM parent_orders) p
    LEFT JOIN worked USING (parent_id)
    WHERE pod = %(pod)s AND state <> 'WORKING'
      AND created_at > %(since)s AND created_at <= %(until)s
)
SELECT count(*) AS parents,
       count(*) FILTER (WHERE missed_quote IS NULL OR fees_quote IS NULL) AS parents_unvalued,
       sum(execution_quote) FILTER (WHERE valued) AS execution_quote,
       sum(fees_quote) FILTER (WHERE valued) AS fees_quote,
       sum(missed_quote) FILTER (WHERE valued) AS missed_quote,
       sum(execution_quote + fees_quote + missed_quote) AS shortfall_quote,
       10000 * sum(execution_quote + fees_quote + missed_quote)
           / sum(wanted_quote) FILTER (WHERE valued) AS shortfall_bps
FROM (SELECT *, missed_quote IS NOT NULL AND fees_quote IS NOT NULL AS valued FROM ended) v
"""


def of_intents(ledger: Ledger, intent_ids: Sequence[str]) -> Figures:
    """Quality of some orders: the figures of all, ``by_venue``, ``by_symbol``, ``by_hour``, and
    ``orders`` one by one, as JSON types.

    ``slippage_bps`` is against the mid when the trade was decided, ``arrival_slippage_bps``
    against the mid when the order left. Times to fill are milliseconds from the moment of
    sending, by our clock, to the venue's time of the first and last fill: over several orders the
    median. ``fees_unknown`` counts filled orders with a fee that has no known value in quote.
    """
    if not intent_ids:
        return _without_orders() | {"orders": []}
    ids = list(intent_ids)
    figures = _grouped(ledger, "intent_id = ANY(%(ids)s)", {"ids": ids})
    orders = ledger.query(_ORDER, (ids,))
    return _exported(figures) | {"orders": [_exported(order) for order in orders]}


def of_window(ledger: Ledger, since: datetime, until: datetime) -> Figures:
    """Quality of the pod's orders sent after ``since`` and until ``until``, in exact decimals.

    Stops that rest for protection are left out: they are there not to be filled.
    """
    return _grouped(
        ledger,
        "pod = %(pod)s AND sent_at > %(since)s AND sent_at <= %(until)s AND purpose <> 'protect'",
        {"pod": ledger.pod, "since": since, "until": until},
    )


def shortfall(ledger: Ledger, since: datetime, until: datetime) -> Row:
    """Implementation shortfall of the parent orders made in the window that have ended.

    After Perold, The Implementation Shortfall: Paper versus Reality (1988): what the whole
    quantity would have cost at the mid of the decision, against what was paid, with fees, and
    what was missed. The missed part is valued at the mid on arrival of the parent's last order:
    the ledger keeps no later price. A parent without an order has none, and neither has one with
    a fee of unknown value: ``parents_unvalued`` counts both, and the sums leave them out.
    """
    row = ledger.one(_SHORTFALL, {"pod": ledger.pod, "since": since, "until": until})
    assert row is not None  # an aggregate without groups has one row
    return row


def _grouped(ledger: Ledger, condition: str, parameters: Mapping[str, Any]) -> Figures:
    found = _without_orders()
    for row in ledger.query(_GROUPED.format(condition=condition), parameters):
        grouped_by, name = row.pop("grouped_by"), row.pop("name")
        if grouped_by == "total":
            found |= row
        else:
            found[grouped_by][name] = row
    return found


def _without_orders() -> Figures:
    unknown = dict.fromkeys(_FIGURES) | dict.fromkeys(_COUNTS, 0)
    return unknown | {"by_venue": {}, "by_symbol": {}, "by_hour": {}}


def _exported(value: Any) -> Any:
    """Exact decimals as the numbers of JSON, to ten digits."""
    if isinstance(value, dict):
        return {name: _exported(item) for name, item in value.items()}
    if value is None or isinstance(value, int | str):
        return value
    return float(f"{value:.10g}")
