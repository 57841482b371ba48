"""The hourly analysis: measure, learn, ask, store, alert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import clock
from shared.analysis import benchmarks, housekeeping, insight, performance, weights
from shared.analysis.performance import Week
from shared.errors import DataUnavailable, ModelUnavailable
from shared.ledger import alerts, parameters
from shared.ledger.connection import Ledger, Row, json
from shared.ledger.parameters import ParameterVersion
from shared.market.candles import candle_store
from shared.run import Export, Run

EVALUATE_EVERY = timedelta(days=7)
REVIEW_EVERY = timedelta(hours=1)
HISTORY = timedelta(days=180)
MINIMUM_SHARPE = 1.0
MINIMUM_TRADES_TO_ALERT = 20
SET_BY = "optimiser"
_FEE_BPS = 10.0  # Binance's standard taker fee
NOT_LEARNED = ("entry_conditions", "exit_conditions", "position_sizing", "risk_parameters")


@dataclass(frozen=True)
class _Learned:
    """What came of learning in this run. ``raised`` gained a notch, from ``before``."""

    outcome: dict[str, Any]
    evaluated: bool
    raised: str | None = None
    before: float | None = None


def analyse(run: Run) -> Export:
    """``{performance, optimizations, recommendations, housekeeping, nextReview}``; stores, alerts.

    Raises:
        LedgerUnavailable, LeaseLost: nothing was stored, or only the candles were not.
    """
    week = performance.load(run.ledger, run.config.quote_currency)
    measured = performance.measure(week)
    measured["benchmarks"] = _benchmarks(run, week)
    in_force = parameters.current(run.ledger)
    learned = _learn(run, in_force)
    recommendations = _recommend(run, measured, in_force, learned)
    optimizations = {
        "strategy_weights": learned.outcome,
        "evaluated": learned.evaluated,
        "not_learned": list(NOT_LEARNED),
    }
    with run.ledger.transaction():
        run.guard()
        _store(run.ledger, measured, recommendations, optimizations)
        _alert(run, measured)
    kept = housekeeping.keep_house(run)
    return {
        "performance": measured,
        "optimizations": optimizations,
        "recommendations": recommendations,
        "housekeeping": kept,
        "nextReview": clock.to_ms(clock.now() + REVIEW_EVERY),
    }


def _benchmarks(run: Run, week: Week) -> dict[str, Any]:
    """Both benchmarks over the hours of the equity curve, or why there are none."""
    try:
        if not run.universe.buyable:
            raise DataUnavailable("universe: expected a symbol, none has been chosen yet")
        prices = {pair: _closes(run, pair, week) for pair in run.universe.buyable}
        built = [
            build(prices, run.config.capital_quote, _FEE_BPS)
            for build in (benchmarks.buy_and_hold, benchmarks.target_allocation)
        ]
    except DataUnavailable as error:
        return {"missing": str(error)}
    return {b.name: {**b.metrics, "fees_quote": b.fees_quote} for b in built}


def _closes(run: Run, pair: str, week: Week) -> tuple[Any, Any]:
    if len(week.times_ms) < 2:
        raise DataUnavailable("equity: expected at least two hours")
    window = candle_store.window(run, run.config.venues[0], pair, "1h")
    if window is None:
        raise DataUnavailable(f"{pair}: no hourly candles in the cache")
    closes_ms = window.open_ms + 3_600_000
    inside = (closes_ms >= week.times_ms[0]) & (closes_ms <= week.times_ms[-1])
    return closes_ms[inside], window.close[inside]


def _learn(run: Run, in_force: ParameterVersion) -> _Learned:
    """Take back a change that has not held, or evaluate a new one if a week has passed."""
    if not run.config.enable_auto_optimization:
        return _Learned({"applied": False, "reason": "ENABLE_AUTO_OPTIMIZATION is false"}, False)
    current = in_force.values.strategy_weights
    last = _last_change(run.ledger, in_force.version)
    if last is not None:
        since = _trades(run.ledger, last["at"])
        proposal = weights.review(since, current, last["evidence"])
        if proposal.weights is not None:
            return _applied(run, in_force, proposal, evaluated=False)
    due = _next_evaluation(run.ledger)
    if due is not None and clock.now() < due:
        return _Learned({"applied": False, "reason": f"NOT_DUE: until={clock.iso(due)}"}, False)
    proposal = weights.propose(_trades(run.ledger, clock.now() - HISTORY), current)
    if proposal.weights is not None:
        return _applied(run, in_force, proposal, evaluated=True)
    # Without enough trades nothing has been looked at, so that the week need not be waited for.
    outcome = {"applied": False, "reason": proposal.reason, "evidence": proposal.evidence}
    return _Learned(outcome, evaluated=bool(proposal.evidence))


def _applied(
    run: Run, in_force: ParameterVersion, proposal: weights.Proposal, *, evaluated: bool
) -> _Learned:
    values = in_force.values.model_copy(update={"strategy_weights": proposal.weights})
    with run.ledger.transaction():
        run.guard()
        version = parameters.put(
            run.ledger, values, set_by=SET_BY, reason=proposal.reason, evidence=proposal.evidence
        ).version
    outcome = {
        "applied": True,
        "version": version,
        "reason": proposal.reason,
        "evidence": proposal.evidence,
    }
    raised = str(proposal.evidence["raised"])
    before = in_force.values.strategy_weights.as_dict()[raised]
    return _Learned(outcome, evaluated, raised, before)


def _last_change(ledger: Ledger, version: int) -> Row | None:
    """The version in force, if it is a change of this optimiser that is still on trial."""
    row = ledger.one(
        "SELECT at, evidence, set_by FROM parameters WHERE pod = %s AND version = %s",
        (ledger.pod, version),
    )
    if row is None or row["set_by"] != SET_BY or row["evidence"].get("rolled_back"):
        return None
    return row


def _next_evaluation(ledger: Ledger) -> datetime | None:
    row = ledger.one(
        "SELECT at FROM performance WHERE pod = %s AND at > %s "
        "AND (applied->>'evaluated')::boolean ORDER BY at DESC LIMIT 1",
        (ledger.pod, clock.now() - EVALUATE_EVERY),
    )
    return None if row is None else row["at"] + EVALUATE_EVERY


def _trades(ledger: Ledger, since: datetime) -> list[Row]:
    return ledger.query(
        "SELECT strategy, return_percent FROM trades WHERE pod = %s AND opened_at > %s "
        "AND sleeve = 'tactical' ORDER BY closed_at, position_id",
        (ledger.pod, since),
    )


def _recommend(
    run: Run, measured: dict[str, Any], in_force: ParameterVersion, learned: _Learned
) -> dict[str, Any]:
    """The model's analysis with what became of each adjustment, or why there is none."""
    data = {"metrics": measured, "parameters": in_force.values.model_dump()}
    try:
        analysis = insight.analyse(run.config, run.calls, data)
    except ModelUnavailable as error:
        return {"available": False, "reason": str(error)}
    adjustments = [
        {
            **adjustment.model_dump(),
            "disposition": insight.disposition(adjustment, learned.raised, learned.before),
        }
        for adjustment in analysis.parameterAdjustments
    ]
    return {"available": True, **analysis.model_dump(), "parameterAdjustments": adjustments}


