"""The phases of a roll-out that a pod has passed: setup, install, test, live.

Live trading cannot be armed while one before it is not passed. Checking a phase is a command of a
person (``trading-loop phase``); what it found stands here as evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import events
from shared.ledger.connection import Ledger, json

Phase = Literal["setup", "install", "test", "live"]
ORDER: tuple[Phase, ...] = ("setup", "install", "test", "live")
BEFORE_LIVE: tuple[Phase, ...] = ORDER[:-1]


@dataclass(frozen=True)
class Passed:
    """When a phase was passed last, by whom, with which code, and what was seen."""

    phase: Phase
    passed_at: datetime
    passed_by: str
    build: str
    evidence: dict[str, Any]


def passed(ledger: Ledger) -> dict[Phase, Passed]:
    """The newest pass of each phase that this pod has passed."""
    rows = ledger.query(
        "SELECT DISTINCT ON (phase) phase, passed_at, passed_by, build, evidence FROM phases "
        "WHERE pod = %s ORDER BY phase, phase_id DESC",
        (ledger.pod,),
    )
    return {row["phase"]: Passed(**row) for row in rows}


def open_before(ledger: Ledger, phase: Phase) -> list[Phase]:
    """The phases that have to be passed before ``phase`` and are not."""
    done = passed(ledger)
    return [earlier for earlier in ORDER[: ORDER.index(phase)] if earlier not in done]


def demand_before_live(ledger: Ledger) -> None:
    """Let nothing be armed before its time.

    Raises:
        OrderDenied: ``PHASE_OPEN``, with the phases that are not passed.
    """
    missing = open_before(ledger, "live")
    if missing:
        raise OrderDenied("PHASE_OPEN", pod=ledger.pod, phases="+".join(missing))


def record(
    ledger: Ledger, phase: Phase, *, passed_by: str, build: str, evidence: dict[str, Any]
) -> None:
    """Write that a phase was passed."""
    with ledger.transaction():
        ledger.execute(
            "INSERT INTO phases (pod, phase, passed_at, passed_by, build, evidence) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (ledger.pod, phase, clock.now(), passed_by, build, json(evidence)),
        )
        detail = {"phase": phase, "by": passed_by, "build": build}
        events.record(ledger, "PHASE_PASSED", detail)
