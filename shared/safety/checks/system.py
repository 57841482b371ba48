"""Checks of the machinery: venues' interfaces, the database, latency."""

from __future__ import annotations

from datetime import timedelta

from shared.config import Config
from shared.safety.checks.base import Result, Status, graded, unknown, worst
from shared.safety.facts import Calls, Facts

MAX_API_FAILURES = 5
SCHEMA_VERSION = 9  # the newest of shared/ledger/migrations; a test holds the two together
RUN_MAX_AGE = timedelta(minutes=5)
STATEMENT_WARNING_MS, STATEMENT_CRITICAL_MS = 250.0, 1_000.0
LATENCY_WARNING_MS = 2_000.0
RUN_WARNING_MS, RUN_CRITICAL_MS = 30_000.0, 50_000.0  # one credit; near the platform's kill at 60 s


def api_health(facts: Facts, config: Config) -> Result:
    """Failed calls to the configured venues in five minutes.

    Models, Slack and Redis are named in the detail and not counted: trading goes on, or holds,
    without them.
    """
    ours = _of_venues(facts, config)
    if not ours:
        return unknown("no call to a venue in 5 minutes")
    failures = {c.service: c.failures for c in facts.calls.values() if c.failures}
    counted = sum(c.failures for c in ours)
    shown = ", ".join(f"{name}={count}" for name, count in sorted(failures.items()))
    return graded(counted, warning=None, critical=MAX_API_FAILURES, detail=shown or "no failures")


def database_health(facts: Facts, config: Config) -> Result:
    """Time of a trivial statement, version of the schema, and runs that never ended."""
    result = graded(
        facts.statement_ms,
        warning=STATEMENT_WARNING_MS,
        critical=STATEMENT_CRITICAL_MS,
        detail=f"schema {facts.schema_version}",
    )
    status, details = result.status, [result.detail]
    if facts.schema_version != SCHEMA_VERSION:
        status = "CRITICAL"
        details.append(f"expected schema {SCHEMA_VERSION}")
    if facts.oldest_running_at and facts.now - facts.oldest_running_at > RUN_MAX_AGE:
        status = worst(status, "WARNING")
        minutes = (facts.now - facts.oldest_running_at).total_seconds() / 60
        details.append(f"a run has not ended for {minutes:.0f} min")
    return Result(status, result.value, result.limit, ", ".join(details))


def latency(facts: Facts, config: Config) -> Result:
    """Mean latency of the venues' answers in five minutes, and the slowest trading run."""
    ours = _of_venues(facts, config)
    if not ours:
        return unknown("no call to a venue in 5 minutes")
    mean = sum(c.mean_latency_ms * c.calls for c in ours) / sum(c.calls for c in ours)
    longest = max(c.max_latency_ms for c in ours)
    result = graded(
        mean,
        warning=LATENCY_WARNING_MS,
        critical=float(config.request_timeout_ms),
        detail=f"longest {longest:.0f} ms, slowest run {_ms(facts.slowest_run_ms)}",
    )
    run_status: Status = "OK"
    if facts.slowest_run_ms is not None:
        run_status = graded(
            facts.slowest_run_ms, warning=RUN_WARNING_MS, critical=RUN_CRITICAL_MS, detail=""
        ).status
    return Result(worst(result.status, run_status), result.value, result.limit, result.detail)


def _of_venues(facts: Facts, config: Config) -> list[Calls]:
    return [facts.calls[name] for name in config.venues if name in facts.calls]


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} ms"
