"""Checks of execution and of what is allowed: slippage, failures, instruments, venues' limits."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from shared.config import Config
from shared.safety.checks.base import Result, Status, graded, nothing_yet, worst
from shared.safety.facts import Facts

MAX_SLIPPAGE_PERCENT = Decimal("0.5")
MINIMUM_COUNT = 5
FAILURE_WARNING_PERCENT, FAILURE_CRITICAL_PERCENT = 10.0, 50.0
RATE_LIMITED_CRITICAL = 5

# Orders a minute that an account may send: Binance's ORDERS limit is 100 in 10 s, Kraken's Starter
# tier counts to 60 and forgets one a second, Coinbase Advanced answers 30 private requests a second
ORDERS_PER_MINUTE: dict[str, int] = {
    "binance": 600,
    "binanceus": 600,
    "kraken": 60,
    "coinbase": 1_800,
}
_NEAR_LIMIT = 0.8
_DUST = Decimal("1e-9")


def slippage(facts: Facts, config: Config) -> Result:
    """Average distance of the fills of 24 hours from the decisions' mids, by value, in percent."""
    if facts.slippage_bps is None:
        return nothing_yet("no orders filled in 24 h")
    percent = facts.slippage_bps / 100
    return graded(
        percent, warning=MAX_SLIPPAGE_PERCENT, critical=None, detail=f"{percent:.3f} % in 24 h"
    )


def failure_rate(facts: Facts, config: Config) -> Result:
    """The larger share of failed orders and failed runs in the last hour, in percent.

    A share of fewer than ``MINIMUM_COUNT`` is not judged.
    """
    orders = (facts.failed_intents_last_hour, facts.intents_last_hour)
    runs = (facts.failed_runs_last_hour, facts.runs_last_hour)
    detail = f"{orders[0]} of {orders[1]} orders, {runs[0]} of {runs[1]} runs failed in 1 h"
    shares = [100 * failed / count for failed, count in (orders, runs) if count >= MINIMUM_COUNT]
    if not shares:
        return nothing_yet(f"{detail}: fewer than {MINIMUM_COUNT} to judge by")
    return graded(
        max(shares),
        warning=FAILURE_WARNING_PERCENT,
        critical=FAILURE_CRITICAL_PERCENT,
        detail=detail,
    )


def regulatory_limits(
    facts: Facts, config: Config, allowed: Collection[str] | None = None
) -> Result:
    """Breaches of what this account may do at all: allowed symbols, no short, one region's venues.

    Binance's two venues serve different regions, so that one account holder has only one of them.

    Args:
        allowed: the symbols that this pod may hold; without them, the configured ones.
    """
    breaches = []
    symbols = config.pairs if allowed is None else allowed
    for holding in facts.holdings or []:
        if holding["symbol"] not in symbols:
            breaches.append(f"holds {holding['symbol']}, which is not allowed")
        if Decimal(holding["quantity"]) < -_DUST:
            breaches.append(f"short {holding['symbol']} {holding['quantity']}")
    for venue, symbol in facts.ordered_markets or []:
        if venue not in config.venues or symbol not in symbols:
            breaches.append(f"ordered {symbol} on {venue}, which is not allowed")
    if {"binance", "binanceus"} <= set(config.venues):
        breaches.append("binance and binanceus serve different regions")
    detail = ", ".join(breaches) or "allowed symbols and venues only, nothing short"
    return graded(len(breaches), warning=None, critical=0, detail=detail)


def exchange_limits(facts: Facts, config: Config) -> Result:
    """The highest share of a venue's order rate in use, in percent, and refusals for haste."""
    sent = facts.orders_last_minute or {}
    shares = {v: 100 * n / ORDERS_PER_MINUTE[v] for v, n in sent.items() if v in ORDERS_PER_MINUTE}
    limited = sum(facts.calls[v].rate_limited for v in config.venues if v in facts.calls)
    result = graded(
        max(shares.values(), default=0.0),
        warning=100 * _NEAR_LIMIT,
        critical=100.0,
        detail=f"{sum(sent.values())} orders in 1 min, {limited} rate-limited calls in 5 min",
    )
    if limited == 0:
        return result
    haste: Status = "CRITICAL" if limited > RATE_LIMITED_CRITICAL else "WARNING"
    return Result(worst(result.status, haste), result.value, result.limit, result.detail)
