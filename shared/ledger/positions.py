"""Positions as the ledger tells them: quantities and costs from fills, exits as decided.

Stops only ever rise and high-water marks too: SQL sees to it, whatever a caller asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Literal

from shared.errors import DataUnavailable
from shared.ledger.connection import Ledger, Row


@dataclass(frozen=True)
class Position:
    """One position. Prices and money in quote currency, quantities in base currency.

    Attributes:
        exit_reason: set once it is to be left whole; selling goes on until nothing is held.
        quantity: what is held now, fees that were paid in base already gone.
        average_entry_price: ``None`` until the first fill.
        quote_flow: proceeds minus costs minus fees in quote: the profit once it is all sold.
    """

    position_id: int
    symbol: str
    sleeve: Literal["tactical", "core"]
    strategy: str
    decision_id: str | None
    opened_at: datetime
    exit_reason: str | None
    closed_at: datetime | None
    close_reason: str | None
    stop_price: Decimal
    target_price: Decimal | None
    trailing_activation_price: Decimal | None
    trailing_distance_percent: Decimal | None
    high_water_price: Decimal | None
    time_stop_at: datetime | None
    partial_taken: bool
    quantity: Decimal
    bought_quantity: Decimal
    sold_quantity: Decimal
    average_entry_price: Decimal | None
    cost_quote: Decimal
    proceeds_quote: Decimal
    fees_quote: Decimal
    quote_flow: Decimal
    first_fill_at: datetime | None

    @property
    def is_held(self) -> bool:
        return self.quantity > 0 and self.average_entry_price is not None


_COLUMNS = ", ".join(field.name for field in fields(Position))
_SELECT = f"SELECT {_COLUMNS} FROM position_summary WHERE pod = %s "  # noqa: S608 our own names


def open_positions(ledger: Ledger) -> list[Position]:
    """The positions that are not closed, oldest first; those still without fills included."""
    rows = ledger.query(
        "SELECT position_id FROM positions WHERE pod = %s AND closed_at IS NULL "
        "ORDER BY position_id",
        (ledger.pod,),
    )
    # One look-up a position reaches only its own fills; the view as a whole would sum them all.
    found = (by_id(ledger, row["position_id"]) for row in rows)
    return [position for position in found if position is not None]


def by_id(ledger: Ledger, position_id: int) -> Position | None:
    """One position of this pod, open or closed."""
    row = ledger.one(_SELECT + "AND position_id = %s", (ledger.pod, position_id))
    return None if row is None else Position(**row)


def tighten_stop(ledger: Ledger, position_id: int, stop_price: Decimal) -> Decimal:
    """Raise a stop; a lower one changes nothing. Returns the stop in force."""
    return _raise(ledger, position_id, "stop_price", stop_price)


def raise_high_water(ledger: Ledger, position_id: int, price: Decimal) -> Decimal:
    """Note a price; only a new high changes anything. Returns the high-water mark in force."""
    return _raise(ledger, position_id, "high_water_price", price)


def mark_partial_taken(ledger: Ledger, position_id: int) -> bool:
    """Note that part of the profit was taken. Returns whether it is news."""
    changed = ledger.execute(
        "UPDATE positions SET partial_taken = true "
        "WHERE pod = %s AND position_id = %s AND NOT partial_taken",
        (ledger.pod, position_id),
    )
    return changed == 1


def trades_since(ledger: Ledger, since: datetime) -> list[Row]:
    """Rows of the view ``trades`` closed since a time, oldest first."""
    return ledger.query(
        "SELECT * FROM trades WHERE pod = %s AND closed_at >= %s ORDER BY closed_at, position_id",
        (ledger.pod, since),
    )


def _raise(
    ledger: Ledger,
    position_id: int,
    column: Literal["stop_price", "high_water_price"],
    price: Decimal,
) -> Decimal:
    row = ledger.one(
        f"UPDATE positions SET {column} = greatest({column}, %s) "  # noqa: S608 one of two names
        f"WHERE pod = %s AND position_id = %s AND closed_at IS NULL RETURNING {column} AS price",
        (price, ledger.pod, position_id),
    )
    if row is None:
        raise DataUnavailable(f"position {position_id}: expected to be open, was closed meanwhile")
    in_force: Decimal = row["price"]
    return in_force
