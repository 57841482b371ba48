"""What the ledger knows that a decision needs: positions, results, cooldowns, open questions."""

from __future__ import annotations

import statistics
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.ledger.connection import Ledger
from shared.market.types import TIMEFRAME_MS
from shared.signals.strategies import momentum
from shared.signals.types import EarlierMacd, OpenPosition

_RECENT_TRADES = 10
_CORRELATION_HOURS = 72
_MIN_COMMON_RETURNS = 24
REFUSED_MINUTES = 15
"""For so long a purchase that risk management has refused is not proposed again: the reason seldom
goes away in a minute, and each proposal asks two models."""


@dataclass(frozen=True)
class LedgerState:
    """Read once a run. Only the tactical sleeve is traded on signals."""

    positions: dict[str, OpenPosition]
    pnl_quote: dict[str, Decimal]
    cooling: frozenset[str]
    unresolved: frozenset[str]
    refused: frozenset[str] = frozenset()
    earlier_macd: dict[str, EarlierMacd] = field(default_factory=dict)


def read(ledger: Ledger, cooldown_minutes: int) -> LedgerState:
    """The state that candidates are judged by."""
    open_rows = ledger.query(
        "SELECT symbol, strategy, quantity, average_entry_price, opened_at FROM position_summary "
        "WHERE pod = %s AND closed_at IS NULL AND sleeve = 'tactical'",
        (ledger.pod,),
    )
    pnl_rows = ledger.query(
        "SELECT strategy, sum(pnl_quote) AS pnl_quote FROM trades WHERE pod = %s GROUP BY strategy",
        (ledger.pod,),
    )
    blocked = ledger.query(
        "SELECT 'cooling' AS kind, symbol FROM positions WHERE pod = %(pod)s "
        "AND sleeve = 'tactical' AND closed_at > %(since)s "
        "UNION SELECT 'unresolved', symbol FROM intents WHERE pod = %(pod)s "
        "AND state IN ('SENDING', 'UNKNOWN') "
        "UNION SELECT 'refused', d.symbol FROM decisions d JOIN risk_checks r USING (decision_id) "
        "WHERE d.pod = %(pod)s AND d.at > %(refused_since)s AND d.action = 'BUY' "
        "AND NOT r.approved",
        {
            "pod": ledger.pod,
            "since": clock.now() - timedelta(minutes=cooldown_minutes),
            "refused_since": clock.now() - timedelta(minutes=REFUSED_MINUTES),
        },
    )
    return LedgerState(
        positions={row["symbol"]: _position(row) for row in open_rows},
        pnl_quote={row["strategy"]: row["pnl_quote"] for row in pnl_rows},
        cooling=frozenset(r["symbol"] for r in blocked if r["kind"] == "cooling"),
        unresolved=frozenset(r["symbol"] for r in blocked if r["kind"] == "unresolved"),
        refused=frozenset(r["symbol"] for r in blocked if r["kind"] == "refused"),
        earlier_macd=_earlier_macd(ledger),
    )


def recent_trades(ledger: Ledger) -> list[dict[str, Any]]:
    """The last closed tactical trades, newest first."""
    rows = ledger.query(
        "SELECT symbol, strategy, return_percent, pnl_quote, close_reason FROM trades "
        "WHERE pod = %s AND sleeve = 'tactical' ORDER BY closed_at DESC LIMIT %s",
        (ledger.pod, _RECENT_TRADES),
    )
    return [
        row
        | {"return_percent": _float(row["return_percent"]), "pnl_quote": _float(row["pnl_quote"])}
        for row in rows
    ]


def correlations(
    ledger: Ledger, candidates: Collection[str], held: Collection[str]
) -> dict[str, dict[str, float | None]]:
    """Correlation of hourly returns of each candidate with each held symbol, from past scans.

    ``None`` where fewer than a day of common hours was scanned.
    """
    if not held:
        return {}
    rows = ledger.query(
        "SELECT date_trunc('hour', at) AS hour, market->>'symbol' AS symbol, "
        "(market->>'price')::float8 AS price "
        "FROM scans, jsonb_array_elements(payload->'signals'->'markets') AS market "
        "WHERE pod = %(pod)s AND at >= %(since)s AND extract(minute FROM at) = 0 "
        "AND market->>'symbol' = ANY(%(symbols)s) AND (market->>'price')::float8 > 0 ORDER BY 1",
        {
            "pod": ledger.pod,
            "since": clock.now() - timedelta(hours=_CORRELATION_HOURS),
            "symbols": sorted({*candidates, *held}),
        },
    )
    prices: dict[str, dict[Any, float]] = {}
    for row in rows:
        prices.setdefault(row["symbol"], {})[row["hour"]] = row["price"]
    return {
        candidate: {
            other: correlation(prices.get(candidate, {}), prices.get(other, {})) for other in held
        }
        for candidate in candidates
    }


def correlation(left: dict[Any, float], right: dict[Any, float]) -> float | None:
    """Pearson's correlation of the returns between successive common times."""
    times = sorted(left.keys() & right.keys())
    pairs = [
        (left[now] / left[before] - 1, right[now] / right[before] - 1)
        for before, now in zip(times, times[1:], strict=False)
    ]
    if len(pairs) < _MIN_COMMON_RETURNS:
        return None
    first, second = zip(*pairs, strict=True)
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None  # a constant series correlates with nothing
    return statistics.correlation(first, second)


def _earlier_macd(ledger: Ledger) -> dict[str, EarlierMacd]:
    """The momentum strategy's MACD one candle ago, from the scan of that time."""
    candle = timedelta(milliseconds=TIMEFRAME_MS[momentum.TIMEFRAME])
    rows = ledger.query(
        "SELECT market->>'symbol' AS symbol, "
        "(market->'indicators'->%(timeframe)s->>'macd_histogram')::float8 AS histogram, "
        "(market->'indicators'->%(timeframe)s->>'closed_at_ms')::float8::bigint AS closed_at_ms "
        "FROM (SELECT payload FROM scans WHERE pod = %(pod)s AND at <= %(until)s "
        "      AND at > %(since)s ORDER BY at DESC LIMIT 1) AS scan, "
        "jsonb_array_elements(payload->'signals'->'markets') AS market",
        {
            "pod": ledger.pod,
            "timeframe": momentum.TIMEFRAME,
            "until": clock.now() - candle,
            "since": clock.now() - 2 * candle,
        },
    )
    return {
        row["symbol"]: EarlierMacd(row["histogram"], row["closed_at_ms"])
        for row in rows
        if row["histogram"] is not None and row["closed_at_ms"] is not None
    }


def _position(row: dict[str, Any]) -> OpenPosition:
    return OpenPosition(
        symbol=row["symbol"],
        strategy=row["strategy"],
        quantity=row["quantity"],
        average_entry_price=row["average_entry_price"],
        opened_at_ms=clock.to_ms(row["opened_at"]),
    )


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
