"""The circuit breaker: thirteen checks, the rules, the state, the alert, the record."""

from __future__ import annotations

from typing import Any

from shared import clock
from shared.errors import LeaseLost, LedgerUnavailable, TradingLoopError
from shared.ledger import alerts, state
from shared.ledger.connection import json
from shared.run import Export, Run
from shared.safety import facts as facts_module
from shared.safety import notify, rules
from shared.safety.checks import run_all
from shared.safety.checks.base import Result
from shared.safety.facts import Facts
from shared.safety.rules import SET_BY, Verdict

Action = dict[str, Any]
Results = dict[str, Result]


def check_and_act(run: Run) -> Export:
    """One run of the breaker: ``{status, checks, actions, circuitBreaker}``.

    Where ``ENABLE_CIRCUIT_BREAKER`` is false it reports what it would have done and does nothing.

    Raises:
        LedgerUnavailable: nothing can be checked or written; the platform reports the failed run.
        LeaseLost: another run has taken over.
    """
    facts = facts_module.fetch(run.ledger, run.config.quote_currency)
    results = run_all(run, facts)
    verdict = rules.judge(results, facts.trading, started=facts.started)
    if run.config.enable_circuit_breaker:
        actions = _enforce(run, facts, results, verdict)
    else:
        actions = [{"action": "REPORT_ONLY", "reason": "ENABLE_CIRCUIT_BREAKER is false"}]
    trading = state.read(run.ledger)
    export: Export = {
        "status": _status(facts, results, verdict, trading.state),
        "checks": {name: result.as_dict(name) for name, result in results.items()},
        "actions": actions,
        "circuitBreaker": {
            "trigger": verdict.trigger,
            "reasons": list(verdict.reasons),
            "severity": verdict.severity,
            "trading_state": trading.state,
            "rearm_required": trading.rearm_required,
        },
    }
    _store(run, facts, export)
    notify.send_unsent(run)
    return export


def _enforce(run: Run, facts: Facts, results: Results, verdict: Verdict) -> list[Action]:
    ledger, present = run.ledger, facts.trading
    move = rules.tightening(verdict, present, facts.now)
    restricted = (verdict.size_factor, verdict.limit_orders_only)
    restricts = restricted != (present.size_factor, present.limit_orders_only)
    paused = present.state != "ACTIVE" and present.pause_until is not None
    actions: list[Action] = []
    if move or restricts or (verdict.healthy and paused):
        with ledger.transaction():
            run.guard()
            if move:
                actions += _tighten(run, move, verdict)
            elif verdict.healthy and state.resume_after_pause(ledger, set_by=SET_BY):
                actions += _resumed(run)
            if restricts:
                actions += _restrict(run, results, verdict)
    if facts.open_entries and (move or present.state != "ACTIVE") and not _resumes(actions):
        actions.append(_cancel(run, verdict))
    return actions


def _tighten(run: Run, move: rules.Tightening, verdict: Verdict) -> list[Action]:
    reason = "; ".join(verdict.reasons)
    changed = state.tighten(
        run.ledger,
        move.state,
        reason=reason,
        set_by=SET_BY,
        pause_until=move.pause_until,
        rearm_required=move.rearm_required,
        close_all=move.close_all,
    )
    if not changed:
        return []
    until = clock.iso(move.pause_until)
    consequence = {
        "CRITICAL": f"All trading halted, positions are closed. After {until} a person re-arms.",
        "HIGH": f"All trading halted until {until}.",
        "MEDIUM": "No new positions until the check works again.",
    }[verdict.severity]
    alerts.put(
        run.ledger,
        f"breaker:{verdict.severity}:{clock.iso(clock.now())}",
        "CRITICAL" if verdict.severity == "CRITICAL" else "HIGH",
        "🚨 CIRCUIT BREAKER TRIGGERED",
        f"Severity: {verdict.severity}\nReasons: {', '.join(verdict.reasons)}\n{consequence}",
    )
    action = {"CRITICAL": "CLOSE_ALL_AND_HALT", "HIGH": "PAUSE", "MEDIUM": "REDUCE_ONLY"}
    return [{"action": action[verdict.severity], "until": until, "reason": reason}]


