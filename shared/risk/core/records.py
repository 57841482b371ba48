"""Rebalances in the ledger: planned once, carried out over minutes, ended once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from shared import clock
from shared.execution.types import Side
from shared.ledger.connection import Ledger, json

State = Literal["SELLING", "BUYING", "DONE", "ENDED"]

LOCKED = timedelta(days=7)
"""After a stop or another exit by risk the sleeve buys the symbol again only then: what has fallen
by a fifth is not bought back at once because it is below its target."""

_CARRIED_OUT_SHARE = Decimal("0.5")
"""Of a trade's planned notional. A whole one stays a little under its plan too: its slices are
rounded down to lots, and sized at the worst price of the collar."""

_ATTEMPTS = """
SELECT r.at, bool_and(coalesce(filled.quote, 0) >=
                      %(share)s * (planned.trade->>'notional_quote')::numeric) AS is_carried_out
FROM rebalances r
CROSS JOIN LATERAL jsonb_array_elements(r.trades) AS planned(trade)
CROSS JOIN LATERAL (
    SELECT sum(f.price * f.quantity) AS quote FROM intents i JOIN fills f USING (intent_id)
    WHERE i.pod = r.pod AND i.symbol = planned.trade->>'symbol' AND i.sent_at >= r.at
      AND i.parent_id = concat_ws(':', r.rebalance_id, planned.trade->>'side',
                                  planned.trade->>'symbol')
) AS filled
WHERE r.pod = %(pod)s AND r.at > %(since)s
GROUP BY r.rebalance_id, r.at ORDER BY r.at DESC
"""

_COLUMNS = "rebalance_id, at, reason, weights, trades, skipped, state, ended_reason"


@dataclass(frozen=True)
class PlannedTrade:
    """One trade of a rebalance, as it was planned. ``quantity`` is set for a sale."""

    side: Side
    symbol: str
    notional_quote: Decimal
    mid: Decimal
    cost_quote: Decimal
    position_id: int | None = None
    quantity: Decimal | None = None

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> PlannedTrade:
        numbers = ("notional_quote", "mid", "cost_quote", "quantity")
        exact = {name: Decimal(row[name]) for name in numbers if row[name] is not None}
        return cls(**(row | exact))


@dataclass(frozen=True)
class Rebalance:
    """One row. ``weights`` are those before it."""

    rebalance_id: str
    at: datetime
    reason: str
    weights: dict[str, dict[str, float]]
    trades: list[PlannedTrade]
    skipped: dict[str, str]
    state: State
    ended_reason: str | None

    def of_side(self, side: Side) -> list[PlannedTrade]:
        return [trade for trade in self.trades if trade.side == side]


@dataclass(frozen=True)
class Attempt:
    """When a rebalance was planned, and whether each of its trades was filled by half or more."""

    at: datetime
    is_carried_out: bool


def identity(pod: str, event_at: datetime) -> str:
    """A repeat of the run finds the rebalance that it has planned."""
    return f"rebalance:{pod}:{clock.iso(event_at)}"


def parent_id(rebalance_id: str, trade: PlannedTrade) -> str:
    return f"{rebalance_id}:{trade.side}:{trade.symbol}"


def insert(
    ledger: Ledger,
    rebalance: Rebalance,
    *,
    equity_quote: Decimal,
    sleeve_quote: Decimal,
) -> bool:
    """Write the plan; ``False`` where it was written before, or another is being carried out."""
    changed = ledger.execute(
        "INSERT INTO rebalances (rebalance_id, pod, at, reason, equity_quote, sleeve_quote, "
        "weights, trades, skipped, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        (
            rebalance.rebalance_id,
            ledger.pod,
            rebalance.at,
            rebalance.reason,
            equity_quote,
            sleeve_quote,
            json(rebalance.weights),
            json([trade.as_json() for trade in rebalance.trades]),
            json(rebalance.skipped),
            rebalance.state,
        ),
    )
    return changed == 1


def under_way(ledger: Ledger) -> Rebalance | None:
    """The rebalance that is being carried out."""
    row = ledger.one(
        f"SELECT {_COLUMNS} FROM rebalances "  # noqa: S608 our own names
        "WHERE pod = %s AND state IN ('SELLING', 'BUYING')",
        (ledger.pod,),
    )
    if row is None:
        return None
    trades = [PlannedTrade.from_json(trade) for trade in row["trades"]]
    return Rebalance(**(row | {"trades": trades}))


def attempts(ledger: Ledger, since: datetime) -> list[Attempt]:
    """The rebalances that were planned after ``since``, newest first."""
    rows = ledger.query(_ATTEMPTS, {"pod": ledger.pod, "since": since, "share": _CARRIED_OUT_SHARE})
    return [Attempt(**row) for row in rows]


def advance(ledger: Ledger, rebalance_id: str, state: State, reason: str | None = None) -> None:
    """Move on; ``DONE`` and ``ENDED`` take the reason and are never left."""
    over = state in ("DONE", "ENDED")
    ledger.execute(
        "UPDATE rebalances SET state = %s, ended_at = %s, ended_reason = %s "
        "WHERE pod = %s AND rebalance_id = %s AND state IN ('SELLING', 'BUYING')",
        (state, clock.now() if over else None, reason if over else None, ledger.pod, rebalance_id),
    )


def is_working(ledger: Ledger, rebalance_id: str) -> bool:
    """Whether a parent of the rebalance still wants something."""
    row = ledger.one(
        "SELECT 1 FROM parent_orders WHERE pod = %s AND state = 'WORKING' "
        "AND starts_with(parent_id, %s)",
        (ledger.pod, f"{rebalance_id}:"),
    )
    return row is not None


def traded_quote(ledger: Ledger, rebalance_id: str) -> dict[Side, Decimal]:
    """What its orders have really sold and bought, in quote, without fees."""
    rows = ledger.query(
        "SELECT f.side, sum(f.price * f.quantity) AS quote FROM parent_orders p "
        "JOIN intents i USING (parent_id) JOIN fills f USING (intent_id) "
        "WHERE p.pod = %s AND starts_with(p.parent_id, %s) GROUP BY f.side",
        (ledger.pod, f"{rebalance_id}:"),
    )
    nothing: dict[Side, Decimal] = {"sell": Decimal(0), "buy": Decimal(0)}
    return nothing | {row["side"]: row["quote"] for row in rows}


def locked(ledger: Ledger) -> dict[str, str]:
    """Symbols that the sleeve does not buy now, with the reason: an exit that is not long ago.

    Whatever ended a core position but a rebalance locks it.
    """
    rows = ledger.query(
        "SELECT symbol, max(closed_at) AS closed_at, "
        "bool_or(closed_at IS NULL) AS is_leaving FROM positions "
        "WHERE pod = %(pod)s AND sleeve = 'core' AND ("
        "  closed_at > %(since)s AND close_reason NOT IN ('sold', 'not filled') "
        "  OR closed_at IS NULL AND exit_reason IS NOT NULL) GROUP BY symbol",
        {"pod": ledger.pod, "since": clock.now() - LOCKED},
    )
    return {
        row["symbol"]: "LEAVING: it is being sold"
        if row["is_leaving"]
        else f"LOCKED: left on {clock.iso(row['closed_at'])}, bought again after 7 days"
        for row in rows
    }
