"""The body of the step ``risk_management``: whether to act on a decision, and how large.

A HOLD is answered at once. A SELL is always allowed: it can only shrink. A BUY is judged by
``shared.risk.buying``.
"""

from __future__ import annotations

from decimal import Decimal

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.ledger.connection import json
from shared.risk import buying
from shared.risk.answer import Answer, Decision, price_of
from shared.run import Export, Run


def assess(run: Run) -> Export:
    """Judge the final decision of ``signal_generator``; the first answer to a decision stands.

    Raises:
        DataUnavailable: there is no final decision to judge.
        LeaseLost: another run has taken over; nothing was written.
    """
    decision = run.export_of("signal_generator")["finalDecision"]
    answer = _judge(run, decision)
    export = {
        "approved": answer.approved,
        "decision_id": decision["decision_id"],
        "action": decision["action"],
        "symbol": decision["symbol"],
        "size": float(answer.size_quote),
        "exits": answer.exits,
        "metrics": answer.metrics,
        "reasoning": answer.reasoning,
        "adjustments": answer.adjustments,
    }
    return _kept(run, export, answer)


def _judge(run: Run, decision: Decision) -> Answer:
    judges = {"HOLD": _hold, "SELL": _sell, "BUY": buying.judge}
    try:
        return judges[decision["action"]](run, decision)
    except (OrderDenied, DataUnavailable) as refused:
        code = "" if isinstance(refused, OrderDenied) else "DATA_MISSING: "
        return Answer(reasoning=[f"{code}{refused}"])


def _hold(run: Run, decision: Decision) -> Answer:
    return Answer(reasoning=[f"ACTION_HOLD: source={decision['source']}"])


def _sell(run: Run, decision: Decision) -> Answer:
    """A sale of all that is held, valued at the decision's mid."""
    row = run.ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = 'tactical' AND closed_at IS NULL",
        (run.ledger.pod, decision["symbol"]),
    )
    held = None if row is None else _held_quantity(run, row["position_id"])
    if not held:
        raise OrderDenied("POSITION_MISSING", symbol=decision["symbol"])
    worth = held * price_of(decision)
    return Answer(True, worth, reasoning=[f"SELL_HOLDING: quantity={held}, worth={worth:.2f}"])


def _held_quantity(run: Run, position_id: int) -> Decimal:
    row = run.ledger.one(
        "SELECT sum(quantity) AS quantity FROM position_holdings WHERE position_id = %s",
        (position_id,),
    )
    return (
        Decimal(0) if row is None or row["quantity"] is None else max(row["quantity"], Decimal(0))
    )


def _kept(run: Run, export: Export, answer: Answer) -> Export:
    """Write the answer once; a repeat of the decision gets the answer that was written."""
    if export["decision_id"] is None:
        return export
    with run.ledger.transaction():
        run.guard()
        written = run.ledger.execute(
            "INSERT INTO risk_checks (decision_id, pod, at, approved, size_quote, exits, metrics, "
            "reasoning, adjustments) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (decision_id) DO NOTHING",
            (
                export["decision_id"],
                run.ledger.pod,
                clock.now(),
                answer.approved,
                answer.size_quote,
                json(answer.exits),
                json(answer.metrics),
                json(answer.reasoning),
                json(answer.adjustments),
            ),
        )
        if written:
            return export
        row = run.ledger.one(
            "SELECT approved, size_quote::float8 AS size, exits, metrics, reasoning, adjustments "
            "FROM risk_checks WHERE decision_id = %s",
            (export["decision_id"],),
        )
    return export if row is None else export | row
