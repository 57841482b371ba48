"""Phase 3, test: 48 hours of mock trading without a failure, and what they have shown.

The document: "Run in mock mode for 48 hours, verify all components communicate, test circuit
breaker manually, validate risk calculations, check performance tracking".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from deploy.cli.check import Check
from deploy.local.manifest import Project
from deploy.phases import drill, risk_review, runs_seen
from deploy.phases.findings import doubtful, failed, ok
from deploy.phases.runs_seen import Stretch
from shared.config import Config
from shared.ledger.connection import Ledger

HOURS = 48
_DRILL_COUNTS_FOR = timedelta(days=7)
_EQUITY_TOLERANCE_PERCENT = Decimal(1)

# What each component leaves behind when it works: component, table, column of its time, least.
_TRACES = (
    ("market_scanner", "scans", "at"),
    ("signal_generator", "decisions", "at"),
    ("risk_management", "risk_checks", "at"),
    ("order_execution", "equity", "at"),
    ("performance_analyzer", "performance", "at"),
    ("circuit_breaker", "health", "at"),
)
_TROUBLE = ("RECONCILE_DIFFERENCE", "FOREIGN_ORDER", "ORDER_AMENDED")


def checks(
    ledger: Ledger, settings: Config, project: Project, now: datetime, explained: Mapping[str, str]
) -> Iterator[Check]:
    """Everything that the phase asks for, of the newest 48 hours that the ledger has.

    Args:
        now: the ledger's own time; runs that began before it and never ended have failed.
        explained: see ``runs_seen.failures``.
    """
    newest = runs_seen.newest_event(ledger)
    if newest is None:
        yield failed("mock run", "the trading loop has never run", "let it run for 48 hours")
        return
    stretch = Stretch(newest - timedelta(hours=HOURS), newest)
    yield _nothing_live(ledger, stretch)
    yield from runs_seen.coverage(ledger, project, stretch)
    yield from runs_seen.failures(ledger, stretch, now, explained)
    yield from _traces(ledger, stretch)
    yield _orders(ledger, stretch)
    yield _drill(ledger, now)
    yield from risk_review.checks(ledger, settings, stretch)
    yield tracking(ledger, stretch)
    yield _equity(ledger, settings, stretch)


def tracking(ledger: Ledger, stretch: Stretch) -> Check:
    """Whether the ledger and the venues agreed all the time."""
    rows = ledger.query(
        "SELECT kind, count(*) AS times FROM events WHERE pod = %s AND kind = ANY(%s) "
        "AND at > %s AND at <= %s GROUP BY kind ORDER BY kind",
        (ledger.pod, list(_TROUBLE), stretch.since, stretch.until + timedelta(minutes=1)),
    )
    if rows:
        shown = ", ".join(f"{row['times']} x {row['kind']}" for row in rows)
        return failed("ledger and venues", shown, "trading-loop status tells the alerts")
    return ok("ledger and venues", "no difference, no foreign order, no late one")


def _nothing_live(ledger: Ledger, stretch: Stretch) -> Check:
    row = ledger.one(
        "SELECT count(*) AS orders FROM intents WHERE pod = %s AND mode = 'live' "
        "AND sent_at > %s AND sent_at <= %s",
        (ledger.pod, stretch.since, stretch.until + timedelta(minutes=1)),
    )
    assert row is not None  # count(*) always has its row
    if row["orders"]:
        return failed("mock run", f"{row['orders']} orders were live: that is no mock run")
    return ok("mock run", f"{stretch.since:%Y-%m-%d %H:%M} to {stretch.until:%Y-%m-%d %H:%M} UTC")


def _traces(ledger: Ledger, stretch: Stretch) -> Iterator[Check]:
    for component, table, column in _TRACES:
        row = ledger.one(
            f"SELECT count(*) AS rows, max({column}) AS newest FROM {table} "  # noqa: S608 names of _TRACES
            f"WHERE pod = %s AND {column} > %s AND {column} <= %s",
            (ledger.pod, stretch.since, stretch.until + timedelta(minutes=1)),
        )
        assert row is not None  # count(*) always has its row
        name = f"{component} communicates"
        if row["rows"]:
            yield ok(name, f"{row['rows']} rows of {table}")
        else:
            yield failed(name, f"left no {table}", "its exports or its writes are lost")


def _orders(ledger: Ledger, stretch: Stretch) -> Check:
    row = ledger.one(
        "SELECT count(DISTINCT i.intent_id) AS orders, count(DISTINCT f.intent_id) AS filled "
        "FROM intents i LEFT JOIN fills f USING (intent_id) "
        "WHERE i.pod = %s AND i.sent_at > %s AND i.sent_at <= %s",
        (ledger.pod, stretch.since, stretch.until + timedelta(minutes=1)),
    )
    assert row is not None  # count(*) always has its row
    text = f"{row['orders']} orders, {row['filled']} of them filled"
    if row["filled"]:
        return ok("orders", text)
    return doubtful("orders", text, "execution was not tried: let it run on until it has traded")


def _drill(ledger: Ledger, now: datetime) -> Check:
    row = ledger.one(
        "SELECT at, detail FROM events WHERE pod = %s AND kind = %s ORDER BY event_id DESC LIMIT 1",
        (ledger.pod, drill.KIND),
    )
    advice = "trading-loop phase drill"
    if row is None:
        return failed("breaker drill", "was never done", advice)
    text = f"{row['at']:%Y-%m-%d %H:%M} UTC, refused after {row['detail']['refused_ms']} ms"
    if now - row["at"] > _DRILL_COUNTS_FOR:
        return failed("breaker drill", f"{text}: more than a week ago", advice)
    if not row["detail"]["passed"]:
        return failed("breaker drill", f"{text}: did not pass", advice)
    return ok("breaker drill", text)


def _equity(ledger: Ledger, settings: Config, stretch: Stretch) -> Check:
    """The last mark of equity against balances at the last prices, worked out here once more."""
    row = ledger.one(
        "WITH mids AS (SELECT DISTINCT ON (symbol) symbol, (bid + ask) / 2 AS mid FROM prices "
        "WHERE pod = %(pod)s ORDER BY symbol, at DESC) "
        "SELECT (SELECT equity_quote FROM equity WHERE pod = %(pod)s AND at <= %(until)s "
        "ORDER BY at DESC LIMIT 1) AS told, "
        "(SELECT sum(b.amount * CASE WHEN b.currency = %(quote)s THEN 1 ELSE m.mid END) "
        "FROM balances b LEFT JOIN mids m ON m.symbol = b.currency || '/' || %(quote)s "
        "WHERE b.pod = %(pod)s) AS found",
        {
            "pod": ledger.pod,
            "quote": settings.quote_currency,
            "until": stretch.until + timedelta(minutes=1),
        },
    )
    assert row is not None  # a SELECT without FROM always has its row
    told, found = row["told"], row["found"]
    if told is None or found is None or found <= 0:
        return failed("performance tracking", f"equity {told}, balances are worth {found}")
    apart_percent = 100 * abs(told - found) / found
    text = f"equity {told:.2f}, balances are worth {found:.2f} {settings.quote_currency}"
    if apart_percent > _EQUITY_TOLERANCE_PERCENT:
        return failed("performance tracking", f"{text}: {apart_percent:.2f} % apart")
    return ok("performance tracking", text)
