"""Phase 4, live: little money, watched for a day, raised step by step by a person.

The document: "Start with $100 test capital, set conservative limits (1 % position size), monitor
first 24 hours closely, gradually increase limits, enable full automation". The bounds are those
of ``shared.ledger.stages`` and are held by the gate; this looks at how it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from deploy.cli.check import Check
from deploy.local.manifest import Project
from deploy.phases import mock_run, risk_review, runs_seen
from deploy.phases.findings import doubtful, failed, ok
from deploy.phases.runs_seen import Stretch
from shared.config import Config
from shared.ledger import equity, phases, stages
from shared.ledger.connection import Ledger

WATCHED_HOURS = 24
_SMALLEST_ORDER_QUOTE = Decimal(5)
"""Binance's NOTIONAL filter of its USDT pairs; below it no order is taken there."""


def checks(
    ledger: Ledger, settings: Config, project: Project, now: datetime, explained: Mapping[str, str]
) -> Iterator[Check]:
    """A clean report of the stage in force: a day of it at least, and nothing wrong in it."""
    yield _phases_before(ledger)
    yield _switch(settings)
    yield _size(ledger, settings, now)
    began = began_at(ledger)
    if began is None:
        advice = "trading-loop arm --live --hours 24"
        yield failed("watched", "live trading was never armed", advice)
        return
    hours = (now - began) / timedelta(hours=1)
    text = f"{hours:.1f} h since {began:%Y-%m-%d %H:%M} UTC"
    if hours < WATCHED_HOURS:
        yield failed("watched", f"{text}, expected {WATCHED_HOURS} h at this stage", "wait")
        return
    yield ok("watched", text)
    stretch = Stretch(max(began, now - timedelta(hours=7 * 24)), now - timedelta(minutes=2))
    yield from runs_seen.coverage(ledger, project, stretch)
    yield from runs_seen.failures(ledger, stretch, now, explained)
    yield mock_run.tracking(ledger, stretch)
    yield _halts(ledger, stretch)
    yield _unknown(ledger)
    yield from risk_review.checks(ledger, settings, stretch)
    yield _orders(ledger, stretch)


def began_at(ledger: Ledger) -> datetime | None:
    """Since when the present stage could trade: its raising, or the first arming after it."""
    since = stages.in_force(ledger).since
    if since is not None and _was_armed(ledger, since):
        return since
    row = ledger.one(
        "SELECT min(armed_at) AS at FROM arm_tokens WHERE pod = %s "
        "AND armed_at >= coalesce(%s::timestamptz, '-infinity')",
        (ledger.pod, since),
    )
    return None if row is None else row["at"]


def _was_armed(ledger: Ledger, at: datetime) -> bool:
    row = ledger.one(
        "SELECT 1 AS armed FROM arm_tokens WHERE pod = %(pod)s AND armed_at <= %(at)s "
        "AND expires_at > %(at)s AND (revoked_at IS NULL OR revoked_at > %(at)s)",
        {"pod": ledger.pod, "at": at},
    )
    return row is not None


def _phases_before(ledger: Ledger) -> Check:
    missing = phases.open_before(ledger, "live")
    if missing:
        advice = "; ".join(f"trading-loop phase {phase}" for phase in missing)
        return failed("phases", f"not passed: {', '.join(missing)}", advice)
    return ok("phases", f"{', '.join(phases.BEFORE_LIVE)} are passed")


def _switch(settings: Config) -> Check:
    if settings.trading_mode == "live":
        return ok("switch", "ENABLE_LIVE_TRADING is true")
    return failed("switch", f"trading is {settings.trading_mode}", "set ENABLE_LIVE_TRADING=true")


def _size(ledger: Ledger, settings: Config, now: datetime) -> Check:
    """Whether the stage leaves room for an order that a venue takes."""
    stage = stages.in_force(ledger).stage
    bounded = stages.bounded(settings, stage)
    stands = equity.standing(ledger, settings.quote_currency, int(now.timestamp() * 1000))
    worth = stands.worth_quote
    if worth is None or worth <= 0:
        return failed("size", "nothing was paid in", "trading-loop transfer books what was")
    largest = min(worth * bounded.position_size_percent / 100, bounded.max_position_size)
    text = f"stage {stage.number}: {stages.described(stage)}: {largest:.2f} a position"
    if largest < _SMALLEST_ORDER_QUOTE:
        needed = _SMALLEST_ORDER_QUOTE * 100 / bounded.position_size_percent
        advice = (
            f"Binance takes no order below {_SMALLEST_ORDER_QUOTE}: nothing is bought there "
            f"before {needed:.0f} are paid in; of these the stage still risks only its share"
        )
        return doubtful("size", text, advice)
    return ok("size", text)


def _halts(ledger: Ledger, stretch: Stretch) -> Check:
    row = ledger.one(
        "SELECT count(*) AS times FROM events WHERE pod = %s AND kind = 'STATE_CHANGED' "
        "AND detail->>'to' = 'HALTED' AND detail->>'set_by' NOT LIKE 'drill:%%' "
        "AND at > %s AND at <= %s",
        (ledger.pod, stretch.since, stretch.until),
    )
    assert row is not None  # count(*) always has its row
    if row["times"]:
        return failed("halts", f"{row['times']} since then", "its causes first; then a clean day")
    return ok("halts", "none")


def _unknown(ledger: Ledger) -> Check:
    row = ledger.one(
        "SELECT count(*) AS orders FROM intents WHERE pod = %s AND state IN ('SENDING', 'UNKNOWN')",
        (ledger.pod,),
    )
    assert row is not None  # count(*) always has its row
    if row["orders"]:
        return failed("orders of unknown outcome", str(row["orders"]), "wait until they are known")
    return ok("orders of unknown outcome", "none")


def _orders(ledger: Ledger, stretch: Stretch) -> Check:
    row = ledger.one(
        "SELECT count(*) AS orders FROM intents WHERE pod = %s AND mode = 'live' "
        "AND sent_at > %s AND sent_at <= %s",
        (ledger.pod, stretch.since, stretch.until),
    )
    assert row is not None  # count(*) always has its row
    if row["orders"]:
        return ok("live orders", str(row["orders"]))
    return doubtful("live orders", "none was sent", "a day without a trade has shown little")
