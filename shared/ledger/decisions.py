"""Decisions: one a run of the trading loop, kept whole, so that each can be replayed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared import clock
from shared.ledger.connection import Ledger, Row, json

_FIND = (
    "SELECT decision_id, run_id, at, symbol, action, source, strategy, confidence, size_fraction, "
    "mid_price, reasoning, inputs, model_calls FROM decisions WHERE pod = %s AND decision_id = %s"
)
_INSERT = (
    "INSERT INTO decisions (pod, decision_id, run_id, at, symbol, action, source, strategy, "
    "confidence, size_fraction, mid_price, reasoning, inputs, model_calls) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (decision_id) DO NOTHING"
)


@dataclass(frozen=True)
class Decision:
    """What was decided, from which inputs, after which model calls.

    Attributes:
        size_fraction: 0..1 of the size that risk management would allow.
        mid_price: the mid that was decided on, in quote currency.
        inputs: everything that the final word was computed from.
        model_calls: prompts, raw answers, latency, tokens and cost, in the order of the calls.
    """

    decision_id: str
    symbol: str | None
    action: str
    source: str
    strategy: str | None
    confidence: float
    size_fraction: float
    mid_price: Decimal | None
    reasoning: str
    inputs: dict[str, Any]
    model_calls: list[dict[str, Any]]


def decision_id(pod: str, trace_id: str) -> str:
    """The same event of the same pod always has the same decision."""
    digest = hashlib.sha256(f"{pod}|{trace_id}".encode()).digest()
    return "d" + base64.b32encode(digest).decode().lower()[:20]


def find(ledger: Ledger, identity: str) -> Row | None:
    """The stored decision, or ``None``."""
    return ledger.one(_FIND, (ledger.pod, identity))


def record(ledger: Ledger, run_id: int, decision: Decision) -> Row:
    """Store a decision, or leave the one that is stored already; returns what is stored.

    The caller holds the lease inside a transaction.
    """
    ledger.execute(
        _INSERT,
        (
            ledger.pod,
            decision.decision_id,
            run_id,
            clock.now(),
            decision.symbol,
            decision.action,
            decision.source,
            decision.strategy,
            decision.confidence,
            decision.size_fraction,
            decision.mid_price,
            decision.reasoning,
            json(decision.inputs),
            json(decision.model_calls),
        ),
    )
    stored = find(ledger, decision.decision_id)
    if stored is None:
        raise RuntimeError(
            f"decision_id: expected a row of pod {ledger.pod}, was taken by another pod: "
            f"{decision.decision_id}"
        )
    return stored
