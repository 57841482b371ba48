"""The position manager: leave what is due, protect and grow what runs, tell what is held.

It decides by pure rules (``exit_rules``, ``adjustments``) and acts through the desk only.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.errors import DataUnavailable
from shared.execution.exits import naked
from shared.ledger import equity, events, positions
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk import adjustments, looks
from shared.risk.exit_rules import decide_exit
from shared.risk.looks import Look
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

Action = dict[str, Any]


def manage_exits(run: Run, desk: Desk) -> list[Action]:
    """Leave every position that is due, and raise the trailing stops of the others.

    For every minute of the trading loop. Returns what was done, exits and moved stops alike.
    """
    held = _held(run)
    if not held:
        return []
    actions, _ = _leave_or_follow(run, desk, looks.at(run, desk, held, with_candles=True))
    return actions


def manage(run: Run) -> Export:
    """The body of the workflow ``position_manager``.

    Positions without a price are reported in ``unpriced``; nothing about them is guessed.
    """
    from shared.execution.desk import Desk

    desk = Desk.open(run)
    desk.reconcile()
    desk.protect()
    held = _held(run)
    seen = looks.at(run, desk, held, with_candles=False) if held else []
    actions, staying = _leave_or_follow(run, desk, seen)
    for look in staying:
        actions += _adjust(run, desk, look)
    protection = desk.protect() if actions else desk.protection
    exited = [action for action in actions if action["action"] == "exit"]
    adjusted = [action for action in actions if action["action"] not in ("exit", "none")]
    return {
        "managed": sum(look.quote is not None for look in seen),
        "exited": len(exited),
        "adjusted": len(adjusted),
        "rebalanced": 0,
        "core_sleeve": "not built",
        "averaging_down": "not built",
        "unpriced": sorted(look.position.symbol for look in seen if look.quote is None),
        "portfolio": _portfolio(run, desk),
        "protection": protection.as_export(),
        "actions": actions,
    }


def _held(run: Run) -> list[Position]:
    return [position for position in positions.open_positions(run.ledger) if position.is_held]


def _leave_or_follow(run: Run, desk: Desk, seen: Sequence[Look]) -> tuple[list[Action], list[Look]]:
    """Act on every look; returns the actions and the looks at positions that stay."""
    if not seen:
        return [], []
    risk = looks.risk_exit(run)
    actions: list[Action] = []
    staying: list[Look] = []
    for look in seen:
        action = _leave(run, desk, look, risk)
        if action is not None:
            actions.append(action)
        elif look.quote is not None:
            bid = Decimal(repr(float(look.quote.bid)))
            try:
                moved = adjustments.follow(run, look.position, bid, look.seen)
                staying.append(look)
            except DataUnavailable as gone:  # the other workflow has closed it since it was read
                moved = {"position_id": look.position.position_id, "skipped": str(gone)}
            if moved is not None:
                actions.append(moved)
    return actions, staying


def _leave(run: Run, desk: Desk, look: Look, risk: str | None) -> Action | None:
    position = look.position
    detail: dict[str, Any]
    if position.exit_reason is not None:  # being left already: what was not filled is sold on
        reason, detail = position.exit_reason, {"continued": True}
    elif look.quote is not None:
        signal = decide_exit(
            position,
            look.quote,
            now=clock.now(),
            seen=look.seen,
            risk=risk is not None,
            momentum=look.momentum,
        )
        if signal is None:
            return None
        reason, detail = signal.reason, {"trigger": signal.trigger, "seen": signal.seen}
    elif risk is not None:  # closing everything needs no price of ours: the venue has its book
        reason, detail = "risk", {"trigger": None, "seen": None}
    else:
        return None
    if reason == "risk":
        detail["detail"] = risk
    results = desk.exit(position.position_id, reason=reason)
    action = {
        "position_id": position.position_id,
        "symbol": position.symbol,
        "action": "exit",
        "reason": reason,
        "orders": [
            {
                "venue": result.venue,
                "outcome": result.outcome,
                "quantity": float(result.quantity),
                "filled_quantity": float(result.filled_quantity),
                "detail": result.detail,
            }
            for result in results
        ],
    } | detail
    if "continued" not in detail:
        events.record(run.ledger, "EXIT_DECIDED", action)
    return action


def _adjust(run: Run, desk: Desk, look: Look) -> list[Action]:
    """Partial profit, else a pyramid; by the position as it is after its stop was raised."""
    position = positions.by_id(run.ledger, look.position.position_id)
    if position is None or look.quote is None or position.sleeve != "tactical":
        return []
    bid = Decimal(repr(float(look.quote.bid)))
    done = adjustments.take_partial(run, desk, position, bid) or adjustments.pyramid(
        run, desk, position, bid
    )
    return [] if done is None else [done]


def _portfolio(run: Run, desk: Desk) -> Export:
    held = _held(run)
    quotes = desk.quotes(sorted({position.symbol for position in held})) if held else {}
    rows = [
        _row(position, quotes.get(position.symbol))
        | {"naked_seconds": naked.seconds(run.ledger, position.position_id)}
        for position in held
    ]
    try:
        worth = equity.value(run, quotes)
    except DataUnavailable as missing:
        return {
            "equity_quote": None,
            "cash_quote": None,
            "missing": [str(missing)],
            "positions": rows,
        }
    return {
        "equity_quote": float(worth.equity_quote),
        "cash_quote": float(worth.cash_quote),
        "missing": [],
        "positions": rows,
    }


def _row(position: Position, quote: Quote | None) -> Export:
    """A position and its profit: at the mid, and at the bid, which could really be had."""
    priced = {} if quote is None else {"mid": quote.mid, "bid": quote.bid}
    flow, cost = float(position.quote_flow), float(position.cost_quote)
    quantity = float(position.quantity)
    profits = {
        f"pnl_{name}_quote": flow + quantity * price for name, price in priced.items()
    }  # what was sold already and all fees are in the flow
    if quote is not None and cost > 0:
        profits["pnl_percent"] = 100 * profits["pnl_mid_quote"] / cost
    return (
        {
            "position_id": position.position_id,
            "symbol": position.symbol,
            "sleeve": position.sleeve,
            "strategy": position.strategy,
            "quantity": quantity,
            "average_entry_price": _number(position.average_entry_price),
            "stop_price": float(position.stop_price),
            "target_price": _number(position.target_price),
            "high_water_price": _number(position.high_water_price),
        }
        | priced
        | profits
    )


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
