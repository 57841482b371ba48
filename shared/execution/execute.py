"""The last step of the trading loop: reconcile, protect, leave, enter, work, protect, mark."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from shared import clock
from shared.errors import DataUnavailable, OrderDenied
from shared.execution import quality
from shared.execution.desk import Desk
from shared.execution.types import EntryOrder, Exits, OrderResult
from shared.ledger import equity, events
from shared.risk.manage import manage_exits
from shared.run import Export, Run

_MAX_DECISION_AGE = timedelta(minutes=2)  # twice as long as a run may last


def execute(run: Run) -> Export:
    """Carry out what risk management approved, and everything that was due before it.

    Exits and reconciliation happen whatever the decision is; they never wait for a model.
    """
    risk = run.export_of("risk_management")
    desk = Desk.open(run)
    wants_risk = risk["approved"] and risk["action"] == "BUY"
    reconciliation = desk.reconcile(compare_accounts=wants_risk)
    desk.protect()
    exits = manage_exits(run, desk)
    results, note = _carry_out(run, desk, risk)
    results += desk.work()
    protection = desk.protect() if exits or results else desk.protection
    closed = desk.settle()
    return {
        "status": _status(risk, results, exits, note),
        "reason": note,
        "execution": {
            "orders": [_order(result) for result in results],
            "exits": exits,
            "positions_closed": closed,
            "protection": protection.as_export(),
        },
        "quality": quality.of_intents(
            run.ledger, [result.intent_id for result in results if result.intent_id]
        ),
        "reconciliation": reconciliation.as_export(),
        "equity_quote": _mark_equity(run, desk),
    }


def _carry_out(run: Run, desk: Desk, risk: Export) -> tuple[list[OrderResult], str]:
    if not risk["approved"]:
        return [], "; ".join(risk["reasoning"]) or "not approved"
    decision = run.export_of("signal_generator")["finalDecision"]
    try:
        _deny_if_stale(run, risk["decision_id"])
        if risk["action"] == "SELL":
            return _sell(run, desk, decision)
        if risk["action"] != "BUY":
            raise OrderDenied("ACTION_UNKNOWN", action=risk["action"])
        parent_id = desk.enter(_entry(risk, decision))
    except OrderDenied as denied:
        return [], f"DENIED {denied}"
    return [], f"working {parent_id}"


def _deny_if_stale(run: Run, decision_id: str | None) -> None:
    """A platform may repeat a failed event hours later, and finds the decision of that time."""
    row = run.ledger.one("SELECT at FROM decisions WHERE decision_id = %s", (decision_id,))
    if row is not None and clock.now() - row["at"] > _MAX_DECISION_AGE:
        raise OrderDenied("DECISION_STALE", decided_at=clock.iso(row["at"]))


def _sell(run: Run, desk: Desk, decision: Export) -> tuple[list[OrderResult], str]:
    row = run.ledger.one(
        "SELECT position_id FROM positions WHERE pod = %s AND symbol = %s "
        "AND sleeve = 'tactical' AND closed_at IS NULL",
        (run.ledger.pod, decision["symbol"]),
    )
    if row is None:
        return [], f"POSITION_MISSING: symbol={decision['symbol']}"
    return desk.exit(row["position_id"], reason="signal"), "signal"


def _entry(risk: Export, decision: Export) -> EntryOrder:
    exits = risk["exits"]
    if exits is None:
        raise OrderDenied("EXITS_MISSING", decision_id=risk["decision_id"])
    trailing = exits["trailingStop"]
    return EntryOrder(
        decision_id=risk["decision_id"],
        symbol=risk["symbol"],
        size_quote=Decimal(str(risk["size"])),
        decision_mid=Decimal(str(decision["mid"])),
        strategy=decision["strategy"],
        sleeve="tactical",
        urgency=decision["urgency"],
        exits=Exits(
            stop_price=Decimal(str(exits["stopLoss"])),
            target_price=Decimal(str(exits["takeProfit"])),
            trailing_activation_price=Decimal(str(trailing["activation"])),
            trailing_distance_percent=Decimal(str(trailing["distance_percent"])),
            time_stop_at=clock.from_ms(int(exits["timeStop"])),
        ),
    )


def _status(
    risk: Export, results: list[OrderResult], exits: list[dict[str, Any]], note: str
) -> str:
    if any(result.outcome == "UNKNOWN" for result in results):
        return "UNKNOWN"
    if results or exits:
        return "EXECUTED"
    if note.startswith("DENIED "):
        return "REJECTED"
    if risk["approved"]:
        return "WORKING"
    return "IDLE" if risk["action"] == "HOLD" else "REJECTED"


def _order(result: OrderResult) -> dict[str, Any]:
    return {
        "intent_id": result.intent_id,
        "venue": result.venue,
        "symbol": result.symbol,
        "side": result.side,
        "quantity": float(result.quantity),
        "outcome": result.outcome,
        "filled_quantity": float(result.filled_quantity),
        "average_price": None if result.average_price is None else float(result.average_price),
        "detail": result.detail,
    }


def _mark_equity(run: Run, desk: Desk) -> float | None:
    """Write the minute's equity; without a price for everything held it is not written.

    The gate takes no new risk on an equity that has become old.
    """
    try:
        return float(equity.mark(run, desk.quotes(run.pairs)))
    except DataUnavailable as missing:
        events.record(run.ledger, "EQUITY_UNMARKED", {"why": str(missing)})
        return None
