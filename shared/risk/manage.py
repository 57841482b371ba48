"""The position manager: leave what is due, protect and grow what runs, tell what is held.

It decides by pure rules (``exit_rules``, ``adjustments``) and acts through the desk only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import clock
from shared.errors import DataUnavailable, OrderDenied, VenueUnavailable
from shared.execution.types import OrderResult
from shared.ledger import events, positions
from shared.ledger.positions import Position
from shared.market.types import Quote
from shared.risk import looks
from shared.risk.core.rebalance import rebalance
from shared.risk.exit_rules import decide_exit
from shared.risk.looks import Look
from shared.risk.managing import adjustments, growing, report, troubles
from shared.risk.managing.holdings import Holdings
from shared.risk.managing.troubles import Trouble
from shared.run import Export, Run

if TYPE_CHECKING:
    from shared.execution.desk import Desk

Action = dict[str, Any]

_URGENT = ("stop", "risk", "trailing")  # reasons for which each minute may cost more


def manage_exits(run: Run, desk: Desk) -> list[Action]:
    """Leave every position that is due, and raise the trailing stops of the others.

    For every minute of the trading loop. Returns what was done, exits and moved stops alike.
    """
    held = _held(run)
    if not held:
        return []
    seen = looks.at(run, desk, held, with_candles=True)
    manager = _Manager(run, desk)
    manager.leave_or_follow(seen)
    manager.tell(troubles.unpriced(seen))
    return manager.actions


def manage(run: Run) -> Export:
    """The body of the workflow ``position_manager``.

    A position that cannot be managed is named in ``troubles`` and told, and the others are managed;
    nothing about it is guessed.
    """
    from shared.execution.desk import Desk

    desk = Desk.open(run)
    desk.reconcile()
    desk.protect()
    held = _held(run)
    seen = looks.at(run, desk, held, with_candles=False) if held else []
    manager = _Manager(run, desk)
    for look in manager.leave_or_follow(seen):
        manager.adjust(look)
    protection = desk.protect() if manager.actions else desk.protection
    core = rebalance(run, desk)
    staying = _held(run)
    holdings = Holdings.read(run.ledger, staying)
    ids = {position.position_id for position in staying}
    manager.tell(
        troubles.found(run, desk, [x for x in seen if x.position.position_id in ids], holdings)
    )
    exited = [action for action in manager.actions if action["action"] == "exit"]
    adjusted = [action for action in manager.actions if action["action"] not in ("exit", "none")]
    return {
        "managed": sum(look.quote is not None for look in seen),
        "exited": len(exited),
        "adjusted": len(adjusted),
        "rebalanced": core.opened,
        "rebalancing": core.as_export(),
        "portfolio": report.portfolio(run, desk, staying, holdings),
        "unpriced": sorted(look.position.symbol for look in seen if look.quote is None),
        "troubles": [trouble.as_export() for trouble in manager.troubles],
        "protection": protection.as_export(),
        "actions": manager.actions,
    }


def _held(run: Run) -> list[Position]:
    return [position for position in positions.open_positions(run.ledger) if position.is_held]


class _Manager:
    """Acts on looks, one position after the other, and notes what was done and what went wrong."""

    def __init__(self, run: Run, desk: Desk) -> None:
        self._run = run
        self._desk = desk
        self.actions: list[Action] = []
        self.troubles: list[Trouble] = []

    def leave_or_follow(self, seen: Sequence[Look]) -> list[Look]:
        """Leave what is due, raise the other stops; returns the looks at positions that stay."""
        if not seen:
            return []
        risk = looks.risk_exit(self._run)
        return [look for look in seen if self._each(look, lambda x: self._stays(x, risk))]

    def adjust(self, look: Look) -> None:
        """Partial profit, else a pyramid, else averaging down."""
        self._each(look, self._adjusted)

    def tell(self, found: Sequence[Trouble]) -> None:
        """Name them in the export, and by an event and an alert where they are news."""
        for trouble in found:
            self.troubles.append(trouble)
            troubles.tell(self._run, trouble)

    def _each(self, look: Look, act: Callable[[Look], bool]) -> bool:
        """One position at a time: what goes wrong with it keeps nobody from the next."""
        try:
            return act(look)
        except (DataUnavailable, VenueUnavailable, OrderDenied) as error:
            self.tell([troubles.of_position(look.position, "POSITION_NOT_MANAGED", str(error))])
            return False

    def _stays(self, look: Look, risk: str | None) -> bool:
        action = _leave(self._run, self._desk, look, risk)
        if action is not None:
            self.actions.append(action)
            self._tell_if_unsold(look, action)
            return False
        if look.quote is None:
            return False
        try:
            moved = adjustments.follow(self._run, look.position, _bid(look.quote), look.seen)
        except DataUnavailable as gone:  # the other workflow has closed it since it was read
            self.actions.append(adjustments.action(look.position, "none", skipped=str(gone)))
            return False
        if moved is not None:
            self.actions.append(moved)
        return True

    def _tell_if_unsold(self, look: Look, action: Action) -> None:
        """An exit that sends no order has to be known: only dust may end so."""
        if action["orders"]:
            return
        held = Holdings.read(self._run.ledger, [look.position])
        price = None if look.quote is None else look.quote.bid
        if held.of(look.position.position_id) and not troubles.is_dust(
            self._desk, look.position, held, price
        ):
            detail = f"its exit ({action['reason']}) could send no order; it is tried every minute"
            self.tell([troubles.of_position(look.position, "EXIT_UNSOLD", detail)])

    def _adjusted(self, look: Look) -> bool:
        """By the position as it is after its stop was raised."""
        run, desk, quote = self._run, self._desk, look.quote
        position = positions.by_id(run.ledger, look.position.position_id)
        if position is None or quote is None or position.sleeve != "tactical":
            return False
        done = (
            adjustments.take_partial(run, desk, position, _bid(quote))
            or growing.pyramid(run, desk, position, quote)
            or growing.average_down(run, desk, position, quote)
        )
        if done is not None:
            self.actions.append(done)
        return done is not None


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
    action = _exit(position, reason, desk.exit(position.position_id, reason=reason)) | detail
    if "continued" not in detail:
        events.record(run.ledger, "EXIT_DECIDED", action)
    return action


def _exit(position: Position, reason: str, results: Sequence[OrderResult]) -> Action:
    return {
        "position_id": position.position_id,
        "symbol": position.symbol,
        "action": "exit",
        "reason": reason,
        "urgency": "high" if reason in _URGENT else "normal",
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
    }


def _bid(quote: Quote) -> Decimal:
    return Decimal(repr(float(quote.bid)))
