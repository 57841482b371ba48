"""The breaker drill: trip a halt on paper, see that the gate refuses, re-arm, measure.

"Test circuit breaker manually", says the document. What is measured is the time from the command
until the halt is committed and a buy meets it at the gate's own control; from that moment on no
run, not one under way either, buys anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared.clock import Stopwatch
from shared.errors import OrderDenied
from shared.execution.types import OrderTicket
from shared.ledger import arming, events, state
from shared.ledger.connection import Ledger
from shared.risk.controls import order

KIND = "BREAKER_DRILL"
MOST_MS_TO_HALT = 1_000.0
"""A halt that takes longer than this is none: a run sends its order within a few seconds."""


@dataclass(frozen=True)
class Drill:
    """What the drill has shown. Times in milliseconds."""

    halted_ms: float
    refused_ms: float
    refusal: str
    exits_pass: bool
    rearmed: bool

    @property
    def passed(self) -> bool:
        stopped = self.refusal == "STATE_HALTED" and self.refused_ms <= MOST_MS_TO_HALT
        return stopped and self.exits_pass and self.rearmed


def run(ledger: Ledger, *, person: str) -> Drill:
    """Halt, look, lift. The result stands in the events.

    Raises:
        OrderDenied: something is live or armed, or trading is not ACTIVE: no time for a drill.
    """
    if arming.current(ledger) is not None or arming.is_anything_live(ledger):
        raise OrderDenied("DRILL_LIVE", pod=ledger.pod)
    present = state.read(ledger)
    if present.state != "ACTIVE":
        raise OrderDenied("DRILL_STATE", state=present.state, reason=present.reason)
    set_by = f"drill:{person}"
    watch = Stopwatch()
    state.tighten(ledger, "HALTED", reason="a drill", set_by=set_by)
    halted_ms = watch.milliseconds()
    try:
        refusal, refused_ms = _asked(ledger, "buy"), watch.milliseconds()
        exits_pass = _asked(ledger, "sell") == ""
    finally:
        rearmed = state.lift(ledger, set_by=set_by, reason="the drill is over")
    drill = Drill(halted_ms, refused_ms, refusal, exits_pass, rearmed)
    events.record(ledger, KIND, _detail(drill, person))
    return drill


def _asked(ledger: Ledger, side: str) -> str:
    """The code with which the gate's first control refuses an order now; empty where it passes."""
    buys = side == "buy"
    ticket = OrderTicket(
        client_order_id="drill", venue="none", symbol="NONE/NONE", side="buy" if buys else "sell",
        order_type="limit", time_in_force="IOC", quantity=Decimal(1), limit_price=Decimal(1),
    )  # fmt: skip
    with ledger.transaction():
        trading = state.read(ledger, lock=True)
        try:
            order.deny_unless_state_allows(trading, ticket, "entry" if buys else "exit")
        except OrderDenied as denied:
            return denied.code
    return ""


def _detail(drill: Drill, person: str) -> dict[str, Any]:
    return {
        "passed": drill.passed,
        "halted_ms": round(drill.halted_ms, 1),
        "refused_ms": round(drill.refused_ms, 1),
        "refusal": drill.refusal,
        "exits_pass": drill.exits_pass,
        "rearmed": drill.rearmed,
        "by": person,
    }
