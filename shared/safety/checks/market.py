"""Checks of the market as the newest scan saw it: liquidity and anomalies."""

from __future__ import annotations

import statistics
from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared.config import Config
from shared.market import peg
from shared.safety.checks.base import Result, Status, graded, unknown, worst
from shared.safety.facts import Facts, Scan

SPREAD_WARNING_BPS, SPREAD_CRITICAL_BPS = 50.0, 200.0
DEPTH_WARNING_MULTIPLE = 10  # of the largest position, within 25 bps of mid
SCAN_MAX_AGE = timedelta(minutes=3)
VENUE_DEVIATION_WARNING_PERCENT, VENUE_DEVIATION_CRITICAL_PERCENT = 1.0, 3.0


def liquidity(facts: Facts, config: Config) -> Result:
    """The widest spread in basis points, and whether books are deep enough to leave through."""
    problem = _scan_problem(facts)
    if problem or facts.scan is None:
        return unknown(problem or "no scan yet")
    spreads = {
        m["symbol"]: m["spread_bps"] for m in facts.scan.markets if m["spread_bps"] is not None
    }
    if not spreads:
        return unknown("no order book in the newest scan")
    widest = max(spreads, key=spreads.__getitem__)
    result = graded(
        spreads[widest],
        warning=SPREAD_WARNING_BPS,
        critical=SPREAD_CRITICAL_BPS,
        detail=f"{widest} spread {spreads[widest]:.1f} bps",
    )
    thin = _thin_books(facts.scan, float(config.max_position_size))
    without = sorted(m["symbol"] for m in facts.scan.markets if m["spread_bps"] is None)
    details = [result.detail]
    details += [f"thin: {', '.join(thin)}"] if thin else []
    details += [f"no book: {', '.join(without)}"] if without else []
    status = worst(result.status, "WARNING" if thin or without else "OK")
    return Result(status, result.value, result.limit, ", ".join(details))


def anomalies(facts: Facts, config: Config) -> Result:
    """How many things about the market data cannot be right.

    The scanner's own findings, venues that disagree about a price, a quote currency that has left
    its peg, and prices that stand still on every market for five minutes. A scanner that has not
    reported for three minutes is critical.
    """
    if facts.scan is None:
        return unknown("no scan yet")
    age = facts.now - facts.scan.at
    if age > SCAN_MAX_AGE:
        detail = f"the newest scan is {age.total_seconds() / 60:.0f} min old"
        return Result("CRITICAL", 1.0, 0.0, detail)
    found: list[tuple[Status, str]] = []
    for market in facts.scan.markets:
        if market["anomaly"]:
            found.append(("WARNING", f"{market['symbol']}: {market['anomaly']}"))
        found.extend(_venues_disagree(market))
    found.extend(("WARNING", text) for text in _broken_pegs(facts.scan, config.quote_currency))
    if _is_frozen(facts.scan, facts.earlier_scan):
        found.append(("WARNING", "every price stands still"))
    status = worst("OK", *(grade for grade, _ in found))
    detail = "; ".join(text for _, text in found) or "none"
    return Result(status, float(len(found)), 0.0, detail)


def _scan_problem(facts: Facts) -> str | None:
    if facts.scan is None:
        return "no scan yet"
    age = facts.now - facts.scan.at
    if age > SCAN_MAX_AGE:
        return f"the newest scan is {age.total_seconds() / 60:.0f} min old"
    return None


def _thin_books(scan: Scan, position_quote: float) -> list[str]:
    """Markets whose thinner side within 25 bps is less than ten times the largest position."""
    needed = DEPTH_WARNING_MULTIPLE * position_quote
    return sorted(
        m["symbol"]
        for m in scan.markets
        if m["depth_quote"] and min(m["depth_quote"]["bid"], m["depth_quote"]["ask"]) < needed
    )


def _venues_disagree(market: dict[str, Any]) -> list[tuple[Status, str]]:
    mids = {name: (q["bid"] + q["ask"]) / 2 for name, q in (market["venues"] or {}).items() if q}
    if len(mids) < 2:
        return []
    middle = statistics.median(mids.values())
    off = {name: 100 * abs(mid - middle) / middle for name, mid in mids.items()}
    name = max(off, key=off.__getitem__)
    grade = graded(
        off[name],
        warning=VENUE_DEVIATION_WARNING_PERCENT,
        critical=VENUE_DEVIATION_CRITICAL_PERCENT,
        detail="",
    ).status
    text = f"{market['symbol']}: {name} is {off[name]:.1f} % off the other venues"
    return [] if grade == "OK" else [(grade, text)]


def _broken_pegs(scan: Scan, currency: str) -> list[str]:
    return [
        f"{currency} is worth {worth:.4f} by {source}"
        for source, worth in scan.quote_worth.items()
        if peg.distance_percent([Decimal(repr(worth))]) > peg.MAX_DISTANCE_PERCENT
    ]


def _is_frozen(newest: Scan, earlier: Scan | None) -> bool:
    if earlier is None or earlier.at == newest.at or not newest.markets:
        return False
    before = {m["symbol"]: (m["price"], m["spread_bps"]) for m in earlier.markets}
    return all(
        m["price"] is not None and before.get(m["symbol"]) == (m["price"], m["spread_bps"])
        for m in newest.markets
    )