def _store(
    ledger: Ledger,
    measured: dict[str, Any],
    recommendations: dict[str, Any],
    optimizations: dict[str, Any],
) -> None:
    ledger.execute(
        "INSERT INTO performance (pod, at, window_hours, metrics, recommendations, applied) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (pod, at) DO UPDATE SET "
        "metrics = excluded.metrics, recommendations = excluded.recommendations, "
        "applied = excluded.applied",
        (
            ledger.pod,
            clock.now(),
            performance.WINDOW_HOURS,
            json(measured),
            json(recommendations),
            json(optimizations),
        ),
    )


def _alert(run: Run, measured: dict[str, Any]) -> None:
    """Tell once a day of a Sharpe ratio below 1 or a drawdown past the alert limit."""
    day = clock.now().date().isoformat()
    sharpe, trades = measured["risk"]["sharpe"], measured["execution"]["trades"]
    if sharpe is not None and sharpe < MINIMUM_SHARPE and trades >= MINIMUM_TRADES_TO_ALERT:
        body = f"Sharpe of the week: {sharpe:.2f}, expected at least {MINIMUM_SHARPE}."
        alerts.put(run.ledger, f"performance:sharpe:{day}", "HIGH", "Performance degraded", body)
    drawdown, limit = measured["risk"]["max_drawdown_percent"], run.config.drawdown_alert_percent
    if drawdown is not None and drawdown > limit:
        body = f"Largest drawdown of the week: {drawdown:.2f} %, alert limit {limit} %."
        alerts.put(run.ledger, f"performance:drawdown:{day}", "HIGH", "Drawdown", body)
