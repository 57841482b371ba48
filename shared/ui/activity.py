"""The dashboard's account of what the system does: market, decisions, breaker, runs, alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shared.ledger.connection import Ledger, Row

_RECENT = 8
_MARKS = {
    "OK": ("\u2713", "up"),
    "HEALTHY": ("\u2713", "up"),
    "WARNING": ("!", "warn"),
    "CRITICAL": ("\u2715", "down"),
    "FAILED": ("\u2715", "down"),
}


def market(ledger: Ledger, at: datetime) -> dict[str, Any]:
    """The newest scan: its score, what it asks for, and each symbol's price and score."""
    row = ledger.one(
        "SELECT at, ai_score, next_action, payload->'missing' AS missing, coalesce(("
        "  SELECT jsonb_agg(jsonb_build_object('symbol', m->'symbol', 'price', m->'price', "
        "    'ai_score', m->'ai_score', 'ai_score_rank', m->'ai_score_rank', "
        "    'spread_bps', m#>'{microstructure,spread_bps}')) "
        "  FROM jsonb_array_elements(CASE jsonb_typeof(payload#>'{signals,markets}') "
        "    WHEN 'array' THEN payload#>'{signals,markets}' ELSE '[]' END) AS m), '[]') AS symbols "
        "FROM scans WHERE pod = %s AND at <= %s ORDER BY at DESC LIMIT 1",
        (ledger.pod, at),
    )
    if row is None:
        return {"at": None, "ai_score": None, "next_action": None, "missing": [], "symbols": []}
    return row | {"missing": row["missing"] or []}


def decisions(ledger: Ledger, at: datetime) -> list[Row]:
    """The newest decision, the newest ones to trade, and what risk management made of those."""
    return ledger.query(
        "WITH chosen AS ("
        "  (SELECT decision_id FROM decisions WHERE pod = %(pod)s AND at <= %(at)s "
        "   ORDER BY at DESC LIMIT 1) UNION "
        "  (SELECT decision_id FROM decisions WHERE pod = %(pod)s AND at <= %(at)s "
        "   AND at > %(since)s AND action <> 'HOLD' ORDER BY at DESC LIMIT %(limit)s)) "
        "SELECT d.at, d.symbol, d.action, d.source, d.strategy, d.confidence, d.reasoning, "
        "  r.approved, r.size_quote, r.reasoning AS risk_reasoning "
        "FROM chosen JOIN decisions d USING (decision_id) "
        "LEFT JOIN risk_checks r ON r.decision_id = d.decision_id AND d.action <> 'HOLD' "
        "ORDER BY d.at DESC LIMIT %(limit)s",
        {"pod": ledger.pod, "at": at, "since": at - timedelta(days=7), "limit": _RECENT},
    )


def decision_counts(ledger: Ledger, since: datetime, until: datetime) -> dict[str, int]:
    """How often each action was decided in the window."""
    rows = ledger.query(
        "SELECT action, count(*) AS times FROM decisions "
        "WHERE pod = %s AND at > %s AND at <= %s GROUP BY action",
        (ledger.pod, since, until),
    )
    return dict.fromkeys(("BUY", "SELL", "HOLD"), 0) | {r["action"]: r["times"] for r in rows}


def breaker(ledger: Ledger, at: datetime) -> dict[str, Any]:
    """The breaker's newest report."""
    row = ledger.one(
        "SELECT at, status, checks, actions, circuit_breaker FROM health "
        "WHERE pod = %s AND at <= %s ORDER BY at DESC LIMIT 1",
        (ledger.pod, at),
    )
    if row is None:
        return {"at": None, "status": None, "checks": [], "actions": []}
    return {
        "at": row["at"],
        "status": row["status"],
        "checks": _checks(row["checks"]),
        "actions": row["actions"],
    }


def _checks(stored: Any) -> list[dict[str, Any]]:
    """Each check as name, status and detail; first those that ask for attention."""
    if isinstance(stored, dict):
        stored = [{"name": name} | value for name, value in stored.items()]
    checks = [_check(entry) for entry in stored]
    return sorted(checks, key=lambda check: (check["tone"] == "up", check["name"]))


def _check(entry: dict[str, Any]) -> dict[str, Any]:
    status = entry["status"]
    mark, tone = _MARKS.get(str(status).upper(), ("?", "warn"))
    return {
        "name": entry["name"],
        "status": status,
        "detail": entry.get("detail"),
        "mark": mark,
        "tone": tone,
    }


def workflows(ledger: Ledger, at: datetime) -> list[Row]:
    """Each workflow's last run and its count of runs and failures in 24 h."""
    return ledger.query(
        "SELECT w.workflow, l.event_at, l.status, l.duration_ms, l.error, "
        "  w.runs, w.failures, w.duration_p95_ms FROM ("
        "  SELECT workflow, count(*) AS runs, "
        "    count(*) FILTER (WHERE status = 'FAILED') AS failures, "
        "    percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS duration_p95_ms "
        "  FROM runs WHERE pod = %(pod)s AND event_at > %(since)s AND event_at <= %(at)s "
        "  GROUP BY workflow) w CROSS JOIN LATERAL ("
        "  SELECT event_at, status, duration_ms, error FROM runs r "
        "  WHERE r.pod = %(pod)s AND r.workflow = w.workflow AND r.event_at <= %(at)s "
        "  ORDER BY event_at DESC LIMIT 1) l ORDER BY w.workflow",
        {"pod": ledger.pod, "since": at - timedelta(hours=24), "at": at},
    )


def services(ledger: Ledger, since: datetime, until: datetime) -> list[Row]:
    """How each outside service answered in the window."""
    return ledger.query(
        "SELECT venue AS service, sum(calls)::int AS calls, sum(failures)::int AS failures, "
        "  sum(rate_limited)::int AS rate_limited, "
        "  sum(mean_latency_ms * calls) / nullif(sum(calls), 0) AS mean_latency_ms, "
        "  max(max_latency_ms) AS max_latency_ms, "
        "  (array_agg(last_error ORDER BY at DESC) FILTER (WHERE last_error IS NOT NULL))[1] "
        "    AS last_error "
        "FROM venue_calls WHERE pod = %s AND at > %s AND at <= %s GROUP BY venue ORDER BY venue",
        (ledger.pod, since, until),
    )


def alerts(ledger: Ledger, at: datetime) -> list[Row]:
    """The newest alerts, and whether each has been sent."""
    return ledger.query(
        "SELECT at, severity, title, body, sent_at, last_error FROM alerts "
        "WHERE pod = %s AND at <= %s ORDER BY at DESC LIMIT %s",
        (ledger.pod, at, _RECENT),
    )
