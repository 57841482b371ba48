"""The trading state: one row that every order passes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.ledger import events
from shared.ledger.connection import Ledger

State = Literal["ACTIVE", "REDUCING", "HALTED"]
_SEVERITY: dict[str, int] = {"ACTIVE": 0, "REDUCING": 1, "HALTED": 2}


@dataclass(frozen=True)
class TradingState:
    """What is allowed now.

    ``ACTIVE`` allows everything, ``REDUCING`` only orders that shrink a position, ``HALTED`` only
    cancels and exits. ``size_factor`` multiplies new sizes; ``close_all`` asks the position
    manager to close what is open. ``rearmed_at`` is when a person last ended a halt: by that he
    accepts the equity of that moment, and drawdown is counted from there.
    """

    state: State
    reason: str
    set_by: str
    since: datetime
    pause_until: datetime | None
    rearm_required: bool
    size_factor: Decimal
    limit_orders_only: bool
    close_all: bool
    rearmed_at: datetime | None = None

    @property
    def allows_new_risk(self) -> bool:
        return self.state == "ACTIVE"


def read(ledger: Ledger, *, lock: bool = False) -> TradingState:
    """The state in force.

    ``lock`` holds it until the transaction ends: no halt can slip by, and no other order. Two
    workflows have two leases, and both would pass a limit that only one of them may use up.
    """
    sql = (
        "SELECT state, reason, set_by, since, pause_until, rearm_required, size_factor, "
        "limit_orders_only, close_all, rearmed_at FROM trading_state WHERE pod = %s"
    )
    row = ledger.one(sql + " FOR NO KEY UPDATE" if lock else sql, (ledger.pod,))
    if row is None:
        # A pod without a row has never been set up: nothing may trade.
        return TradingState(
            "HALTED",
            "no trading state in the ledger",
            "default",
            clock.now(),
            None,
            True,
            Decimal(1),
            False,
            False,
        )
    return TradingState(**row)


def tighten(
    ledger: Ledger,
    state: State,
    *,
    reason: str,
    set_by: str,
    pause_until: datetime | None = None,
    rearm_required: bool = False,
    close_all: bool = False,
) -> bool:
    """Move to a state at least as strict as the present one. Returns whether it changed."""
    with ledger.transaction():
        present = read_for_update(ledger)
        stricter = _SEVERITY[state] > _SEVERITY[present.state]
        longer = pause_until is not None and (
            present.pause_until is None or pause_until > present.pause_until
        )
        harder = (rearm_required and not present.rearm_required) or (
            close_all and not present.close_all
        )
        if not (stricter or harder or (longer and state == present.state)):
            return False
        new_state = state if stricter else present.state
        ledger.execute(
            "UPDATE trading_state SET state = %s, reason = %s, set_by = %s, since = %s, "
            "pause_until = greatest(pause_until, %s), rearm_required = rearm_required OR %s, "
            "close_all = close_all OR %s WHERE pod = %s",
            (
                new_state,
                reason,
                set_by,
                clock.now(),
                pause_until,
                rearm_required,
                close_all,
                ledger.pod,
            ),
        )
        events.record(
            ledger,
            "STATE_CHANGED",
            {
                "from": present.state,
                "to": new_state,
                "reason": reason,
                "set_by": set_by,
            },
        )
    return True


def set_restrictions(ledger: Ledger, *, size_factor: Decimal, limit_orders_only: bool) -> None:
    """Set what the breaker's warnings ask for; both are recomputed by each of its runs."""
    ledger.execute(
        "UPDATE trading_state SET size_factor = %s, limit_orders_only = %s WHERE pod = %s",
        (size_factor, limit_orders_only, ledger.pod),
    )


def resume_after_pause(ledger: Ledger, *, set_by: str) -> bool:
    """End a pause whose time is over. The caller has seen every check healthy."""
    with ledger.transaction():
        present = read_for_update(ledger)
        over = present.pause_until is not None and present.pause_until <= clock.now()
        if present.state == "ACTIVE" or present.rearm_required or not over:
            return False
        _activate(ledger, present, reason="pause is over and every check is healthy", set_by=set_by)
    return True


def rearm(ledger: Ledger, *, reason: str, set_by: str) -> bool:
    """A person allows trading again. Returns whether the state changed."""
    with ledger.transaction():
        present = read_for_update(ledger)
        if present.state == "ACTIVE":
            return False
        _activate(ledger, present, reason=reason, set_by=set_by)
        ledger.execute(
            "UPDATE trading_state SET rearmed_at = %s WHERE pod = %s", (clock.now(), ledger.pod)
        )
    return True


def lift(ledger: Ledger, *, set_by: str, reason: str) -> bool:
    """End what ``set_by`` has tightened, unless something else has tightened since.

    A pause that was in force before it, and that it only kept from ending by itself, goes on.

    Args:
        set_by: who tightened, without a pause of his own.
    """
    with ledger.transaction():
        present = read_for_update(ledger)
        if present.state == "ACTIVE" or present.set_by != set_by:
            return False
        if present.pause_until is not None:
            ledger.execute(
                "UPDATE trading_state SET rearm_required = false, reason = %s WHERE pod = %s",
                (f"the pause from before goes on; {reason}", ledger.pod),
            )
            return False
        _activate(ledger, present, reason=reason, set_by=set_by)
    return True


def read_for_update(ledger: Ledger) -> TradingState:
    """Hold the row against every other change and every new order until the transaction ends."""
    ledger.execute("SELECT 1 FROM trading_state WHERE pod = %s FOR UPDATE", (ledger.pod,))
    return read(ledger)


def _activate(ledger: Ledger, present: TradingState, *, reason: str, set_by: str) -> None:
    ledger.execute(
        "UPDATE trading_state SET state = 'ACTIVE', reason = %s, set_by = %s, since = %s, "
        "pause_until = NULL, rearm_required = false, close_all = false WHERE pod = %s",
        (reason, set_by, clock.now(), ledger.pod),
    )
    events.record(
        ledger,
        "STATE_CHANGED",
        {
            "from": present.state,
            "to": "ACTIVE",
            "reason": reason,
            "set_by": set_by,
        },
    )
