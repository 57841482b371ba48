"""When the core sleeve is left alone, however far off it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import arming, equity, state
from shared.ledger.connection import Ledger
from shared.risk import limits
from shared.risk.core import records
from shared.run import Run
from shared.signals import regime

RETRY_HOURS = 1  # after this the rest of a rebalance that did not get far is planned anew
SCAN_MAX_AGE = timedelta(minutes=3)

_SCANNED = """
SELECT s.at, (
    SELECT jsonb_object_agg(m->>'symbol', m)
    FROM jsonb_array_elements(s.payload#>'{signals,markets}') AS m
    WHERE m->>'symbol' = ANY(%(symbols)s)) AS markets
FROM scans s WHERE s.pod = %(pod)s AND s.at <= %(now)s ORDER BY s.at DESC LIMIT 1
"""

_BUSY = """
SELECT symbol FROM parent_orders
WHERE pod = %(pod)s AND state = 'WORKING' AND symbol = ANY(%(symbols)s)
UNION SELECT symbol FROM intents
WHERE pod = %(pod)s AND state IN ('SENDING', 'UNKNOWN') AND symbol = ANY(%(symbols)s)
ORDER BY symbol
"""


def deny_unless_allowed(run: Run, *, is_live: bool) -> None:
    """Nothing is rebalanced while anything restricts trading, or nothing could be bought.

    A storm that the breaker measures is such a restriction: it halves sizes then.

    Raises:
        OrderDenied: names what restricts.
    """
    trading = state.read(run.ledger)
    if not trading.allows_new_risk:
        raise OrderDenied(f"STATE_{trading.state}", reason=trading.reason)
    if trading.size_factor < 1 or trading.limit_orders_only:
        raise OrderDenied(
            "STATE_RESTRICTED",
            size_factor=trading.size_factor,
            limit_orders_only=trading.limit_orders_only,
        )
    if is_live:
        arming.demand(run.ledger)
    standing = equity.standing(run.ledger, run.config.quote_currency, clock.now_ms())
    limits.deny_at_daily_loss(run.config, standing)
    limits.deny_at_weekly_loss(run.config, standing)
    limits.deny_at_drawdown(run.config, standing)


def deny_if_recent(run: Run, *, first_funding: bool) -> None:
    """At most one rebalance in ``REBALANCE_MIN_HOURS``; what was not carried out waits for an hour.

    What it costs to be off for a day is small beside a second round of fees and spreads. But what
    a halt or the venues have left untraded has not been paid for once, nor has a first funding.
    """
    now, hours = clock.now(), run.config.rebalance_min_hours
    for attempt in records.attempts(run.ledger, now - timedelta(hours=hours)):
        is_paid_for = attempt.is_carried_out and not first_funding
        wait_hours = hours if is_paid_for else min(hours, RETRY_HOURS)
        if now - attempt.at < timedelta(hours=wait_hours):
            raise OrderDenied(
                "REBALANCE_RECENT", last=clock.iso(attempt.at), minimum_hours=wait_hours
            )


def deny_while_busy(ledger: Ledger, symbols: Sequence[str]) -> None:
    """None while an order in one of the symbols is not resolved, or a parent works there."""
    rows = ledger.query(_BUSY, {"pod": ledger.pod, "symbols": list(symbols)})
    if rows:
        raise OrderDenied("ORDERS_UNDER_WAY", symbols="+".join(row["symbol"] for row in rows))


def deny_unless_calm(ledger: Ledger, symbols: Collection[str]) -> None:
    """The newest scan knows every symbol, doubts no price, and sees no storm.

    Raises:
        OrderDenied: the scan is missing or old, knows a symbol not or not its volatility, holds
            an anomaly, or a symbol is 1.75 times as volatile as usual.
    """
    now = clock.now()
    scan = ledger.one(_SCANNED, {"pod": ledger.pod, "symbols": list(symbols), "now": now})
    if scan is None or now - scan["at"] > SCAN_MAX_AGE:
        at = None if scan is None else clock.iso(scan["at"])
        raise OrderDenied("SCAN_STALE", last=at, maximum_minutes=SCAN_MAX_AGE.seconds // 60)
    markets = scan["markets"] or {}
    for symbol in symbols:
        if symbol not in markets:
            raise OrderDenied("MARKET_MISSING", symbol=symbol)
        market = markets[symbol]
        if "anomaly" in market and market["anomaly"] is not None:
            raise OrderDenied("MARKET_ANOMALY", symbol=symbol, anomaly=market["anomaly"])
        ratio = regime.volatility_ratio(market)
        if ratio is None:
            raise OrderDenied("VOLATILITY_UNKNOWN", symbol=symbol)
        if ratio >= regime.VOLATILE_RATIO:
            raise OrderDenied(
                "MARKET_VOLATILE", symbol=symbol, ratio=f"{ratio:.2f}", limit=regime.VOLATILE_RATIO
            )
