"""Arm tokens: a person's leave to trade live, for some hours and for one pod.

They go by the database's clock, because a token is written on one machine and asked for on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import clock
from shared.errors import OrderDenied
from shared.ledger import alerts, events, phases, state
from shared.ledger.connection import Ledger, Row


@dataclass(frozen=True)
class Token:
    """A leave that is in force: who gave it, and from when until when it counts."""

    token_id: int
    armed_by: str
    armed_at: datetime
    expires_at: datetime


_CURRENT = (
    "SELECT token_id, armed_by, armed_at, expires_at FROM arm_tokens WHERE pod = %s "
    "AND revoked_at IS NULL AND armed_at <= now() AND expires_at > now() "
    "ORDER BY expires_at DESC LIMIT 1"
)


def current(ledger: Ledger) -> Token | None:
    """The token of this pod that is valid now, or ``None``."""
    row = ledger.one(_CURRENT, (ledger.pod,))
    return None if row is None else Token(**row)


def demand(ledger: Ledger) -> None:
    """Let new risk be taken live only with a token; call it inside the intent's transaction.

    The token is held until that transaction ends: what ``disarm`` finds committed may be on its
    way, and after it no run, not even one under way, buys anything.

    Raises:
        OrderDenied: no token is valid now.
    """
    if ledger.one(f"{_CURRENT} FOR SHARE", (ledger.pod,)) is None:
        raise OrderDenied("LIVE_NOT_ARMED", pod=ledger.pod)


def arm(
    ledger: Ledger, duration: timedelta, *, armed_by: str, reason: str | None, terms: dict[str, Any]
) -> Token:
    """Write a token that takes the place of any other; it is told in the events and as an alert.

    Args:
        terms: what was agreed to, such as venues and capital; kept with the event.

    Raises:
        OrderDenied: a phase before live trading is not passed; or trading is HALTED, and a person
            has to re-arm the state first.
    """
    with ledger.transaction():
        phases.demand_before_live(ledger)
        present = state.read_for_update(ledger)
        if present.state == "HALTED":
            raise OrderDenied("TRADING_HALTED", reason=present.reason)
        _revoke(ledger)
        row = ledger.one(
            "INSERT INTO arm_tokens (pod, armed_by, armed_at, expires_at) "
            "VALUES (%s, %s, now(), now() + %s) RETURNING token_id, armed_by, armed_at, expires_at",
            (ledger.pod, armed_by, duration),
        )
        assert row is not None  # INSERT ... RETURNING of one row
        token = Token(**row)
        until = clock.iso(token.expires_at)
        detail = {"token_id": token.token_id, "by": armed_by, "until": until, "reason": reason}
        events.record(ledger, "LIVE_ARMED", detail | terms)
        alerts.put(
            ledger,
            f"live-armed-{token.token_id}",
            "HIGH",
            f"Live trading is armed until {until}",
            f"pod {ledger.pod}, by {armed_by}: {reason or 'no reason given'}",
        )
    return token


def disarm(ledger: Ledger, *, by: str, reason: str | None) -> bool:
    """Revoke every token of this pod. Returns whether one was in force."""
    with ledger.transaction():
        token = current(ledger)
        _revoke(ledger)
        if token is None:
            return False
        detail = {"token_id": token.token_id, "by": by, "reason": reason}
        events.record(ledger, "LIVE_DISARMED", detail)
        alerts.put(
            ledger,
            f"live-disarmed-{token.token_id}",
            "HIGH",
            "Live trading is disarmed",
            f"pod {ledger.pod}, by {by}: {reason or 'no reason given'}",
        )
    return True


def open_live_positions(ledger: Ledger) -> list[Row]:
    """Open positions with orders that were sent live: ``position_id``, ``symbol``."""
    return ledger.query(
        "SELECT position_id, symbol FROM positions p WHERE pod = %s AND closed_at IS NULL "
        "AND EXISTS (SELECT 1 FROM intents i WHERE i.position_id = p.position_id "
        "AND i.mode = 'live') ORDER BY position_id",
        (ledger.pod,),
    )


def is_anything_live(ledger: Ledger) -> bool:
    """Whether a position is open that was ordered live, or a live order may still fill.

    A position may have been given an order that was sent before it was opened, as late as orders
    are looked for: a day.
    """
    row = ledger.one(
        "SELECT EXISTS (SELECT 1 FROM positions p JOIN intents i ON i.position_id = p.position_id "
        "AND i.pod = p.pod AND i.symbol = p.symbol AND i.sent_at > p.opened_at - interval '1 day' "
        "WHERE p.pod = %(pod)s AND p.closed_at IS NULL AND i.mode = 'live') "
        "OR EXISTS (SELECT 1 FROM intents WHERE pod = %(pod)s "
        "AND state IN ('SENDING', 'UNKNOWN') AND mode = 'live') "
        "OR EXISTS (SELECT 1 FROM orders o JOIN intents i USING (intent_id) "
        "WHERE o.pod = %(pod)s AND o.status = 'open' AND i.mode = 'live') AS live",
        {"pod": ledger.pod},
    )
    return row is not None and bool(row["live"])


def _revoke(ledger: Ledger) -> None:
    ledger.execute(
        "UPDATE arm_tokens SET revoked_at = now() WHERE pod = %s AND revoked_at IS NULL",
        (ledger.pod,),
    )
