"""What follows from the checks: pure, so that every rule can be tried by itself.

CRITICAL  drawdown past the halt limit: close everything, halt 24 h, and until a person re-arms.
HIGH      daily loss, or more than five failed calls: cancel all orders, pause 1 h.
MEDIUM    one of these three could not be checked: no new risk until it can be.
Volatility and slippage past their limits trigger nothing; they restrict sizes and order types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared.ledger.state import State, TradingState
from shared.safety.checks.base import Result

Severity = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
SET_BY = "circuit_breaker"
HALVED = Decimal("0.5")

_REASONS: dict[str, tuple[Severity, str]] = {
    "drawdown": ("CRITICAL", "Maximum drawdown exceeded"),
    "daily_loss": ("HIGH", "Daily loss limit breached"),
    "api_health": ("HIGH", "API connectivity issues"),
}
_RANK: tuple[Severity, ...] = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
_PAUSE: dict[Severity, timedelta] = {
    "CRITICAL": timedelta(hours=24),
    "HIGH": timedelta(hours=1),
    "MEDIUM": timedelta(minutes=5),
}


@dataclass(frozen=True)
class Verdict:
    """Whether and how hard the breaker trips, and which restrictions are in order."""

    severity: Severity
    reasons: tuple[str, ...]
    size_factor: Decimal
    limit_orders_only: bool
    healthy: bool

    @property
    def trigger(self) -> bool:
        return self.severity != "LOW"


@dataclass(frozen=True)
class Tightening:
    """A move of the trading state, as ``shared.ledger.state.tighten`` takes it."""

    state: State
    pause_until: datetime
    rearm_required: bool
    close_all: bool


def judge(results: Mapping[str, Result], present: TradingState, *, started: bool) -> Verdict:
    """Apply the rules. Before the first trading run has ended nothing trips.

    A restriction whose check is unknown stays as it is; it is lifted by a healthy check only.
    ``healthy`` means that no check is critical or unknown: a warning restricts, it does not stop.
    """
    found: list[tuple[Severity, str]] = []
    if started:
        for name, (severity, reason) in _REASONS.items():
            if results[name].status == "CRITICAL":
                found.append((severity, f"{reason} ({results[name].detail})"))
            elif results[name].status == "UNKNOWN":
                found.append(("MEDIUM", f"{name} could not be checked: {results[name].detail}"))
    severity = max((s for s, _ in found), key=_RANK.index, default="LOW")
    return Verdict(
        severity=severity,
        reasons=tuple(reason for _, reason in found),
        size_factor=_restriction(results["volatility"], HALVED, Decimal(1), present.size_factor),
        limit_orders_only=_restriction(results["slippage"], True, False, present.limit_orders_only),
        healthy=started and all(r.status in ("OK", "WARNING") for r in results.values()),
    )


def tightening(verdict: Verdict, present: TradingState, now: datetime) -> Tightening | None:
    """How the state has to move, or ``None`` where it is strict enough already.

    A pause that has run out while its reason persists begins anew.
    """
    if not verdict.trigger:
        return None
    critical = verdict.severity == "CRITICAL"
    target: State = "REDUCING" if verdict.severity == "MEDIUM" else "HALTED"
    wanted = Tightening(target, now + _PAUSE[verdict.severity], critical, critical)
    if critical:
        complete = present.state == "HALTED" and present.rearm_required and present.close_all
        return None if complete else wanted
    if present.state == "ACTIVE" or (target == "HALTED" and present.state == "REDUCING"):
        return wanted
    over = present.pause_until is not None and present.pause_until <= now
    return wanted if over and not present.rearm_required and present.state == target else None


def _restriction[T](result: Result, restricted: T, free: T, present: T) -> T:
    if result.status == "UNKNOWN":
        return present
    return free if result.status == "OK" else restricted
