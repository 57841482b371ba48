"""Intents: what is about to be sent, committed before the first byte leaves.

An intent is unique by its logical key, and its client order id is derived from that key. So a run
that repeats finds the intent of its predecessor, and never makes a second order.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from shared import clock
from shared.execution.types import OrderTicket, Purpose, Side
from shared.execution.venues.base import Venue
from shared.ledger.connection import Ledger, Row

Outcome = Literal["ACKNOWLEDGED", "REJECTED", "UNKNOWN", "DEAD"]

QUARANTINE = timedelta(seconds=90)
"""How long an order that no query shows stays UNKNOWN after ``valid_until``, when its request can
no longer make an order: queries may lag behind the matching engine, and it is longer than the 60 s
after which the platform kills a run that might still be sending."""


@dataclass(frozen=True)
class Intent:
    """One order that is to be sent once."""

    logical_key: str
    position_id: int
    parent_id: str | None
    slice: int | None
    purpose: Purpose
    ticket: OrderTicket
    decision_mid: Decimal
    arrival_mid: Decimal

    @property
    def intent_id(self) -> str:
        return self.ticket.client_order_id


@dataclass(frozen=True)
class Unresolved:
    """An intent of which nobody knows yet what became of it.

    Attributes:
        mode: which way it was sent; ``None`` where it is older than that column, when nothing
            could be sent live.
        valid_until: from then on its request can no longer make an order.
    """

    intent_id: str
    mode: str | None
    venue: str
    symbol: str
    side: Side
    purpose: Purpose
    quantity: Decimal
    sent_at: datetime
    valid_until: datetime


def client_order_id(logical_key: str) -> str:
    """18 characters that Binance, Coinbase and Kraken all take, derived from the logical key."""
    digest = hashlib.sha256(logical_key.encode()).digest()
    return "tl" + base64.b32encode(digest).decode()[:16].lower()


def asks_of(venue: Venue, mode: str | None) -> bool:
    """Whether this venue can know of what was sent in ``mode``.

    Paper knows nothing of what was really sent, and its silence would pass for proof of death.
    """
    return mode is None or venue.mode == mode


def insert(ledger: Ledger, intent: Intent, epoch: int, venue: Venue) -> bool:
    """Write the intent as SENDING. Returns ``False`` where its logical key exists already."""
    now, ticket = clock.now(), intent.ticket
    changed = ledger.execute(
        "INSERT INTO intents (intent_id, logical_key, client_order_id, pod, position_id, "
        "parent_id, slice, venue, symbol, side, purpose, order_type, time_in_force, quantity, "
        "limit_price, stop_price, post_only, decision_mid, arrival_mid, epoch, mode, sent_at, "
        "valid_until) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
        "%s, %s, %s, %s, %s, %s) ON CONFLICT (logical_key) DO NOTHING",
        (
            intent.intent_id,
            intent.logical_key,
            ticket.client_order_id,
            ledger.pod,
            intent.position_id,
            intent.parent_id,
            intent.slice,
            ticket.venue,
            ticket.symbol,
            ticket.side,
            intent.purpose,
            ticket.order_type,
            ticket.time_in_force,
            ticket.quantity,
            ticket.limit_price,
            ticket.stop_price,
            ticket.post_only,
            intent.decision_mid,
            intent.arrival_mid,
            epoch,
            venue.mode,
            now,
            now + venue.request_validity,
        ),
    )
    return changed == 1


def settle(ledger: Ledger, intent_id: str, outcome: Outcome, error: str | None = None) -> bool:
    """Note what became of a send. A terminal state is never left again; returns if it was noted."""
    changed = ledger.execute(
        "UPDATE intents SET state = %s, error = coalesce(%s, error), "
        "resolved_at = CASE WHEN %s = 'UNKNOWN' THEN NULL ELSE %s END "
        "WHERE intent_id = %s AND state IN ('SENDING', 'UNKNOWN')",
        (outcome, error, outcome, clock.now(), intent_id),
    )
    return changed == 1


def unresolved(ledger: Ledger) -> list[Unresolved]:
    """Intents that were sent, or may have been, without a known outcome; oldest first."""
    rows = ledger.query(
        "SELECT intent_id, mode, venue, symbol, side, purpose, quantity, sent_at, valid_until "
        "FROM intents WHERE pod = %s AND state IN ('SENDING', 'UNKNOWN') ORDER BY sent_at",
        (ledger.pod,),
    )
    return [Unresolved(**row) for row in rows]


def by_key(ledger: Ledger, logical_key: str) -> Row | None:
    """The intent with a logical key, with what came of it (a row of ``order_log``)."""
    return ledger.one("SELECT * FROM order_log WHERE logical_key = %s", (logical_key,))