def _resumed(run: Run) -> list[Action]:
    alerts.put(
        run.ledger,
        f"breaker:resumed:{clock.iso(clock.now())}",
        "INFO",
        "Trading resumed",
        "The pause is over and no check is failing.",
    )
    return [{"action": "RESUME", "reason": "pause is over and no check is failing"}]


def _resumes(actions: list[Action]) -> bool:
    return any(action["action"] == "RESUME" for action in actions)


def _restrict(run: Run, results: Results, verdict: Verdict) -> list[Action]:
    state.set_restrictions(
        run.ledger, size_factor=verdict.size_factor, limit_orders_only=verdict.limit_orders_only
    )
    halved, limited = verdict.size_factor < 1, verdict.limit_orders_only
    actions: list[Action] = []
    if halved:
        why = f"High market volatility: {_shown(results['volatility'])}"
        factor = float(verdict.size_factor)
        actions.append({"action": "REDUCE_POSITION_SIZE", "factor": factor, "reason": why})
    if limited:
        why = f"High slippage detected: {_shown(results['slippage'])}"
        actions.append({"action": "SWITCH_TO_LIMIT_ORDERS", "reason": why})
    if not actions:
        actions.append(
            {"action": "LIFT_RESTRICTIONS", "reason": "volatility and slippage are back"}
        )
    alerts.put(
        run.ledger,
        f"breaker:restrictions:{clock.iso(clock.now())}",
        "WARNING" if halved or limited else "INFO",
        "Trading restrictions changed",
        "\n".join(f"{a['action']}: {a['reason']}" for a in actions),
    )
    return actions


def _shown(result: Result) -> str:
    if result.value is None:
        return result.detail
    return f"{result.value:.2f}, limit {result.limit}"


def _cancel(run: Run, verdict: Verdict) -> Action:
    """Cancel what would still open or enlarge a position; repeated until nothing is left."""
    from shared.execution.desk import Desk

    reason = "; ".join(verdict.reasons) or "trading is not active"
    try:
        cancelled = Desk.open(run).cancel_entries(reason)
    except (LedgerUnavailable, LeaseLost):
        raise
    except TradingLoopError as error:
        text = f"{type(error).__name__}: {error}"
        hour = clock.iso(clock.now())[:13]
        alerts.put(run.ledger, f"breaker:cancel:{hour}", "HIGH", "Cancelling orders failed", text)
        return {"action": "CANCEL_ALL_ORDERS", "cancelled": None, "error": text, "reason": reason}
    return {"action": "CANCEL_ALL_ORDERS", "cancelled": cancelled, "reason": reason}


def _status(facts: Facts, results: Results, verdict: Verdict, trading_state: str) -> str:
    """``STARTING``, ``EMERGENCY_STOP``, ``DEGRADED`` or ``HEALTHY``."""
    if trading_state == "HALTED" or verdict.severity in ("HIGH", "CRITICAL"):
        return "EMERGENCY_STOP"
    if not facts.started:
        return "STARTING"
    fine = trading_state == "ACTIVE" and all(r.status == "OK" for r in results.values())
    return "HEALTHY" if fine else "DEGRADED"


def _store(run: Run, facts: Facts, export: Export) -> None:
    with run.ledger.transaction():
        run.guard()
        run.ledger.execute(
            "INSERT INTO health VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (pod, at) DO UPDATE "
            "SET status = excluded.status, checks = excluded.checks, actions = excluded.actions, "
            "circuit_breaker = excluded.circuit_breaker",
            (
                run.ledger.pod,
                facts.now,
                export["status"],
                json(export["checks"]),
                json(export["actions"]),
                json(export["circuitBreaker"]),
            ),
        )
