"""What the checks need to know, read from the ledger in few statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.ledger import equity, state
from shared.ledger.connection import Ledger
from shared.ledger.equity import Standing
from shared.ledger.state import TradingState

CALLS_WINDOW = timedelta(minutes=5)

_FACTS = """
WITH recent_intents AS (
    SELECT venue, symbol, state, sent_at FROM intents
    WHERE pod = %(pod)s AND sent_at > %(hour_ago)s AND sent_at <= %(now)s
), recent_runs AS (
    SELECT workflow, status, event_at, started_at, duration_ms FROM runs
    WHERE pod = %(pod)s AND event_at > %(hour_ago)s AND event_at <= %(now)s
)
SELECT
    EXISTS (SELECT 1 FROM runs WHERE pod = %(pod)s AND workflow = 'trading_loop'
            AND status = 'DONE')
        OR EXISTS (SELECT 1 FROM intents WHERE pod = %(pod)s) AS started,
    (SELECT positions_quote FROM equity WHERE pod = %(pod)s ORDER BY at DESC LIMIT 1)
        AS positions_quote,
    (SELECT max(version) FROM schema_migrations) AS schema_version,
    (SELECT count(*) FROM positions
     WHERE pod = %(pod)s AND sleeve = 'tactical' AND closed_at IS NULL) AS tactical_positions,
    (SELECT jsonb_agg(jsonb_build_object('symbol', s.symbol, 'quantity', s.quantity::text))
     FROM position_summary s WHERE s.pod = %(pod)s AND s.closed_at IS NULL) AS holdings,
    (SELECT count(*) FROM parent_orders
     WHERE pod = %(pod)s AND state = 'WORKING' AND side = 'buy')
    + (SELECT count(*) FROM orders o JOIN intents i USING (intent_id)
       WHERE o.pod = %(pod)s AND o.status = 'open' AND i.purpose <> 'protect') AS open_entries,
    (SELECT jsonb_agg(DISTINCT jsonb_build_array(venue, symbol)) FROM recent_intents)
        AS ordered_markets,
    (SELECT count(*) FROM recent_intents) AS intents_last_hour,
    (SELECT count(*) FROM recent_intents WHERE state IN ('REJECTED', 'UNKNOWN'))
        AS failed_intents_last_hour,
    (SELECT jsonb_object_agg(venue, sent) FROM (
        SELECT venue, count(*) AS sent FROM recent_intents
        WHERE sent_at > %(minute_ago)s GROUP BY venue) AS by_venue) AS orders_last_minute,
    (SELECT count(*) FROM recent_runs WHERE status <> 'RUNNING') AS runs_last_hour,
    (SELECT count(*) FROM recent_runs WHERE status = 'FAILED') AS failed_runs_last_hour,
    (SELECT min(started_at) FROM recent_runs WHERE status = 'RUNNING' AND event_at < %(now)s)
        AS oldest_running_at,
    (SELECT max(duration_ms) FROM recent_runs
     WHERE workflow = 'trading_loop' AND event_at > %(calls_from)s) AS slowest_run_ms,
    (SELECT 10000 * sum(slippage_bps / 10000 * filled_quantity * average_price)
            / nullif(sum(filled_quantity * average_price), 0)
     FROM order_log WHERE pod = %(pod)s AND sent_at > %(day_ago)s AND sent_at <= %(now)s
       AND slippage_bps IS NOT NULL AND filled_quantity > 0) AS slippage_bps
"""

_CALLS = """
SELECT venue AS service, sum(calls)::int AS calls, sum(failures)::int AS failures,
       sum(rate_limited)::int AS rate_limited,
       sum(mean_latency_ms * calls) / nullif(sum(calls), 0) AS mean_latency_ms,
       max(max_latency_ms) AS max_latency_ms
FROM venue_calls WHERE pod = %(pod)s AND at > %(calls_from)s AND at <= %(now)s GROUP BY venue
"""

_SCANS = """
SELECT s.at, (
    SELECT jsonb_agg(jsonb_build_object(
        'symbol', m->'symbol', 'price', m->'price', 'anomaly', m->'anomaly',
        'spread_bps', m#>'{microstructure,spread_bps}',
        'depth_quote', m#>'{microstructure,depth_25bps_quote}', 'venues', m->'venues'))
    FROM jsonb_array_elements(s.payload#>'{signals,markets}') AS m) AS markets,
    s.payload->'quote_worth' AS quote_worth
FROM (
    (SELECT at, payload FROM scans WHERE pod = %(pod)s AND at <= %(now)s
     ORDER BY at DESC LIMIT 1)
    UNION ALL
    (SELECT at, payload FROM scans WHERE pod = %(pod)s AND at <= %(calls_from)s
     ORDER BY at DESC LIMIT 1)
) AS s ORDER BY s.at DESC
"""


@dataclass(frozen=True)
class Calls:
    """How a service answered in the last five minutes."""

    service: str
    calls: int
    failures: int
    rate_limited: int
    mean_latency_ms: float
    max_latency_ms: float


@dataclass(frozen=True)
class Scan:
    """The parts of a scan that the checks look at.

    Attributes:
        quote_worth: of a unit of the quote currency in its peg, by venue and pair.
    """

    at: datetime
    markets: list[dict[str, Any]]
    quote_worth: dict[str, float]


@dataclass(frozen=True)
class Facts:
    """The state of the pod at ``now``. Money in quote currency; ``None`` is not known."""

    now: datetime
    trading: TradingState
    standing: Standing
    statement_ms: float
    calls: dict[str, Calls]
    scan: Scan | None
    earlier_scan: Scan | None
    started: bool
    positions_quote: Decimal | None
    schema_version: int | None
    tactical_positions: int
    holdings: list[dict[str, Any]] | None
    open_entries: int
    ordered_markets: list[list[str]] | None
    intents_last_hour: int
    failed_intents_last_hour: int
    orders_last_minute: dict[str, int] | None
    runs_last_hour: int
    failed_runs_last_hour: int
    oldest_running_at: datetime | None
    slowest_run_ms: float | None
    slippage_bps: Decimal | None


def fetch(ledger: Ledger, quote_currency: str) -> Facts:
    """Read the facts of this moment.

    Raises:
        LedgerUnavailable: the ledger does not answer; then nothing can be known or written.
    """
    now = clock.now()
    trading = state.read(ledger)
    key = {
        "pod": ledger.pod,
        "now": now,
        "calls_from": now - CALLS_WINDOW,
        "minute_ago": now - timedelta(minutes=1),
        "hour_ago": now - timedelta(hours=1),
        "day_ago": now - timedelta(hours=24),
    }
    watch = clock.Stopwatch()
    ledger.one("SELECT 1")
    statement_ms = watch.milliseconds()
    row = ledger.one(_FACTS, key)
    if row is None:  # a SELECT without FROM always has its row
        raise AssertionError("facts: expected one row")
    calls = {r["service"]: Calls(**r) for r in ledger.query(_CALLS, key)}
    scans = [
        Scan(r["at"], r["markets"] or [], r["quote_worth"] or {}) for r in ledger.query(_SCANS, key)
    ]
    return Facts(
        now=now,
        trading=trading,
        standing=equity.standing(ledger, quote_currency, clock.now_ms()),
        statement_ms=statement_ms,
        calls=calls,
        scan=scans[0] if scans else None,
        earlier_scan=scans[1] if len(scans) > 1 else None,
        **row,
    )
